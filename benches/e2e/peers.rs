//! What is measured: PostgreSQL itself, PgBouncer, and Trunkline with and without replicas.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use trunkline::app::demo::{PgBinaries, PortLease};

use super::Options;
use super::load::Case;
use super::support::clusters::{APP, APP_PASSWORD, TestDb};
use super::support::process::{Setup, Trunkline};

/// Something that clients connect to.
#[derive(Debug)]
pub enum Peer {
    /// The primary's own port.
    Direct(u16),
    /// The installed PgBouncer in transaction mode.
    PgBouncer(PgBouncer),
    /// Trunkline, by its name here.
    Trunkline(&'static str, Trunkline),
}

impl Peer {
    /// Its name in the results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::PgBouncer(_) => "pgbouncer",
            Self::Trunkline(name, _) => name,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        match self {
            Self::Direct(port) => *port,
            Self::PgBouncer(proxy) => proxy.port.port(),
            Self::Trunkline(_, proxy) => proxy.port(),
        }
    }

    /// What exactly it is, for the report.
    pub fn what(&self) -> String {
        match self {
            Self::Direct(_) => "PostgreSQL's own port".to_owned(),
            Self::PgBouncer(proxy) => format!("{}, pkt_buf {}", proxy.version, proxy.pkt_buf),
            Self::Trunkline("split", _) => format!("Trunkline {}, primary and replicas", env!("CARGO_PKG_VERSION")),
            Self::Trunkline(..) => format!("Trunkline {}, primary only", env!("CARGO_PKG_VERSION")),
        }
    }

    /// Whether it can run this case at all.
    pub fn can_run(&self, case: &Case) -> bool {
        match self {
            Self::PgBouncer(proxy) => proxy.prepared || !case.is_prepared(),
            Self::Direct(_) | Self::Trunkline(..) => true,
        }
    }

    /// The proxy's process.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Direct(_) => None,
            Self::PgBouncer(proxy) => Some(proxy.child.id()),
            Self::Trunkline(_, proxy) => Some(proxy.pid()),
        }
    }
}

/// Starts the peers of these names, or all.
pub fn start_all(db: &TestDb, options: &Options) -> Vec<Peer> {
    let names = &options.peers;
    let size = options.pool_size.to_string();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let start = |setup: Setup| setup.args(["--pool-size", &size]).start();
    let mut peers = Vec::new();
    if wanted("direct") {
        peers.push(Peer::Direct(db.cluster().primary_port()));
    }
    if wanted("pgbouncer") {
        peers.extend(PgBouncer::start(db, options).map(Peer::PgBouncer));
    }
    if wanted("trunkline") {
        peers.push(Peer::Trunkline("trunkline", start(Setup::before_primary(db))));
    }
    if wanted("split") {
        peers.push(Peer::Trunkline("split", start(Setup::before(db))));
    }
    peers
}

/// A PgBouncer process; ended when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: PortLease,
    /// Its first line on `--version`, such as `PgBouncer 1.24.1`.
    version: String,
    /// Bytes of its buffer for each socket: it makes at most so much of each read and write.
    pkt_buf: u32,
    /// Whether it follows prepared statements in transaction mode.
    prepared: bool,
}

impl PgBouncer {
    /// Starts it before the primary, in the cluster's directory; `None`, and a message, when it isn't installed.
    fn start(db: &TestDb, options: &Options) -> Option<Self> {
        let (pool_size, pkt_buf) = (options.pool_size, options.pkt_buf);
        let usual = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        let installed = || usual.into_iter().find(|path| Path::new(path).is_file());
        let Some(program) = options.pgbouncer.as_deref().or_else(installed) else {
            println!("pgbouncer is not installed: measured without it");
            return None;
        };
        let version = Command::new(program).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        let port = PortLease::take().unwrap();
        let dir = db.cluster().root.clone();
        // Prepared statements in transaction mode came with 1.21; older ones refuse the key.
        let minor: u32 = version.split('.').nth(1).and_then(|part| part.parse().ok()).unwrap_or(0);
        let prepared = minor >= 21;
        let statements = if prepared { "max_prepared_statements = 200\n" } else { "" };
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {pool_size}\nmax_client_conn = 1000\nignore_startup_parameters = extra_float_digits\n\
             pkt_buf = {pkt_buf}\n{statements}",
            db.cluster().primary_port(),
            port.port(),
            dir.join("pgbouncer-users").display(),
        );
        fs::write(dir.join("pgbouncer.ini"), config).unwrap();
        fs::write(dir.join("pgbouncer-users"), format!("\"{APP}\" \"{APP_PASSWORD}\"\n")).unwrap();
        let pg = PgBinaries::find().unwrap();
        let child = pg
            .command(program, &dir)
            .args(["-q", "pgbouncer.ini"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("pgbouncer.log")).unwrap())
            .spawn()
            .unwrap();
        let mut proxy = Self { child, port, version, pkt_buf, prepared };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", proxy.port.port())).is_ok() {
                return Some(proxy);
            }
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("pgbouncer: {status}: {}", fs::read_to_string(dir.join("pgbouncer.log")).unwrap());
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("pgbouncer doesn't listen");
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
