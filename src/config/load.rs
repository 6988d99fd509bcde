//! From a file, a text or URLs to a [`Config`].

use std::ops::Range;
use std::path::Path;

use super::Config;
use super::document;
use super::environment::{self, Environment};
use super::origin::Origin;
use super::problem::{Errors, Problem, Problems, Sources};
use super::resolve::{self, Context};
use super::schema::RawConfig;

/// A configuration that can be used, and what should be known about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, in the order of the text.
    pub warnings: Vec<Problem>,
    /// What it was made from.
    pub origin: Origin,
}

/// Reads a configuration file, with the overrides and variables of `env`.
///
/// # Errors
/// All mistakes at once.
pub fn load(path: &Path, env: &Environment) -> Result<Loaded, Errors> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Err(Errors::one(
                format!("can't read the configuration file {name}: {error}"),
                "name the file with --config FILE, or start without one: --database-url postgres://user:password@host/dbname",
            ));
        }
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Relative paths must mean the same after a change of directory.
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let open_to_all = resolve::is_world_readable(path);
    read(&name, &text, &dir, env, open_to_all)
}

/// Reads a configuration from `text`; `name` stands for it in messages, relative paths start at `dir`.
///
/// # Errors
/// All mistakes at once.
pub fn load_text(name: &str, text: &str, dir: &Path, env: &Environment) -> Result<Loaded, Errors> {
    read(name, text, dir, env, false)
}

fn read(name: &str, text: &str, dir: &Path, env: &Environment, open_to_all: bool) -> Result<Loaded, Errors> {
    let mut sources = Sources::default();
    let mut problems = Problems::default();
    sources.push(name, text);
    let document = document::read(text, env, &mut sources, &mut problems);
    if open_to_all && has_secrets(&document.raw) {
        problems
            .warn(format!("{name} holds passwords and can be read by every user of this machine"))
            .help(format!("chmod 640 {name}, or keep the passwords in files (password_file) or variables (${{VAR}})"));
    }
    if document.syntax_error {
        return Err(problems.into_errors(&sources, &document.masks));
    }
    let origin = Origin::text(name, text, dir.to_owned());
    finish(document.raw, problems, &sources, (&document.masks, &document.refused), dir, env, origin)
}

/// Resolves, and sorts what came out into a configuration with warnings or a list of mistakes.
pub(super) fn finish(
    raw: RawConfig,
    mut problems: Problems,
    sources: &Sources,
    (masks, refused): (&[Range<usize>], &[String]),
    dir: &Path,
    env: &Environment,
    origin: Origin,
) -> Result<Loaded, Errors> {
    let config = resolve::resolve(raw, &mut Context { problems: &mut problems, env, dir, refused });
    if problems.has_errors() {
        return Err(problems.into_errors(sources, masks));
    }
    Ok(Loaded { config, warnings: problems.finish(sources, masks), origin })
}

/// Whether a secret stands in the text itself: not in a file, not in a variable.
fn has_secrets(raw: &RawConfig) -> bool {
    let databases = raw.databases.values().flat_map(|database| [&database.server_password, &database.control_password]);
    let users = raw.users.values().flat_map(|user| [&user.password, &user.server_password]);
    let plain =
        databases.chain(users).flatten().any(|secret| !environment::is_only_interpolation(secret.get_ref().0.expose()));
    let in_url = raw.databases.values().filter_map(|database| database.url.as_ref()).any(|url| {
        let password = super::conninfo::parse_url(url.get_ref()).ok().and_then(|info| info.password);
        password.is_some_and(|password| !environment::is_only_interpolation(password.expose()))
    });
    plain || in_url
}
