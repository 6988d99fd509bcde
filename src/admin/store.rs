//! Statements and portals that a client of the console keeps: so many, and no larger ones.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pgwire::api::DEFAULT_NAME;
use pgwire::api::portal::Portal;
use pgwire::api::stmt::StoredStatement;
use pgwire::api::store::{Entry, PortalStore};

use super::command::Command;
use crate::wire::{ErrorNotice, SqlState};

/// Most statements that one client keeps under names, and as many portals: there are fewer tables.
const MOST: usize = 100;
/// Longest text of a kept statement, and most bytes of a kept portal's parameters. A text is a few times as large once it is understood.
const MAX_KEPT: usize = 16 * 1024;

/// What one client keeps.
#[derive(Debug, Default)]
pub struct Store {
    statements: Mutex<BTreeMap<String, Entry<StoredStatement<Command>>>>,
    portals: Mutex<BTreeMap<String, Entry<Portal<Command>>>>,
}

impl Store {
    /// Whether a statement of `size` bytes may be kept under this name; without a name, one may always be.
    ///
    /// # Errors
    /// 54000.
    pub fn admit_statement(&self, name: Option<&str>, size: usize) -> Result<(), ErrorNotice> {
        admit(&self.statements.lock(), name, size, "prepared statements")
    }

    /// The same of a portal whose parameters have `size` bytes.
    ///
    /// # Errors
    /// 54000.
    pub fn admit_portal(&self, name: Option<&str>, size: usize) -> Result<(), ErrorNotice> {
        admit(&self.portals.lock(), name, size, "portals")
    }
}

fn admit<T>(kept: &BTreeMap<String, Entry<T>>, name: Option<&str>, size: usize, what: &str) -> Result<(), ErrorNotice> {
    let Some(name) = name else { return Ok(()) };
    let named = kept.keys().filter(|name| *name != DEFAULT_NAME).count();
    let message = if size + name.len() > MAX_KEPT {
        format!("{what} of the console have at most {MAX_KEPT} bytes")
    } else if named >= MOST && !kept.contains_key(name) {
        format!("more than {MOST} {what} on the console")
    } else {
        return Ok(());
    };
    Err(ErrorNotice::error(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
        .hint("Close those that are not needed, or leave the name empty."))
}

impl PortalStore for Store {
    type Statement = Command;

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn put_statement(&self, statement: Arc<StoredStatement<Command>>) {
        self.statements.lock().insert(statement.id.clone(), Entry::Value(statement));
    }

    fn put_empty_statement(&self, name: &str) {
        self.statements.lock().insert(name.to_owned(), Entry::Empty);
    }

    fn rm_statement(&self, name: &str) {
        self.statements.lock().remove(name);
    }

    fn get_statement(&self, name: &str) -> Option<Entry<StoredStatement<Command>>> {
        self.statements.lock().get(name).cloned()
    }

    fn put_portal(&self, portal: Arc<Portal<Command>>) {
        self.portals.lock().insert(portal.name.clone(), Entry::Value(portal));
    }

    fn put_empty_portal(&self, name: &str) {
        self.portals.lock().insert(name.to_owned(), Entry::Empty);
    }

    fn rm_portal(&self, name: &str) {
        self.portals.lock().remove(name);
    }

    fn clear_portals(&self) {
        self.portals.lock().clear();
    }

    fn get_portal(&self, name: &str) -> Option<Entry<Portal<Command>>> {
        self.portals.lock().get(name).cloned()
    }
}
