//! What prometheus-community/pgbouncer_exporter does: its queries, the columns that it looks up by name, and the types that
//! it can make labels and numbers of.

use super::*;

/// Labels must be text or integers: the exporter's driver hands everything else over as bytes.
const LABELS: [u32; 4] = [20, 23, 25, 1043];
const NUMBERS: [u32; 4] = [20, 21, 23, 1700];

fn read(client: &mut RawClient, sql: &str, labels: &[&str], numbers: &[&str]) {
    let frames = client.exchange(&Batch::new().query(sql));
    let columns = columns(&frames[0]);
    let find = |name: &str| {
        let index = columns.iter().position(|column| column.0 == name);
        let index = index.unwrap_or_else(|| panic!("{sql} has no column {name}"));
        (index, columns[index].1)
    };
    for label in labels {
        assert!(LABELS.contains(&find(label).1), "{sql}: {label}");
    }
    let rows: Vec<_> = frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect();
    assert!(!rows.is_empty(), "{sql}");
    for number in numbers {
        let (index, oid) = find(number);
        assert!(NUMBERS.contains(&oid), "{sql}: {number}");
        for row in &rows {
            row[index].as_deref().unwrap().parse::<f64>().unwrap();
        }
    }
}

#[test]
fn pgbouncer_exporter_works_unchanged() {
    let fixture = Fixture::new();
    fixture.client().value("SELECT 1");
    // It logs in as a user that may only look.
    let port = fixture.proxy.port();
    let parameters =
        [("user", OTHER), ("database", "pgbouncer"), ("extra_float_digits", "2"), ("datestyle", "ISO, MDY")];
    let mut client = RawClient::connect_with(port, OTHER_PASSWORD, &parameters);
    let client = &mut client;
    client.rows("SHOW STATS;");
    let totals = [
        "query_count",
        "query_time",
        "bytes_received",
        "bytes_sent",
        "wait_time",
        "xact_count",
        "xact_time",
        "client_parse_count",
        "server_parse_count",
        "bind_count",
    ];
    read(client, "SHOW STATS_TOTALS;", &["database"], &totals);
    let pools = [
        "cl_active",
        "cl_active_cancel_req",
        "cl_waiting",
        "cl_waiting_cancel_req",
        "sv_active",
        "sv_active_cancel",
        "sv_being_canceled",
        "sv_idle",
        "sv_used",
        "sv_tested",
        "sv_login",
        "maxwait",
        "maxwait_us",
    ];
    read(client, "SHOW POOLS;", &["database", "user", "pool_mode"], &pools);
    let databases = [
        "port",
        "pool_size",
        "min_pool_size",
        "reserve_pool",
        "reserve_pool_size",
        "max_connections",
        "current_connections",
        "max_client_connections",
        "current_client_connections",
        "paused",
        "disabled",
    ];
    read(client, "SHOW DATABASES;", &["name", "host", "database", "force_user", "pool_mode"], &databases);
    let lists = client.rows("SHOW LISTS;");
    for row in &lists {
        assert_eq!(row.len(), 2);
        row[1].as_deref().unwrap().parse::<f64>().unwrap();
    }
    let config = client.rows("SHOW CONFIG;");
    for key in ["max_client_conn", "max_user_connections"] {
        let row = config.iter().find(|row| row[0].as_deref() == Some(key)).unwrap();
        assert_eq!(row.len(), 4);
        row[1].as_deref().unwrap().parse::<f64>().unwrap();
    }
    assert_eq!(client.rows("SHOW VERSION;").len(), 1);
}
