//! What a reload says.

use super::{BASE, config};
use crate::config::Diff;

fn changes(old: &str, new: &str) -> Vec<String> {
    Diff::between(&config(old), &config(new)).iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_changes_nothing() {
    assert!(changes(BASE, &format!("# a comment\n{BASE}")).is_empty());
}

#[test]
fn changes_in_words() {
    let old = format!("{BASE}[users.a]\npassword = \"hunter2\"\n[users.b]\npassword = \"x\"\n");
    let new = "[general]\nlisten = [\"127.0.0.1:7000\"]\nworkers = 77\ntakeover_socket = \"/tmp/t\"\nbatch_sends = false\n[metrics]\nlisten = \"127.0.0.1:9127\"\n\
               [databases.app]\nurl = \"postgres://app:hunter3@db9/app\"\nreplica_urls = [\"postgres://db2/app\"]\n\
               pool.size = 30\nslow_query = \"200ms\"\n[databases.new]\nprimary = \"host=h\"\n\
               [users.a]\npassword = \"hunter4\"\nmax_clients = 3\n[users.c]\npassword = \"x\"\n";
    let found = changes(&old, new);
    assert!(!found.iter().any(|change| change.contains("hunter")), "{found:?}");
    for expected in [
        "listen: 127.0.0.1:6432 -> 127.0.0.1:7000 (needs a restart)",
        "batch_sends: true -> false (needs a restart)",
        "takeover_socket: off -> /tmp/t (needs a restart)",
        "metrics.listen: off -> 127.0.0.1:9127 (needs a restart)",
        "hosts of node primary of database app: [db1:5432] -> [db9:5432]",
        "node replica1 of database app added (db2:5432)",
        "control_password of database app changed",
        "pool.size of database app: 20 -> 30",
        "slow_query of database app: 1s -> 200ms",
        "database new added",
        "password of user a changed",
        "max_clients of user a: none -> 3",
        "user b removed",
        "user c added",
        "password of user app changed",
    ] {
        assert!(found.iter().any(|change| change == expected), "{expected}\n{found:#?}");
    }
    assert!(found.iter().any(|change| change.starts_with("workers: ") && change.ends_with("-> 77 (needs a restart)")));
}
