//! Finding PostgreSQL's programs and running them as a user that PostgreSQL accepts.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{ClusterError, Doing};

/// One installation of PostgreSQL, and the account that its servers run as.
#[derive(Debug, Clone)]
pub struct PgBinaries {
    dir: PathBuf,
    /// `None`: our own account. Set when we are root, which PostgreSQL refuses.
    account: Option<Account>,
}

/// An unprivileged account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl PgBinaries {
    /// Finds an installation: `$PGBIN`, then `$PATH`, then the newest of the distributions' usual
    /// places, then what `pg_config --bindir` says.
    ///
    /// # Errors
    /// [`ClusterError::NoBinaries`], or [`ClusterError::NoAccount`] when run as root on a machine
    /// without an unprivileged account.
    pub fn find() -> Result<Self, ClusterError> {
        let account = if rustix::process::geteuid().is_root() { Some(unprivileged_account()?) } else { None };
        let mut looked = BTreeSet::new();
        for dir in candidates() {
            if dir.join("initdb").is_file() && dir.join("postgres").is_file() {
                // /usr/local/bin may hold links to some of the programs only: follow them.
                let real = fs::canonicalize(dir.join("postgres")).unwrap_or_default();
                let dir = match real.parent() {
                    Some(parent) if parent.join("initdb").is_file() => parent.to_owned(),
                    _ => dir,
                };
                return Ok(Self { dir, account });
            }
            looked.insert(dir.display().to_string());
        }
        let looked = looked.into_iter().collect::<Vec<_>>().join(", ");
        Err(ClusterError::NoBinaries { looked })
    }

    /// Full path of a program such as `psql`.
    pub fn path(&self, program: &str) -> PathBuf {
        let own = self.dir.join(program);
        if own.is_file() { own } else { PathBuf::from(program) }
    }

    /// A command that runs a program as the servers' account, in `dir`, without any `PG…` variable
    /// of our own environment.
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.path(program));
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("HOME", dir).current_dir(dir).stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Runs a program to its end and returns what it printed.
    ///
    /// # Errors
    /// It can't be started, or ends with a status other than 0.
    pub fn run<I, S>(&self, program: &str, dir: &Path, args: I) -> Result<String, ClusterError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        finish(program, self.command(program, dir).args(args))
    }

    /// Gives a path to the servers' account.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn give(&self, path: &Path) -> Result<(), ClusterError> {
        match self.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid))
                .doing(|| format!("giving {} to the servers' account", path.display())),
            None => Ok(()),
        }
    }

    /// Text that differs between installations and accounts, fit for a file name.
    pub fn fingerprint(&self) -> String {
        let version = Command::new(self.dir.join("postgres"))
            .arg("--version")
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let uid = self.account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
        format!("{uid}-{version}")
            .trim()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect()
    }
}

/// Runs a command to its end and returns its standard output.
pub(super) fn finish(program: &str, command: &mut Command) -> Result<String, ClusterError> {
    let output = command.output().doing(|| format!("starting {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    Err(ClusterError::Program { program: program.to_owned(), output: text.trim().to_owned() })
}

/// Directories that may hold the server programs, best first.
fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(dir) = env::var_os("PGBIN") {
        return vec![PathBuf::from(dir)];
    }
    if let Some(path) = env::var_os("PATH") {
        dirs.extend(env::split_paths(&path));
    }
    let mut versioned = versions_below(Path::new("/usr/lib/postgresql"), "", "bin");
    versioned.extend(versions_below(Path::new("/usr"), "pgsql-", "bin"));
    versioned.extend(versions_below(Path::new("/opt/homebrew/opt"), "postgresql@", "bin"));
    versioned.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    dirs.extend(versioned.into_iter().map(|(_, dir)| dir));
    dirs.push(PathBuf::from("/usr/local/pgsql/bin"));
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.trim().is_empty() {
            dirs.push(PathBuf::from(text.trim()));
        }
    }
    dirs
}

/// The directories `base/<prefix><number>/<tail>` with their number.
fn versions_below(base: &Path, prefix: &str, tail: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(base) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join(tail)))
        })
        .collect()
}

/// The account `postgres`, or else `nobody`.
fn unprivileged_account() -> Result<Account, ClusterError> {
    let passwd = fs::read_to_string("/etc/passwd").doing(|| "reading /etc/passwd".to_owned())?;
    account_in(&passwd, "postgres").or_else(|| account_in(&passwd, "nobody")).ok_or(ClusterError::NoAccount)
}

/// Looks an account up in the text of a passwd file; root's own ids never count.
fn account_in(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account { uid, gid })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\npostgresql:x:7:7::/:\npostgres:x:101:104:PostgreSQL:/var:/bin/bash\n";

    #[test]
    fn accounts_are_read_by_their_whole_name() {
        assert_eq!(account_in(PASSWD, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(account_in(PASSWD, "nobody"), None);
        assert_eq!(account_in(PASSWD, "root"), None);
    }

    #[test]
    fn the_newest_version_is_told_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9", "15", "nine", "100"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut found = versions_below(dir.path(), "", "bin");
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        let versions: Vec<_> = found.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, [100, 15, 9]);
        assert_eq!(found[0].1, dir.path().join("100/bin"));
    }
}
