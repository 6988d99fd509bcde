//! `TRUNKLINE__SECTION__KEY=value`.

use std::time::Duration;

use super::{BASE, read};
use crate::config::{AuthMethod, PoolMode, Secret};

fn with(text: &str, env: &[(&str, &str)]) -> crate::config::Config {
    read(text, env).unwrap_or_else(|errors| panic!("{errors}")).config
}

#[test]
fn replace_and_add() {
    let text =
        format!("{BASE}[pool]\nsize = 5\n[databases.Shop]\nprimary = \"host=h\"\n[[hba]]\nmethod = \"scram-sha-256\"");
    let config = with(
        &text,
        &[
            ("TRUNKLINE__POOL__SIZE", "7"),
            ("TRUNKLINE__POOL__LIFETIME", "2h"),
            ("TRUNKLINE__DATABASES__SHOP__POOL__MODE", "session"),
            ("TRUNKLINE__DATABASES__EXTRA__PRIMARY", "host=h port=1"),
            ("TRUNKLINE__ROUTING__SPLIT_READS", "false"),
            ("TRUNKLINE__HBA__0__METHOD", "md5"),
            ("TRUNKLINE__HBA__1__METHOD", "reject"),
            ("TRUNKLINE__DATABASES__LATE__NODES__0__ROLE", "primary"),
            ("TRUNKLINE__DATABASES__LATE__NODES__0__HOST", "h"),
            ("TRUNKLINE__USERS__B__PASSWORD", "12345"),
            ("TRUNKLINE__ADMIN__ADMIN_USERS", "app, b"),
            ("TRUNKLINE__ADMIN__STATS_USERS", "[\"b\"]"),
            ("TRUNKLINE__GENERAL__LISTEN", "127.0.0.1:1"),
            ("TRUNKLINE_CONFIG", "not an override"),
        ],
    );
    let shop = &config.databases["Shop"];
    assert_eq!((shop.pool.size, shop.pool.mode, shop.routing.split_reads), (7, PoolMode::Session, false));
    assert_eq!(shop.pool.lifetime, Some(Duration::from_secs(7200)));
    assert_eq!(config.databases["extra"].nodes[0].hosts[0].port, 1);
    assert_eq!((config.hba[0].method, config.hba[1].method), (AuthMethod::Md5, AuthMethod::Reject));
    assert_eq!(config.users["b"].secret, Some(Secret::new("12345")));
    assert_eq!(config.admin.admin_users, ["app", "b"]);
    assert_eq!(config.admin.stats_users, ["b"]);
    assert_eq!(config.listen.len(), 1);
}

#[test]
fn mistakes_point_at_the_variable() {
    let cases: &[(&str, &str, &str)] = &[
        ("TRUNKLINE__POOL__SIZE", "many", "environment:1: the value of pool.size can't be used"),
        ("TRUNKLINE__POOL__SIZE", "0", "environment:1: must be at least 1"),
        ("TRUNKLINE__POOL__SISE", "1", "environment:1: unknown key \"sise\""),
        ("TRUNKLINE__POOL", "1", "environment:1: the value of pool can't be used"),
        ("TRUNKLINE__HBA__3__METHOD", "md5", "environment:1: "),
        (
            "TRUNKLINE__POOL____SIZE",
            "1",
            "environment:1: the environment variable TRUNKLINE__POOL____SIZE names nothing",
        ),
        (
            "TRUNKLINE__ADMIN__ADMIN_USERS",
            "[app",
            "environment:1: the value of TRUNKLINE__ADMIN__ADMIN_USERS is not TOML",
        ),
    ];
    for (name, value, expected) in cases {
        let errors = read(BASE, &[(name, value)]).unwrap_err();
        let text = errors.to_string();
        assert!(text.starts_with(expected), "{name}={value}: {text}");
        assert_eq!(errors.problems().iter().filter(|p| !p.is_warning()).count(), 1, "{text}");
    }
}
