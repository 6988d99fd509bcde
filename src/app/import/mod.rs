//! `trunkline import`: a configuration of PgBouncer's becomes one of Trunkline's, with a word on each thing that could not be
//! carried over.

mod databases;
mod hba;
mod ini;
mod main_section;
mod notes;
mod out;
mod users;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::cli::ImportArgs;
use crate::config::{Environment, load_text};
use ini::Ini;
use notes::Notes;
use out::Toml;
use users::Userlist;

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A line that PgBouncer itself would refuse.
    #[error("{place}: {what}")]
    Syntax {
        /// `file:line`.
        place: String,
        /// What is wrong.
        what: String,
    },
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The configuration, in TOML.
    pub toml: String,
    /// What could not be carried over, with `file:line` and the reason.
    pub notes: Vec<String>,
}

/// Reads a `pgbouncer.ini` with all that it includes, and the list of users: `userlist`, else the one that `auth_file` names.
///
/// # Errors
/// [`ImportError`].
pub fn import(ini: &Path, userlist: Option<&Path>) -> Result<Imported, ImportError> {
    let mut ini = Ini::read(ini)?;
    let mut notes = Notes::default();
    let mut toml = Toml::default();
    let mut users = Userlist::read(userlist, &mut ini, &mut notes)?;
    let shared = main_section::shared(&mut ini, &users, &mut notes);
    databases::names(&mut ini, &mut notes);
    main_section::process(&mut ini, &mut toml, &mut notes);
    hba::rules(&mut ini, &users, &shared, &mut toml, &mut notes)?;
    main_section::pool(&mut ini, &mut toml, &mut notes);
    databases::write(&ini, &mut users, &shared, &mut toml, &mut notes);
    users::write(&mut ini, &users, &shared, &mut toml, &mut notes);
    main_section::admin(&mut ini, &users, &mut toml, &mut notes);
    main_section::rest(&ini, &mut notes);
    Ok(Imported { toml: toml.finish(), notes: notes.finish() })
}

/// Runs the sub-command: the configuration to `--output` or standard output, the notes to standard error.
pub fn run(args: &ImportArgs, env: &Environment) -> ExitCode {
    let mut stderr = io::stderr().lock();
    let imported = match import(&args.ini, args.userlist.as_deref()) {
        Ok(imported) => imported,
        Err(error) => {
            let _ = writeln!(stderr, "trunkline: {error}");
            return ExitCode::FAILURE;
        }
    };
    for note in &imported.notes {
        let _ = writeln!(stderr, "{note}");
    }
    let written = match &args.output {
        Some(file) => write_private(file, &imported.toml).map_err(|error| format!("{}: {error}", file.display())),
        None => io::stdout().lock().write_all(imported.toml.as_bytes()).map_err(|error| error.to_string()),
    };
    if let Err(error) = written {
        let _ = writeln!(stderr, "trunkline: cannot write the configuration: {error}");
        return ExitCode::FAILURE;
    }
    let name =
        args.output.as_ref().map_or_else(|| "the new configuration".to_owned(), |file| file.display().to_string());
    let dir = args.output.as_ref().and_then(|file| file.parent()).unwrap_or(Path::new("."));
    match load_text(&name, &imported.toml, dir, env) {
        Ok(_) => ExitCode::SUCCESS,
        Err(errors) => {
            let _ = writeln!(stderr, "{}\nThe new configuration needs these mended.", errors.render(false));
            ExitCode::FAILURE
        }
    }
}

/// The file holds passwords: nobody but its owner may read it. One that is there already is not overwritten.
fn write_private(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())
}
