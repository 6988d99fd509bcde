//! The test support itself, against plain PostgreSQL: clusters and the raw client do what the other
//! tests take for granted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::clusters::{self, APP, APP_PASSWORD, MD5, MD5_PASSWORD, TestDb};
use support::frames::{Batch, summary, tags};
use support::raw::RawClient;
use support::sql;
use trunkline::app::demo::{ClusterOptions, Node, StopMode};

#[test]
fn a_shared_cluster_replicates_each_test_database() {
    let db = TestDb::with(clusters::shared(), "CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    for node in 0..3 {
        assert_eq!(db.run_on(node, "SELECT sum(n) FROM t"), "55");
    }
    assert_eq!(db.run_on(1, "SELECT pg_is_in_recovery()"), "t");
    assert_eq!(db.run_on(2, "SELECT current_setting('cluster_name')"), "replica2");
    assert_eq!(db.run("SELECT tableowner FROM pg_tables WHERE tablename = 't'"), APP);
}

#[test]
fn nodes_stop_promote_and_rejoin() {
    let mut cluster = clusters::own();
    let root = cluster.info().root.clone();
    let info = cluster.info().clone();
    info.query(0, "app", "CREATE TABLE t (n int)").unwrap();
    info.wait_replayed().unwrap();

    cluster.replicas()[0].kill().unwrap();
    info.query(1, "app", "SELECT 1").unwrap_err();
    cluster.replicas()[0].start().unwrap();

    let client_port = cluster.replicas()[1].port();
    let mut client = RawClient::connect(client_port, APP, APP_PASSWORD, "app");
    cluster.replicas()[1].pause();
    client.send(&Batch::new().query("SELECT 1"));
    assert!(client.is_silent_for(Duration::from_millis(200)));
    cluster.replicas()[1].resume();
    assert_eq!(tags(&client.recv_ready(1)), "TDCZ");

    cluster.primary().stop(StopMode::Fast).unwrap();
    cluster.replicas()[0].promote().unwrap();
    cluster.follow(2, 1).unwrap();
    info.query(1, "app", "INSERT INTO t VALUES (1)").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while info.query(2, "app", "SELECT count(*) FROM t").unwrap() != "1" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.add_replica(1).unwrap();
    let added = cluster.info().clone();
    assert_eq!(added.query(3, "app", "SELECT count(*) FROM t").unwrap(), "1");

    let pids: Vec<_> = cluster.nodes().iter().filter_map(|node| node.pid()).collect();
    assert_eq!(pids.len(), 3);
    drop(cluster);
    assert!(!root.exists());
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

/// The processes of servers whose data directories are below this directory.
fn servers_below(root: &Path) -> Vec<u32> {
    let in_there = |entry: fs::DirEntry| -> Option<u32> {
        let is_server = fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.ends_with("postgres"));
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
        entry.file_name().to_str()?.parse().ok().filter(|_| is_server && works_there)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(in_there).collect()
}

#[test]
fn nothing_is_left_of_a_server_that_was_killed_while_it_was_frozen() {
    let cluster = clusters::start(ClusterOptions { replicas: 0, ..clusters::options() });
    let (root, node) = (cluster.info().root.clone(), cluster.primary());
    for round in 0..6 {
        let clients: Vec<_> = (0..20).map(|_| RawClient::connect(node.port(), APP, APP_PASSWORD, "app")).collect();
        assert!(servers_below(&root).len() > clients.len(), "the postmaster, the backends, and others");
        if round % 3 > 0 {
            node.pause();
        }
        if round % 3 > 1 {
            node.resume();
        }
        node.kill().unwrap();
        assert_eq!(servers_below(&root), Vec::<u32>::new(), "round {round}");
        node.start().unwrap();
    }
}

/// The postmaster may be gone and its backends not: whatever ended it, nobody else looks after them.
#[test]
fn nothing_is_left_when_the_owner_has_gone_either() {
    let cluster = clusters::start(ClusterOptions { replicas: 1, ..clusters::options() });
    let root = cluster.info().root.clone();
    let connect = |node: &Node| RawClient::connect(node.port(), APP, APP_PASSWORD, "app");
    let _clients: Vec<_> = cluster.nodes().iter().map(connect).collect();
    cluster.nodes().iter().for_each(Node::pause);
    let postmaster = Pid::from_raw(cluster.primary().pid().unwrap().cast_signed()).unwrap();
    kill_process(postmaster, Signal::KILL).unwrap();
    assert!(servers_below(&root).len() > 4);
    drop(cluster);
    assert_eq!(servers_below(&root), Vec::<u32>::new());
}

#[test]
fn the_raw_client_speaks_both_protocols() {
    let db = TestDb::new(clusters::shared());
    let port = db.cluster().primary_port();
    let mut client = RawClient::connect(port, APP, APP_PASSWORD, &db.name);
    assert_eq!(client.parameter("standard_conforming_strings"), Some("on"));
    assert_eq!(client.value("SELECT 1 + 1"), "2");
    assert_eq!(client.failure("SELECT nonsense"), "42703");
    let frames = client.exchange(&Batch::new().run("SELECT $1 || 'x', NULL", &[Some("a")]).sync());
    assert_eq!(
        summary(&frames),
        "ParseComplete BindComplete RowDescription DataRow(ax, NULL) CommandComplete(SELECT 1) ReadyForQuery(I)"
    );
    client.send(&Batch::new().query("SELECT pg_sleep(30)"));
    std::thread::sleep(Duration::from_millis(100));
    client.cancel(port);
    let frames = client.recv_ready(1);
    assert_eq!(frames[frames.len() - 2].sqlstate(), "57014");
}

#[test]
fn the_raw_client_logs_in_by_every_method_and_is_refused() {
    let info = clusters::shared();
    let mut client = RawClient::connect(info.primary_port(), MD5, MD5_PASSWORD, "app");
    assert_eq!(client.value("SELECT current_user"), MD5);
    let mut client = RawClient::unix(&info.root, info.primary_port());
    client.login(APP_PASSWORD, &[("user", APP), ("database", "app")]).unwrap();
    let mut client = RawClient::tcp(info.primary_port());
    let error = client.login("wrong", &[("user", APP), ("database", "app")]).unwrap_err();
    assert_eq!(error.sqlstate(), "28P01");
    assert!(client.is_closed());
}

#[test]
fn ordinary_clients_connect() {
    let db = TestDb::new(clusters::shared());
    let port = db.cluster().primary_port();
    sql::block_on(async {
        let client = sql::connect(port, &db).await;
        let row = client.query_one("SELECT $1::int4 * 2", &[&21_i32]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    });
    let output = sql::psql(port, &db, "SELECT 'from psql';\n\\d\nSELECT nonsense;\n");
    assert_eq!(output.stdout, "from psql\n");
    assert_eq!(output.code, 3, "{output:?}");
}
