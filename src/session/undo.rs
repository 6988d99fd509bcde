//! Taking back what messages would have done that the server has skipped.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::backend::Registry;

use super::expect::Expect;
use super::names::{Named, Names};

/// Takes back what they would have done. Of several about one thing the first tells how it was.
pub(super) struct Undo<'a> {
    names: &'a mut Names,
    registry: &'a mut Registry,
    statements: Seen<u64>,
    own: Seen<Box<[u8]>>,
    clients: Seen<Box<[u8]>>,
    /// What is under way behind the Sync has ended the unnamed statement already: what it was before is for that to know.
    goes_on: bool,
    pub unnamed_before: Option<Option<Arc<Named>>>,
}

impl<'u> Undo<'u> {
    pub fn new(names: &'u mut Names, registry: &'u mut Registry, goes_on: bool) -> Self {
        let (statements, own, clients) = (Seen::default(), Seen::default(), Seen::default());
        Self { names, registry, statements, own, clients, goes_on, unnamed_before: None }
    }

    /// `is_culprit`: it is this one that failed.
    pub fn undo(&mut self, expect: &Expect, is_culprit: bool) {
        match expect {
            Expect::Parse { statement, unnamed, client } => {
                if *unnamed {
                    self.registry.unnamed = self.registry.unnamed.take().filter(|_| self.goes_on);
                } else if first(&mut self.statements, &statement.id) {
                    self.registry.forget(statement.id);
                }
                if let Some((name, previous)) = client {
                    // A Parse that fails has ended the unnamed statement all the same.
                    self.client(name, previous.as_ref().filter(|_| *unnamed && !is_culprit));
                }
            }
            Expect::Simple { unnamed: Some(before), .. } => self.client(&[], Some(before)),
            Expect::CloseUnnamed { before } => self.client(&[], before.as_ref()),
            Expect::RawParse { client: Some(name) } | Expect::MadeParse { name } => self.client(name, None),
            Expect::MadeClose { name, statement } => self.client(name, statement.as_ref()),
            Expect::Evict { statement } if first(&mut self.statements, &statement.id) => {
                self.registry.restore(statement.clone());
            }
            Expect::Verify { statement } => self.registry.discard(statement),
            Expect::CloseStray { name } => self.registry.strays.push(name.clone()),
            Expect::TakeAway { name, own } if first(&mut self.own, name) => {
                self.registry.restore_own(name.clone(), own.clone())
            }
            Expect::OwnParse { name } => self.never_stood(name),
            Expect::OwnExecute { prepares } => {
                self.registry.helper = true;
                prepares.iter().for_each(|name| self.never_stood(name));
            }
            _ => {}
        }
    }

    fn client(&mut self, name: &[u8], before: Option<&Arc<Named>>) {
        if !first(&mut self.clients, &name.into()) {
            return;
        }
        if name.is_empty() && self.goes_on {
            self.unnamed_before = Some(before.cloned());
            return;
        }
        match before {
            Some(named) => self.names.set(name, named.clone()),
            None => drop(self.names.remove(name)),
        }
    }

    fn never_stood(&mut self, name: &[u8]) {
        if first(&mut self.own, &name.into()) {
            self.registry.remove_own(name);
        }
    }
}

/// What has been undone: there may be thousands in one segment.
type Seen<T> = HashSet<T, RandomState>;

/// Whether this is seen for the first time.
fn first<T: Eq + Hash + Clone>(seen: &mut Seen<T>, this: &T) -> bool {
    !seen.contains(this) && seen.insert(this.clone())
}
