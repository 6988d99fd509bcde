//! Tables that change under shared prepared statements: whoever prepared after the change, or asks for the columns anew, notices
//! nothing; whoever relies on columns that it was told gets PostgreSQL's error, and never rows of others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::frames::{Batch, Frame, summary, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

const TEXT: &str = "SELECT * FROM changing";

fn batch() -> Batch {
    Batch::new()
}

fn world(pool: &str) -> World {
    let sql = "CREATE TABLE changing AS SELECT 1 AS a; CREATE TABLE log (n int)";
    Plan { sql, pool, primary_only: true, ..Plan::default() }.start()
}

fn change(world: &World, column: &str) {
    world.db.run(&format!("ALTER TABLE changing ADD COLUMN {column} int DEFAULT 2"));
}

/// As libpq does it: the portal is described each time.
fn asking(client: &mut RawClient, name: &str) -> Vec<Frame> {
    client.exchange(&batch().bind("", name, &[]).describe(b'P', "").execute("", 0).sync())
}

/// As drivers do it that keep what they were told.
fn relying(client: &mut RawClient, name: &str) -> Vec<Frame> {
    client.exchange(&batch().bind("", name, &[]).execute("", 0).sync())
}

fn prepare(client: &mut RawClient, name: &str) {
    assert_eq!(tags(&client.exchange(&batch().parse(name, TEXT, &[]).sync())), "1Z");
}

fn prepare_and_describe(client: &mut RawClient, name: &str) -> Vec<Frame> {
    let frames = client.exchange(&batch().parse(name, TEXT, &[]).describe(b'S', name).sync());
    assert_eq!(tags(&frames), "1tTZ", "{frames:?}");
    frames
}

fn is_outdated(frames: &[Frame]) -> bool {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    error.is_some_and(|error| {
        assert_eq!(error.field(b'M').as_deref(), Some("cached plan must not change result type"));
        error.sqlstate() == "0A000" && error.field(b'R').as_deref() == Some("RevalidateCachedQuery")
    })
}

fn columns(frames: &[Frame]) -> usize {
    frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}")).columns().len()
}

#[test]
fn who_asks_for_the_columns_notices_nothing() {
    let world = world("size = 1");
    let (mut a, mut b) = (world.client(), world.client());
    for client in [&mut a, &mut b] {
        prepare(client, "s");
        assert_eq!(columns(&asking(client, "s")), 1);
    }
    for (turn, column) in ["b", "c", "d"].into_iter().enumerate() {
        change(&world, column);
        for client in [&mut a, &mut b] {
            let frames = asking(client, "s");
            assert_eq!(tags(&frames), "2TDCZ", "{frames:?}");
            assert_eq!(columns(&frames), turn + 2);
        }
    }
    // With a Parse and a Describe before it in the segment, and what writes behind it: it runs once.
    change(&world, "e");
    let frames = a.exchange(
        &batch()
            .parse("other", "SELECT 'other'", &[])
            .describe(b'S', "s")
            .bind("", "s", &[])
            .execute("", 0)
            .run("INSERT INTO log VALUES (1)", &[])
            .bind("", "other", &[])
            .execute("", 0)
            .sync(),
    );
    assert_eq!(tags(&frames), "1tT2DC12nC2DCZ", "{frames:?}");
    assert_eq!(a.value("SELECT count(*) FROM log"), "1");
    // By the unnamed statement.
    a.exchange(&batch().parse("", TEXT, &[]).sync());
    change(&world, "f");
    let frames = a.exchange(&batch().bind("", "", &[]).describe(b'P', "").execute("", 0).sync());
    assert_eq!((tags(&frames).as_str(), columns(&frames)), ("2TDCZ", 6));
    // It cannot be prepared any more: that is told.
    world.db.run("DROP TABLE changing");
    assert_eq!(asking(&mut b, "s")[0].sqlstate(), "42P01");
    assert_eq!(b.value("SELECT 'fine'"), "fine");
}

#[test]
fn who_prepared_after_the_change_never_hears_of_it() {
    let world = world("size = 1");
    let mut old = world.client();
    prepare(&mut old, "s");
    assert_eq!(columns(&relying(&mut old, "s")), 1);
    let mut wanted = 1;
    let mut after_a_change = |column: &str| {
        change(&world, column);
        wanted += 1;
        let mut client = world.client();
        prepare(&mut client, "mine");
        (client, wanted)
    };
    // At once.
    let (mut client, wanted) = after_a_change("b");
    assert_eq!(columns(&relying(&mut client, "mine")), wanted);
    // In a block.
    let (mut client, wanted) = after_a_change("c");
    client.exchange(&batch().query("BEGIN"));
    for _ in 0..2 {
        assert_eq!(columns(&relying(&mut client, "mine")), wanted);
    }
    assert_eq!(tags(&client.exchange(&batch().query("COMMIT"))), "CZ");
    // Behind something that runs in the same segment.
    let (mut client, wanted) = after_a_change("d");
    let frames =
        client.exchange(&batch().run("INSERT INTO log VALUES (2)", &[]).bind("", "mine", &[]).execute("", 0).sync());
    assert_eq!((tags(&frames).as_str(), columns(&frames)), ("12nC2DCZ", wanted));
    // In a pipeline, and by one that sends its Sync later.
    let (mut client, wanted) = after_a_change("e");
    client.send(&batch().query("SELECT 1").bind("", "mine", &[]).execute("", 0).sync().query("SELECT 2"));
    let frames = client.recv_ready(3);
    assert_eq!((tags(&frames).as_str(), columns(&frames[4..])), ("TDCZ2DCZTDCZ", wanted));
    let (mut client, wanted) = after_a_change("f");
    client.send(&batch().bind("", "mine", &[]).execute("", 0).flush());
    let frames = client.recv_frames(3);
    assert_eq!((tags(&frames).as_str(), columns(&frames)), ("2DC", wanted));
    assert_eq!(tags(&client.exchange(&batch().sync())), "Z");
    // By its description first.
    let (mut client, wanted) = after_a_change("g");
    let frames = client.exchange(&batch().describe(b'S', "mine").sync());
    assert_eq!(tags(&frames), "tTZ", "{frames:?}");
    assert_eq!(columns(&relying(&mut client, "mine")), wanted);
    // Who prepared before has never asked for columns, either.
    assert_eq!(columns(&relying(&mut old, "s")), wanted);
}

#[test]
fn who_relies_on_columns_gets_these_or_the_error() {
    let world = world("size = 2");
    let mut clients: Vec<RawClient> = (0..4).map(|_| world.client()).collect();
    for client in &mut clients {
        prepare_and_describe(client, "s");
        assert_eq!(columns(&relying(client, "s")), 1);
    }
    change(&world, "b");
    // Others prepare it as it is now, on both connections.
    let mut others: Vec<RawClient> = (0..2).map(|_| world.client()).collect();
    for client in &mut others {
        client.exchange(&batch().query("BEGIN"));
        prepare_and_describe(client, "s");
    }
    for client in &mut others {
        assert_eq!(columns(&relying(client, "s")), 2);
        client.exchange(&batch().query("COMMIT"));
    }
    for client in &mut clients {
        for _ in 0..3 {
            let frames = relying(client, "s");
            assert!(is_outdated(&frames), "{frames:?}");
            assert_eq!(tags(&frames), "EZ");
        }
        let frames = client.exchange(&batch().query("BEGIN").bind("", "s", &[]).execute("", 0).sync());
        assert_eq!(tags(&frames), "CZ");
        let frames = client.recv_ready(1);
        assert!(is_outdated(&frames), "{frames:?}");
        assert_eq!(summary(&frames[1..]), "ReadyForQuery(E)");
        client.exchange(&batch().query("ROLLBACK"));
    }
    // What their drivers do next.
    for (number, client) in clients.iter_mut().enumerate() {
        let name = if number % 2 == 0 { "s" } else { "s2" };
        client.exchange(&batch().close(b'S', "s").sync());
        prepare_and_describe(client, name);
        for _ in 0..3 {
            assert_eq!(columns(&relying(client, name)), 2);
        }
    }
}

#[test]
fn columns_are_known_to_be_the_same_on_every_connection() {
    let world = world("size = 3");
    let mut first = world.client();
    prepare_and_describe(&mut first, "s");
    // Three transactions at the same time see to it that all connections get it.
    let mut clients: Vec<RawClient> = (0..3).map(|_| world.client()).collect();
    for round in 0..2 {
        for client in &mut clients {
            client.exchange(&batch().query("BEGIN"));
            if round == 0 {
                prepare_and_describe(client, "s");
            }
        }
        for client in &mut clients {
            assert_eq!(tags(&relying(client, "s")), "2DCZ");
            client.exchange(&batch().query("COMMIT"));
        }
    }
    for _ in 0..5 {
        assert_eq!(columns(&relying(&mut first, "s")), 1);
    }
    // What changes nothing that anybody was told is no change: the same columns of another table.
    world.db.run("DROP TABLE changing; CREATE TABLE changing AS SELECT 5 AS a; GRANT ALL ON changing TO app");
    for client in &mut clients {
        assert_eq!(columns(&relying(client, "s")), 1);
    }
}
