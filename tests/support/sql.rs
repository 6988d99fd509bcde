//! Ordinary clients: tokio-postgres and psql.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};
use trunkline::app::demo::PgBinaries;

use super::clusters::{APP, APP_PASSWORD, TestDb};

/// A runtime for a test: as many threads as the test asks tokio-postgres to use, which is one.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), future).await.expect("the test hangs") })
}

/// Connects to a server or proxy at `port` as [`APP`] in the default settings of tokio-postgres.
pub async fn connect(port: u16, db: &TestDb) -> Client {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(APP).password(APP_PASSWORD).dbname(&db.name);
    connect_with(&config).await.unwrap()
}

/// Connects with these settings; the connection's task ends with the client.
///
/// # Errors
/// The login fails.
pub async fn connect_with(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// What psql printed.
#[derive(Debug)]
pub struct PsqlOutput {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit status; 0 = all went well, 1 = own error, 2 = connection lost, 3 = SQL error in a script.
    pub code: i32,
}

/// Runs psql (no start-up file, unaligned, tuples only) with a script on standard input.
pub fn psql(port: u16, db: &TestDb, script: &str) -> PsqlOutput {
    psql_as(port, &db.name, APP, APP_PASSWORD, script, &[])
}

/// Runs psql as any user with more arguments and a script on standard input.
pub fn psql_as(port: u16, database: &str, user: &str, password: &str, script: &str, args: &[&str]) -> PsqlOutput {
    use std::io::Write;
    let pg = PgBinaries::find().unwrap();
    let mut child = Command::new(pg.path("psql"))
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"])
        .args(["-p", &port.to_string(), "-U", user, "-d", database])
        .args(args)
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "10")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    PsqlOutput {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}
