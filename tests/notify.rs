//! LISTEN, NOTIFY and UNLISTEN in transaction pooling: as on a connection of one's own, over connections that are nobody's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use support::frames::{Batch, Frame, tags};
use support::raw::RawClient;
use support::world::{Plan, World};

const SQL: &str = "CREATE TABLE t (n int PRIMARY KEY, CONSTRAINT positive CHECK (n > 0)); \
    CREATE TABLE late (n int REFERENCES t DEFERRABLE INITIALLY DEFERRED); \
    CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_notify('told', NEW.n::text); RETURN NEW; END $$; \
    CREATE TRIGGER tells AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tell()";

/// The listener's own connection, as servers show it.
const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE application_name = 'trunkline listener' AND datname = current_database()";

fn world(pool: &str) -> World {
    Plan { sql: SQL, pool, primary_only: true, ..Plan::default() }.start()
}

fn batch() -> Batch {
    Batch::new()
}

fn query(client: &mut RawClient, sql: &str) -> Vec<Frame> {
    client.exchange(&batch().query(sql))
}

fn pid(client: &RawClient) -> u32 {
    u32::from_be_bytes(client.key[..4].try_into().unwrap())
}

/// Sender, channel and payload of a notification.
fn notification(frame: &Frame) -> (u32, String, String) {
    assert_eq!(frame.tag, b'A', "{frame:?}");
    let (pid, rest) = frame.body.split_first_chunk::<4>().unwrap();
    let mut parts = rest.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    (u32::from_be_bytes(*pid), parts.next().unwrap(), parts.next().unwrap())
}

fn payload(client: &mut RawClient) -> String {
    notification(&client.recv()).2
}

/// The frames as text, senders only as far as they are the client itself.
fn told(client: &RawClient, frames: &[Frame]) -> String {
    let texts = frames.iter().map(|frame| match frame.tag {
        b'A' => {
            let (sender, channel, payload) = notification(frame);
            let sender = if sender == pid(client) { "me" } else { "another" };
            format!("Notification({sender}, {channel}, {})", payload.chars().take(40).collect::<String>())
        }
        _ => format!("{frame:?}"),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// Runs messages, each answered by one ReadyForQuery, directly and through the proxy. Between them another client takes the same
/// connections and must hear nothing.
fn compare(world: &World, script: &[Batch]) {
    let mut direct = world.direct();
    let expected: Vec<_> = script
        .iter()
        .map(|batch| {
            let frames = direct.exchange(batch);
            told(&direct, &frames)
        })
        .collect();
    direct.vanish();
    let mut client = world.client();
    let mut other = world.client();
    for (batch, expected) in script.iter().zip(expected) {
        eprintln!("{}: {expected}", String::from_utf8_lossy(batch.bytes()));
        let frames = client.exchange(batch);
        assert_eq!(told(&client, &frames), expected);
        if frames.last().is_some_and(|ready| ready.body == b"I") {
            assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
        }
    }
    assert!(client.is_silent_for(Duration::from_millis(50)));
    assert!(other.is_silent_for(Duration::from_millis(50)));
}

fn queries(sql: &[&str]) -> Vec<Batch> {
    sql.iter().map(|sql| batch().query(sql)).collect()
}

#[test]
fn as_on_a_direct_connection_trap_59() {
    let world = world("size = 1");
    let long = format!("LISTEN {}", "x".repeat(70));
    let too_long = format!("NOTIFY a, '{}'", "x".repeat(8000));
    let longest = format!("NOTIFY a, '{}'", "x".repeat(7999));
    compare(
        &world,
        &queries(&[
            "NOTIFY a, 'nobody listens'",
            "LISTEN a",
            "NOTIFY a",
            "NOTIFY a, 'one'; NOTIFY a, 'one'; NOTIFY a, 'two'",
            "SELECT pg_notify('a', 'three')",
            "SELECT pg_notify('elsewhere', 'three')",
            "SELECT pg_listening_channels()",
            "LISTEN \"A \"\" b\"; LISTEN U&\"\\0061bc\"",
            "NOTIFY \"A \"\" b\", 'quoted'; NOTIFY abc, 'escaped'",
            "SELECT pg_listening_channels()",
            "UNLISTEN a; NOTIFY a, 'unheard'",
            "SELECT pg_listening_channels()",
            "BEGIN",
            "SELECT pg_listening_channels()",
            "NOTIFY abc, 'first'",
            "COMMIT",
            "UNLISTEN *",
            "SELECT pg_listening_channels()",
            "NOTIFY abc, 'unheard'",
            // At once and in one transaction.
            "LISTEN b; NOTIFY b, 'own'",
            "BEGIN; LISTEN c; NOTIFY c, 'own'; COMMIT",
            "BEGIN",
            "LISTEN d",
            "NOTIFY d, 'own'",
            "SELECT 1",
            "COMMIT",
            "NOTIFY d, 'later'",
            "DISCARD ALL",
            "NOTIFY d, 'unheard'",
            // Errors of the server's.
            "LISTEN",
            "LISTEN 'a'",
            "LISTEN a b",
            "NOTIFY a, 1",
            "LISTEN e; SELECT 1/0",
            "NOTIFY e, 'unheard'",
            "LISTEN a",
            &too_long,
            &longest,
            "SELECT pg_notify('', 'x')",
            &long,
            "SELECT pg_listening_channels()",
        ]),
    );
}

#[test]
fn transactional_traps_26_59() {
    let world = world("size = 1");
    compare(
        &world,
        &queries(&[
            "BEGIN",
            "LISTEN a",
            "ROLLBACK",
            "NOTIFY a, 'unheard'",
            "BEGIN",
            "LISTEN a",
            "SAVEPOINT s",
            "LISTEN b",
            "UNLISTEN a",
            "ROLLBACK TO s",
            "NOTIFY a, 'after the savepoint'; NOTIFY b, 'unheard'",
            "SAVEPOINT t",
            "NOTIFY a, 'taken back'",
            "ROLLBACK TO t",
            "COMMIT",
            "NOTIFY b, 'unheard'; NOTIFY a, 'heard'",
            "BEGIN; UNLISTEN *",
            "NOTIFY a, 'not by oneself'",
            "COMMIT",
            "SELECT pg_listening_channels()",
            // Fails at its end.
            "BEGIN",
            "LISTEN a",
            "INSERT INTO late VALUES (7)",
            "COMMIT",
            "NOTIFY a, 'unheard'",
            "BEGIN",
            "SELECT 1/0",
            "LISTEN a",
            "COMMIT",
            "NOTIFY a, 'unheard'",
            "BEGIN",
            "LISTEN a",
            "PREPARE TRANSACTION 'x'",
            "NOTIFY a, 'unheard'",
            // Another one begins at once: heard at the end of that.
            "BEGIN",
            "LISTEN a",
            "NOTIFY a, 'first'",
            "COMMIT AND CHAIN",
            "SELECT 1",
            "ROLLBACK",
            "BEGIN; NOTIFY a, 'second'",
            "COMMIT AND CHAIN",
            "NOTIFY a, 'taken back'",
            "ROLLBACK",
            // What nobody sees in the text.
            "LISTEN told",
            "INSERT INTO t VALUES (1), (2)",
            "BEGIN; INSERT INTO t VALUES (3)",
            "DELETE FROM t",
            "COMMIT",
            "DO $$ BEGIN PERFORM pg_notify('told', 'by a block'); END $$",
            "BEGIN READ ONLY; LISTEN r; COMMIT",
            "NOTIFY r",
        ]),
    );
}

#[test]
fn extended_protocol_trap_59() {
    let world = world("size = 1");
    compare(
        &world,
        &[
            batch().run("LISTEN a", &[]).sync(),
            batch().run("NOTIFY a, 'x'", &[]).sync(),
            batch().run("SELECT pg_notify($1, $2)", &[Some("a"), Some("y")]).sync(),
            batch().run("SELECT pg_listening_channels()", &[]).sync(),
            batch().run("LISTEN b", &[]).run("NOTIFY b, 'one sequence'", &[]).run("SELECT 1", &[]).sync(),
            batch().run("LISTEN c", &[]).run("SELECT 1/0", &[]).run("LISTEN d", &[]).sync(),
            batch().query("NOTIFY c; NOTIFY d"),
            batch().parse("listens", "LISTEN e", &[]).parse("asks", "SELECT pg_listening_channels()", &[]).sync(),
            batch().query("NOTIFY e, 'only prepared'"),
            batch().bind("", "listens", &[]).execute("", 0).sync(),
            batch().query("NOTIFY e, 'executed'"),
            batch().bind("", "asks", &[]).execute("", 0).sync(),
            batch().run("BEGIN", &[]).bind("", "asks", &[]).execute("", 0).sync(),
            batch().run("NOTIFY e", &[]).run("COMMIT", &[]).sync(),
            batch().bind("", "listens", &[]).sync(),
            batch().query("BEGIN"),
            batch().run("UNLISTEN e", &[]).sync(),
            batch().query("NOTIFY e, 'too late'"),
            batch().run("COMMIT", &[]).sync(),
            batch().run("UNLISTEN *", &[]).sync(),
            batch().run("NOTIFY a, 'unheard'", &[]).sync(),
        ],
    );
}

#[test]
fn pipelined_behind_a_listen() {
    let world = world("size = 1");
    let script = batch()
        .query("LISTEN a")
        .query("NOTIFY a, '1'")
        .query("SELECT 1")
        .query("LISTEN b")
        .parse("p", "SELECT 2", &[])
        .sync()
        .query("NOTIFY b, '2'")
        .query("BEGIN")
        .query("NOTIFY a, '3'")
        .query("COMMIT")
        .run("SELECT 3", &[])
        .sync();
    let run = |client: &mut RawClient| {
        client.send(&script);
        let frames = client.recv_ready(10);
        told(client, &frames)
    };
    let expected = run(&mut world.direct());
    // What a client sends behind something may be at the server before it has told what it was notified of before.
    for _ in 0..5 {
        assert_eq!(run(&mut world.client()), expected);
    }
}

#[test]
fn copy_behind_a_listen() {
    let world = world("size = 1");
    for client in [&mut world.direct(), &mut world.client()] {
        query(client, "BEGIN");
        for copy in ["LISTEN told; COPY t FROM STDIN", "COPY t FROM STDIN"] {
            client.send(&batch().query(copy));
            let begun = client.recv_frames(if copy.contains("LISTEN") { 2 } else { 1 });
            assert!(tags(&begun).ends_with('G'), "{begun:?}");
            let row = format!("{}\n", copy.len());
            assert_eq!(tags(&client.exchange(&batch().copy_data(row.as_bytes()).copy_done())), "CZ");
        }
        assert_eq!(tags(&query(client, "DELETE FROM t; COMMIT")), "CCAAZ");
        // What comes in the middle of it is an error of the server's.
        client.send(&batch().query("COPY t FROM STDIN"));
        assert_eq!(tags(&client.recv_frames(1)), "G");
        client.send(&batch().query("NOTIFY told"));
        assert_eq!(client.recv().sqlstate(), "08P01");
        assert!(client.is_closed());
    }
}

#[test]
fn between_queries_only_trap_59() {
    let world = world("size = 2");
    let mut listener = world.client();
    let mut speaker = world.client();
    query(&mut listener, "LISTEN news");
    query(&mut speaker, "NOTIFY news, 'asleep'");
    let frame = listener.recv();
    assert_eq!(notification(&frame), (pid(&speaker), "news".to_owned(), "asleep".to_owned()));
    // A sender that is not behind the proxy has the process id that its server says.
    let mut direct = world.direct();
    query(&mut direct, "NOTIFY news, 'from afar'");
    assert_eq!(notification(&listener.recv()), (pid(&direct), "news".to_owned(), "from afar".to_owned()));
    // Within a transaction nothing comes, not even between statements; at its end before the client may go on.
    query(&mut listener, "BEGIN");
    query(&mut speaker, "NOTIFY news, 'in a transaction'");
    assert!(listener.is_silent_for(Duration::from_millis(100)));
    assert_eq!(tags(&query(&mut listener, "SELECT 1")), "TDCZ");
    assert_eq!(tags(&query(&mut listener, "COMMIT")), "CAZ");
    // In one that no server has been told of.
    query(&mut listener, "BEGIN");
    query(&mut speaker, "NOTIFY news, 'in an empty transaction'");
    assert!(listener.is_silent_for(Duration::from_millis(100)));
    assert_eq!(tags(&query(&mut listener, "COMMIT")), "CAZ");
    // Within a result.
    listener.send(&batch().query("SELECT pg_sleep(0.3)"));
    std::thread::sleep(Duration::from_millis(100));
    query(&mut speaker, "NOTIFY news, 'in a statement'");
    assert_eq!(tags(&listener.recv_ready(1)), "TDCAZ");
    // Within a sequence of messages that no Sync has ended yet.
    listener.send(&batch().run("SELECT 1", &[]).flush());
    assert_eq!(tags(&listener.recv_frames(5)), "12TDC");
    query(&mut speaker, "NOTIFY news, 'in a sequence'");
    assert!(listener.is_silent_for(Duration::from_millis(100)));
    assert_eq!(tags(&listener.exchange(&batch().sync())), "AZ");
    // With a connection of its own.
    query(&mut listener, "CREATE TEMP TABLE mine (n int)");
    query(&mut speaker, "NOTIFY news, 'pinned'");
    assert_eq!(payload(&mut listener), "pinned");
    // A LISTEN is in force when it is answered, an UNLISTEN as well.
    for turn in 0..50 {
        query(&mut listener, "UNLISTEN *");
        query(&mut speaker, "NOTIFY news, 'unheard'");
        query(&mut listener, "LISTEN news");
        query(&mut speaker, &format!("NOTIFY news, '{turn}'"));
        assert_eq!(payload(&mut listener), turn.to_string());
    }
}

#[test]
fn pools_that_keep_connections_listen_too() {
    let world = world("size = 3\nmode = \"session\"");
    let mut listener = world.client();
    query(&mut listener, "LISTEN a; LISTEN b");
    query(&mut world.client(), "NOTIFY a, 'x'");
    assert_eq!(payload(&mut listener), "x");
    query(&mut listener, "BEGIN");
    assert_eq!(listener.rows("SELECT pg_listening_channels()").len(), 2);
    query(&mut listener, "COMMIT");
    assert_eq!(tags(&query(&mut listener, "NOTIFY b")), "CAZ");
}

#[test]
fn no_connection_is_left_listening_trap_58() {
    let world = world("size = 1");
    let mut other = world.client();
    assert_eq!(world.db.run(LISTENERS), "0");
    for leave in ["UNLISTEN *", "UNLISTEN a", "DISCARD ALL", "terminate", "vanish"] {
        let mut client = world.client();
        query(&mut client, "LISTEN a");
        assert_eq!(world.db.run(LISTENERS), "1");
        // Nobody has to wait for it, and nobody hears what it hears.
        assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
        world.db.run("NOTIFY a, 'x'");
        assert_eq!(payload(&mut client), "x");
        match leave {
            "terminate" => client.send(&batch().terminate()),
            "vanish" => client.vanish(),
            sql => assert!(!tags(&query(&mut client, sql)).contains('E')),
        }
        world.wait_for(LISTENERS, "0");
    }
    // What no text tells: heard of when something comes, and taken back.
    query(&mut other, "DO $$ BEGIN LISTEN hidden; END $$");
    assert!(other.is_silent_for(Duration::from_millis(50)));
    let mut third = world.client();
    // A server says it when it gets to it, which may be behind the next statement.
    let taken_back = (0..20).any(|_| {
        world.db.run("NOTIFY hidden");
        third.value("SELECT count(*) FROM pg_listening_channels()") == "0"
    });
    assert!(taken_back);
    assert!(third.is_silent_for(Duration::from_millis(50)));
}

#[test]
fn asked_in_the_middle_of_a_transaction() {
    let world = world("size = 2");
    let mut client = world.client();
    query(&mut client, "LISTEN a");
    for begin in [batch().run("BEGIN", &[]).sync(), batch().query("BEGIN; SELECT 1"), batch().query("BEGIN")] {
        client.exchange(&begin);
        query(&mut client, "SELECT 1");
        let frames = query(&mut client, "SELECT pg_listening_channels()");
        // Who has never asked so pays nothing for it.
        match tags(&frames).as_str() {
            "EZ" => assert_eq!(frames[0].sqlstate(), "0A000"),
            _ => assert_eq!(frames[1].columns(), [Some("a".to_owned())]),
        }
        query(&mut client, "ROLLBACK");
        client.exchange(&begin);
        query(&mut client, "SELECT 1");
        assert_eq!(client.value("SELECT pg_listening_channels()"), "a");
        query(&mut client, "ROLLBACK");
    }
    assert_eq!(client.value("BEGIN; SELECT pg_listening_channels()"), "a");
    query(&mut client, "ROLLBACK");
}

#[test]
fn many_listen_on_few_connections() {
    let world = world("size = 2");
    let mut listeners: Vec<RawClient> = (0..8).map(|_| world.client()).collect();
    for (number, client) in listeners.iter_mut().enumerate() {
        query(client, &format!("LISTEN own{number}; LISTEN everybody"));
    }
    assert_eq!(world.db.run(LISTENERS), "1");
    let metrics = world.proxy.http("/metrics").1;
    let labels = format!("{{database=\"{}\"}}", world.db.name);
    assert!(metrics.contains(&format!("trunkline_listening_clients{labels} 8")), "{metrics}");
    assert!(metrics.contains(&format!("trunkline_listened_channels{labels} 9")), "{metrics}");
    std::thread::scope(|scope| {
        // Each also works, with transactions, errors and notifications of its own.
        for (number, client) in listeners.iter_mut().enumerate() {
            scope.spawn(move || {
                let mut heard = Vec::new();
                let mut own = 0;
                while heard.len() < 1000 || own < 50 {
                    let frames = if own < 50 {
                        own += 1;
                        let sql = [
                            format!("NOTIFY own{number}, '{own}'"),
                            format!("BEGIN; SELECT pg_notify('own{number}', '{own}'); COMMIT"),
                            format!("SELECT 1/0; NOTIFY own{number}, 'never'"),
                        ];
                        let frames = query(client, &sql[own % 3]);
                        let mine = frames.iter().filter(|frame| frame.tag == b'A').map(notification);
                        let mine: Vec<_> = mine.filter(|(_, channel, _)| *channel == format!("own{number}")).collect();
                        match own % 3 {
                            2 => assert!(mine.is_empty(), "{mine:?}"),
                            _ => assert_eq!(mine, [(pid(client), format!("own{number}"), own.to_string())]),
                        }
                        assert!(frames.last().is_some_and(|last| last.tag == b'Z'), "{frames:?}");
                        frames
                    } else {
                        vec![client.recv()]
                    };
                    let of_all = frames.iter().filter(|frame| frame.tag == b'A').map(notification);
                    heard.extend(of_all.filter(|(_, channel, _)| channel == "everybody").map(|(.., payload)| payload));
                }
                let wanted: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
                assert_eq!(heard, wanted);
            });
        }
        scope.spawn(|| {
            let mut speaker = world.client();
            for number in 0..1000 {
                query(&mut speaker, &format!("NOTIFY everybody, '{number}'"));
            }
        });
    });
    assert!(listeners.iter_mut().all(|client| client.is_silent_for(Duration::from_millis(20))));
    assert!(world.server_connections_of_pool() <= 3, "two of the pool, and the listener");
}

#[test]
fn a_listener_that_is_killed_listens_again_trap_59() {
    let mut world = world("size = 2");
    let mut listener = world.client();
    query(&mut listener, "LISTEN a; LISTEN b");
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = 'trunkline listener' AND datname = current_database()";
    assert_eq!(world.db.run(kill), "t");
    world.wait_for(LISTENERS, "1");
    // The client sees nothing of it, but for what was sent in between.
    let deadline = Instant::now() + Duration::from_secs(10);
    while listener.is_silent_for(Duration::from_millis(50)) {
        assert!(Instant::now() < deadline);
        world.db.run("NOTIFY a, 'x'");
    }
    let log = world.proxy.wait_for_log(&["no listener connection"]);
    assert!(log.contains("terminating connection due to administrator command"), "{log}");
    let metrics = world.proxy.http("/metrics").1;
    let lost = format!("trunkline_listener_connections_lost_total{{database=\"{}\"}} 1", world.db.name);
    assert!(metrics.contains(&lost), "{metrics}");
    // While nobody can listen a LISTEN waits; everything else goes on.
    world.db.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$");
    let mut late = world.client();
    let mut other = world.client();
    assert_eq!(world.db.run(kill), "t");
    world.wait_for(LISTENERS, "0");
    late.send(&batch().query("LISTEN late").query("NOTIFY late, 'own'"));
    assert_eq!(tags(&late.recv_frames(1)), "C");
    assert!(late.is_silent_for(Duration::from_millis(300)));
    assert_eq!(other.value("SELECT 'goes on'"), "goes on");
    assert_eq!(tags(&query(&mut other, "NOTIFY a, 'lost'")), "CZ");
    world.db.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()); END $$");
    assert_eq!(tags(&late.recv_ready(2)), "ZCAZ");
}

#[test]
fn each_in_its_own_encoding() {
    let world = world("size = 1");
    let mut latin = world.client_with(&[("client_encoding", "LATIN1")]);
    let mut utf8 = world.client();
    query(&mut utf8, "LISTEN a; LISTEN \"ä\"");
    latin.send(&batch().bytes_of(b"Q\0\0\0\x18LISTEN a;LISTEN \"\xe4\"\0".as_slice()));
    let frames = latin.recv_ready(1);
    assert_eq!(tags(&frames), "CCZ", "{frames:?}");
    world.db.run("NOTIFY \"ä\", 'ü'");
    let tail = |frame: Frame| frame.body[4..].to_vec();
    assert_eq!(tail(utf8.recv()), "ä\0ü\0".as_bytes());
    assert_eq!(tail(latin.recv()), b"\xe4\0\xfc\0");
    // And when it changes.
    query(&mut utf8, "UNLISTEN \"ä\"");
    query(&mut utf8, "SET client_encoding = 'LATIN1'");
    world.db.run("NOTIFY a, 'ö'");
    assert_eq!(tail(utf8.recv()), b"a\0\xf6\0");
    world.wait_for(LISTENERS, "1");
}

#[test]
fn a_client_that_does_not_listen_any_more() {
    let world = world("size = 2");
    let mut busy = world.client();
    let mut reads = world.client();
    query(&mut busy, "LISTEN flood");
    query(&mut reads, "LISTEN flood");
    query(&mut busy, "BEGIN");
    // In parts that do not fill it for who reads, however slowly.
    for part in 0..6 {
        let (first, last) = (part * 500 + 1, part * 500 + 500);
        world.db.run(&format!(
            "SELECT count(pg_notify('flood', repeat('x', 7900) || n)) FROM generate_series({first}, {last}) AS n"
        ));
        for number in first..=last {
            assert!(payload(&mut reads).ends_with(&format!("x{number}")));
        }
    }
    // Memory for it has an end, and it is told.
    let frame = busy.recv();
    assert_eq!((frame.tag, frame.sqlstate()), (b'E', "54000".to_owned()), "{frame:?}");
    assert!(busy.is_closed());
}

/// A session with very many channels is as quick as one with few.
#[test]
fn very_many_channels_of_one_session() {
    let world = world("size = 1");
    let mut client = world.client();
    let listens = |from: u32, to: u32| (from..to).map(|n| format!("LISTEN c{n};")).collect::<String>();
    let time = |client: &mut RawClient, sql: &str| {
        let began = Instant::now();
        let frames = query(client, sql);
        assert!(!tags(&frames).contains('E'), "{}", summary_of(&frames));
        began.elapsed()
    };
    // In one transaction, with savepoints.
    let few =
        time(&mut client, &format!("BEGIN; {}; SAVEPOINT s; LISTEN gone; ROLLBACK TO s; COMMIT", listens(0, 20_000)));
    // One by one.
    let mut slowest = Duration::ZERO;
    for n in 20_000..20_020 {
        slowest = slowest.max(time(&mut client, &format!("LISTEN c{n}")));
    }
    eprintln!("20,000 in {few:?}, each of 20 more in {slowest:?}");
    assert_eq!(client.value("SELECT count(*) FROM pg_listening_channels()"), "20020");
    query(&mut world.client(), "NOTIFY c0; NOTIFY c20019; NOTIFY gone");
    assert_eq!(notification(&client.recv()).1, "c0");
    assert_eq!(notification(&client.recv()).1, "c20019");
    time(&mut client, "UNLISTEN c0");
    time(&mut client, "UNLISTEN *");
    query(&mut world.client(), "NOTIFY c1");
    assert!(client.is_silent_for(Duration::from_millis(50)));
}

fn summary_of(frames: &[Frame]) -> String {
    support::frames::summary(frames).chars().take(500).collect()
}
