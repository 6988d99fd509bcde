//! Configurations from URLs: the command line and `url` in a file.

use std::time::Duration;

use super::config;
use crate::config::{AuthMethod, Config, HostPort, ListenAddr, Loaded, NodeRole, PoolMode, Secret, SslMode, UrlArgs};

fn args(url: &str) -> UrlArgs {
    UrlArgs { database_url: url.into(), ..UrlArgs::default() }
}

fn load(args: &UrlArgs, env: &[(&str, &str)]) -> Loaded {
    Config::from_urls(args, &env.iter().copied().collect()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn error(args: &UrlArgs) -> String {
    let errors = Config::from_urls(args, &Default::default()).unwrap_err();
    format!("{errors}\n{}", errors.render(false))
}

#[test]
fn one_url_is_enough() {
    let loaded = load(&args("postgres://app:secret@db1:5433/shop"), &[]);
    let config = loaded.config;
    assert!(loaded.warnings.is_empty());
    assert_eq!(config.listen, [ListenAddr::Tcp("127.0.0.1:6432".parse().unwrap())]);
    let database = config.database("shop").unwrap();
    assert!(config.database("other").is_none());
    assert_eq!(database.dbname.as_deref(), Some("shop"));
    assert_eq!(database.nodes.len(), 1);
    assert_eq!(database.nodes[0].hosts, [HostPort { host: "db1".into(), port: 5433 }]);
    assert_eq!(
        (database.control_user.as_deref(), &database.control_password),
        (Some("app"), &Some(Secret::new("secret")))
    );
    assert_eq!((&database.server_user, &database.server_password), (&None, &None));
    assert_eq!(config.users["app"].secret, Some(Secret::new("secret")));
    assert_eq!(config.hba.len(), 1);
    assert_eq!(config.hba[0].method, AuthMethod::ScramSha256);
    assert_eq!(config.admin.admin_users, ["app"]);
    assert_eq!((database.pool.mode, database.pool.size), (PoolMode::Transaction, 20));
    assert_eq!(database.tls.mode, SslMode::Prefer);
}

#[test]
fn variables_say_the_rest() {
    let args = UrlArgs { pool_size: Some(9), ..args("postgres://app:secret@db1/Shop") };
    let loaded = load(
        &args,
        &[
            ("TRUNKLINE__POOL__SIZE", "7"),
            ("TRUNKLINE__POOL__LIFETIME", "2h"),
            ("TRUNKLINE__DATABASES__SHOP__ROUTING__SPLIT_READS", "false"),
            ("TRUNKLINE__USERS__OTHER__PASSWORD", "x"),
            ("TRUNKLINE__GENERAL__LISTEN", "127.0.0.1:1"),
        ],
    );
    let database = loaded.config.database("Shop").unwrap();
    assert_eq!((database.pool.size, database.routing.split_reads), (9, false), "a flag goes before a variable");
    assert_eq!(database.pool.lifetime, Some(Duration::from_secs(7200)));
    assert_eq!(loaded.config.users.len(), 2);
    assert_eq!(loaded.config.listen, [ListenAddr::Tcp("127.0.0.1:1".parse().unwrap())]);
    let env = [("TRUNKLINE__POOL__SISE", "hunter2")].into_iter().collect();
    let errors = Config::from_urls(&args, &env).unwrap_err();
    assert!(errors.to_string().contains("unknown key \"sise\""), "{errors}");
}

#[test]
fn every_flag() {
    let args = UrlArgs {
        database_url: "postgres://app:secret@db1,db1b:5433/shop?sslmode=require&connect_timeout=3".into(),
        replica_urls: vec!["postgres://db2/shop".into(), "postgres://app:secret@db3:5434".into()],
        listen: vec!["127.0.0.1:7000".into(), "[::1]:7000".into(), "/tmp".into()],
        metrics: Some("127.0.0.1:9000".into()),
        pool_size: Some(3),
        slow_query: Some("200ms".into()),
    };
    let config = load(&args, &[]).config;
    let database = &config.databases["shop"];
    let names: Vec<(&str, Option<NodeRole>)> =
        database.nodes.iter().map(|node| (node.name.as_str(), node.role)).collect();
    assert_eq!(
        names,
        [
            ("primary", Some(NodeRole::Primary)),
            ("replica1", Some(NodeRole::Replica)),
            ("replica2", Some(NodeRole::Replica))
        ]
    );
    assert_eq!(database.nodes[0].hosts.len(), 2);
    assert_eq!(database.nodes[0].weight, None);
    assert_eq!(database.nodes[1].weight, None);
    assert_eq!(database.tls.mode, SslMode::Require);
    assert_eq!(database.pool.connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!(database.pool.size, 3);
    assert_eq!(database.slow_query, Some(Duration::from_millis(200)));
    assert_eq!(config.metrics, Some("127.0.0.1:9000".parse().unwrap()));
    assert_eq!(config.listen.len(), 3);
    assert_eq!(config.listen[2], ListenAddr::Unix { dir: "/tmp".into(), port: 7000, mode: 0o777 });
}

#[test]
fn only_a_socket() {
    let args = UrlArgs { listen: vec!["/tmp".into()], ..args("postgres://a:b@h/d") };
    assert_eq!(load(&args, &[]).config.listen, [ListenAddr::Unix { dir: "/tmp".into(), port: 6432, mode: 0o777 }]);
}

#[test]
fn the_database_is_named_after_the_user() {
    let config = load(&args("postgres://app:pw@h"), &[]).config;
    assert_eq!(config.databases["app"].dbname.as_deref(), Some("app"));
}

#[test]
fn a_password_from_the_environment() {
    let config = load(&args("postgres://app@h/d"), &[("PGPASSWORD", "a${b")]).config;
    assert_eq!(config.users["app"].secret, Some(Secret::new("a${b")));
    assert_eq!(config.databases["d"].control_password, Some(Secret::new("a${b")));
    let config = load(&args("postgres://app:${PW}@h/d"), &[("PW", "a@b/c")]).config;
    assert_eq!(config.users["app"].secret, Some(Secret::new("a@b/c")));
}

#[test]
fn without_a_password_only_this_machine_gets_in() {
    let loaded = load(&args("postgres://app@h/d"), &[]);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.config.hba.iter().all(|rule| rule.method == AuthMethod::Trust && rule.users == ["app"]));
    assert_eq!(loaded.config.hba[1].addresses.len(), 2);
}

#[test]
fn mistakes() {
    assert!(error(&args("postgres://h/d")).contains("names no user"));
    assert!(error(&args("")).contains("postgres://"));
    assert!(error(&args("postgres://u:hunter2@h:x/d")).contains("port"));
    assert!(!error(&args("postgres://u:hunter2@h:x/d")).contains("hunter2"));
    let other =
        UrlArgs { replica_urls: vec!["postgres://v:hunter2@h/e?sslmode=disable".into()], ..args("postgres://u:p@h/d") };
    let text = error(&other);
    for what in ["user", "password", "database name", "TLS setting"] {
        assert!(text.contains(&format!("the replica's {what} is not the primary's")), "{text}");
    }
    assert!(!text.contains("hunter2"));
    assert!(error(&UrlArgs { pool_size: Some(0), ..args("postgres://u:p@h/d") }).contains("at least 1"));
    assert!(error(&UrlArgs { slow_query: Some("5".into()), ..args("postgres://u:p@h/d") }).contains("unit"));
    assert!(error(&UrlArgs { listen: vec!["6432".into()], ..args("postgres://u:p@h/d") }).contains("port is missing"));
}

#[test]
fn a_url_in_a_file() {
    let text = "[databases.shop]\nurl = \"postgres://app:pw@h/real\"\n[users.other]\npassword = \"x\"\n";
    let config = config(text);
    let database = &config.databases["shop"];
    assert_eq!(database.dbname.as_deref(), Some("real"));
    assert_eq!(database.server_user, None, "other users keep their own name on the servers");
    assert_eq!(config.users.len(), 2);
}

#[test]
fn a_user_section_counts_for_more_than_a_url() {
    let text = "[databases.shop]\nurl = \"postgres://app:pw@h/real\"\n[users.app]\npassword = \"for clients\"\n";
    let config = config(text);
    assert_eq!(config.users["app"].secret, Some(Secret::new("for clients")));
    assert_eq!(config.users["app"].server_password, Some(Secret::new("pw")), "the server's password is the URL's");
    assert_eq!(config.databases["shop"].control_password, Some(Secret::new("pw")));
}
