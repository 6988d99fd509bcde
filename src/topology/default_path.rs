//! Where names without schema lead in sessions that do not say it themselves.
//!
//! Each server connection is asked, when a session needs to know that is going to use it; what one has told is united with what the
//! others have. So connections that were opened before and after an `ALTER ROLE … SET search_path`, or to servers that are configured
//! otherwise, are all right as long as each has told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quanta::Instant;

use crate::sql::{PathId, StatedPath};

/// For how long an answer is believed: an administrator may reload another path.
pub const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// The search paths, and the roles, of the server connections of one user of one database before a session sets any.
#[derive(Debug, Default)]
pub struct DefaultPath {
    wanted: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Told {
    path: United<StatedPath>,
    roles: United<PathId>,
    /// When a connection has failed to tell.
    failed: Option<Instant>,
}

impl Told {
    /// Not known for a while: what failed might fail again, and again.
    fn has_failed(self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < BELIEVED_FOR)
    }
}

#[derive(Debug, Default, Clone, Copy)]
enum United<T> {
    #[default]
    Nothing,
    Known(T),
    /// A connection has told something of which it is not certain where it leads.
    Uncertain,
}

impl<T: Copy> United<T> {
    fn add(&mut self, new: Option<T>, union: impl FnOnce(T, T) -> Option<T>) {
        let united = match (*self, new) {
            (Self::Nothing, new) => new,
            (Self::Known(old), Some(new)) => union(old, new),
            _ => None,
        };
        *self = united.map_or(Self::Uncertain, Self::Known);
    }

    fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            _ => None,
        }
    }
}

impl DefaultPath {
    /// A session would like to know.
    pub fn want(&self) {
        if !self.is_wanted() {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether any session has ever wanted to know.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The path of all connections that have told, if it is certain.
    pub fn path(&self) -> Option<StatedPath> {
        let told = *self.told.lock();
        told.path.known().filter(|_| !told.has_failed())
    }

    /// The schemas that have the names of their roles.
    pub fn roles(&self) -> Option<PathId> {
        let told = *self.told.lock();
        told.roles.known().filter(|_| !told.has_failed())
    }

    /// Whether a connection may be asked at the moment.
    pub fn may_ask(&self) -> bool {
        !self.told.lock().has_failed()
    }

    /// A connection has not told: it was cancelled, say. Nobody knows for a while, and nobody asks.
    pub fn give_up(&self) {
        self.told.lock().failed = Some(Instant::now());
    }

    /// A connection has told a path; `None`: it is not certain where that leads.
    pub fn learn(&self, path: Option<StatedPath>) {
        self.told.lock().path.add(path, StatedPath::union);
    }

    /// A connection has told its role.
    pub fn learn_role(&self, role: Option<PathId>) {
        self.told.lock().roles.add(role, PathId::union);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_united() {
        let default = DefaultPath::default();
        assert_eq!(default.path(), None);
        default.learn(StatedPath::parse("a"));
        default.learn(StatedPath::parse("\"$user\", b"));
        assert_eq!(default.path(), StatedPath::parse("b, \"$user\", a"));
        default.learn_role(PathId::of(["r"]));
        assert_eq!(default.roles(), PathId::of(["r"]));
        default.give_up();
        assert!(default.path().is_none() && default.roles().is_none() && !default.may_ask());
        let default = DefaultPath::default();
        default.learn(StatedPath::parse("a"));
        assert!(default.path().is_some() && default.may_ask());
        default.learn(StatedPath::parse("pg_temp"));
        default.learn(StatedPath::parse("a"));
        assert_eq!(default.path(), None);
    }
}
