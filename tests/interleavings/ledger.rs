//! What servers have done and clients were told, and what of that must not be: both sides write it down here.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::statement::{Kind, Mark};

/// What became of something that was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its transaction is open.
    Open,
    Committed,
    /// Rolled back by an error or a ROLLBACK.
    RolledBack,
    /// Rolled back by the end of the server connection.
    Lost,
}

/// One execution of a statement.
#[derive(Debug, Clone, Copy)]
struct Execution {
    conn: u32,
    on_replica: bool,
    begins_block: bool,
    kind: Kind,
    fate: Fate,
}

/// What is known of one session.
#[derive(Debug, Default, Clone, Copy)]
pub struct Presence {
    /// It has asked for a cancel.
    pub asked_cancel: bool,
    /// It has closed its connection, or is about to.
    pub gone: bool,
    /// It waits for answers, or has a block open, since then.
    pub busy_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Book {
    log: Vec<(Duration, String)>,
    violations: Vec<String>,
    executions: HashMap<Mark, Vec<Execution>>,
    acknowledged: HashSet<Mark>,
    /// The client was told that it has no effect, and by what.
    refused: HashMap<Mark, String>,
    sessions: HashMap<u32, Presence>,
    counts: HashMap<&'static str, u32>,
}

/// What one seed has seen.
#[derive(Debug)]
pub struct Ledger {
    began: Instant,
    book: Mutex<Book>,
    sessions: AtomicU32,
    conns: AtomicU32,
    /// Servers do nothing odd any more.
    pub calm: AtomicBool,
    /// Clients are to end.
    pub over: AtomicBool,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            book: Mutex::default(),
            sessions: AtomicU32::new(1),
            conns: AtomicU32::new(1),
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub fn next_session(&self) -> u32 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub fn next_conn(&self) -> u32 {
        self.conns.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Something happened.
    pub fn note(&self, what: impl Into<String>) {
        let at = self.began.elapsed();
        self.book().log.push((at, what.into()));
    }

    /// Something happened that must not.
    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("VIOLATION: {what}"));
        self.book().violations.push(what);
    }

    /// Something happened that the test should have seen at its end.
    pub fn count(&self, what: &'static str) {
        *self.book().counts.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> HashMap<&'static str, u32> {
        self.book().counts.clone()
    }

    pub fn presence(&self, session: u32) -> Presence {
        self.book().sessions.get(&session).copied().unwrap_or_default()
    }

    pub fn set_presence(&self, session: u32, change: impl FnOnce(&mut Presence)) {
        change(self.book().sessions.entry(session).or_default());
    }

    /// A server executes a statement, `begins_block` = the first one of a block.
    pub fn executed(&self, mark: Mark, kind: Kind, conn: u32, on_replica: bool, begins_block: bool) {
        let again = {
            let mut book = self.book();
            let before = book.executions.entry(mark).or_default();
            let harmless = |earlier: &Execution| {
                (earlier.on_replica && !kind.writes()) || (earlier.begins_block && earlier.fate == Fate::Lost)
            };
            let again = before.iter().find(|earlier| !harmless(earlier)).copied();
            before.push(Execution { conn, on_replica, begins_block, kind, fate: Fate::Open });
            again
        };
        if let Some(earlier) = again {
            self.violation(format!("s{conn} was sent {mark} ({kind:?}), which had been executed: {earlier:?}"));
        }
    }

    /// What these statements did on this connection has this fate now.
    pub fn settle(&self, marks: &[Mark], conn: u32, fate: Fate) {
        let mut twice = Vec::new();
        let mut book = self.book();
        for mark in marks {
            let executions = book.executions.entry(*mark).or_default();
            for execution in executions.iter_mut().filter(|each| each.conn == conn && each.fate == Fate::Open) {
                execution.fate = fate;
            }
            if executions.iter().filter(|each| each.kind.writes() && each.fate == Fate::Committed).count() > 1 {
                twice.push(*mark);
            }
        }
        drop(book);
        for mark in twice {
            self.violation(format!("{mark} was committed twice"));
        }
    }

    /// A client was told that a write is committed.
    pub fn acknowledged(&self, mark: Mark) {
        let mut book = self.book();
        book.acknowledged.insert(mark);
        let executions = book.executions.get(&mark).map_or(&[][..], Vec::as_slice);
        if executions.iter().filter(|each| each.fate == Fate::Committed).count() != 1 {
            let what = format!("{mark} was acknowledged, and is not committed: {executions:?}");
            drop(book);
            self.violation(what);
        }
    }

    /// A client was told by `why` that a write is not committed, and never will be.
    pub fn refused(&self, mark: Mark, why: &str) {
        self.book().refused.insert(mark, why.to_owned());
    }

    /// What clients were told is true in the end. Returns what is not, and all that must not have been.
    pub fn verdict(&self) -> Vec<String> {
        let mut book = self.book();
        let Book { executions, acknowledged, refused, violations, .. } = &mut *book;
        for (mark, executions) in executions.iter() {
            let committed = executions.iter().filter(|each| each.fate == Fate::Committed).count();
            if acknowledged.contains(mark) && committed != 1 {
                violations.push(format!("{mark} was acknowledged, and was committed {committed} times"));
            }
            // Of what is declared to read, and is lost, nobody thinks that it may have written.
            let is_hidden = executions.iter().any(|each| each.kind == Kind::HiddenWrite);
            let excused = |why: &&String| is_hidden && why.contains("08006");
            if let Some(why) = refused.get(mark).filter(|why| committed > 0 && !excused(why)) {
                violations.push(format!("{mark} was committed, and its client was told otherwise: {why}"));
            }
        }
        violations.clone()
    }

    /// The log: all of it, or the lines with one of these words.
    pub fn story(&self, words: Option<&[String]>) -> String {
        let mut text = String::new();
        for (at, line) in &self.book().log {
            let has = |word: &String| line.split(|c: char| !c.is_alphanumeric()).any(|each| each == word);
            if words.is_none_or(|words| words.iter().any(has)) {
                let _ = writeln!(text, "{:9.3} {line}", at.as_secs_f64() * 1e3);
            }
        }
        text
    }
}
