//! `trunkline check`: every mistake of a configuration, or a summary of it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::config::{Config, Environment, ListenAddr, NodeRole, load, render_all};

use super::cli::CheckArgs;

/// Checks the file: a summary on stdout and exit code 0, or all mistakes on stderr and exit code 1.
pub fn run(args: &CheckArgs, env: &Environment) -> ExitCode {
    let color = io::stderr().is_terminal() && env.get("NO_COLOR").is_none();
    let mut stderr = io::stderr().lock();
    let file = args.file(env);
    match load(&file, env) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                let _ = writeln!(stderr, "{}", render_all(&loaded.warnings, color));
            }
            let mut stdout = io::stdout().lock();
            match summary(&loaded.config, &mut stdout) {
                Ok(()) => ExitCode::SUCCESS,
                // A reader that went away (`| head`) is no mistake of the configuration.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(errors) => {
            let mistakes = errors.problems().iter().filter(|problem| !problem.is_warning()).count();
            let plural = if mistakes == 1 { "" } else { "s" };
            let _ = writeln!(stderr, "{}\n{mistakes} mistake{plural} in {}", errors.render(color), file.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes what a configuration amounts to.
///
/// # Errors
/// Those of `out`.
pub fn summary(config: &Config, out: &mut impl Write) -> io::Result<()> {
    for addr in &config.listen {
        match addr {
            ListenAddr::Tcp(addr) => writeln!(out, "listen    {addr}")?,
            ListenAddr::Unix { dir, port, mode } => {
                writeln!(out, "listen    {}/.s.PGSQL.{port} (mode {mode:04o})", dir.display())?;
            }
        }
    }
    if let Some(path) = &config.takeover_socket {
        writeln!(out, "takeover  {}", path.display())?;
    }
    if let Some(addr) = config.metrics {
        writeln!(out, "metrics   http://{addr}/metrics")?;
    }
    writeln!(out, "clients   at most {}, TLS: {:?}", config.max_clients, config.client_tls.mode)?;
    writeln!(out, "users     {}", names(config.users.keys()))?;
    writeln!(out, "admins    {}", names(&config.admin.admin_users))?;
    for database in config.databases.values() {
        let slow = database.slow_query.map_or("off".to_owned(), |slow| format!("{slow:?}"));
        let (pool, name) = (&database.pool, &database.name);
        writeln!(out, "database  {name}: {:?} pooling, {} per node, slow queries: {slow}", pool.mode, pool.size)?;
        for node in &database.nodes {
            let role = node.role.map_or("node", NodeRole::as_str);
            let hosts: Vec<String> = node.hosts.iter().map(ToString::to_string).collect();
            write!(out, "  {role} {}: {}", node.name, hosts.join(", "))?;
            if let Some(weight) = node.weight {
                write!(out, " (weight {weight})")?;
            }
            if let Some(zone) = &node.zone {
                write!(out, " (zone {zone})")?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out, "the configuration is good")
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
