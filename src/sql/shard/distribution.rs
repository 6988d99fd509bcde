//! How the tables of a database are spread over the nodes of Citus.

use hashbrown::HashMap;

use super::super::knowledge::Catalog;
use super::KeyType;

/// The tables that Citus knows. What it does not know is at the coordinator only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    tables: HashMap<Box<str>, Vec<DistributedTable>>,
}

/// A table that Citus knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributedTable {
    /// Its schema, in the server's spelling.
    pub schema: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// A column takes its value from a sequence, or from a function that may ask one, which gives other numbers on workers (the group stands in the
    /// upper 16 bits, and columns of 4 bytes fail): new rows are the coordinator's.
    pub is_numbered: bool,
    /// Columns of types that are not PostgreSQL's own, whose OIDs differ from node to node: a client that is told one of a worker
    /// would look for it on the coordinator.
    pub own_types: Box<[Box<str>]>,
    /// Where its rows are.
    pub kind: TableKind,
}

/// Where the rows of a table are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableKind {
    /// Each row at the node that owns the hash of one column.
    Hash {
        /// Tables of the same have the same ranges of hashes on the same nodes.
        colocation: u32,
        /// The distribution column.
        column: Box<str>,
        /// Its type. `None`: no owner can be computed (other types, collations that are not deterministic).
        key: Option<KeyType>,
    },
    /// All of them on every node.
    Reference,
    /// Known on every node, but not spread by a hash: local tables of the coordinator, schemas as shards, append and range
    /// distribution. Statements on them are the coordinator's.
    Other,
}

impl Distribution {
    /// Of these tables. Of two of one name and schema the last counts.
    pub fn new(tables: impl IntoIterator<Item = DistributedTable>) -> Self {
        let mut distribution = Self::default();
        for table in tables {
            let named = distribution.tables.entry(table.name.clone()).or_default();
            named.retain(|other| other.schema != table.schema);
            named.push(table);
        }
        // What is equal must compare equal, whatever the order was.
        for named in distribution.tables.values_mut() {
            named.sort_unstable_by(|a, b| a.schema.cmp(&b.schema));
        }
        distribution
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The table of this name. Without schema only if no search path can lead to another relation, which the catalog must tell.
    pub fn find(&self, schema: Option<&str>, name: &str, catalog: &Catalog) -> Option<&DistributedTable> {
        let named = self.tables.get(name)?;
        match schema {
            Some(schema) => named.iter().find(|table| &*table.schema == schema),
            None => {
                let [only] = named.as_slice() else { return None };
                let several = catalog.facts()?.is_in_several_schemas(name);
                (!several).then_some(only)
            }
        }
    }
}
