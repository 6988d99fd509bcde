//! What is known besides the text: the configuration's lists, and the catalog of the database if it has been read.

use std::fmt::Debug;
use std::sync::Arc;

use bitflags::bitflags;
use hashbrown::HashMap;

use super::decision::{Effects, Target};
use super::functions::{FunctionLists, FunctionName};
use super::path::SearchPath;
use super::reason::Reason;
use super::shard::Distribution;
use super::statements::StatementLists;
use super::touches::{Slots, Touches};
use super::verdict::Verdict;

/// OIDs from here on are of users' objects.
pub const FIRST_USER_OID: u32 = 16384;

/// All that the classifier asks when the text alone can't tell.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// The functions that the configuration names. They come before what the catalog says.
    pub functions: FunctionLists,
    /// The statements that the configuration names.
    pub statements: StatementLists,
    /// The catalog of the database.
    pub catalog: Catalog,
    /// How the tables are spread over the nodes of Citus; `None` where there is no Citus, or nothing is made of it.
    pub distribution: Option<Arc<Distribution>>,
}

/// How the catalog of the database stands.
#[derive(Debug, Clone, Default)]
pub enum Catalog {
    /// There is none: nothing is known of users' functions, and nothing bad is supposed of relations.
    #[default]
    Absent,
    /// It was changed and has not been read again: nothing good that it would tell can be relied on; the bad that it told last is.
    Pending(Arc<dyn Facts>),
    /// As it was read last.
    Known(Arc<dyn Facts>),
}

impl Catalog {
    /// What it says, if it has been read and holds.
    pub fn facts(&self) -> Option<&dyn Facts> {
        match self {
            Self::Known(facts) => Some(&**facts),
            Self::Absent | Self::Pending(_) => None,
        }
    }

    /// What it said last, whether that still holds or not.
    pub(super) fn last_facts(&self) -> Option<&dyn Facts> {
        match self {
            Self::Known(facts) | Self::Pending(facts) => Some(&**facts),
            Self::Absent => None,
        }
    }

    /// What it means to be given a value of this type for a parameter; `None`: no function of a user's checks it.
    pub fn checking_value_of(&self, oid: u32, lists: &FunctionLists) -> Option<Verdict> {
        let hazard = self.last_facts()?.hazards().type_oids.get(&oid)?;
        Some(hazard.verdict(lists))
    }
}

impl From<FunctionLists> for Knowledge {
    fn from(functions: FunctionLists) -> Self {
        Self { functions, ..Self::default() }
    }
}

bitflags! {
    /// What a statement does to the relation that it changes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Commands: u8 {
        /// Adds rows.
        const INSERT = 1;
        /// Changes rows.
        const UPDATE = 1 << 1;
        /// Removes rows.
        const DELETE = 1 << 2;
    }
}

/// The catalog of one database, as a text's names are looked up in it. Names are in the server's spelling; a name without
/// schema stands for that name in every schema, and the worst of them counts: `search_path` may lead to any, unless it is known
/// ([`Facts::along`]).
pub trait Facts: Debug + Send + Sync {
    /// What calling a user's function means. `arguments` is how many it is called with, if that can be told. `None`: there is
    /// no such function.
    fn function(&self, function: FunctionName<'_>, arguments: Option<usize>, lists: &FunctionLists) -> Option<Verdict>;

    /// What reading a relation means, with all that its views and policies read and call. `None`: there is no such relation.
    fn relation(&self, schema: Option<&str>, name: &str, lists: &FunctionLists) -> Option<Verdict>;

    /// The tables that may change when a statement does this to a relation: triggers, rules, foreign keys with actions
    /// included, and whether the schema may. All, for a relation that is not known.
    fn written(&self, schema: Option<&str>, name: &str, commands: Commands, lists: &FunctionLists) -> Touches;

    /// Whether something runs when the schema is changed.
    fn has_event_triggers(&self) -> bool;

    /// Whether functions or relations of this name are in several schemas, PostgreSQL's own included.
    fn is_in_several_schemas(&self, name: &str) -> bool;

    /// The same, where a name without schema stands for that name in the schemas of this path.
    fn along(self: Arc<Self>, path: &'static SearchPath) -> Arc<dyn Facts>;

    /// What calls functions without naming them.
    fn hazards(&self) -> &Hazards;
}

/// Things that call functions of users although no call is written: volatile ones, and stable ones, which read who knows what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hazards {
    /// By the operator's symbol.
    pub operators: HashMap<Box<str>, Hazard>,
    /// By the name of a type: to cast to it calls the function, or checks a domain's constraint by it.
    pub types: HashMap<Box<str>, Hazard>,
    /// By the name of a table: to cast to its row type does.
    pub row_types: HashMap<Box<str>, Hazard>,
    /// By the OID of a type: to read a value of it does.
    pub type_oids: HashMap<u32, Hazard>,
    /// By the name of a function with one row as its argument: `row.name` calls it.
    pub attributes: HashMap<Box<str>, Hazard>,
    /// What no word and no sign of a text shows: an implicit cast, or an operator that sorting or grouping uses.
    pub hidden: Option<Hazard>,
}

/// A function that is not immutable, and what calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// Schema of the function.
    pub schema: Box<str>,
    /// Its name.
    pub function: Box<str>,
    /// What calls it, in words.
    pub culprit: Box<str>,
    /// It may write. Otherwise it only reads, any table.
    pub volatile: bool,
}

impl Hazards {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Hazard {
    /// What it means: it may write, unless the configuration calls it harmless; and it reads.
    pub fn verdict(&self, lists: &FunctionLists) -> Verdict {
        let function = FunctionName { schema: Some(&self.schema), name: &self.function };
        if self.volatile && !lists.calls_harmless(function) {
            Verdict::volatile(self.culprit.clone())
        } else {
            Verdict::new(Target::Replica, Reason::Read, Effects::TELLS_TIME).reading(Slots::All)
        }
    }

    /// The worse of two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.volatile && !self.volatile { other } else { self }
    }
}
