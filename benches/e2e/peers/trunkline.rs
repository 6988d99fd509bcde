//! Trunkline, built as the bench is.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::ground::Ground;
use super::super::support::clusters::{APP, APP_PASSWORD};
use super::super::support::process::Setup;
use super::{Demands, Peer, Process, Spec};

pub fn start(spec: &Spec, split: bool, program: Option<&PathBuf>, ground: &Ground, demands: Demands) -> Peer {
    let cluster = ground.db.cluster();
    let mut config = format!(
        "[general]\nlisten = [\"127.0.0.1:@PORT@\"]\nworkers = {}\nmax_clients = {}\n",
        spec.workers,
        ground.options.most_clients()
    );
    if demands.tls {
        let (certificate, key) = (ground.certificate.display(), ground.key.display());
        let _ = write!(config, "[tls]\nmode = \"allow\"\ncert = \"{certificate}\"\nkey = \"{key}\"\n");
    }
    let replicas: Vec<_> = if split { cluster.replica_ports().collect() } else { Vec::new() };
    let replicas: Vec<_> = replicas.iter().map(|port| format!("\"host=127.0.0.1 port={port}\"")).collect();
    let _ = write!(
        config,
        "[users.{APP}]\npassword = \"{APP_PASSWORD}\"\n[databases.{}]\nprimary = \"host=127.0.0.1 port={}\"\n\
         replicas = [{}]\ncontrol_user = \"{APP}\"\npool.size = {}\n",
        ground.db.name,
        cluster.primary_port(),
        replicas.join(", "),
        ground.options.pool_size,
    );
    let mut setup = Setup::config(config);
    if let Some(program) = program {
        setup = setup.program(program.clone());
    }
    let proxy = setup.start();
    let nodes = if split { "primary and two replicas" } else { "primary only" };
    let threads =
        if spec.workers == 1 { "one worker thread".to_owned() } else { format!("{} worker threads", spec.workers) };
    let built = if program.is_some() { " (make pgo)" } else { "" };
    let what = format!("Trunkline {}{built}, {nodes}, {threads}", env!("CARGO_PKG_VERSION"));
    let (port, roots) = (proxy.port(), vec![proxy.pid()]);
    Peer { tls: demands.tls, ..spec.peer(what, port, roots, Process::Trunkline(proxy)) }
}
