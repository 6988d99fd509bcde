//! What sessions count into: plain atomics, one set per (database, user) and worker thread.
//!
//! Sessions are pinned to their worker thread, so each thread has cells of its own (a *stripe*) and a
//! relaxed addition never fights for a cache line. The stripes are summed when someone reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::blame::ErrorTable;
use super::histogram::{self, Histogram};
use crate::config::NodeRole;

/// The label that stands for every (database, user) beyond the limit.
pub const OTHER: &str = "other";

/// Most stripes. Threads beyond share them, which costs speed and no correctness.
pub const STRIPES: usize = 64;

/// The stripe of the calling thread: threads are numbered as they first ask.
pub fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: usize = NEXT.fetch_add(1, Relaxed) % STRIPES;
    }
    STRIPE.with(|stripe| *stripe)
}

/// Position of a role in the arrays here.
#[inline]
pub fn role_index(role: NodeRole) -> usize {
    match role {
        NodeRole::Primary => 0,
        NodeRole::Replica => 1,
        NodeRole::Worker => 2,
    }
}

/// All roles in the order of [`role_index`].
pub const ROLES: [NodeRole; 3] = [NodeRole::Primary, NodeRole::Replica, NodeRole::Worker];

macro_rules! cells {
    ($($(#[$doc:meta])* $field:ident,)+) => {
        /// Counters of one (database, user) on one stripe.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct SessionCell {
            /// Whole statements, by role of the node.
            pub statements: [Histogram; ROLES.len()],
            /// Waits for a server connection, by role of the node.
            pub waits: [Histogram; ROLES.len()],
            /// Clients logged in.
            pub clients: AtomicI64,
            /// Of those, in a statement or a transaction (waiting ones included).
            pub busy: AtomicI64,
            /// Of those, waiting for a server connection.
            pub waiting: AtomicI64,
            $($(#[$doc])* pub $field: AtomicU64,)+
        }

        /// The sum of some cells at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct SessionTotals {
            /// Whole statements, by role of the node.
            pub statements: [histogram::Snapshot; ROLES.len()],
            /// Waits for a server connection, by role of the node.
            pub waits: [histogram::Snapshot; ROLES.len()],
            /// Clients logged in.
            pub clients: i64,
            /// Of those, in a statement or a transaction (waiting ones included).
            pub busy: i64,
            /// Of those, waiting for a server connection.
            pub waiting: i64,
            $($(#[$doc])* pub $field: u64,)+
        }

        impl SessionCell {
            /// Adds what was counted so far to `into`.
            pub fn add_to(&self, into: &mut SessionTotals) {
                for role in 0..ROLES.len() {
                    self.statements[role].add_to(&mut into.statements[role]);
                    self.waits[role].add_to(&mut into.waits[role]);
                }
                into.clients += self.clients.load(Relaxed);
                into.busy += self.busy.load(Relaxed);
                into.waiting += self.waiting.load(Relaxed);
                $(into.$field += self.$field.load(Relaxed);)+
            }
        }
    };
}

cells! {
    /// Transactions that ended.
    transactions,
    /// Their time in nanoseconds.
    transaction_ns,
    /// Bytes from clients.
    client_received,
    /// Bytes to clients.
    client_sent,
    /// Bytes from servers.
    server_received,
    /// Bytes to servers.
    server_sent,
    /// Parse messages from clients.
    client_parses,
    /// Parse messages to servers.
    server_parses,
    /// Bind messages from clients.
    binds,
    /// Logins.
    logins,
    /// Statements over the slow-query threshold.
    slow,
    /// Statements that the circuit breaker has refused.
    broken,
}

/// A (database, user) as a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Database as clients name it.
    pub database: Arc<str>,
    /// User as clients name it.
    pub user: Arc<str>,
}

/// Names that the configuration has.
#[derive(Debug, Default)]
pub struct Configured {
    /// Of databases, without `*`.
    pub databases: HashSet<String>,
    /// Of users.
    pub users: HashSet<String>,
}

/// All cells, and the limit on how many (database, user) become labels.
#[derive(Debug)]
pub struct CellRegistry {
    limit: usize,
    configured: Configured,
    admitted: HashSet<Labels>,
    /// How many of these the configuration has; the other ones are names that clients have chosen.
    own: usize,
    databases: HashSet<Arc<str>>,
    cells: HashMap<(Labels, usize), Arc<SessionCell>>,
    errors: BTreeMap<Arc<str>, Arc<ErrorTable>>,
    folded: u64,
}

impl CellRegistry {
    /// At most `limit` distinct (database, user) of the configuration become labels of their own, and as many others.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            configured: Configured::default(),
            admitted: HashSet::new(),
            own: 0,
            databases: HashSet::new(),
            cells: HashMap::new(),
            errors: BTreeMap::new(),
            folded: 0,
        }
    }

    /// Follows a change of the configuration. What is admitted stays so.
    pub fn learn(&mut self, configured: Configured) {
        self.configured = configured;
        self.own = self.admitted.iter().filter(|labels| self.is_configured(&labels.database, &labels.user)).count();
    }

    fn is_configured(&self, database: &str, user: &str) -> bool {
        self.configured.databases.contains(database) && self.configured.users.contains(user)
    }

    /// The labels to count under: the names themselves while there is room; beyond, the database with
    /// user `other`; and `other` for both when even the databases are too many. At most
    /// `4 * limit + 1` results exist. Whoever may choose names takes no room of those in the configuration.
    pub fn admit(&mut self, database: &str, user: &str) -> Labels {
        let wanted = Labels { database: database.into(), user: user.into() };
        if self.admitted.contains(&wanted) {
            return wanted;
        }
        let own = self.is_configured(database, user);
        let taken = if own { self.own } else { self.admitted.len() - self.own };
        if taken < self.limit {
            self.own += usize::from(own);
            self.databases.insert(wanted.database.clone());
            self.admitted.insert(wanted.clone());
            return wanted;
        }
        self.folded += 1;
        self.labels_of(wanted.database, wanted.user)
    }

    /// The same for names that nobody has proved to exist yet: of these only the configuration's are admitted.
    pub fn admit_unproven(&mut self, database: &str, user: &str) {
        if self.is_configured(database, user) {
            self.admit(database, user);
        }
    }

    /// The labels as things are.
    pub fn labels_of(&self, database: Arc<str>, user: Arc<str>) -> Labels {
        let wanted = Labels { database, user };
        if self.admitted.contains(&wanted) {
            return wanted;
        }
        let known = self.databases.contains(&wanted.database);
        let database = if known { wanted.database } else { OTHER.into() };
        Labels { database, user: OTHER.into() }
    }

    /// The cell of these labels on a stripe, and the error table of the database.
    pub fn cell(&mut self, labels: &Labels, stripe: usize) -> (Arc<SessionCell>, Arc<ErrorTable>) {
        let cell = self.cells.entry((labels.clone(), stripe)).or_default().clone();
        (cell, self.errors(&labels.database))
    }

    /// The error table of an admitted database.
    pub fn errors(&mut self, database: &Arc<str>) -> Arc<ErrorTable> {
        self.errors.entry(database.clone()).or_default().clone()
    }

    /// All error tables by database.
    pub fn error_tables(&self) -> Vec<(Arc<str>, Arc<ErrorTable>)> {
        self.errors.iter().map(|(database, table)| (database.clone(), table.clone())).collect()
    }

    /// Sums over the stripes, ordered by labels.
    pub fn totals(&self) -> BTreeMap<Labels, SessionTotals> {
        let mut totals: BTreeMap<Labels, SessionTotals> = BTreeMap::new();
        for ((labels, _), cell) in &self.cells {
            cell.add_to(totals.entry(labels.clone()).or_default());
        }
        totals
    }

    /// How often names were folded into `other`.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_fold_into_other() {
        let mut registry = CellRegistry::new(2);
        assert_eq!(&*registry.admit("shop", "ann").user, "ann");
        assert_eq!(&*registry.admit("shop", "bob").user, "bob");
        let third = registry.admit("shop", "eve");
        assert_eq!((&*third.database, &*third.user), ("shop", "other"));
        let unknown = registry.admit("scan-17", "eve");
        assert_eq!((&*unknown.database, &*unknown.user), ("other", "other"));
        assert_eq!(&*registry.admit("shop", "ann").user, "ann");
        assert_eq!(registry.folded(), 2);
    }

    #[test]
    fn names_that_clients_choose_take_no_room_of_the_configurations() {
        let mut registry = CellRegistry::new(2);
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let users = ["ann", "bob", "eve"];
        registry.learn(Configured { databases: names(&["shop"]), users: names(&users) });
        for number in 0..100 {
            registry.admit(&format!("db{number}"), "ann");
            registry.admit("shop", &format!("user{number}"));
            registry.admit_unproven(&format!("made-up{number}"), "ann");
        }
        let labels = users.map(|user| registry.admit("shop", user).user.to_string());
        assert_eq!(labels, ["ann", "bob", OTHER], "their own number is limited, too");
        assert_eq!(&*registry.labels_of("made-up1".into(), "ann".into()).database, OTHER);
        assert_eq!(registry.admitted.len(), 4);
        // One that the configuration loses counts among the others.
        registry.learn(Configured { databases: names(&["shop"]), users: names(&["bob", "eve"]) });
        assert_eq!(&*registry.admit("shop", "eve").user, "eve");
        assert_eq!(&*registry.labels_of("shop".into(), "ann".into()).user, "ann");
    }

    #[test]
    fn stripes_of_the_same_labels_are_summed() {
        let mut registry = CellRegistry::new(2);
        let labels = registry.admit("shop", "ann");
        for stripe in [0, 1, 1] {
            registry.cell(&labels, stripe).0.client_sent.fetch_add(5, Relaxed);
        }
        assert_eq!(registry.cells.len(), 2);
        assert_eq!(registry.totals()[&labels].client_sent, 15);
    }
}
