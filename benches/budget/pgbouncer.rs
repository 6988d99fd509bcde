//! A PgBouncer before the primary.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use trunkline::app::demo::{PgBinaries, PortLease};

use super::support::clusters::{APP, APP_PASSWORD, TestDb};

/// A PgBouncer process in transaction mode that follows prepared statements (1.21 and later); ended when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: PortLease,
}

impl PgBouncer {
    /// Starts it, in the cluster's directory.
    pub fn start(program: &Path, db: &TestDb, pool_size: usize) -> Self {
        let port = PortLease::take().unwrap();
        let dir = &db.cluster().root;
        fs::write(dir.join("budget-users"), format!("\"{APP}\" \"{APP_PASSWORD}\"\n")).unwrap();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = budget-users\npool_mode = transaction\n\
             default_pool_size = {pool_size}\nmax_prepared_statements = 200\n",
            db.cluster().primary_port(),
            port.port(),
        );
        fs::write(dir.join("budget.ini"), config).unwrap();
        let program = program.to_str().unwrap();
        let mut command = PgBinaries::find().unwrap().command(program, dir);
        let child = command.args(["-q", "budget.ini"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let proxy = Self { child, port };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", proxy.port())).is_ok() {
                return proxy;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("pgbouncer does not listen");
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
