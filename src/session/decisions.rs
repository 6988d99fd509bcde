//! The decision caches of all databases, each with the catalog that it decides by.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::catalog::{self, Sink, Source, Watched};
use crate::config::{Config, Database};
use crate::route::DecisionCache;
use crate::sql::{FunctionLists, Knowledge, StatementLists};
use crate::topology::ControlPools;

use super::Context;

/// Most databases behind `*` whose catalogs are read.
const MAX_ON_DEMAND: usize = 64;

/// Decision caches by the database's name in the configuration and on its servers: what a statement does depends on the second, and
/// `*` stands for many.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<HashMap<(String, String), Arc<DecisionCache>>>);

impl Context {
    /// The decision cache of a database that a client calls `name`, made when it is first asked for; its catalog is read from then on.
    pub fn decisions(self: &Arc<Self>, database: &Database, name: &str) -> Arc<DecisionCache> {
        let dbname = database.dbname.as_deref().unwrap_or(name);
        let key = (database.name.clone(), dbname.to_owned());
        let mut all = self.decisions.0.lock();
        if let Some(found) = all.get(&key) {
            return found.clone();
        }
        let made = Arc::new(DecisionCache::new(knowledge(database)));
        let on_demand = database.name == "*";
        let has_user = database.control_user.is_some() || database.server_user.is_some();
        if has_user && !(on_demand && all.len() >= MAX_ON_DEMAND) {
            let watched = Arc::new(Watched::new(
                dbname.to_owned(),
                self.metrics.catalog_of(if on_demand { dbname } else { &key.0 }),
            ));
            made.follow(watched.clone());
            let source = self.source_of(&key.0, name, dbname);
            let sink: Weak<dyn Sink> = Arc::downgrade(&(made.clone() as Arc<dyn Sink>));
            // A database that a client has named may have to be dropped: no connection is kept in it.
            self.directory.control().spawn(catalog::watch(watched, sink, source, !on_demand));
        }
        all.insert(key, made.clone());
        made
    }

    /// The decision caches of what is configured by name, so that their catalogs are read before anybody asks.
    pub fn read_catalogs(self: &Arc<Self>, config: &Config) {
        for database in config.databases.values().filter(|database| database.name != "*") {
            self.decisions(database, &database.name);
        }
    }

    /// All decision caches, by the configured name of their database.
    pub fn all_decisions(&self) -> Vec<(String, Arc<DecisionCache>)> {
        let all = self.decisions.0.lock();
        let mut all: Vec<_> = all.iter().map(|(key, cache)| (key.clone(), cache.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.into_iter().map(|((name, _), cache)| (name, cache)).collect()
    }

    /// The configuration may have changed: decisions are made anew.
    pub fn forget_decisions(self: &Arc<Self>, config: &Config) {
        let mut all = self.decisions.0.lock();
        all.retain(|(name, dbname), _| {
            config
                .databases
                .get(name)
                .is_some_and(|database| *name == "*" || database.dbname.as_ref().unwrap_or(&database.name) == dbname)
        });
        for ((name, _), cache) in all.iter() {
            if let Some(database) = config.databases.get(name) {
                let known = knowledge(database);
                cache.reload(known.functions, known.statements);
                // The servers may be others.
                cache.doubt_catalog();
            }
        }
    }

    fn source_of(
        self: &Arc<Self>,
        configured: &str,
        name: &str,
        dbname: &str,
    ) -> impl FnMut() -> Option<Source> + use<> {
        let (ctx, configured) = (Arc::downgrade(self), configured.to_owned());
        let (name, dbname) = (name.to_owned(), dbname.to_owned());
        let mut pools = ControlPools::default();
        move || {
            let ctx = ctx.upgrade()?;
            let clusters = ctx.directory.clusters();
            let cluster = clusters.get(&configured)?;
            let paused = ctx.directory.gates.find(&name).is_some_and(|gate| gate.is_paused());
            if paused {
                pools.let_go();
            }
            let pool = if paused { None } else { pools.pool(cluster, &dbname) };
            Some(Source { pool, interval: cluster.database.routing.catalog_interval })
        }
    }
}

/// What the configuration says.
pub(super) fn knowledge(database: &Database) -> Knowledge {
    let routing = &database.routing;
    Knowledge {
        functions: FunctionLists::new(&routing.read_only_functions, &routing.primary_functions),
        statements: StatementLists::new(&routing.primary_statements, &routing.read_only_statements),
        ..Knowledge::default()
    }
}
