//! A client's names for prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::backend::Prepared;

/// What the statement names of one client stand for.
#[derive(Debug, Default)]
pub(super) struct Names {
    named: HashMap<Box<[u8]>, Arc<Prepared>, RandomState>,
    unnamed: Option<Arc<Prepared>>,
}

impl Names {
    /// The statement behind a name; the empty name is the unnamed statement.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Lets a name stand for a statement.
    pub fn set(&mut self, name: &[u8], statement: Arc<Prepared>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.named.insert(name.into(), statement);
        }
    }

    /// The unnamed statement as it was.
    pub fn set_unnamed(&mut self, statement: Option<Arc<Prepared>>) {
        self.unnamed = statement;
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Prepared>> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    /// Takes a name away whose Parse failed.
    pub fn forget(&mut self, name: &[u8]) {
        self.remove(name);
    }

    /// Gives a name back whose Close was skipped.
    pub fn restore(&mut self, name: Box<[u8]>, statement: Arc<Prepared>) {
        self.set(&name, statement);
    }

    /// Forgets all: DEALLOCATE ALL, DISCARD ALL (trap 45).
    pub fn clear(&mut self) {
        self.named.clear();
        self.unnamed = None;
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.named.len()
    }
}
