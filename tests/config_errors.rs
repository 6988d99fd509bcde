//! What a wrong configuration says: each mistake with its line, its label and its fix, all at once.
//!
//! The snapshots are the texts that operators read: change them with care.

use std::path::Path;

use trunkline::config::{Config, Environment, UrlArgs, load, load_text, render_all};

/// Everything that `text` gets told.
fn check_with(text: &str, env: &[(&str, &str)]) -> String {
    let env: Environment = env.iter().copied().collect();
    match load_text("trunkline.toml", text, Path::new("/etc/trunkline"), &env) {
        Ok(loaded) => format!("good\n{}", render_all(&loaded.warnings, false)),
        Err(errors) => errors.render(false),
    }
}

fn check(text: &str) -> String {
    check_with(text, &[])
}

/// A good database, for mistakes that are elsewhere.
const APP: &str = "[databases.app]\nurl = \"postgres://app:secret@db1/app\"\n\n";

#[test]
fn not_toml() {
    insta::assert_snapshot!(check("[pool]\nsize = \n[users.app\npassword = hunter2\n"));
}

#[test]
fn unknown_keys_and_wrong_types_all_at_once() {
    insta::assert_snapshot!(check(
        r#"[pool]
sise = 5
mode = "transactoin"
min_size = -1
wait_timeout = 30
query_timeout = "5 parsecs"
default_pool_size = 20

[client]
max_inspect = "1 lightyear"

[databases.app]
url = "postgres://app:secret@db1/app"
max_clients = "many"

[users.app]
pasword = "hunter2"

[quantum]
x = 1
"#
    ));
}

#[test]
fn servers() {
    insta::assert_snapshot!(check(
        r#"[users.u]
password = "x"

[databases.none]
control_user = "u"

[databases.replicas_only]
control_user = "u"
replicas = ["host=a"]

[[databases.two.nodes]]
role = "primary"
host = "a"
[[databases.two.nodes]]
role = "primary"
host = "b"

[[databases.twins.nodes]]
name = "x"
role = "primary"
host = "a"
port = 70000
[[databases.twins.nodes]]
name = "x"
role = "replica"
host = "b:what"
[[databases.twins.nodes]]
host = "c"

[databases.mixed]
control_user = "u"
url = "postgres://u@a/d"
primary = "host=a"

[databases.trunkline]
control_user = "u"
primary = "host=a user=u bogus=1"
"#
    ));
}

#[test]
fn urls() {
    insta::assert_snapshot!(check(
        r#"[databases.a]
url = "postgres://u:hunter2@h:x/d"
[databases.b]
url = "mysql://u:hunter2@h/d"
[databases.c]
url = "postgres://u:hun/ter2@h/d"
[databases.d]
url = "postgres://u:hunter2@h/d?sslmode=always&pgbouncer=true"
replica_urls = ["postgres://v@h2/d"]
[databases.e]
url = "postgres://u:other@h/d?sslmode=verify-ca"
"#
    ));
}

#[test]
fn logins() {
    insta::assert_snapshot!(check(
        r#"[databases.app]
primary = "host=db1"
server_password = "hunter2"
control_password = "hunter2"
auth_query = "SELECT 1"

[users.a]
password = "${NOT_SET}"
[users.b]
password = "x"
password_file = "/nonexistent/secret"
[users.c]
password = "SCRAM-SHA-256$4096:salt$stored:server"
[users.d]
password = ""

[admin]
admin_users = ["b", "nobody"]
"#
    ));
}

#[test]
fn hba() {
    insta::assert_snapshot!(check(&format!(
        "{APP}{}",
        r#"[users.silent]

[[hba]]
type = "hostssl"
databases = ["ap"]
users = ["apps", "silent"]
addresses = ["10.0.0.0/33", "example.com"]
method = "scram-sha-256"
[[hba]]
type = "local"
addresses = ["10.0.0.1"]
method = "cert"
[[hba]]
method = "password"
[[hba]]
method = "md5"
allow_plaintext = true
cert_map = { a = "b" }
[[hba]]
type = "host"
[[hba]]
method = "trust"
"#
    )));
}

/// A list that is left out means all: an empty one must not mean that, too.
#[test]
fn empty_lists_that_would_mean_all() {
    insta::assert_snapshot!(check_with(
        &format!(
            "{APP}{}",
            r#"[[hba]]
users = ""
method = "trust"
[[hba]]
addresses = []
databases = [" "]
method = "scram-sha-256"
[[hba]]
method = "scram-sha-256"
[databases.b]
primary = ""
[databases.c]
replicas = [""]
[[databases.d.nodes]]
hosts = []
[log]
level = ""
"#
        ),
        &[("TRUNKLINE__HBA__2__USERS", "")],
    ));
}

/// Nor does a list without rules mean the rule that holds where there is no list.
#[test]
fn an_empty_list_of_hba_rules() {
    insta::assert_snapshot!(check(&format!("hba = []\n{APP}")));
}

#[test]
fn nobody_could_log_in() {
    insta::assert_snapshot!(check("[databases.app]\nprimary = \"host=a\"\ncontrol_user = \"c\"\n"));
}

#[test]
fn the_process() {
    insta::assert_snapshot!(check(&format!(
        "{APP}{}",
        r#"[general]
listen = ["127.0.0.1", "::1:6432", "127.0.0.1:99999", "127.0.0.1:1", "127.0.0.1:1", "/run/x"]
unix_socket_dir = "/nonexistent"
unix_socket_port = 0
workers = 5000
max_clients = 0

[pool]
size = 2
min_size = 3

[routing]
health_interval = "0"
read_only_functions = ["f(int)", "g"]
primary_functions = ["g"]

[slow_log]
file = "/nonexistent/slow.log"

[metrics]
listen = "9127"

[log]
level = "chatty=loud"
"#
    )));
}

#[test]
fn patterns_of_statements() {
    insta::assert_snapshot!(check(&format!(
        "{APP}{}",
        r#"[routing]
primary_statements = ["", " * ", "select * from audit where id = 5", "select 'x", "select f(); select g()", "select good()"]
read_only_statements = ["**", "insert into t *", "call p()", "with x as (delete from t*", "select f() /* all */", "select good()"]

[databases.app.routing]
read_only_statements = ["select * from t for update"]
"#
    )));
}

#[test]
fn tls() {
    insta::assert_snapshot!(check(&format!(
        "{APP}{}",
        r#"tls = { mode = "verify-ca", cert = "/nonexistent/client.crt", direct = true }

[tls]
mode = "require"
cert = "server.crt"
require_client_cert = true

[server_tls]
direct = true
"#
    )));
}

#[test]
fn a_file_without_the_pem_that_it_should_hold() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.crt"), "not PEM").unwrap();
    let text = format!("{APP}[tls]\nmode = \"allow\"\ncert = \"server.crt\"\nkey = \"server.crt\"\n");
    let errors = load_text("trunkline.toml", &text, dir.path(), &Environment::default()).unwrap_err();
    let shown = errors.render(false).replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(shown);
}

#[test]
fn environment() {
    insta::assert_snapshot!(check_with(
        APP,
        &[
            ("TRUNKLINE__POOL__SIZE", "0"),
            ("TRUNKLINE__POOL__SISE", "hunter2"),
            ("TRUNKLINE__USERS__APP__PASSWORD", "${NOT_SET}hunter2"),
            ("TRUNKLINE__HBA__7__METHOD", "md5"),
        ],
    ));
}

#[test]
fn no_file() {
    let errors = load(Path::new("/nonexistent/trunkline.toml"), &Environment::default()).unwrap_err();
    insta::assert_snapshot!(errors.render(false));
}

#[test]
fn command_line() {
    let args = UrlArgs {
        database_url: "postgres://app:hunter2@db1:x/app".into(),
        replica_urls: vec!["db2".into()],
        listen: vec!["6432".into()],
        metrics: Some("here".into()),
        pool_size: Some(0),
        slow_query: Some("200".into()),
    };
    insta::assert_snapshot!(Config::from_urls(&args, &Environment::default()).unwrap_err().render(false));
}

#[test]
fn warnings() {
    insta::assert_snapshot!(check(
        r#"[databases.app]
primary = "host=a"
replicas = ["host=b weight=0", "host=a"]
[databases.b]
url = "postgres://app:secret@h/d?keepalives=1"
[users.m]
password = "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[[hba]]
type = "host"
users = ["app"]
method = "trust"
[[hba]]
method = "scram-sha-256"
"#
    ));
}

#[test]
fn one_line_each_for_logs() {
    let text = format!("{APP}[pool]\nsise = 1\nsize = 0\n");
    let errors = load_text("trunkline.toml", &text, Path::new("/"), &Environment::default()).unwrap_err();
    insta::assert_snapshot!(errors.to_string());
}

#[test]
fn pool_options_that_contradict_each_other() {
    insta::assert_snapshot!(check(
        r#"[pool]
reserve_size = 5
reserve_timeout = "0"
wait_timeout = "10s"
wait_notify = "10s"
check_query = ""
check_delay = "5s"

[databases.late]
url = "postgres://u:x@db1/app"
[databases.late.pool]
reserve_timeout = "1m"

[databases.capped]
url = "postgres://u:x@db1/app"
max_server_connections = 5
[databases.capped.pool]
size = 20
min_size = 6
reserve_size = 0

[databases.wide]
url = "postgres://u:x@db1/app"
max_server_connections = 5
client_idle_timeout = "5"
[databases.wide.pool]
size = 20
reserve_size = 0
connect_query = "SELECT '\u0000'"

[users.u]
max_server_connections = 0
pool = { min_size = 4, size = 3, transaction_timeout = "x" }
"#
    ));
}

#[test]
fn a_pool_that_can_never_be_full_is_no_mistake() {
    insta::assert_snapshot!(check(
        r#"[databases.wide]
url = "postgres://u:x@db1/app"
max_server_connections = 5
[databases.wide.pool]
size = 20
"#
    ));
}

#[test]
fn the_takeover_socket() {
    let long = format!("/tmp/{}", "x".repeat(100));
    let texts = ["/nonexistent/takeover.sock", &long, "/tmp/.s.PGSQL.6432", "/etc/passwd"]
        .map(|path| check(&format!("{APP}[general]\nunix_socket_dir = \"/tmp\"\ntakeover_socket = \"{path}\"\n")));
    insta::assert_snapshot!(texts.join("\n---\n"));
    assert!(check(&format!("{APP}[general]\ntakeover_socket = \"/tmp/takeover.sock\"\n")).starts_with("good"));
}

#[test]
fn patroni() {
    insta::assert_snapshot!(check(
        r#"[databases.app]
patroni = ["http://db1.example:8008", "db2:8008", "http://me:pw@db3", "http://db4/cluster"]
[[databases.app.nodes]]
host = "db1"
[databases.other]
url = "postgres://app:secret@db1/app"
patroni_interval = "2s"
[databases.third]
url = "postgres://app:secret@db1/app"
patroni = "https://db1"
patroni_interval = "0"
"#
    ));
}
