//! What a good file resolves to.

use std::time::Duration;

use super::{BASE, config, read, shown};
use crate::config::{AuthMethod, HbaKind, ListenAddr, NodeRole, PoolMode, Secret};

#[test]
fn three_ways_to_write_the_servers() {
    let strings = "[databases.app]\nprimary = \"host=a,b port=1,2\"\nreplicas = [\"host=/run/pg name=x weight=3\"]\n";
    let tables = "[[databases.app.nodes]]\nrole = \"replica\"\nname = \"x\"\nhost = \"/run/pg\"\nweight = 3\n\
                  [[databases.app.nodes]]\nrole = \"primary\"\nhosts = [\"a:1\", \"b:2\"]\n";
    let user = "[users.u]\npassword = \"p\"\n";
    let (a, b) = (config(&format!("{strings}{user}")), config(&format!("{tables}{user}")));
    assert_eq!(a, b);
    let nodes = &a.databases["app"].nodes;
    assert_eq!(nodes[0].role, Some(NodeRole::Primary), "the primary comes first");
    assert_eq!(nodes[0].hosts.len(), 2);
    assert_eq!((nodes[1].hosts[0].host.as_str(), nodes[1].weight), ("/run/pg", Some(3)));
}

#[test]
fn databases_inherit_and_override() {
    let text = format!(
        "{BASE}slow_query = \"0\"\npool.size = 7\nrouting.max_lag = \"0\"\n\
         [pool]\nsize = 5\nmode = \"session\"\nidle_timeout = 0\n[slow_log]\nslow_query = \"3s\"\n\
         [users.u]\npassword = \"x\"\nslow_query = \"9s\"\npool = {{ size = 2, wait_timeout = \"0\" }}"
    );
    let config = config(&text);
    let database = &config.databases["app"];
    assert_eq!((database.pool.size, database.pool.mode, database.pool.idle_timeout), (7, PoolMode::Session, None));
    assert_eq!((database.slow_query, database.routing.max_lag), (None, None));
    assert_eq!(config.slow_query(database, "u"), Some(Duration::from_secs(9)));
    let pool = config.pool_settings(database, "u");
    assert_eq!((pool.size, pool.wait_timeout), (2, None));
}

#[test]
fn the_fallback_database_keeps_the_clients_name() {
    let config = config("[databases.\"*\"]\nprimary = \"host=h\"\n[users.u]\npassword = \"p\"\n");
    assert_eq!(config.database("anything").unwrap().dbname, None);
}

#[test]
fn a_read_only_database_needs_no_primary() {
    let text = "[databases.app]\nreplicas = [\"host=a\"]\nread_only = true\n[users.u]\npassword = \"p\"\n";
    assert_eq!(config(text).databases["app"].nodes.len(), 1);
}

#[test]
fn hba_rules() {
    let text = format!(
        "{BASE}[[hba]]\ntype = \"host\"\naddresses = [\"10.1.2.3/8\", \"::1\"]\nmethod = \"md5\"\n\
         [[hba]]\nusers = \"all\"\naddresses = [\"all\"]\nmethod = \"reject\"\n"
    );
    let rules = config(&text).hba;
    assert_eq!((rules[0].kind, rules[0].method), (HbaKind::Host, AuthMethod::Md5));
    assert_eq!(rules[0].addresses[0].to_string(), "10.0.0.0/8");
    assert_eq!(rules[0].addresses[1].to_string(), "::1/128");
    assert!(rules[1].users.is_empty() && rules[1].addresses.is_empty());
}

#[test]
fn logins_of_a_database() {
    let text = "[databases.app]\nprimary = \"host=h\"\nserver_user = \"pool\"\n[users.pool]\npassword = \"p\"\n";
    let config = config(text);
    let database = &config.databases["app"];
    assert_eq!(database.server_password, Some(Secret::new("p")), "a plain password of the same user serves");
    assert_eq!((database.control_user.as_deref(), &database.control_password), (Some("pool"), &Some(Secret::new("p"))));
}

#[test]
fn addresses_to_listen_on() {
    let text = format!(
        "{BASE}[general]\nlisten = [\"*:6432\", \"[::1]:6433\"]\nunix_socket_dir = \"/tmp\"\nunix_socket_mode = \"0700\""
    );
    let listen = config(&text).listen;
    assert_eq!(listen.len(), 4);
    assert_eq!(listen[3], ListenAddr::Unix { dir: "/tmp".into(), port: 6432, mode: 0o700 });
    assert_eq!(config(&format!("{BASE}[general]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]")).listen.len(), 2);
}

#[test]
fn the_takeover_socket_is_off_unless_named() {
    let socket = |text: &str| config(&format!("{BASE}[general]\n{text}")).takeover_socket;
    assert_eq!((socket(""), socket("takeover_socket = \"\"")), (None, None));
    assert_eq!(socket("takeover_socket = \"/tmp/takeover.sock\""), Some("/tmp/takeover.sock".into()));
}

#[test]
fn warnings_do_not_refuse() {
    let loaded = read("[databases.app]\nprimary = \"host=h\"\n[users.u]\npassword = \"p\"\n", &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].is_warning() && loaded.warnings[0].message().contains("control_user"));
}

#[test]
fn what_a_refused_value_would_have_said_is_not_missed() {
    let cases = [
        ("[databases.app]\nprimary = 5\n[users.u]\npassword = \"p\"\n", 1),
        ("[databases.app]\nurl = \"postgres://u:p@h:x/d\"\n", 1),
        ("[[databases.app.nodes]]\nrole = \"master\"\nhost = \"h\"\n[users.u]\npassword = \"p\"\n", 1),
    ];
    for (text, count) in cases {
        let errors = read(text, &[]).unwrap_err();
        let mistakes = errors.problems().iter().filter(|problem| !problem.is_warning()).count();
        assert_eq!(mistakes, count, "{text}\n{errors}");
    }
    assert!(shown("[databases.app]\nprimary = 5", &[]).contains("databases.app.primary"));
}
