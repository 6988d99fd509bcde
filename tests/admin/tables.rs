//! Every table: its columns with their types, and its rows with what changes from run to run masked.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const TABLES: [&str; 32] = [
    "POOLS",
    "POOLS_EXTENDED",
    "CLIENTS",
    "SERVERS",
    "SERVERS_EXTENDED",
    "SOCKETS",
    "ACTIVE_SOCKETS",
    "DATABASES",
    "NODES",
    "CITUS",
    "PATRONI",
    "PINS",
    "LEARNED",
    "RERUNS",
    "ROUTES",
    "BREAKERS",
    "WHATIF",
    "PREPARED",
    "USERS",
    "STATS",
    "STATS_TOTALS",
    "STATS_AVERAGES",
    "TOTALS",
    "LISTS",
    "CONFIG",
    "MEM",
    "STATE",
    "VERSION",
    "PEERS",
    "PEER_POOLS",
    "DNS_HOSTS",
    "DNS_ZONES",
];

/// What changes from run to run.
fn mask(fixture: &Fixture, column: &str, value: Option<String>) -> String {
    if ["staleness_ms", "horizon", "latency_us"].contains(&column) {
        return "…".to_owned();
    }
    let Some(value) = value else { return "NULL".to_owned() };
    let ports: Vec<_> = fixture.db.cluster().nodes.iter().map(|node| node.1).collect();
    let changing = [
        "connect_time",
        "request_time",
        "last_check",
        "remote_pid",
        "ptr",
        "link",
        "id",
        "version",
        "memtotal",
        "size",
        "local_port",
        "time_ms",
        "share_of_time",
    ];
    if changing.contains(&column) && !value.is_empty() {
        return "…".to_owned();
    }
    if column.ends_with("port") && value != "0" {
        return match ports.iter().position(|port| port.to_string() == value) {
            Some(node) => format!("port {node}"),
            None => "…".to_owned(),
        };
    }
    value.replace(&fixture.db.name, "DB").replace(&fixture.proxy.port().to_string(), "PORT")
}

fn shown(fixture: &Fixture, client: &mut RawClient, name: &str) -> String {
    let frames = client.exchange(&Batch::new().query(&format!("SHOW {name}")));
    let columns = columns(&frames[0]);
    let mut text = format!("SHOW {name}\n");
    for (name, oid, size) in &columns {
        let kind = match (oid, size) {
            (25, -1) => "text",
            (23, 4) => "int4",
            (20, 8) => "int8",
            (1700, -1) => "numeric",
            other => panic!("{name}: {other:?}"),
        };
        let _ = writeln!(text, "  {name} {kind}");
    }
    for frame in frames.iter().filter(|frame| frame.tag == b'D') {
        let values = frame.columns();
        assert_eq!(values.len(), columns.len(), "{name}");
        let values = columns.iter().zip(values).map(|(column, value)| mask(fixture, &column.0, value));
        let _ = writeln!(text, "| {} |", values.collect::<Vec<_>>().join(" | "));
    }
    text
}

#[test]
fn columns_types_and_rows() {
    let fixture = Fixture::new();
    let mut idle = fixture.client();
    idle.exchange(&Batch::new().query("INSERT INTO t VALUES (1)"));
    let mut client = fixture.console();
    // Its server connection has come back: the next one takes the same.
    let patience = Duration::from_secs(10);
    let deadline = Instant::now() + patience;
    while !table(&mut client, "SHOW SERVERS").iter().all(|server| server["state"].as_deref() == Some("idle")) {
        assert!(Instant::now() < deadline);
    }
    let mut busy = fixture.client();
    busy.exchange(&Batch::new().query("BEGIN; DELETE FROM t WHERE n < 0"));
    // The health checks have asked every node.
    let deadline = Instant::now() + patience;
    while table(&mut client, "SHOW NODES").iter().any(|node| node["role"].as_deref() == Some("unknown")) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(50));
    }
    for name in TABLES {
        let mut text = shown(&fixture, &mut client, name);
        if name.starts_with("STATS") || matches!(name, "TOTALS" | "MEM") {
            // Numbers that grow: only the columns and the first value of each row.
            let rows = text.lines().map(|line| match line.strip_prefix("| ") {
                Some(row) => format!("| {} | …", row.split(" | ").next().unwrap()),
                None => line.to_owned(),
            });
            text = rows.collect::<Vec<_>>().join("\n");
        }
        if name == "ROUTES" {
            // In the order of the times.
            let (mut rows, mut lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('|'));
            rows.sort_unstable();
            lines.append(&mut rows);
            text = lines.join("\n");
        }
        if name == "CONFIG" {
            text = text.lines().filter(|line| !line.starts_with("| workers")).collect::<Vec<_>>().join("\n");
        }
        insta::assert_snapshot!(name.to_ascii_lowercase(), text);
    }
    // The help and the test know the same tables.
    let help = client.exchange(&Batch::new().query("SHOW HELP"))[0].field(b'D').unwrap();
    assert_eq!(help.matches("SHOW ").count(), TABLES.len() + 6, "SHOW HELP itself, and what FORGET refers to");
}

#[test]
fn pools_and_connections_follow_what_happens() {
    let fixture = Fixture::new();
    let mut console = fixture.console();
    let name = fixture.db.name.clone();
    let pool = |console: &mut RawClient, column: &str| {
        let rows = table(console, "SHOW POOLS");
        let row = rows.iter().find(|row| row["database"].as_deref() == Some(&name)).unwrap();
        row[column].clone().unwrap()
    };
    let mut clients: Vec<_> = (0..3).map(|_| fixture.client()).collect();
    for client in &mut clients {
        client.exchange(&Batch::new().query("BEGIN; INSERT INTO t VALUES (1)"));
    }
    let mut late = fixture.client();
    late.send(&Batch::new().query("INSERT INTO t VALUES (2)"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while pool(&mut console, "cl_waiting") != "1" || pool(&mut console, "maxwait_us") == "0" {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(pool(&mut console, "sv_active"), "3");
    assert_eq!(pool(&mut console, "cl_active"), "3");
    let rows = table(&mut console, "SHOW CLIENTS");
    let waiting: Vec<_> = rows.iter().filter(|row| row["state"].as_deref() == Some("waiting")).collect();
    assert_eq!(waiting.len(), 1);
    assert_ne!(waiting[0]["wait_us"].as_deref(), Some("0"));
    let links: Vec<_> = rows.iter().filter(|row| row["state"].as_deref() == Some("active")).collect();
    let servers = table(&mut console, "SHOW SERVERS");
    for client in links {
        let server = servers.iter().find(|server| server["ptr"] == client["link"]).unwrap();
        assert_eq!(server["link"], client["ptr"]);
    }
    let nodes = table(&mut console, "SHOW NODES");
    assert_eq!(nodes[0]["outstanding"].as_deref(), Some("3"));
    for client in &mut clients {
        client.exchange(&Batch::new().query("COMMIT"));
    }
    late.recv_ready(1);
    assert_eq!(pool(&mut console, "cl_waiting"), "0");
    let stats = table(&mut console, "SHOW STATS");
    let row = stats.iter().find(|row| row["database"].as_deref() == Some(&name)).unwrap();
    let count = |column: &str| row[column].as_deref().unwrap().parse::<u64>().unwrap();
    assert!(count("total_xact_count") >= 4 && count("total_wait_time") > 0, "{row:?}");
}

#[test]
fn route_explains() {
    let fixture = Fixture::new();
    let mut client = fixture.console();
    let frames = client.exchange(&Batch::new().query("SHOW ROUTE $$SELECT 'x'; UPDATE t SET n = nextval('s')$$"));
    // The tables that are touched are numbered by their OIDs.
    let rows: Vec<_> = frames.iter().filter(|frame| frame.tag == b'D').map(|row| row.columns()[..7].to_vec()).collect();
    insta::assert_debug_snapshot!((columns(&frames[0]), rows));
}
