//! A standby that streams from another standby.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use trunkline::app::demo::StopMode;

use crate::fixture::*;
use crate::support::clusters::APP;

/// A read of what the session has written, on a replica that has it if there is one.
const COUNT: &str = "/* trunkline: replica */ SELECT inet_server_port(), (SELECT count(*) FROM t)";

#[test]
fn a_standby_behind_another_one_is_read_when_it_has_all_and_follows_its_promotion_traps_85_and_90() {
    let fixture = Fixture::new(2);
    let (cluster, [first, second]) = (&fixture.cluster, [1, 2].map(|node| fixture.port(node)));
    // Else a standby's new timeline is known after its next restart point only.
    cluster.info().query(0, "postgres", &format!("GRANT pg_monitor TO {APP}")).unwrap();
    cluster.follow(2, 1).unwrap();
    let upstream = || cluster.info().query(2, "app", "SELECT sender_port FROM pg_stat_wal_receiver");
    until("it streams from the other standby", || upstream().is_ok_and(|port| port == first));
    fixture.wait_node("replica2", "role", "replica");
    let mut client = fixture.client();
    client.rows("SET trunkline.consistency = 'session'");
    let mut written = 0;
    let mut write_and_read = |wanted: &[&String]| {
        let mut seen = BTreeSet::new();
        until("reads are done where they were wanted", || {
            client.rows(WRITE);
            written += 1;
            for _ in 0..50 {
                // How far replicas are is asked every now and then.
                thread::sleep(Duration::from_millis(10));
                let row = client.rows(COUNT).remove(0);
                assert_eq!(row[1].as_deref(), Some(written.to_string().as_str()), "{row:?}");
                seen.extend(row[0].clone());
            }
            wanted.iter().all(|port| seen.contains(*port))
        });
        seen
    };
    write_and_read(&[&first, &second]);
    // What is behind it gets nothing either: no read misses what was written meanwhile.
    cluster.replicas()[0].pause();
    let seen = write_and_read(&[&fixture.port(0)]);
    assert!(!seen.contains(&first), "{seen:?}");
    cluster.replicas()[0].resume();
    write_and_read(&[&first, &second]);
    cluster.info().wait_replayed().unwrap();
    cluster.primary().stop(StopMode::Immediate).unwrap();
    cluster.replicas()[0].promote().unwrap();
    write_and_read(&[&second]);
    fixture.wait_node("replica1", "role", "primary");
    fixture.wait_node("replica2", "role", "replica");
}
