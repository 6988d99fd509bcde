//! What a scripted server does with statements: transactions, one setting, prepared statements, portals.

use std::collections::HashMap;
use std::sync::Arc;

use super::ledger::{Fate, Ledger};
use super::statement::{Kind, Mark, value_set};

/// A statement that is bound.
#[derive(Debug, Clone)]
pub struct Portal {
    pub text: String,
    pub kind: Kind,
    pub mark: Option<Mark>,
    /// Its rows, once it has run.
    pub rows: Option<Vec<String>>,
    /// How many of them have been told.
    pub told: usize,
}

impl Portal {
    pub fn new(text: &str, parameters: &[u8]) -> Self {
        let kind = Kind::of(text);
        let mark = Mark::all_in(text.as_bytes()).pop().or_else(|| Mark::all_in(parameters).pop());
        Self { text: text.to_owned(), kind, mark, rows: None, told: 0 }
    }
}

/// The state behind one server connection.
#[derive(Debug)]
pub struct Engine {
    pub conn: u32,
    pub node: &'static str,
    pub ledger: Arc<Ledger>,
    /// As ReadyForQuery tells it.
    pub status: u8,
    /// The value of `app.x`.
    setting: String,
    /// What it was when the transaction began, explicitly or not.
    undo: Option<String>,
    /// What the transaction has executed.
    pending: Vec<Mark>,
    executed_in_block: u32,
    /// It has refused what Trunkline wanted to set for a session: what follows in the same write does not count, and nobody else may get it.
    pub refused_settings: bool,
    pub statements: HashMap<String, String>,
    pub portals: HashMap<String, Portal>,
}

impl Engine {
    pub fn new(conn: u32, node: &'static str, ledger: Arc<Ledger>) -> Self {
        Self {
            conn,
            node,
            ledger,
            status: b'I',
            setting: String::new(),
            undo: None,
            pending: Vec::new(),
            executed_in_block: 0,
            refused_settings: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    pub fn is_replica(&self) -> bool {
        self.node != "primary"
    }

    /// Executes a portal that has not run yet, and returns its rows.
    ///
    /// # Errors
    /// The SQLSTATE with which it is refused; nothing has been done.
    pub fn run(&mut self, portal: &Portal) -> Result<Vec<String>, &'static str> {
        let kind = portal.kind;
        if self.status == b'E' && !matches!(kind, Kind::Commit | Kind::Rollback | Kind::Empty) {
            return Err("25P02");
        }
        if kind == Kind::Unknown {
            return Err("42501");
        }
        if self.is_replica() && kind.writes() {
            return Err("25006");
        }
        if kind == Kind::DiscardAll && self.status != b'I' {
            return Err("25001");
        }
        self.undo.get_or_insert_with(|| self.setting.clone());
        if let Some(mark) = portal.mark.filter(|_| kind.writes() || matches!(kind, Kind::Read | Kind::CopyOut)) {
            let begins_block = self.status == b'T' && self.executed_in_block == 0;
            self.ledger.executed(mark, kind, self.conn, self.is_replica(), begins_block);
            self.executed_in_block += 1;
            self.pending.push(mark);
            self.owns_its_setting(mark);
        }
        match kind {
            Kind::Begin => {
                self.status = b'T';
                self.executed_in_block = 0;
            }
            Kind::Commit | Kind::Rollback => self.end_block(kind == Kind::Commit && self.status != b'E'),
            Kind::Set => {
                if let Some(value) = value_set(&portal.text) {
                    self.setting = value;
                }
            }
            Kind::Reset => self.setting.clear(),
            Kind::DiscardAll => {
                self.setting.clear();
                self.undo = None;
                self.statements.clear();
                self.portals.clear();
            }
            _ => {}
        }
        let echo = portal.mark.map_or_else(String::new, |mark| format!("{mark}|{}|s{}", self.setting, self.conn));
        let rows = if kind == Kind::CopyOut { 1 } else { kind.rows(portal.mark) };
        Ok(vec![echo; rows])
    }

    /// What another session has set must not be seen.
    fn owns_its_setting(&self, mark: Mark) {
        let other = Mark::all_in(self.setting.as_bytes()).pop().filter(|other| other.session != mark.session);
        if let Some(other) = other.filter(|_| !self.refused_settings) {
            self.ledger.violation(format!("{mark} runs on s{} where {other} is set", self.conn));
        }
    }

    /// A statement is refused before it has done anything.
    pub fn refuse(&mut self, portal: &Portal) {
        self.refused_settings |= portal.text.starts_with("SELECT pg_catalog.set_config");
        self.fail();
    }

    /// The transaction fails.
    pub fn fail(&mut self) {
        match self.status {
            b'I' => self.end(false),
            _ => self.status = b'E',
        }
    }

    fn end_block(&mut self, committed: bool) {
        self.end(committed);
        self.status = b'I';
    }

    /// Ends a transaction that no block has made, when one is open: at the end of a Query or at a Sync.
    pub fn end_implicit(&mut self) {
        if self.status == b'I' {
            self.end(true);
        }
    }

    fn end(&mut self, committed: bool) {
        let before = self.undo.take();
        if !committed && let Some(before) = before {
            self.setting = before;
        }
        let fate = if committed { Fate::Committed } else { Fate::RolledBack };
        self.ledger.settle(&std::mem::take(&mut self.pending), self.conn, fate);
        self.portals.clear();
    }

    /// Whether something would be lost, were the connection lost now.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The connection is gone.
    pub fn lose(&mut self) {
        self.ledger.settle(&std::mem::take(&mut self.pending), self.conn, Fate::Lost);
    }

    /// A COMMIT fails.
    pub fn fail_commit(&mut self) {
        self.end_block(false);
    }
}
