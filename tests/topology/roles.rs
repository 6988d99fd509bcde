//! Who takes writes.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::app::demo::{ClusterOptions, StopMode};

use crate::fixture::*;
use crate::support::clusters::{self, APP, APP_PASSWORD};
use crate::support::frames::{Batch, summary, tags};
use crate::support::process::Setup;
use crate::support::raw::RawClient;

#[test]
fn nodes_without_roles_are_asked_for_them_trap_85() {
    let cluster = cluster(2);
    // The primary stands last, so that it is found and not assumed.
    let reversed: String = cluster.nodes().iter().rev().map(|one| node(one.name(), one.port(), "")).collect();
    let proxy = Setup::config(config("", "", &reversed)).start();
    let mut client = client(&proxy);
    // Told at the first write, however early it comes.
    assert_eq!(client.value(WRITE), cluster.info().port(0).to_string());
    let mut replicas: Vec<String> = cluster.info().replica_ports().map(|port| port.to_string()).collect();
    replicas.sort();
    until("both replicas read", || readers(&mut client, 40).into_keys().collect::<Vec<_>>() == replicas);
    let roles = column_of(&proxy, "role");
    assert_eq!(
        (roles["primary"].as_str(), roles["replica1"].as_str(), roles["replica2"].as_str()),
        ("primary", "replica", "replica")
    );
    assert!(column_of(&proxy, "declared").values().all(|declared| declared == "auto"));
    assert!(
        column_of(&proxy, "timeline").values().all(|timeline| timeline == "1"),
        "{:?}",
        column_of(&proxy, "timeline")
    );
    let metrics = proxy.http("/metrics").1;
    assert!(metrics.contains("trunkline_node_role{database=\"app\",node=\"primary\",role=\"primary\"} 1"), "{metrics}");
    assert!(metrics.contains("trunkline_node_state{database=\"app\",node=\"replica1\",state=\"up\"} 1"), "{metrics}");
}

#[test]
fn writes_follow_a_promotion_and_a_demoted_primary_never_gets_one_traps_69_and_87() {
    let fixture = Fixture::new(2);
    let (mut client, mut pinned) = (fixture.client(), fixture.client());
    assert_eq!(client.value(WRITE), fixture.port(0));
    // Has the old primary's connection to itself.
    pinned.rows("CREATE TEMPORARY TABLE mine (n int)");

    // The old primary lives on: it knows nothing of the promotion, and would take writes that are lost.
    fixture.cluster.replicas()[0].promote().unwrap();
    let promoted = Instant::now();
    until_written_on(&fixture.proxy, &mut client, &fixture.port(1));
    let took = promoted.elapsed();
    assert!(took < Duration::from_secs(5), "writes took {took:?} to follow");
    eprintln!("writes followed within {took:?}");
    // What was its own is gone with its server, as after a restart of that.
    pinned.send(&Batch::new().query("INSERT INTO mine VALUES (1)"));
    assert_eq!(pinned.recv().sqlstate(), "57P01");
    assert!(pinned.is_closed());
    fixture.wait_node("primary", "state", "refused");
    assert_eq!(fixture.column("timeline")["replica1"], "2");
    let before = fixture.cluster.info().query(0, "app", "SELECT count(*) FROM t").unwrap();
    for _ in 0..20 {
        assert_eq!(client.value(WRITE), fixture.port(1));
        assert_ne!(client.value(READ), fixture.port(0), "an outdated primary serves no reads either");
    }
    assert_eq!(fixture.cluster.info().query(0, "app", "SELECT count(*) FROM t").unwrap(), before);

    // It is made a standby of the new one: then it reads again, and takes no write.
    let old = fixture.cluster.primary();
    old.stop(StopMode::Fast).unwrap();
    let mut rewind = fixture.cluster.binaries().command("pg_rewind", &fixture.cluster.info().root);
    let source = format!("host=127.0.0.1 port={} user=postgres password=postgres dbname=postgres", fixture.port(1));
    rewind.arg("--target-pgdata").arg(old.data_dir()).arg("--source-server").arg(source);
    let rewound = rewind.output().unwrap();
    if rewound.status.success() {
        // The files of the new one came along: its port and name, too.
        let conf = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\ncluster_name = 'primary'\n",
            old.port(),
            fixture.cluster.info().root.display()
        );
        old.write_file("node.conf", &conf).unwrap();
    }
    fixture.cluster.follow(0, 1).unwrap();
    old.start().unwrap();
    fixture.wait_node("primary", "role", "replica");
    fixture.wait_node("primary", "state", "up");
    for _ in 0..20 {
        assert_eq!(client.value(WRITE), fixture.port(1));
    }
    until("the old primary reads", || readers(&mut client, 10).contains_key(&fixture.port(0)));
}

#[test]
fn a_primary_that_is_restarted_as_a_standby_gets_no_write_and_writes_wait_traps_69_and_85() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    until("reads on the replica", || client.value(READ) == fixture.port(1));
    // Both follow the other: no primary at all.
    let old = fixture.cluster.primary();
    old.stop(StopMode::Fast).unwrap();
    fixture.cluster.follow(0, 1).unwrap();
    old.start().unwrap();
    // A write that comes now waits; it is not sent to a standby, whose answer would be 25006.
    client.send(&Batch::new().query(WRITE));
    let mut reader = fixture.client();
    assert_eq!(reader.value("SELECT count(*) FROM t"), "1", "reads go on");
    assert!(client.is_silent_for(Duration::from_secs(1)));
    fixture.cluster.replicas()[0].promote().unwrap();
    let frames = client.recv_ready(1);
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(row.columns()[0].clone().unwrap(), fixture.port(1));
    assert!(!fixture.proxy.log().contains("25006"));
}

#[test]
fn without_a_primary_writes_fail_after_their_time_and_say_why_trap_85() {
    let cluster = cluster(1);
    let replica = &cluster.replicas()[0];
    let text =
        config("", "", &node("alone", replica.port(), "")).replace("wait_timeout = \"10s\"", "wait_timeout = \"1s\"");
    let proxy = Setup::config(text).start();
    let mut client = client(&proxy);
    assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    let frames = client.exchange(&Batch::new().query(WRITE));
    let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
    assert_eq!(error.sqlstate(), "57P03");
    assert_eq!(error.field(b'D').unwrap(), "no node is known to take writes");
    assert_eq!(client.value("SELECT 1"), "1", "the session goes on");
    // Read-only on purpose: then nobody waits.
    let text = config("", "read_only = true\n", &node("alone", cluster.info().port(0), "weight = 1"));
    let proxy = Setup::config(text).start();
    let mut client = crate::fixture::client(&proxy);
    assert_eq!(client.failure(WRITE), "25006");
    assert_eq!(client.value("SELECT count(*) FROM t"), "0");
    // Nothing can be committed that its servers lack: blocks of reads are possible at every level.
    client.rows("SET trunkline.consistency = 'strong'");
    for begin in ["BEGIN READ ONLY", "BEGIN READ ONLY; SELECT 1"] {
        let frames = client.exchange(&Batch::new().query(begin));
        assert!(summary(&frames).ends_with("ReadyForQuery(T)"), "{begin}: {}", summary(&frames));
        assert_eq!(client.value("SELECT count(*) FROM t"), "0", "{begin}");
        client.rows("COMMIT");
    }
}

/// A SET may run on whatever server there is while there is no primary. What comes behind it may not: nor what is not looked at as a
/// whole, since it is flushed before its Sync.
#[test]
fn a_write_behind_a_set_waits_for_the_primary() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    fixture.wait_node("replica1", "role", "replica");
    fixture.cluster.primary().stop(StopMode::Fast).unwrap();
    fixture.wait_node("primary", "state", "down");
    client.rows("SET work_mem = '7MB'");
    client.send(&Batch::new().run("INSERT INTO t VALUES (2)", &[]).flush());
    assert!(client.is_silent_for(Duration::from_secs(1)), "it waits");
    fixture.cluster.primary().start().unwrap();
    assert_eq!(tags(&client.recv_frames(4)), "12nC");
    client.send(&Batch::new().sync());
    client.recv_ready(1);
    assert_eq!(client.value("/* trunkline: primary */ SELECT count(*) FROM t"), "2");
}

#[test]
fn of_two_primaries_on_one_timeline_none_is_written_to_until_one_is_right_trap_87() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    // A standby that is started as if it were none stays on its timeline.
    let twin = &fixture.cluster.replicas()[0];
    twin.stop(StopMode::Fast).unwrap();
    std::fs::remove_file(twin.data_dir().join("standby.signal")).unwrap();
    twin.start().unwrap();
    fixture.wait_node("replica1", "state", "refused");
    fixture.wait_node("primary", "state", "refused");
    client.send(&Batch::new().query(WRITE));
    assert!(client.is_silent_for(Duration::from_millis(500)), "neither is written to");
    // Somebody says which one is right.
    fixture.command("DISABLE NODE app.replica1");
    let frames = client.recv_ready(1);
    let row = frames.iter().find(|frame| frame.tag == b'D').unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(row.columns()[0].clone().unwrap(), fixture.port(0));
    assert_eq!(fixture.column("state")["replica1"], "disabled");
}

#[test]
fn a_declared_role_is_an_expectation() {
    let cluster = cluster(1);
    let nodes = node("a", cluster.info().port(0), "role = \"primary\"")
        + &node("b", cluster.info().port(1), "role = \"replica\"");
    let mut proxy = Setup::config(config("", "", &nodes)).start();
    let mut client = client(&proxy);
    assert_eq!(client.value(WRITE), cluster.info().port(0).to_string());
    cluster.primary().kill().unwrap();
    cluster.replicas()[0].promote().unwrap();
    assert_eq!(client.value(WRITE), cluster.info().port(1).to_string(), "it waited for the promotion");
    proxy.wait_for_log(&["node has another role than configured", "b"]);
    let roles = (column_of(&proxy, "role"), column_of(&proxy, "declared"));
    assert_eq!((roles.0["b"].as_str(), roles.1["b"].as_str()), ("primary", "replica"));
}

#[test]
fn a_node_of_another_cluster_is_refused() {
    // Clusters of the tests begin as copies of one and the same, this one not.
    let other = ClusterOptions { replicas: 0, template_cache: None, ..clusters::options() };
    let (ours, other) = (cluster(1), clusters::start(other));
    let nodes = nodes(&ours) + &node("stranger", other.info().port(0), "");
    let mut proxy = Setup::config(config("", "", &nodes)).start();
    let mut client = client(&proxy);
    for _ in 0..10 {
        assert_eq!(client.value(WRITE), ours.info().port(0).to_string());
        assert_ne!(client.value(READ), other.info().port(0).to_string());
    }
    assert_eq!(column_of(&proxy, "state")["stranger"], "refused");
    proxy.wait_for_log(&["stranger", "belongs to another cluster"]);
}

#[test]
fn listeners_replication_and_logins_follow_the_primary() {
    let cluster = cluster(1);
    let query = "auth_query = \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"\n";
    let database = format!("{query}server_user = \"postgres\"\nserver_password = \"postgres\"\n");
    let text = config("", &database, &nodes(&cluster)).replace(
        &format!("control_user = \"{APP}\"\ncontrol_password = \"{APP_PASSWORD}\""),
        "control_user = \"postgres\"\ncontrol_password = \"postgres\"",
    );
    let proxy = Setup::config(text).start();
    let mut listener = client(&proxy);
    listener.rows("LISTEN news");
    cluster.info().query(0, "app", "CREATE ROLE early LOGIN PASSWORD 'early-secret'").unwrap();
    cluster.info().wait_replayed().unwrap();
    cluster.primary().kill().unwrap();
    // While nothing was promoted a replica tells, and serves, whoever only reads.
    let mut early = crate::support::raw::RawClient::tcp(proxy.port());
    until("the primary is known to be down", || column_of(&proxy, "state")["primary"] == "down");
    early.login("early-secret", &[("user", "early"), ("database", "app")]).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(early.value(READ), cluster.info().port(1).to_string());
    cluster.replicas()[0].promote().unwrap();
    let mut sender = client(&proxy);
    until("a notification by way of the new primary", || {
        sender.rows("NOTIFY news");
        listener.send(&Batch::new().query("SELECT 1"));
        listener.recv_ready(1).iter().any(|frame| frame.tag == b'A')
    });
    // Known to the servers only.
    cluster.info().query(1, "app", "CREATE ROLE late LOGIN PASSWORD 'late-secret'").unwrap();
    let mut late = crate::support::raw::RawClient::tcp(proxy.port());
    late.login("late-secret", &[("user", "late"), ("database", "app")]).unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn after_a_pause_in_which_a_replica_was_promoted_nothing_is_written_to_the_old_primary() {
    let fixture = Fixture::new(1);
    let mut clients: Vec<_> = (0..4).map(|_| fixture.client()).collect();
    for client in &mut clients {
        assert_eq!(client.value(WRITE), fixture.port(0));
    }
    fixture.command("PAUSE app");
    // The old primary lives on. Nobody asks it, or the other one, for its role meanwhile.
    fixture.cluster.replicas()[0].promote().unwrap();
    for client in &mut clients {
        client.send(&Batch::new().query(WRITE));
    }
    thread::sleep(Duration::from_millis(1500));
    fixture.command("RESUME app");
    for client in &mut clients {
        let frames = client.recv_ready(1);
        let row = frames.iter().find(|frame| frame.tag == b'D').map(|frame| frame.columns()[0].clone().unwrap());
        assert_eq!(row, Some(fixture.port(1)), "{frames:?}");
    }
}

#[test]
fn the_log_tells_who_takes_writes_and_that_a_pause_changes_nothing_about_it() {
    let fixture = Fixture::new(1);
    let mut client = fixture.client();
    assert_eq!(client.value(WRITE), fixture.port(0));
    let told = |what: &str| fixture.proxy.log().lines().filter(|line| line.contains(what)).count();
    for _ in 0..3 {
        fixture.command("PAUSE app");
        fixture.command("RESUME app");
        assert_eq!(client.value(WRITE), fixture.port(0));
    }
    assert_eq!((told("node takes writes"), told("takes no writes any more")), (1, 0), "{}", fixture.proxy.log());
    fixture.command("PAUSE app");
    fixture.cluster.replicas()[0].promote().unwrap();
    fixture.command("RESUME app");
    assert_eq!(client.value(WRITE), fixture.port(1));
    assert_eq!((told("node takes writes"), told("takes no writes any more")), (2, 1), "{}", fixture.proxy.log());
}

/// What a standby shows that still follows the former primary may never become part of the cluster's history.
#[test]
fn a_standby_of_a_primary_that_was_replaced_is_not_read_before_it_follows_the_new_one_trap_90() {
    let fixture = Fixture::new(2);
    let mut client = fixture.client();
    fixture.cluster.info().query(0, "postgres", &format!("GRANT pg_monitor TO {APP}")).unwrap();
    assert_eq!(client.value(WRITE), fixture.port(0));
    until("both replicas read", || readers(&mut client, 20).len() == 2);
    fixture.cluster.replicas()[0].promote().unwrap();
    // Nothing is written to the old one, whose standby would have more than it can follow the new one with.
    fixture.wait_node("replica1", "role", "primary");
    // It has written nothing, and needs nothing.
    let mut reader = fixture.client();
    for level in ["session", "table"] {
        reader.rows(&format!("SET trunkline.consistency = '{level}'"));
        assert_eq!(readers(&mut reader, 40).into_keys().collect::<Vec<_>>(), [fixture.port(1)], "{level}");
    }
    fixture.cluster.follow(2, 1).unwrap();
    until("it is read again", || readers(&mut reader, 10).contains_key(&fixture.port(2)));
}

#[test]
fn replication_does_not_stay_with_a_primary_that_was_replaced() {
    let fixture = Fixture::new(1);
    fixture.cluster.info().query(0, "postgres", &format!("ALTER ROLE {APP} REPLICATION")).unwrap();
    let mut writer = fixture.client();
    assert_eq!(writer.value(WRITE), fixture.port(0));
    let mut stream = replication(&fixture.proxy);
    assert_eq!(stream.rows("IDENTIFY_SYSTEM").len(), 1);
    assert_eq!(console(&fixture.proxy).value("SELECT count(*) FROM clients WHERE replication = 'logical'"), "1");
    // The old primary lives on.
    fixture.cluster.replicas()[0].promote().unwrap();
    until_written_on(&fixture.proxy, &mut writer, &fixture.port(1));
    assert!(stream.is_closed());
    assert_eq!(replication(&fixture.proxy).value("SELECT inet_server_port()"), fixture.port(1));
}

#[test]
fn an_outdated_primary_is_known_where_the_control_file_is_kept_secret_trap_87() {
    let cluster = cluster(1);
    for function in ["pg_control_system", "pg_control_checkpoint", "pg_control_recovery"] {
        let sql = format!("REVOKE EXECUTE ON FUNCTION {function}() FROM PUBLIC");
        cluster.info().query(0, "app", &sql).unwrap();
    }
    cluster.info().wait_replayed().unwrap();
    let nodes = node("a", cluster.info().port(0), "role = \"primary\"") + &node("b", cluster.info().port(1), "");
    let proxy = Setup::config(config("", "", &nodes)).start();
    let mut client = client(&proxy);
    assert_eq!(client.value(WRITE), cluster.info().port(0).to_string());
    // The old primary lives on, and is declared.
    cluster.replicas()[0].promote().unwrap();
    until_written_on(&proxy, &mut client, &cluster.info().port(1).to_string());
    assert_eq!(column_of(&proxy, "state")["a"], "refused");
}

/// An old primary that lives on may answer what it was sent before its time was over: with what is lost then, or never, when it waits for
/// the standby that was promoted.
#[test]
fn what_is_under_way_on_a_primary_that_is_replaced_ends() {
    let fixture = Fixture::new(1);
    let (mut waiting, mut copying, mut reading) = (fixture.client(), fixture.client(), fixture.client());
    assert_eq!(waiting.value(WRITE), fixture.port(0));
    fixture.wait_node("replica1", "role", "replica");
    copying.send(&Batch::new().query("COPY t FROM STDIN"));
    assert_eq!(copying.recv().tag, b'G');
    reading.send(&Batch::new().query("/* trunkline: primary */ SELECT pg_sleep(4)"));
    let primary = fixture.cluster.primary();
    primary.configure(&[("synchronous_standby_names", "nobody")]).unwrap();
    primary.reload();
    let names = "SHOW synchronous_standby_names";
    until("it waits for a standby", || fixture.cluster.info().query(0, "app", names).unwrap() == "nobody");
    waiting.send(&Batch::new().query("INSERT INTO t VALUES (9)"));
    assert!(waiting.is_silent_for(Duration::from_millis(300)));
    fixture.cluster.replicas()[0].promote().unwrap();
    for (what, client) in [("a commit", &mut waiting), ("COPY", &mut copying)] {
        let frame = client.recv();
        assert_eq!(frame.sqlstate(), "08007", "{what}: {frame:?}");
        assert!(client.is_closed(), "{what}");
    }
    assert_eq!(tags(&reading.recv_ready(1)), "TDCZ", "a read tells what was there when it began");
    assert_eq!(fixture.client().value(WRITE), fixture.port(1));
    // It had reached the standby before.
    let written = fixture.cluster.info().query(1, "app", "SELECT count(*) FROM t WHERE n = 9").unwrap();
    assert_eq!(written, "1", "what may have been committed is not sent again");
}

/// The clients of the old primary connect again all at once, and some of them directly: they come and go.
#[test]
fn a_new_primary_that_is_full_is_waited_for() {
    let cluster = cluster(1);
    let setup = "CREATE ROLE w LOGIN PASSWORD 'w' CONNECTION LIMIT 2; GRANT ALL ON t TO w";
    cluster.info().query(0, "app", setup).unwrap();
    cluster.info().wait_replayed().unwrap();
    let user = "[users.w]\npassword = \"w\"\n[users.w.pool]\nwait_timeout = \"3s\"\n";
    let proxy = Setup::config(config("", "", &(nodes(&cluster) + user))).start();
    let connect = |port| RawClient::connect(port, "w", "w", "app");
    let [mut first, mut second] = [(); 2].map(|()| connect(proxy.port()));
    assert_eq!(first.value(WRITE), cluster.info().port(0).to_string());
    until("the replica is known", || column_of(&proxy, "role")["replica1"] == "replica");
    let others = [(); 2].map(|()| connect(cluster.info().port(1)));
    cluster.primary().stop(StopMode::Immediate).unwrap();
    first.send(&Batch::new().query(WRITE));
    cluster.replicas()[0].promote().unwrap();
    until("it takes writes", || column_of(&proxy, "role")["replica1"] == "primary");
    assert!(first.is_silent_for(Duration::from_millis(700)), "it waits");
    let began = Instant::now();
    assert_eq!(first.recv().sqlstate(), "53300", "for as long as for anything");
    assert!(began.elapsed() < Duration::from_secs(4));
    first.recv_ready(1);
    for client in [&mut first, &mut second] {
        client.send(&Batch::new().query(WRITE));
    }
    assert!(first.is_silent_for(Duration::from_millis(500)) && second.is_silent_for(Duration::from_millis(10)));
    drop(others);
    for client in [&mut first, &mut second] {
        let frames = client.recv_ready(1);
        let row = frames.iter().find(|frame| frame.tag == b'D').map(|row| row.columns()[0].clone().unwrap());
        assert_eq!(row, Some(cluster.info().port(1).to_string()), "{frames:?}");
    }
}
