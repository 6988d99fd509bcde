//! PgBouncer in transaction mode: one process, or several that share a port.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::ground::Ground;
use super::super::machine::first_line;
use super::super::support::clusters::APP;
use super::children::Children;
use super::{Demands, Peer, Process, Spec};

/// The distribution's.
pub fn installed() -> Option<PathBuf> {
    let usual = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
    usual.into_iter().map(PathBuf::from).find(|path| path.is_file())
}

pub fn start(spec: &Spec, program: &Path, pkt_buf: u32, ground: &Ground, demands: Demands) -> Result<Peer, String> {
    let mut children = Children::new(ground)?;
    let version = first_line(program);
    // Prepared statements in transaction mode came with 1.21; older ones refuse the key.
    let minor: u32 = version.split('.').nth(1).and_then(|part| part.parse().ok()).unwrap_or(0);
    let prepared = minor >= 21;
    let users = children.dir().join("users");
    let mut config = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
         unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
         default_pool_size = {}\nmax_client_conn = {}\nignore_startup_parameters = extra_float_digits\n\
         pkt_buf = {pkt_buf}\n",
        ground.db.cluster().primary_port(),
        children.port(),
        users.display(),
        // All processes together have as many server connections as the others.
        ground.options.pool_size.div_ceil(spec.workers),
        ground.options.most_clients(),
    );
    if prepared {
        config += "max_prepared_statements = 200\n";
    }
    if spec.workers > 1 {
        config += "so_reuseport = 1\n";
    }
    if demands.tls {
        let (certificate, key) = (ground.certificate.display(), ground.key.display());
        config +=
            &format!("client_tls_sslmode = allow\nclient_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n");
    }
    let ini = children.dir().join("pgbouncer.ini");
    fs::write(&ini, config).map_err(|error| error.to_string())?;
    // The verifier, not the password: older ones would derive its keys at every login.
    let verifier = ground.db.run(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{APP}'"));
    fs::write(users, format!("\"{APP}\" \"{verifier}\"\n")).map_err(|error| error.to_string())?;
    for _ in 0..spec.workers {
        let mut command = ground.pg.command(&program.display().to_string(), children.dir());
        children.spawn(command.arg("-q").arg(&ini))?;
    }
    children.wait_listening(spec.workers as usize)?;
    let several = if spec.workers > 1 { format!("{} processes, ", spec.workers) } else { String::new() };
    let what = format!("{version}, {several}pkt_buf {pkt_buf}");
    let (port, roots) = (children.port(), children.pids());
    Ok(Peer { prepared, tls: demands.tls, ..spec.peer(what, port, roots, Process::Children(children)) })
}
