//! What is left on a server connection, or gone from it, otherwise than by statements that are read: the next client gets neither.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::clusters::APP_PASSWORD;
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, Step, World};

const SQL: &str = "CREATE SCHEMA aside; CREATE TABLE t (v text); CREATE TABLE aside.t (v text);
    INSERT INTO t VALUES ('public'); INSERT INTO aside.t VALUES ('aside')";

fn batch() -> Batch {
    Batch::new()
}

fn one_connection(pool: &str) -> World {
    Plan { sql: SQL, pool: &format!("size = 1\n{pool}"), primary_only: true, ..Plan::default() }.start()
}

/// `EXECUTE 'DEALLOCATE ALL'` within a function gives up the statements of all clients.
#[test]
fn statements_that_a_function_has_given_up() {
    let world = one_connection("");
    let mut client = world.client();
    let mut other = world.client();
    client
        .exchange(&batch().parse("s", "SELECT v FROM t WHERE $1 = 1", &[23]).parse("u", "SELECT $1 + 1", &[23]).sync());
    let run = |name: &str| batch().bind("", name, &[Some("1")]).describe(b'P', "").execute("", 0).sync();
    for _ in 0..2 {
        other.exchange(&batch().query("DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'"));
        for _ in 0..2 {
            assert_eq!(tags(&client.exchange(&run("s"))), "2TDCZ");
            assert_eq!(tags(&client.exchange(&run("u"))), "2TDCZ");
        }
        let mut third = world.client();
        let frames = third.exchange(&batch().parse("s", "SELECT v FROM t WHERE $1 = 1", &[23]).sync());
        assert_eq!(tags(&frames), "1Z");
        assert_eq!(tags(&third.exchange(&run("s"))), "2TDCZ");
        // In a block it fails, once.
        other.exchange(&batch().query("DO 'BEGIN EXECUTE ''DEALLOCATE ALL''; END'"));
        client.exchange(&batch().query("BEGIN; DELETE FROM t WHERE false"));
        let failed = client.exchange(&run("s"));
        assert_eq!(summary(&failed[..1]), "ErrorResponse(ERROR 26000: prepared statement \"s\" does not exist)");
        client.exchange(&batch().query("ROLLBACK"));
        assert_eq!(tags(&client.exchange(&run("s"))), "2TDCZ");
    }
}
