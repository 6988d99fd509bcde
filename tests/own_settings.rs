//! Settings of sessions for Trunkline alone (`SET trunkline.…`): said in any protocol, transactional as others are, and nobody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

fn world() -> World {
    Plan { sql: "CREATE TABLE t (n int)", pool: "size = 1", ..Plan::default() }.start()
}

fn run(sql: &str) -> Batch {
    Batch::new().parse("", sql, &[]).describe(b'S', "").bind("", "", &[]).describe(b'P', "").execute("", 0)
}

fn send(client: &mut RawClient, by_protocol: bool, sql: &str) -> String {
    summary(&client.exchange(&if by_protocol { run(sql).sync() } else { Batch::new().query(sql) }))
}

fn level(client: &mut RawClient) -> String {
    client.value("SHOW trunkline.consistency")
}

/// Most drivers send everything by the extended protocol.
#[test]
fn they_are_set_by_any_protocol() {
    let world = world();
    let (mut client, mut other) = (world.client(), world.client());
    assert_eq!(tags(&client.exchange(&run("SET trunkline.consistency = 'strong'").sync())), "1tn2nCZ");
    assert_eq!(level(&mut client), "strong");
    let frames = client.exchange(&run("SHOW trunkline.consistency").sync());
    assert_eq!(tags(&frames), "1tT2TDCZ");
    assert_eq!(frames[5].columns(), [Some("strong".to_owned())]);
    assert_eq!(level(&mut other), "table");
    client.exchange(&run("RESET trunkline.consistency").sync());
    assert_eq!(level(&mut client), "table");
    // By name, and more than once.
    client.exchange(&Batch::new().parse("s", "SET trunkline.consistency = 'session'", &[]).sync());
    client.exchange(&Batch::new().query("RESET trunkline.consistency"));
    client.exchange(&Batch::new().bind("", "s", &[]).execute("", 0).sync());
    assert_eq!(level(&mut client), "session");
    // What is wrong is told, and fails what comes behind it.
    let wrong = run("SET trunkline.consistency = 'any'").run("SELECT 1", &[]).sync();
    let frames = client.exchange(&wrong);
    assert!(tags(&frames).ends_with("EZ") && !tags(&frames).contains('D'), "{}", summary(&frames));
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "22023"));
    let frames = client.exchange(&run("SET trunkline.nonsense = 1").sync());
    assert!(frames.iter().any(|frame| frame.tag == b'E' && frame.sqlstate() == "42704"));
    assert_eq!(level(&mut client), "session");
}

/// No server has ever heard of them, whatever they are sent with.
#[test]
fn among_other_statements() {
    let world = world();
    let (mut client, mut other) = (world.client(), world.client());
    let set = |level: &str| format!("SET trunkline.consistency = '{level}'");
    let read = |sql: &str| Batch::new().run(sql, &[]);
    let both = read("SELECT 1").run(&set("strong"), &[]).run("SELECT 2", &[]).sync();
    assert_eq!(tags(&client.exchange(&both)), "12TDC12nC12TDCZ");
    assert_eq!(level(&mut client), "strong");
    // An error before it.
    assert!(tags(&client.exchange(&read("SELECT 1/0").run(&set("session"), &[]).sync())).ends_with("EZ"));
    assert_eq!(level(&mut client), "strong");
    // And one behind it.
    let behind = read("SELECT 1").run(&set("session"), &[]).run("SELECT 1/0", &[]).sync();
    assert!(tags(&client.exchange(&behind)).starts_with("12TDC12nC1"));
    assert_eq!(level(&mut client), "strong");
    // Within a block that a server knows of.
    for sql in ["BEGIN", "INSERT INTO t VALUES (1)"] {
        client.exchange(&Batch::new().query(sql));
    }
    assert_eq!(tags(&client.exchange(&run(&set("eventual")).sync())), "1tn2nCZ");
    assert_eq!(level(&mut client), "eventual");
    let show = run("SHOW trunkline.consistency");
    let frames = client.exchange(&run("SELECT 1").bytes_of(show.bytes()).bytes_of(show.bytes()).sync());
    assert_eq!(tags(&frames), "1tT2TDC1tT2TDC1tT2TDCZ", "{frames:?}");
    assert_eq!(frames[12].columns(), [Some("eventual".to_owned())]);
    assert_eq!(frames.last().unwrap().body, b"T");
    client.exchange(&Batch::new().parse("show", "SHOW trunkline.consistency", &[]).sync());
    let named = Batch::new().bind("p", "show", &[]).execute("p", 0).flush().run("SELECT 1/0", &[]).sync();
    assert_eq!(tags(&client.exchange(&named)), "2DC1EZ");
    assert_eq!(summary(&client.exchange(&show.clone().sync())).matches("25P02").count(), 1);
    client.exchange(&Batch::new().query("ROLLBACK"));
    // Among others outside a block.
    let frames = client.exchange(&run("SELECT 1").bytes_of(show.bytes()).sync());
    assert_eq!(tags(&frames), "1tT2TDC1tT2TDCZ", "{frames:?}");
    client.exchange(&Batch::new().query("SET trunkline.consistency = 'eventual'"));
    // Two clients share one connection.
    for hint in ["primary", "replica"] {
        let ask =
            format!("/* trunkline: {hint} */ SELECT coalesce(current_setting('trunkline.consistency', true), '')");
        assert_eq!(other.value(&ask), "", "{hint}");
    }
    // In one string they would go unheard.
    assert_eq!(client.failure(&format!("{}; SELECT 1", set("strong"))), "0A000");
    assert_eq!(level(&mut client), "eventual");
}

/// As any other setting.
#[test]
fn they_go_back_with_their_transaction_trap_26() {
    let world = world();
    let first = ["SELECT 1", "SET LOCAL lock_timeout = '1s'"];
    for (by_protocol, first) in [(false, first[0]), (true, first[0]), (false, first[1]), (true, first[1])] {
        let mut client = world.client();
        let mut all = |sql: &[&str]| {
            for sql in sql {
                let said = send(&mut client, by_protocol, sql);
                assert!(!said.contains("ERROR"), "{sql}: {said}");
            }
            level(&mut client)
        };
        let set = |level: &str| format!("SET trunkline.consistency = '{level}'");
        let (strong, session, eventual) = (&*set("strong"), &*set("session"), &*set("eventual"));
        assert_eq!(all(&["BEGIN", first, strong, "ROLLBACK"]), "table");
        assert_eq!(all(&["BEGIN", strong, first, "ROLLBACK"]), "table");
        assert_eq!(all(&["BEGIN", first, strong, "COMMIT"]), "strong");
        assert_eq!(all(&["BEGIN", session, "SAVEPOINT a", first, eventual, "ROLLBACK TO a"]), "session");
        assert_eq!(all(&["SAVEPOINT b", eventual, "RELEASE b", "ROLLBACK"]), "strong");
        assert_eq!(all(&["BEGIN", first, session, "SAVEPOINT a", eventual, "RELEASE a", "COMMIT"]), "eventual");
        assert_eq!(all(&["BEGIN", "SET LOCAL trunkline.consistency = 'strong'", first]), "strong");
        assert_eq!(all(&["COMMIT AND CHAIN"]), "eventual", "it was for the transaction before");
        assert_eq!(all(&[first, "RESET trunkline.consistency", "ROLLBACK"]), "eventual");
        assert_eq!(all(&["BEGIN", first, "RESET ALL", "ROLLBACK"]), "eventual");
        assert_eq!(all(&["BEGIN", first, "RESET ALL", "COMMIT"]), "table");
    }
}
