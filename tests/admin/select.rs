//! SELECT over the tables of SHOW, in both query protocols.

use super::*;

#[test]
fn simple_and_extended() {
    let fixture = Fixture::new();
    let name = fixture.db.name.clone();
    let mut console = fixture.console();
    let mut busy = fixture.client();
    busy.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    let sql = format!(
        "SELECT database, user, sv_active AS busy FROM pools WHERE sv_active > 0 AND database = '{name}' ORDER BY busy DESC LIMIT 5;"
    );
    let frames = console.exchange(&Batch::new().query(&sql));
    assert_eq!(columns(&frames[0]), [("database".into(), 25, -1), ("user".into(), 25, -1), ("busy".into(), 23, 4)]);
    assert_eq!(frames[1].columns(), [Some(name.clone()), Some(APP.to_owned()), Some("1".to_owned())]);
    assert_eq!(summary(&frames[2..]), "CommandComplete(SELECT 1) ReadyForQuery(I)");
    let sql = "SELECT type, count(*), avg(port) FROM sockets GROUP BY type ORDER BY 1";
    let frames = console.exchange(&Batch::new().query(sql));
    let kinds: Vec<_> = columns(&frames[0]).into_iter().map(|column| column.1).collect();
    assert_eq!((kinds, frames[1].columns()[0].as_deref()), (vec![25, 20, 701], Some("C")));
    // Parameters, and several statements in a text.
    let sql = "SELECT count(*) FROM databases WHERE name = $1 AND paused = $2";
    let frames = console.exchange(&Batch::new().run(sql, &[Some(&name), Some("0")]).sync());
    assert_eq!(tags(&frames), "12TDCZ");
    assert_eq!(frames[3].columns(), [Some("1".to_owned())]);
    let batch = Batch::new().parse("s", sql, &[]).describe(b'S', "s").sync();
    let frames = console.exchange(&batch);
    assert_eq!(&frames[1].body, b"\0\x02\0\0\0\x19\0\0\0\x17", "text and int4");
    let frames = console.exchange(&Batch::new().query("SHOW STATE; SELECT count(*) FROM state; SELECT * FROM nowhere"));
    assert_eq!(tags(&frames), "TDDDCTDCEZ");
    assert_eq!(frames[8].sqlstate(), "42P01");
    for (sql, code) in [("SELECT * FROM pools p JOIN users u ON true", "0A000"), ("SELECT nothing FROM pools", "42703")]
    {
        assert_eq!(console.failure(sql), code);
        let frames = console.exchange(&Batch::new().run(sql, &[]).sync());
        assert_eq!((tags(&frames).as_str(), frames[0].sqlstate().as_str()), ("EZ", code));
    }
    // Who may only look may look so.
    assert_eq!(fixture.console_as(OTHER, OTHER_PASSWORD).value("SELECT count(*) FROM state"), "3");
}

/// Who may only look ends nothing by a look that is too deep for the stack of the thread that serves others, too.
#[test]
fn a_deep_condition_is_refused() {
    let fixture = Fixture::new();
    let mut bystander = fixture.client();
    let mut console = fixture.console_as(OTHER, OTHER_PASSWORD);
    for condition in [vec!["name = 'a'"; 70_000].join(" OR "), vec!["port>1"; 2_000].join("and ")] {
        assert_eq!(console.failure(&format!("SELECT name FROM databases WHERE {condition}")), "54001");
    }
    assert_eq!(console.value("SELECT count(*) FROM state"), "3");
    assert_eq!(bystander.value("SELECT 1"), "1");
}

/// Whatever a table shows, SELECT shows the same.
#[test]
fn every_table_can_be_selected_from() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let help = console.exchange(&Batch::new().query("SHOW HELP"))[0].field(b'D').unwrap();
    let tables = help.lines().filter_map(|line| line.trim().strip_prefix("SHOW ")?.split_whitespace().next());
    let mut count = 0;
    for name in tables.filter(|name| !matches!(*name, "ROUTE" | "HELP")) {
        let shown = console.exchange(&Batch::new().query(&format!("SHOW {name}")));
        let selected = console.exchange(&Batch::new().query(&format!("SELECT * FROM {name}")));
        assert_eq!(columns(&shown[0]), columns(&selected[0]), "{name}");
        if ["STATE", "LISTS", "DATABASES", "USERS", "CONFIG"].contains(&name) {
            let rows = |frames: &[Frame]| {
                frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect::<Vec<_>>()
            };
            assert_eq!(rows(&shown), rows(&selected), "{name}");
        }
        count += 1;
    }
    assert_eq!(count, 33);
}
