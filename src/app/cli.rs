//! The command line: `trunkline [run|check|demo|route|import] …`; `run` when no sub-command is named.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::demo::DemoArgs;
use crate::config::{Config, Environment, Errors, Loaded, UrlArgs, load};

/// Where a configuration file is looked for when none is named.
pub const DEFAULT_CONFIG: &str = "/etc/trunkline/trunkline.toml";

/// What the program was asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Run(RunArgs),
    /// Validate a configuration: every mistake with its line and its fix
    Check(CheckArgs),
    /// Try Trunkline: a throw-away primary with two replicas, and Trunkline before them
    Demo(DemoArgs),
    /// Make a configuration of PgBouncer's one of Trunkline's, and say what could not be carried over
    Import(ImportArgs),
    /// Say where a statement would go, and why, without any server
    Route(RouteArgs),
}

/// Where the configuration comes from: a file, or URLs.
#[derive(Clone, Args)]
pub struct RunArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "Urls")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    urls: Urls,
}

/// A configuration without a file.
#[derive(Clone, Args)]
#[group(id = "Urls", multiple = true)]
struct Urls {
    /// URL of the primary; clients log in with its user and password [env: TRUNKLINE_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,

    /// URL of a replica (repeatable)
    #[arg(long, value_name = "URL")]
    replica_url: Vec<String>,

    /// Address for clients, or a directory for a Unix socket (repeatable) [default: 127.0.0.1:6432]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,

    /// Address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<String>,

    /// Server connections per node [default: 20]
    #[arg(long, value_name = "N")]
    pool_size: Option<u32>,

    /// Log statements slower than this; 0 = none [default: 1s]
    #[arg(long, value_name = "TIME")]
    slow_query: Option<String>,
}

/// URLs hold passwords: they are not printed.
impl std::fmt::Debug for RunArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunArgs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl CheckArgs {
    /// The file to check: `--config`, the variable `TRUNKLINE_CONFIG`, or [`DEFAULT_CONFIG`].
    pub fn file(&self, env: &Environment) -> PathBuf {
        config_file(self.config.as_ref(), env).unwrap_or_else(|| DEFAULT_CONFIG.into())
    }
}

/// Arguments of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// PgBouncer's configuration
    #[arg(value_name = "PGBOUNCER.INI")]
    pub ini: PathBuf,

    /// Its list of users [default: the auth_file that the configuration names]
    #[arg(value_name = "USERLIST.TXT")]
    pub userlist: Option<PathBuf>,

    /// File to write, which must not be there yet [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `route`.
#[derive(Debug, Clone, Args)]
pub struct RouteArgs {
    /// The statement; `-` reads it from standard input
    #[arg(value_name = "SQL")]
    pub sql: String,
}

/// A PostgreSQL proxy: one DATABASE_URL, reads on replicas, writes on the primary, connections pooled.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    run: RunArgs,
}

/// Reads the command line of this process. On `--help`, `--version` or a mistake it prints and exits.
pub fn parse() -> Command {
    let cli = Cli::parse();
    cli.command.unwrap_or(Command::Run(cli.run))
}

/// Reads a command line whose first item is the program's name.
///
/// # Errors
/// What clap says of it, ready to print.
pub fn try_parse_from<I, T>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = Cli::try_parse_from(args)?;
    Ok(cli.command.unwrap_or(Command::Run(cli.run)))
}

fn config_file(flag: Option<&PathBuf>, env: &Environment) -> Option<PathBuf> {
    let variable = || env.get("TRUNKLINE_CONFIG").filter(|file| !file.is_empty()).map(PathBuf::from);
    flag.cloned().or_else(variable)
}

impl RunArgs {
    /// The configuration that these arguments name. In this order: `--config`, `--database-url`,
    /// `TRUNKLINE_CONFIG`, `TRUNKLINE_DATABASE_URL` (for a password that must not be seen in the list of
    /// processes; `TRUNKLINE_REPLICA_URLS` beside it, separated by spaces), the file at [`DEFAULT_CONFIG`].
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(&self, env: &Environment) -> Result<Loaded, Errors> {
        match self.source(env) {
            Source::File(path) if self.urls.is_empty() => load(&path, env),
            Source::File(path) => Err(Errors::one(
                format!("the configuration comes from {}, which the other arguments do not change", path.display()),
                "give them with --database-url, or write them into the file",
            )),
            Source::Urls(args) => Config::from_urls(&args, env),
        }
    }

    /// The file that a reload reads again; `None` when the configuration came from URLs.
    pub fn file(&self, env: &Environment) -> Option<PathBuf> {
        match self.source(env) {
            Source::File(path) => Some(path),
            Source::Urls(_) => None,
        }
    }

    fn source(&self, env: &Environment) -> Source {
        if let Some(path) = &self.config {
            return Source::File(path.clone());
        }
        let urls = &self.urls;
        let from_flag = urls.database_url.clone();
        if let (None, Some(path)) = (&from_flag, config_file(None, env)) {
            return Source::File(path);
        }
        let variable = |name| env.get(name).filter(|text| !text.is_empty());
        let Some(database_url) = from_flag.or_else(|| variable("TRUNKLINE_DATABASE_URL").map(str::to_owned)) else {
            return Source::File(DEFAULT_CONFIG.into());
        };
        let mut replica_urls = urls.replica_url.clone();
        if replica_urls.is_empty() && urls.database_url.is_none() {
            let listed = variable("TRUNKLINE_REPLICA_URLS").unwrap_or_default();
            replica_urls.extend(listed.split_whitespace().map(str::to_owned));
        }
        Source::Urls(Box::new(UrlArgs {
            database_url,
            replica_urls,
            listen: urls.listen.clone(),
            metrics: urls.metrics.clone(),
            pool_size: urls.pool_size,
            slow_query: urls.slow_query.clone(),
        }))
    }
}

impl Urls {
    fn is_empty(&self) -> bool {
        self.database_url.is_none()
            && self.replica_url.is_empty()
            && self.listen.is_empty()
            && self.metrics.is_none()
            && self.pool_size.is_none()
            && self.slow_query.is_none()
    }
}

enum Source {
    File(PathBuf),
    Urls(Box<UrlArgs>),
}
