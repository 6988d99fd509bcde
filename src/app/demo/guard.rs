//! The process that cleans up after us, however we end.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::error::{ClusterError, Doing};

/// Waits for the end of the servers' owner, then stops every server below the directory and
/// removes the directory. A server is known by its `postmaster.pid`, and only signalled when the
/// process of that number really works in that data directory. What is frozen is woken before that, and
/// what is still there after ten seconds is killed: it may have lost its postmaster.
const SCRIPT: &str = r#"
root=$1
remove=$2
eval "$3"
server_processes() {
    for dir in /proc/[0-9]*; do
        comm=
        read -r comm < "$dir/comm"
        [ "$comm" = postgres ] || continue
        case $(readlink "$dir/cwd") in "$root"/*) echo "${dir#/proc/}" ;; esac
    done
}
for pid in $(server_processes); do
    kill -CONT "$pid"
done
for file in "$root"/*/postmaster.pid; do
    [ -f "$file" ] || continue
    read -r pid < "$file"
    if [ "$(readlink "/proc/$pid/cwd")" = "${file%/postmaster.pid}" ]; then
        kill -QUIT "$pid"
    fi
done
tries=0
while [ $tries -lt 100 ] && [ -n "$(server_processes)" ]; do
    sleep 0.1
    tries=$((tries + 1))
done
for pid in $(server_processes); do
    kill -KILL "$pid"
done
[ "$remove" = no ] && exit
# A program that was setting up a server when its owner ended may still be writing files.
works_there() {
    for link in /proc/[0-9]*/cwd; do
        case $(readlink "$link") in
        "$root" | "$root"/* | "$root "*) return 0 ;;
        esac
    done
    return 1
}
rm -rf -- "$root"
tries=0
while [ $tries -lt 100 ] && works_there; do
    sleep 0.1
    tries=$((tries + 1))
done
rm -rf -- "$root"
"#;

/// When a cluster has to go.
#[derive(Debug, Clone, Default)]
pub enum Lifetime {
    /// With the [`super::cluster::Cluster`] value, or with this process when it ends in any other
    /// way (even by SIGKILL).
    #[default]
    Owner,
    /// When this shell script returns. It runs in a process of its own; `$root` is the cluster's
    /// directory. The servers outlive both the value and the process that started them.
    Script(String),
}

/// A shell that holds one end of a pipe. When the other end closes, the owner is gone.
///
/// PostgreSQL's servers don't end with their parent, and asking the kernel for a signal at the
/// parent's death needs unsafe code; a pipe does the same in safe code.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
    /// The guard outlives us.
    detached: bool,
}

impl Guard {
    /// Starts the guard of the servers below `root`.
    pub(super) fn start(root: &Path, lifetime: &Lifetime, keep_files: bool) -> Result<Self, ClusterError> {
        let (wait, detached) = match lifetime {
            Lifetime::Owner => ("cat", false),
            Lifetime::Script(script) => (script.as_str(), true),
        };
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "trunkline-guard"])
            .arg(root)
            .arg(if keep_files { "no" } else { "yes" })
            .arg(wait)
            .current_dir("/")
            .stdin(if detached { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C at the terminal is not meant for it.
            .process_group(0)
            .spawn()
            .doing(|| "starting the process that cleans up".to_owned())?;
        Ok(Self { child, detached })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.detached {
            drop(self.child.stdin.take());
            let _ = self.child.wait();
        }
    }
}
