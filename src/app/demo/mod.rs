//! `trunkline demo`: a throw-away primary with streaming replicas, and Trunkline before them.
//!
//! The tests start their clusters with the same code, through [`Cluster`].

mod banner;
mod binaries;
pub mod cluster;
mod error;
mod guard;
mod node;
mod ports;
mod processes;
mod seed;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use binaries::PgBinaries;
pub use cluster::{Cluster, ClusterInfo, ClusterOptions};
pub use error::ClusterError;
pub use guard::Lifetime;
pub use node::{Node, StopMode};
pub use ports::PortLease;

use banner::{DEMO, Ports};
use error::Doing;

/// The port that the demo listens on when it is free and no other is asked for.
const USUAL_PORT: u16 = 6432;

/// Options of `trunkline demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Port for clients, on 127.0.0.1 [default: 6432, or a free one]
    #[arg(long)]
    pub port: Option<u16>,
    /// Number of streaming replicas
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=8))]
    pub replicas: u16,
    /// Directory for the servers' data, empty or not there yet [default: a new one in the temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the directory in place at the end
    #[arg(long)]
    pub keep: bool,
}

/// Starts the servers, lets `serve` run Trunkline with the configuration file at the given path
/// until it is told to end, and removes everything.
///
/// Until `serve` takes over, a signal ends this process at once, and so does SIGKILL at any time;
/// the cluster's guard process cleans up then.
///
/// # Errors
/// The servers can't be started, or what `serve` returns. Nothing is left behind in either case.
pub fn run<E: From<ClusterError>>(args: &DemoArgs, serve: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    say("Starting a throw-away primary and its replicas ...\n");
    let (clients, _client_lease) = client_port(args.port)?;
    let metrics = PortLease::take()?;
    let ports = Ports { clients, metrics: metrics.port() };
    let cluster = Cluster::start(ClusterOptions {
        replicas: usize::from(args.replicas),
        dir: args.dir.clone(),
        keep_files: args.keep,
        superuser_password: random_password()?,
        seed: vec![
            format!("CREATE ROLE {DEMO} LOGIN PASSWORD '{DEMO}'"),
            format!("GRANT pg_monitor TO {DEMO}"),
            format!("CREATE DATABASE {DEMO} OWNER {DEMO}"),
        ],
        hba: Vec::new(),
        settings: Vec::new(),
        template_cache: None,
        lifetime: Lifetime::Owner,
    })?;
    let info = cluster.info();
    let file = info.root.join("trunkline.toml");
    // It holds passwords.
    let private = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let written = private.and_then(|mut file| file.write_all(banner::config(info, ports).as_bytes()));
    written.doing(|| format!("writing {}", file.display()))?;
    let text = banner::banner(info, ports, &cluster.binaries().path("pgbench"), args.keep);
    thread::spawn(move || say_when_listening(clients, &text));
    let served = serve(&file);
    say("Stopping the servers ...\n");
    drop(cluster);
    served
}

/// The port asked for; or the usual one, or when that is taken any free one.
fn client_port(wanted: Option<u16>) -> Result<(u16, Option<PortLease>), ClusterError> {
    let port = wanted.unwrap_or(USUAL_PORT);
    match (TcpListener::bind((Ipv4Addr::LOCALHOST, port)), wanted) {
        (Ok(_), Some(_)) => Ok((port, None)),
        (Err(source), Some(_)) => Err(source).doing(|| format!("listening at 127.0.0.1:{port}")),
        // Another demo may have the usual port in mind while its servers still start.
        (listener, None) => {
            drop(listener);
            let lease = match PortLease::of(port)? {
                Some(lease) => lease,
                None => PortLease::take()?,
            };
            Ok((lease.port(), Some(lease)))
        }
    }
}

/// Prints the text as soon as something listens on the port; gives up after a minute.
fn say_when_listening(port: u16, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            say(text);
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes to standard output; a closed one is no reason to stop.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A password that nobody on this machine can guess: the superuser may run programs.
fn random_password() -> Result<String, ClusterError> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .doing(|| "reading /dev/urandom".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> DemoArgs {
        DemoArgs { port: None, replicas: 1, dir: None, keep: false }
    }

    #[test]
    fn the_servers_run_while_trunkline_serves_and_are_gone_afterwards() {
        let mut root = PathBuf::new();
        let served = run::<ClusterError>(&args(), |config| {
            root = config.parent().unwrap().to_owned();
            assert!(fs::read_to_string(config).unwrap().contains("[databases.demo]"));
            assert!(root.join("replica1/postmaster.pid").is_file());
            Err(ClusterError::NoAccount)
        });
        assert!(matches!(served, Err(ClusterError::NoAccount)));
        assert!(!root.exists());
    }

    #[test]
    fn a_directory_in_use_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine"), "").unwrap();
        let args = DemoArgs { dir: Some(dir.path().to_owned()), ..args() };
        let error = run::<ClusterError>(&args, |_| panic!("started")).unwrap_err();
        assert!(error.to_string().contains("it is not empty"), "{error}");
        assert!(dir.path().join("mine").is_file());
    }

    #[test]
    fn a_port_in_use_is_refused_when_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = client_port(Some(port)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("listening at 127.0.0.1:{port}")), "{error}");
    }
}
