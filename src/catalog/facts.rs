//! Looking things up in a snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use crate::sql::{
    CATALOGS_SLOT, Commands, Effects, FIRST_TABLE_SLOT, FIRST_USER_OID, Facts, FunctionLists, FunctionName, Hazards,
    Reason, SEQUENCES_SLOT, SLOTS, SearchPath, Slots, Target, Touches, Verdict, judge_function, judge_system_relation,
};

use super::extensions;
use super::read::{Function, Relation};
use super::snapshot::{Calls, Snapshot};

impl Snapshot {
    /// The worst of the function and what an aggregate is made of, as far as the catalog says; one that is known to be harmless is not
    /// VOLATILE.
    pub(super) fn volatility(&self, function: &Function) -> u8 {
        // The letters are in the order of badness.
        function
            .calls
            .iter()
            .filter_map(|oid| self.function_of(*oid))
            .map(|called| called.volatility)
            .fold(extensions::volatility(function), u8::max)
    }

    /// Whether it, or what an aggregate is made of, reads foreign tables, as far as their texts say.
    fn reads_foreign(&self, function: &Function) -> bool {
        let mut called = function.calls.iter().filter_map(|oid| self.function_of(*oid));
        function.reads_foreign || called.any(|called| called.reads_foreign)
    }

    pub(super) fn function_of(&self, oid: u32) -> Option<&Function> {
        self.functions.get(*self.function_by_oid.get(&oid)? as usize)
    }

    pub(super) fn describe(&self, function: &Function) -> String {
        let arguments = function.arguments.as_deref().unwrap_or_default();
        let of = if function.aggregate { "aggregate" } else { "function" };
        let what = if self.volatility(function) == b's' { "STABLE" } else { "VOLATILE" };
        format!("{of} {}.{}({arguments}) is {what}", self.schema(function.schema), function.name)
    }

    fn judge_call(&self, function: &Function, lists: &FunctionLists) -> Verdict {
        let name = FunctionName { schema: Some(self.schema(function.schema)), name: &function.name };
        if lists.calls_primary(name) {
            return Verdict::primary(Reason::ListedFunction, Effects::WRITES | function.leaves).with_culprit(format!(
                "function {}.{}",
                self.schema(function.schema),
                function.name
            ));
        }
        let taken = self.takers.get(&function.oid).map(|hazard| hazard.verdict(lists));
        let checks = taken.is_some();
        if let Some(verdict) = taken.filter(|taken| taken.target == Target::Primary)
            && !lists.calls_harmless(name)
        {
            let culprit = verdict.culprit.clone().unwrap_or_default();
            let function = format!("{}.{}", self.schema(function.schema), function.name);
            return verdict.with_culprit(format!("argument of {function}: {culprit}"));
        }
        if extensions::is_of_node(function) && !lists.calls_harmless(name) {
            let culprit = format!("function {}.{}", self.schema(function.schema), function.name);
            return Verdict::primary(Reason::NodeState, Effects::empty()).with_culprit(culprit).reading(Slots::All);
        }
        match self.volatility(function) {
            // It claims to read nothing.
            b'i' if !checks => Verdict::replica(Reason::Read),
            volatility if !matches!(volatility, b'i' | b's') && !lists.calls_harmless(name) => {
                let mut verdict = Verdict::volatile(self.describe(function));
                verdict.effects |= function.leaves;
                verdict.touches.doubts = function.defines;
                verdict
            }
            _ if self.reads_foreign(function) && !lists.calls_harmless(name) => {
                let culprit =
                    format!("function {}.{} reads a foreign table", self.schema(function.schema), function.name);
                Verdict::primary(Reason::Relation, Effects::TELLS_TIME).with_culprit(culprit).reading(Slots::All)
            }
            // Who knows what it reads, and whether it asks for the time.
            _ => Verdict::new(Target::Replica, Reason::Read, Effects::TELLS_TIME).reading(Slots::All),
        }
    }

    /// What evaluating an expression does besides reading its relations.
    pub(super) fn judge_calls(&self, calls: &Calls, lists: &FunctionLists) -> Verdict {
        let mut verdict = Verdict::replica(Reason::Read);
        verdict.effects.set(Effects::TELLS_TIME, calls.tells_time);
        for oid in &calls.functions {
            match self.function_of(*oid) {
                Some(function) => verdict.join(self.judge_call(function, lists)),
                // A temporary one, or gone again.
                None => verdict.join(Verdict::primary(Reason::UnknownFunction, Effects::WRITES)),
            }
        }
        for name in &calls.builtins {
            let call = judge_function(FunctionName { schema: Some("pg_catalog"), name }, lists);
            if let Some(reason) = call.reason {
                let mut effects = call.effects;
                if &**name == "set_config" {
                    // With arguments that nobody reads.
                    effects |= Effects::UNKNOWN_SETTING | Effects::WRITES;
                }
                verdict.join(Verdict::primary(reason, effects).with_culprit(format!("function {name}")));
            }
        }
        verdict
    }

    /// The slot of a table.
    pub(super) fn slot(&self, oid: u32) -> u16 {
        let root = self.roots.get(&oid).copied().unwrap_or(oid);
        // Fibonacci's hash: OIDs come one after the other.
        let hash = root.wrapping_mul(0x9E37_79B1) >> 16;
        FIRST_TABLE_SLOT + (hash as u16) % (SLOTS - FIRST_TABLE_SLOT)
    }

    /// The relations of this name.
    pub(super) fn named<'a>(&'a self, within: Within<'a>, name: &str) -> impl Iterator<Item = &'a Relation> {
        let all = self.relations_by_name.get(name).into_iter().flatten().filter_map(|oid| self.relations.get(oid));
        all.filter(move |relation| within.has(self.schema(relation.schema)))
    }

    /// The functions of this name.
    pub(super) fn functions_named<'a>(&'a self, within: Within<'a>, name: &str) -> impl Iterator<Item = &'a Function> {
        let all = self.functions_by_name.get(name).into_iter().flatten();
        let all = all.filter_map(|at| self.functions.get(*at as usize));
        all.filter(move |function| within.has(self.schema(function.schema)))
    }

    /// As [`Facts::function`].
    pub(super) fn function_in(
        &self,
        within: Within<'_>,
        name: &str,
        arguments: Option<usize>,
        lists: &FunctionLists,
    ) -> Option<Verdict> {
        let named: Vec<_> = self.functions_named(within, name).collect();
        let fits = |found: &&&Function| {
            let fits = |count| found.least <= count && found.most.is_none_or(|most| count <= most);
            found.aggregate || arguments.is_none_or(fits)
        };
        let fitting: Vec<_> = named.iter().filter(fits).collect();
        // When none fits we have miscounted, or it is an error: all of them count.
        let judged = if fitting.is_empty() { named.iter().collect() } else { fitting };
        judged.into_iter().map(|found| self.judge_call(found, lists)).reduce(worst)
    }

    /// As [`Facts::relation`].
    pub(super) fn relation_in(&self, within: Within<'_>, name: &str, lists: &FunctionLists) -> Option<Verdict> {
        self.named(within, name).map(|relation| self.read(relation, lists)).reduce(worst)
    }

    /// As [`Facts::written`].
    pub(super) fn written_in(
        &self,
        within: Within<'_>,
        name: &str,
        commands: Commands,
        lists: &FunctionLists,
    ) -> Touches {
        let all = self.named(within, name).map(|relation| self.changed_by(relation, commands, lists));
        all.reduce(|a, b| a.union(&b)).unwrap_or_else(|| Touches::new(Slots::none(), Slots::All))
    }

    fn read(&self, relation: &Relation, lists: &FunctionLists) -> Verdict {
        let mut walk = Walk { snapshot: self, lists, seen: HashSet::new(), slots: Vec::new(), reads_all: false };
        let mut verdict = walk.visit(relation);
        let own = if walk.reads_all { Slots::All } else { Slots::of(walk.slots) };
        verdict.touches.reads = verdict.touches.reads.union(&own);
        verdict
    }
}

fn worst(mut one: Verdict, other: Verdict) -> Verdict {
    one.join(other);
    one
}

fn differ(mut schemas: impl Iterator<Item = u32>) -> bool {
    let first = schemas.next();
    schemas.any(|schema| Some(schema) != first)
}

/// Where a name is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Within<'a> {
    /// In every schema.
    Any,
    /// In this one.
    Schema(&'a str),
    /// In those of a search path.
    Path(&'a SearchPath),
}

impl<'a> Within<'a> {
    fn of(schema: Option<&'a str>) -> Self {
        schema.map_or(Self::Any, Self::Schema)
    }

    fn has(self, schema: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Schema(only) => only == schema,
            Self::Path(path) => path.has(schema),
        }
    }
}

/// The way through views, partitions and policies.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    lists: &'a FunctionLists,
    seen: HashSet<u32>,
    slots: Vec<u16>,
    reads_all: bool,
}

impl Walk<'_> {
    fn visit(&mut self, relation: &Relation) -> Verdict {
        let mut verdict = Verdict::replica(Reason::Read);
        if !self.seen.insert(relation.oid) {
            return verdict;
        }
        let schema = self.snapshot.schema(relation.schema);
        let name = || format!("{schema}.{}", relation.name);
        if relation.oid < FIRST_USER_OID {
            self.slots.push(CATALOGS_SLOT);
            if let Some(reason) = judge_system_relation(Some(schema), &relation.name) {
                verdict.join(
                    Verdict::primary(reason, Effects::empty()).with_culprit(format!("relation {}", relation.name)),
                );
            }
            return verdict;
        }
        let primary =
            |reason, what: &str| Verdict::primary(reason, Effects::empty()).with_culprit(format!("{what} {}", name()));
        match relation.kind {
            b'f' => {
                // Its contents change without our knowing.
                self.reads_all = true;
                verdict.join(primary(Reason::Relation, "foreign table"));
            }
            b'S' => {
                self.slots.push(SEQUENCES_SLOT);
                verdict.join(primary(Reason::Sequence, "sequence"));
            }
            b'v' => match self.snapshot.views.get(&relation.oid) {
                Some(calls) => verdict.join(self.expression(calls, &format!("view {}", name()))),
                None => self.reads_all = true,
            },
            _ => self.slots.push(self.snapshot.slot(relation.oid)),
        }
        if relation.unlogged {
            verdict.join(primary(Reason::Relation, "unlogged table"));
        }
        if relation.row_security {
            for calls in self.snapshot.policies.get(&relation.oid).into_iter().flatten() {
                verdict.join(self.expression(calls, &format!("policy on {}", name())));
            }
        }
        for child in self.snapshot.children.get(&relation.oid).into_iter().flatten() {
            if let Some(child) = self.snapshot.relations.get(child) {
                verdict.join(self.visit(child));
            }
        }
        verdict
    }

    fn expression(&mut self, calls: &Calls, of: &str) -> Verdict {
        let mut verdict = self.snapshot.judge_calls(calls, self.lists);
        for oid in &calls.relations {
            match self.snapshot.relations.get(oid) {
                Some(relation) => verdict.join(self.visit(relation)),
                None => self.reads_all = true,
            }
        }
        if let Some(culprit) = verdict.culprit.take() {
            verdict.culprit = Some(format!("{of}: {culprit}"));
        }
        verdict
    }
}

impl Facts for Snapshot {
    fn function(&self, function: FunctionName<'_>, arguments: Option<usize>, lists: &FunctionLists) -> Option<Verdict> {
        self.function_in(Within::of(function.schema), function.name, arguments, lists)
    }

    fn relation(&self, schema: Option<&str>, name: &str, lists: &FunctionLists) -> Option<Verdict> {
        self.relation_in(Within::of(schema), name, lists)
    }

    fn written(&self, schema: Option<&str>, name: &str, commands: Commands, lists: &FunctionLists) -> Touches {
        self.written_in(Within::of(schema), name, commands, lists)
    }

    fn has_event_triggers(&self) -> bool {
        self.event_triggers
    }

    fn is_in_several_schemas(&self, name: &str) -> bool {
        let own = FunctionName { schema: Some("pg_catalog"), name };
        let is_builtin = || judge_function(own, &FunctionLists::default()).reason != Some(Reason::UnknownFunction);
        let functions = || self.functions_named(Within::Any, name).map(|function| function.schema);
        differ(functions())
            || differ(self.named(Within::Any, name).map(|relation| relation.schema))
            || (functions().next().is_some() && is_builtin())
    }

    fn along(self: Arc<Self>, path: &'static SearchPath) -> Arc<dyn Facts> {
        Arc::new(Along { snapshot: self, path })
    }

    fn hazards(&self) -> &Hazards {
        &self.hazards
    }
}

/// A snapshot as a session sees it whose names are looked for along a path. What is called without being named is the same for all.
#[derive(Debug)]
struct Along {
    snapshot: Arc<Snapshot>,
    path: &'static SearchPath,
}

impl Along {
    fn within<'a>(&self, schema: Option<&'a str>) -> Within<'a> {
        schema.map_or(Within::Path(self.path), Within::Schema)
    }
}

impl Facts for Along {
    fn function(&self, function: FunctionName<'_>, arguments: Option<usize>, lists: &FunctionLists) -> Option<Verdict> {
        self.snapshot.function_in(self.within(function.schema), function.name, arguments, lists)
    }

    fn relation(&self, schema: Option<&str>, name: &str, lists: &FunctionLists) -> Option<Verdict> {
        self.snapshot.relation_in(self.within(schema), name, lists)
    }

    fn written(&self, schema: Option<&str>, name: &str, commands: Commands, lists: &FunctionLists) -> Touches {
        self.snapshot.written_in(self.within(schema), name, commands, lists)
    }

    fn has_event_triggers(&self) -> bool {
        self.snapshot.has_event_triggers()
    }

    fn is_in_several_schemas(&self, name: &str) -> bool {
        self.snapshot.is_in_several_schemas(name)
    }

    fn along(self: Arc<Self>, path: &'static SearchPath) -> Arc<dyn Facts> {
        self.snapshot.clone().along(path)
    }

    fn hazards(&self) -> &Hazards {
        self.snapshot.hazards()
    }
}
