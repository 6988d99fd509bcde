//! `trunkline import`: PgBouncer's configurations become Trunkline's, and what is lost is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::clusters::{self, APP, APP_PASSWORD, OTHER, OTHER_PASSWORD, TestDb};
use support::process::Setup;
use support::raw::RawClient;
use tempfile::TempDir;
use trunkline::app::import::import;
use trunkline::config::{Environment, load_text};

/// The files of one PgBouncer.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// The configuration and the notes, which must name no temporary directory; the configuration must be good.
    fn import(&self) -> String {
        let imported = import(&self.path("pgbouncer.ini"), None).unwrap();
        let loaded = load_text("new", &imported.toml, Path::new("/"), &Environment::default());
        if let Err(errors) = loaded {
            panic!("{}\n{}", imported.toml, errors.render(false));
        }
        let dir = format!("{}/", self.0.path().display());
        format!("{}\n--- notes ---\n{}\n", imported.toml, imported.notes.join("\n")).replace(&dir, "")
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_trunkline")).current_dir(self.0.path()).args(args).output().unwrap()
    }
}

#[test]
fn a_small_one() {
    let files = Files::new(&[
        (
            "pgbouncer.ini",
            r#";; a beginner's
[databases]
shop = host=10.0.0.5 port=5433 dbname=shop_prod
blog = host=/var/run/postgresql

[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = localhost
listen_port = 6432
unix_socket_dir = /var/run/postgresql
auth_type = md5
auth_file = userlist.txt
admin_users = postgres, nobody
stats_users = stats
"#,
        ),
        (
            "userlist.txt",
            "\"postgres\" \"md53175bce1d3201d16594cebf9d7eb3f9d\"\n; a comment\n\"stats\" \"pa\"\"ss ${HOME}\\\"\n",
        ),
    ]);
    insta::assert_snapshot!(files.import());
}

#[test]
fn a_large_one() {
    let verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$HWWtdqrFfbU8WYTOn29GTyRtM2KRDNK5Hcf0PP2oGS0=:HWWtdqrFfbU8WYTOn29GTyRtM2KRDNK5Hcf0PP2oGS0=";
    let users = format!(
        "\"web\" \"{verifier}\"\n\"batch\" \"b4tch\"\n\"pooler\" \"p00ler\"\n\"lookup\" \"l00kup\"\n\"empty\" \"\"\n\"broken\nnonsense\n"
    );
    let files = Files::new(&[
        (
            "pgbouncer.ini",
            r#"
%include common.ini

[databases]
shop = host=db1 port=6000 dbname=shop pool_size=50 min_pool_size=5 reserve_pool=3 max_db_connections=80 pool_mode=session
report = host=db2,db3 user=pooler connect_query='SET work_mem = ''64MB''; SELECT 1' timezone=UTC client_encoding=UTF8
"odd name" = host=::1 auth_user=lookup auth_query='SELECT * FROM auth.get($1)' max_db_client_connections=10 auth_dbname=postgres
pinned = host=db4 user=web password=s3cret server_lifetime=120
pgbouncer = host=nowhere
* = host=db5 load_balance_hosts=disable

[users]
batch = pool_mode=session max_user_connections=5 query_timeout=600 idle_transaction_timeout=0 client_idle_timeout=30
web = pool_size=7 reserve_pool_size=2 transaction_timeout=60 max_user_client_connections=50
ghost = pool_mode=statement shoe_size=42

[peers]
1 = host=/tmp/pgbouncer1
"#,
        ),
        (
            "common.ini",
            r#"[pgbouncer]
listen_addr = *
listen_port = 7000
auth_type = scram-sha-256
auth_file = userlist.txt
auth_user = lookup
pool_mode = transaction
default_pool_size = 30
min_pool_size = 2
reserve_pool_size = 10
reserve_pool_timeout = 2.5
max_client_conn = 5000
max_db_connections = 100
max_user_connections = 60
query_wait_timeout = 20
query_wait_notify = 3
query_timeout = 30
transaction_timeout = 300
idle_transaction_timeout = 45
client_idle_timeout = 0
client_login_timeout = 15
server_lifetime = 1800
server_idle_timeout = 0
server_connect_timeout = 5
server_check_query = select 1
server_check_delay = 10
server_reset_query = DISCARD ALL
server_reset_query_always = 1
server_login_retry = 3
server_tls_sslmode = require
client_tls_sslmode = disable
client_tls_ciphers = secure
max_prepared_statements = 500
ignore_startup_parameters = extra_float_digits
tcp_keepidle = 30
tcp_keepcnt = 3
verbose = 1
syslog = 1
so_reuseport = 1
not_a_key = 7
query_timeout = 31
default_pool_size = 31
admin_users = batch
"#,
        ),
        ("userlist.txt", &users),
    ]);
    insta::assert_snapshot!(files.import());
}

#[test]
fn rules_of_an_hba_file_never_become_more_open() {
    let files = Files::new(&[
        (
            "pgbouncer.ini",
            "[databases]\na = host=h user=u password=p\nb = host=h user=u password=p\n[pgbouncer]\nauth_type = hba\nauth_hba_file = hba.conf\nauth_file = users\n",
        ),
        ("users", "\"u\" \"p\"\n\"v\" \"q\"\n"),
        (
            "hba.conf",
            "# TYPE DATABASE USER ADDRESS METHOD\n\
             local   all   all   md5\n\
             local   all   u     peer\n\
             host    a,b   \"u\", v   10.0.0.0/8   scram-sha-256\n\
             host    all   all   192.168.0.0 255.255.0.0 md5\n\
             host    a     +staff  10.1.2.3   reject\n\
             host    sameuser all  all   reject  # wider\n\
             host    sameuser all  all   trust\n\
             host    all   all   .example.com  md5\n\
             host    nosuch,a  u,nosuch  ::1/128  password\n\
             host    nosuch u 0.0.0.0/0 trust\n\
             host    all nobody 0.0.0.0/0 md5\n\
             hostnossl all u all reject\n\
             hostgssenc all u all md5\n\
             host    all u all ldap ldapserver=x\n\
             host    all u 127.0.0.1/32 md5 map=m\n\
             host    all\n",
        ),
    ]);
    insta::assert_snapshot!(files.import());
}

#[test]
fn what_cannot_be_read() {
    let broken = |text: &str| {
        let files = Files::new(&[("pgbouncer.ini", text), ("self.ini", "%include self.ini\n")]);
        let error = import(&files.path("pgbouncer.ini"), None).unwrap_err().to_string();
        error.replace(&format!("{}/", files.0.path().display()), "")
    };
    insta::assert_snapshot!(
        [
            "[databases\n",
            "[pgbouncer]\nnonsense\n",
            "key = before\n",
            "[other]\n",
            "[databases]\na = host='open\n",
            "[databases]\n\"a = host=x\n",
            "[pgbouncer]\nauth_file = missing.txt\n",
            "%include self.ini\n",
        ]
        .map(broken)
        .join("\n")
    );
    let files = Files::new(&[]);
    let output = files.run(&["import", "nothing.ini"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing.ini"));
}

#[test]
fn the_new_configuration_serves_as_the_old_one_did() {
    let db = TestDb::new(clusters::shared());
    let ini = format!(
        "[databases]\n{name} = host=127.0.0.1 port={port} pool_size=2 connect_query='SET work_mem TO ''7MB'''\n\
         forced = host=127.0.0.1 port={port} dbname={name} user={APP}\n* = host=127.0.0.1 port={port}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 7777\nauth_type = scram-sha-256\nauth_file = users.txt\n\
         pool_mode = transaction\nadmin_users = {OTHER}\nserver_tls_sslmode = disable\n[users]\n{OTHER} = pool_mode=session\n",
        name = db.name,
        port = db.cluster().primary_port(),
    );
    let users = format!("\"{APP}\" \"{APP_PASSWORD}\"\n\"{OTHER}\" \"{OTHER_PASSWORD}\"\n");
    let files = Files::new(&[("pgbouncer.ini", &ini), ("users.txt", &users)]);
    let output = files.run(&["import", "pgbouncer.ini", "users.txt", "--output", "trunkline.toml"]);
    assert!(output.status.success(), "{output:?}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(files.path("trunkline.toml")).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "it holds passwords");
    assert!(files.run(&["check", "--config", "trunkline.toml"]).status.success());
    let again = files.run(&["import", "pgbouncer.ini", "--output", "trunkline.toml"]);
    assert!(!again.status.success(), "what is there already stays");
    let printed = files.run(&["import", "pgbouncer.ini"]);
    let toml = fs::read_to_string(files.path("trunkline.toml")).unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), toml);

    let proxy = Setup::config(toml.replace(":7777", ":@PORT@")).start();
    let mut client = RawClient::connect(proxy.port(), APP, APP_PASSWORD, &db.name);
    assert_eq!(client.value("SHOW work_mem"), "7MB");
    let mut forced = RawClient::connect(proxy.port(), OTHER, OTHER_PASSWORD, "forced");
    assert_eq!(forced.value("SELECT current_user || '@' || current_database()"), format!("{APP}@{}", db.name));
    let mut any = RawClient::connect(proxy.port(), APP, APP_PASSWORD, "postgres");
    assert_eq!(any.value("SELECT current_database()"), "postgres");
    let mut console = RawClient::connect(proxy.port(), OTHER, OTHER_PASSWORD, "pgbouncer");
    assert!(console.rows("SHOW POOLS").len() > 2);
}
