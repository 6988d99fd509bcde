//! What functions read that are called without being named.

use super::schema::{route_of, stale};
use super::*;

/// Their declaration does not tell which tables those are: any.
#[test]
fn what_hidden_functions_read_is_seen() {
    let cluster = cluster(1);
    let info = cluster.info();
    make_table(info);
    info.query(
        0,
        "app",
        "SET ROLE app; CREATE TABLE b (i int); CREATE TYPE counted AS (n bigint); CREATE TABLE one AS SELECT 1 AS i;
         CREATE FUNCTION number(int, int) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM b';
         CREATE OPERATOR ~~~! (LEFTARG = int, RIGHTARG = int, FUNCTION = number);
         CREATE FUNCTION is_even(int, int) RETURNS bool STABLE LANGUAGE sql AS 'SELECT count(*) % 2 = 0 FROM b';
         CREATE OPERATOR ~~~? (LEFTARG = int, RIGHTARG = int, FUNCTION = is_even);
         CREATE FUNCTION to_counted(text) RETURNS counted STABLE LANGUAGE sql AS 'SELECT ROW(count(*))::counted FROM b';
         CREATE CAST (text AS counted) WITH FUNCTION to_counted(text);
         CREATE FUNCTION is_odd(int) RETURNS bool STABLE LANGUAGE sql AS 'SELECT count(*) % 2 = 1 FROM b';
         CREATE DOMAIN odd AS int CHECK (is_odd(VALUE)); CREATE TYPE holder AS (n odd);
         CREATE FUNCTION takes(odd) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
         CREATE FUNCTION total(one) RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM b';
         CREATE VIEW shown AS SELECT 1 ~~~! 2 AS n",
    )
    .unwrap();
    info.wait_replayed().unwrap();
    let proxy = before(info, "").start();
    let mut probe = client(&proxy);
    until("the catalog has been read", || {
        route_of(&mut probe, "SELECT total(o) FROM one AS o").contains("takes reads")
    });
    let reads = [
        "SELECT 1 ~~~! 2",
        "SELECT count(*) FROM one WHERE i ~~~? 2",
        "SELECT 'x'::text::counted",
        "SELECT 5::odd",
        "SELECT '(5)'::holder",
        "SELECT takes(5)",
        "SELECT o.total FROM one AS o",
        "SELECT n FROM shown",
    ];
    let stale: Vec<String> =
        reads.iter().flat_map(|read| stale(info, &proxy, "INSERT INTO b VALUES (1)", read)).collect();
    assert!(stale.is_empty(), "{} stale:\n{}", stale.len(), stale.join("\n"));
    // By the type of a parameter.
    let oid: u32 = info.query(0, "app", "SELECT 'odd'::regtype::oid").unwrap().parse().unwrap();
    let mut by_type = || {
        let batch = Batch::new().parse("", "SELECT $1", &[oid]).bind("", "", &[Some("5")]).execute("", 0).sync();
        tags(&probe.exchange(&batch))
    };
    let odd = by_type() == "12DCZ";
    set_paused(info, 1, true);
    client(&proxy).rows("INSERT INTO b VALUES (1)");
    assert_eq!(by_type() == "12DCZ", !odd, "the check reads what was written");
    set_paused(info, 1, false);
}
