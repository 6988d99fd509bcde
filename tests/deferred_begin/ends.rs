//! Blocks on replicas of which the end does not come alone.

use super::support::raw::RawClient;
use super::support::world::ready;
use super::{batch, script, world};

/// The end of a block on a replica stands in the middle of a string, or comes without a Sync behind it: what follows is not the replica's.
#[test]
fn the_end_of_a_block_on_a_replica_in_the_middle_says_the_same_trap_22() {
    let world = world("size = 2", false);
    let write = "UPDATE t SET v = 0 WHERE id = 1";
    let strings: [(&str, &[&str]); 8] = [
        ("a write", &["SELECT 1; COMMIT; UPDATE t SET v = 0 WHERE id = 1; SELECT 2"]),
        ("chained", &["SELECT 1;;SELECT 2; COMMIT WORK AND CHAIN; SELECT 3", "ROLLBACK"]),
        ("twice", &["SELECT 1; ROLLBACK; BEGIN; UPDATE t SET v = 0 WHERE id = 1; COMMIT; SELECT 2", "SELECT 3"]),
        ("an error before it", &["SELECT 1; SELECT 1/0; COMMIT; SELECT 2", "SELECT 3", "ROLLBACK"]),
        ("an error behind it", &["SELECT 1; COMMIT; SELECT 1/0; SELECT 2", "SELECT 3"]),
        ("a failed block", &["SELECT 1/0", "SELECT 1; COMMIT; SELECT 2", "COMMIT; SELECT 1; COMMIT; SELECT 2"]),
        (
            "settings",
            &[
                "SET work_mem = '5MB'; SET LOCAL lock_timeout = '7s'; COMMIT; SHOW work_mem; SHOW lock_timeout",
                "BEGIN READ ONLY",
                "SELECT 1",
                "SET work_mem = '6MB'; ROLLBACK; SHOW work_mem",
                "RESET work_mem",
            ],
        ),
        (
            "names and cursors",
            &[
                "DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 3) AS n",
                "PREPARE p AS SELECT 7",
                "FETCH c; EXECUTE p; COMMIT; EXECUTE p; DEALLOCATE p",
            ],
        ),
    ];
    for (what, sql) in strings {
        let all: Vec<_> = ["BEGIN READ ONLY", "SELECT 1"].iter().chain(sql).copied().collect();
        world.compare(what, &script(&all));
    }
    let run = |sql: &str| batch().run(sql, &[]);
    for (what, one) in [
        ("then a write", run("COMMIT").flush().run(write, &[]).sync()),
        ("then a Query", run("COMMIT").flush().query(write)),
        ("then a description", run("COMMIT").flush().parse("", write, &[]).describe(b'S', "").sync()),
        ("nothing else", run("COMMIT").flush().sync()),
        ("an error", run("COMMIT").flush().run("SELECT 1/0", &[]).run("SELECT 1", &[]).sync()),
        (
            "between reads",
            run("SELECT 1").run("COMMIT", &[]).flush().run("SELECT 2", &[]).flush().run(write, &[]).sync(),
        ),
        ("not executed", batch().parse("", "COMMIT", &[]).bind("", "", &[]).flush().run("SELECT 1", &[]).sync()),
    ] {
        let script = ["BEGIN READ ONLY", "SELECT 1"].map(|sql| ready(batch().query(sql)));
        let after = ["SELECT 5", "ROLLBACK"].map(|sql| ready(batch().query(sql)));
        world.compare(what, &script.into_iter().chain([ready(one)]).chain(after).collect::<Vec<_>>());
    }
    world.compare(
        "a string that is refused ends nothing",
        &script(&[
            "BEGIN READ ONLY",
            "SELECT 1",
            "SET work_mem = '5MB'",
            "SET LOCAL lock_timeout = '7s'",
            "COMMIT; SELEC",
            "SELECT 1",
            "ROLLBACK",
            "SHOW work_mem",
            "SHOW lock_timeout",
            "BEGIN READ ONLY",
            "SELECT 1",
            "SET work_mem = '6MB'",
            "COMMIT; SELECT 1/0",
            "SHOW work_mem",
            "BEGIN READ ONLY",
            "SELECT 1",
            "SET work_mem = '7MB'",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "SHOW work_mem",
            "BEGIN READ ONLY",
            "SELECT 1",
            "SET work_mem = '8MB'",
            "COMMIT AND CHAIN",
            "SELECT 1/0",
            "COMMIT",
            "SHOW work_mem",
            "RESET work_mem",
        ]),
    );
    let mut client = world.client();
    for (end, level) in [("COMMIT; SELEC", "eventual"), ("COMMIT; SELECT 1/0", "strong")] {
        for sql in ["BEGIN READ ONLY", "SELECT 1", "SET trunkline.consistency = 'strong'", end, "ROLLBACK"] {
            client.exchange(&batch().query(sql));
        }
        assert_eq!(client.value("SHOW trunkline.consistency"), level, "{end}");
    }
    // Positions in errors are those in the whole string.
    let position = |client: &mut RawClient| {
        ["BEGIN READ ONLY", "SELECT 1"].iter().for_each(|sql| drop(client.exchange(&batch().query(sql))));
        let frames = client.exchange(&batch().query("SELECT 'äöü€'; COMMIT; SELECT nowhere"));
        frames.iter().find(|frame| frame.tag == b'E').unwrap().field(b'P')
    };
    assert_eq!(position(&mut world.client()), position(&mut world.direct()));
}
