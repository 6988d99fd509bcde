//! What was read of the catalogs, ordered for look-ups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::sql::{Effects, FIRST_USER_OID, FunctionLists, FunctionName, Hazard, Hazards, judge_function};

use super::read::{Function, Holder, Reading, Relation, Tree};

/// The catalog of a database at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) schemas: HashMap<u32, Box<str>>,
    pub(super) functions: Vec<Function>,
    pub(super) functions_by_name: HashMap<Box<str>, Vec<u32>>,
    pub(super) function_by_oid: HashMap<u32, u32>,
    pub(super) relations: HashMap<u32, Relation>,
    pub(super) relations_by_name: HashMap<Box<str>, Vec<u32>>,
    pub(super) views: HashMap<u32, Calls>,
    pub(super) policies: HashMap<u32, Vec<Calls>>,
    /// Defaults and checks of tables and of the domains of their columns.
    pub(super) constraints: HashMap<u32, Vec<Calls>>,
    pub(super) triggers: HashMap<u32, i32>,
    /// Those of them that may change the schema.
    pub(super) defining_triggers: HashMap<u32, i32>,
    pub(super) rules: BTreeSet<u32>,
    pub(super) foreign_keys: HashMap<u32, Vec<ForeignKey>>,
    /// By the parent.
    pub(super) children: HashMap<u32, Vec<u32>>,
    /// By the root of a tree of tables: all in it. Tables without relatives are not here.
    pub(super) families: HashMap<u32, Vec<u32>>,
    pub(super) roots: HashMap<u32, u32>,
    pub(super) hazards: Hazards,
    /// By the function: what passing arguments to it calls.
    pub(super) takers: hashbrown::HashMap<u32, Hazard>,
    pub(super) event_triggers: bool,
    pub(super) extensions: usize,
}

/// What an expression calls and reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// Of users.
    pub functions: Box<[u32]>,
    /// Of PostgreSQL's own, those that are not plain reads.
    pub builtins: Box<[Box<str>]>,
    pub relations: Box<[u32]>,
    pub tells_time: bool,
}

/// A foreign key with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub referencing: u32,
    /// `c`, `n`, `d`; anything else does nothing.
    pub on_update: u8,
    pub on_delete: u8,
}

/// How much a snapshot knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Functions of users and extensions.
    pub functions: usize,
    /// Their tables, sequences and views.
    pub relations: usize,
    /// Views among them.
    pub views: usize,
    /// Extensions.
    pub extensions: usize,
}

impl Snapshot {
    pub(super) fn new(reading: Reading) -> Self {
        let mut new = Self { extensions: usize::try_from(reading.extensions).unwrap_or_default(), ..Self::default() };
        new.schemas = reading.schemas.into_iter().map(|(oid, name)| (oid, name.into())).collect();
        for (at, function) in (0..).zip(&reading.functions) {
            // Temporary ones are of schemas that are not read.
            if new.schemas.contains_key(&function.schema) {
                new.functions_by_name.entry(function.name.clone()).or_default().push(at);
            }
            new.function_by_oid.insert(function.oid, at);
        }
        new.functions = reading.functions;
        for relation in reading.relations {
            if new.schemas.contains_key(&relation.schema) {
                new.relations_by_name.entry(relation.name.clone()).or_default().push(relation.oid);
                new.relations.insert(relation.oid, relation);
            }
        }
        new.event_triggers = reading.event_triggers;
        for (relation, fires, function) in reading.triggers {
            *new.triggers.entry(relation).or_default() |= fires;
            if new.function_of(function).is_some_and(|function| function.defines) {
                *new.defining_triggers.entry(relation).or_default() |= fires;
            }
        }
        new.rules = reading.rules.into_iter().collect();
        for (referenced, referencing, on_update, on_delete) in reading.foreign_keys {
            let key = ForeignKey { referencing, on_update, on_delete };
            new.foreign_keys.entry(referenced).or_default().push(key);
        }
        new.relate(&reading.inherits);
        let domains: HashMap<u32, (String, u32)> =
            reading.domains.into_iter().map(|(oid, name, base)| (oid, (name, base))).collect();
        new.expressions(reading.trees, &reading.builtins, &reading.domain_columns, &domains);
        new.hold(reading.holders, &reading.takers);
        new.find_hazards(&reading.operators, &reading.casts);
        new
    }

    /// How much it knows.
    pub fn counts(&self) -> Counts {
        let of_users = || self.relations.values().filter(|relation| relation.oid >= FIRST_USER_OID);
        Counts {
            functions: self.functions.len(),
            relations: of_users().count(),
            views: of_users().filter(|relation| relation.kind == b'v').count(),
            extensions: self.extensions,
        }
    }

    /// Tables that inherit from each other are one family, whose root is the least OID in it.
    fn relate(&mut self, inherits: &[(u32, u32)]) {
        fn root(parents: &mut HashMap<u32, u32>, of: u32) -> u32 {
            let mut at = of;
            while let Some(up) = parents.get(&at).copied().filter(|up| *up != at) {
                at = up;
            }
            parents.insert(of, at);
            at
        }
        let mut up: HashMap<u32, u32> = HashMap::new();
        for (child, parent) in inherits {
            self.children.entry(*parent).or_default().push(*child);
            let (a, b) = (root(&mut up, *child), root(&mut up, *parent));
            up.insert(a.max(b), a.min(b));
        }
        let members: BTreeSet<u32> = up.keys().copied().collect();
        for member in members {
            let root = root(&mut up, member);
            self.roots.insert(member, root);
            self.families.entry(root).or_default().push(member);
        }
    }

    fn expressions(
        &mut self,
        trees: Vec<Tree>,
        builtins: &[(u32, String)],
        domain_columns: &[(u32, u32)],
        domains: &HashMap<u32, (String, u32)>,
    ) {
        let lists = FunctionLists::default();
        let mut clocks = BTreeSet::new();
        let mut builtin: BTreeMap<u32, Box<str>> = BTreeMap::new();
        for (oid, name) in builtins {
            let call = judge_function(FunctionName { schema: Some("pg_catalog"), name }, &lists);
            if call.reason.is_some() {
                builtin.insert(*oid, name.as_str().into());
            } else if call.effects.contains(Effects::TELLS_TIME) {
                clocks.insert(*oid);
            }
        }
        // Domains first: everything else may be coerced to them.
        let mut checks: HashMap<u32, Vec<Calls>> = HashMap::new();
        let mut defaults: HashMap<u32, Calls> = HashMap::new();
        let mut others = Vec::new();
        for tree in trees {
            let calls = Calls {
                functions: tree.functions.iter().copied().filter(|oid| *oid >= FIRST_USER_OID).collect(),
                builtins: tree.functions.iter().filter_map(|oid| builtin.get(oid).cloned()).collect(),
                relations: tree.relations.clone(),
                tells_time: tree.tells_time || tree.functions.iter().any(|oid| clocks.contains(oid)),
            };
            match &*tree.kind {
                "domain" => checks.entry(tree.owner).or_default().push(calls),
                "domain default" => drop(defaults.insert(tree.owner, calls)),
                _ => others.push((tree, calls)),
            }
        }
        let checks_of = |mut domain: u32| {
            let mut all = Vec::new();
            // A domain may be over another one.
            while let Some((_, base)) = domains.get(&domain) {
                all.extend(checks.get(&domain).into_iter().flatten().cloned());
                domain = *base;
            }
            all
        };
        for (domain, (name, _)) in domains {
            let called = checks_of(*domain).iter().flat_map(|calls| calls.functions.to_vec()).collect::<Vec<_>>();
            for oid in called {
                if let Some(hazard) = self.hazard(oid, &format!("domain {name}")) {
                    note(&mut self.hazards.types, name.as_str().into(), &hazard);
                }
            }
        }
        for (tree, mut calls) in others {
            for check in tree.types.iter().flat_map(|domain| checks_of(*domain)) {
                calls.functions = calls.functions.iter().chain(&*check.functions).copied().collect();
            }
            match &*tree.kind {
                "view" => drop(self.views.insert(tree.owner, calls)),
                "policy" => self.policies.entry(tree.owner).or_default().push(calls),
                _ => self.constraints.entry(tree.owner).or_default().push(calls),
            }
        }
        for (relation, domain) in domain_columns {
            let mut evaluated = checks_of(*domain);
            evaluated.extend(defaults.get(domain).cloned());
            if !evaluated.is_empty() {
                self.constraints.entry(*relation).or_default().extend(evaluated);
            }
        }
    }

    /// Values of other types hold values of domains, and are checked with them.
    fn hold(&mut self, holders: Vec<Holder>, takers: &[(u32, u32)]) {
        let mut bad: HashMap<u32, Hazard> = HashMap::new();
        // Each domain is among its own holders.
        for domain in holders.iter().filter(|holder| holder.oid == holder.domain) {
            if let Some(hazard) = self.hazards.types.get(domain.name.as_str()) {
                bad.insert(domain.oid, hazard.clone());
            }
        }
        for holder in holders {
            let Some(hazard) = bad.get(&holder.domain) else { continue };
            note(&mut self.hazards.type_oids, holder.oid, hazard);
            let by_name = if holder.of_table { &mut self.hazards.row_types } else { &mut self.hazards.types };
            note(by_name, holder.name.into(), hazard);
        }
        for (function, of) in takers {
            if let Some(hazard) = self.hazards.type_oids.get(of) {
                note(&mut self.takers, *function, hazard);
            }
        }
    }

    fn find_hazards(&mut self, operators: &[(String, u32)], casts: &[(String, u32, u8)]) {
        let mut found = std::mem::take(&mut self.hazards);
        let mut hidden = None;
        for (symbol, function) in operators {
            let Some(hazard) = self.hazard(*function, &format!("operator {symbol}")) else { continue };
            if HIDDEN_OPERATORS.contains(&symbol.as_str()) {
                hidden = Some(worse(hidden, &hazard));
            }
            note(&mut found.operators, symbol.as_str().into(), &hazard);
        }
        for (target, function, context) in casts {
            let Some(hazard) = self.hazard(*function, &format!("cast to {target}")) else { continue };
            if *context != b'e' {
                if hazard.volatile {
                    tracing::warn!(%target, culprit = %hazard.culprit, "a cast that is not written calls a volatile function: everything runs on the primary");
                }
                hidden = Some(worse(hidden, &hazard));
            }
            note(&mut found.types, target.as_str().into(), &hazard);
        }
        for function in self.functions.iter().filter(|function| function.of_row) {
            if let Some(hazard) = self.hazard(function.oid, &format!("column {}", function.name)) {
                note(&mut found.attributes, function.name.clone(), &hazard);
            }
        }
        found.hidden = hidden;
        self.hazards = found;
    }

    fn hazard(&self, oid: u32, caller: &str) -> Option<Hazard> {
        let function = self.functions.get(*self.function_by_oid.get(&oid)? as usize)?;
        let own = match self.volatility(function) {
            b'i' => None,
            // Of an extension it depends on settings rather than on tables: so does `%` of pg_trgm, and many a `%` is none of it.
            b's' if function.extension.is_some() => None,
            volatility => Some(Hazard {
                schema: self.schema(function.schema).into(),
                function: function.name.clone(),
                culprit: format!("{caller}: {}", self.describe(function)).into(),
                volatile: volatility != b's',
            }),
        };
        let taken = self.takers.get(&oid);
        let taken =
            taken.map(|taken| Hazard { culprit: format!("{caller}: {}", taken.culprit).into(), ..taken.clone() });
        own.into_iter().chain(taken).reduce(Hazard::or)
    }

    /// The name of a schema.
    pub(super) fn schema(&self, oid: u32) -> &str {
        self.schemas.get(&oid).map_or("pg_temp", |name| name)
    }
}

/// Keeps the worst of what a name or a type calls.
fn note<K: Hash + Eq>(hazards: &mut hashbrown::HashMap<K, Hazard>, key: K, hazard: &Hazard) {
    let known = hazards.remove(&key);
    hazards.insert(key, worse(known, hazard));
}

fn worse(known: Option<Hazard>, hazard: &Hazard) -> Hazard {
    match known {
        Some(known) => known.or(hazard.clone()),
        None => hazard.clone(),
    }
}

/// Operators that are used without being written: by sorting, grouping, IN, BETWEEN, LIKE, CASE, NULLIF, USING.
const HIDDEN_OPERATORS: [&str; 11] = ["=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*", "~"];
