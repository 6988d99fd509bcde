//! Which tables may change when one is written.

use std::collections::HashMap;

use crate::sql::{Commands, Effects, FIRST_USER_OID, FunctionLists, Slots, Touches};

use super::read::Relation;
use super::snapshot::Snapshot;

/// `tgtype`: fires for INSERT, DELETE, UPDATE.
const ON_INSERT: i32 = 1 << 2;
const ON_DELETE: i32 = 1 << 3;
const ON_UPDATE: i32 = 1 << 4;

impl Snapshot {
    /// The tables that may change when this one is changed so: its relatives, what foreign keys change along, the tables behind a
    /// view. All, where a trigger, a rule or a volatile function has a say. Doubts about the schema, where one of these may change it.
    pub(super) fn changed_by(&self, relation: &Relation, commands: Commands, lists: &FunctionLists) -> Touches {
        let (mut all, mut doubts) = (false, false);
        let mut done: HashMap<u32, Commands> = HashMap::new();
        let mut todo = vec![(relation.oid, commands)];
        let mut slots = Vec::new();
        while let Some((oid, commands)) = todo.pop() {
            let before = done.get(&oid).copied().unwrap_or(Commands::empty());
            if before.contains(commands) {
                continue;
            }
            done.insert(oid, before | commands);
            let Some(relation) = self.relations.get(&oid).filter(|of| oid >= FIRST_USER_OID && of.kind != b'f') else {
                all = true;
                continue;
            };
            if let Some(defines) = self.has_a_say(relation, commands, lists) {
                all = true;
                doubts |= defines;
            }
            if relation.kind == b'v' {
                let Some(calls) = self.views.get(&oid) else {
                    all = true;
                    continue;
                };
                let verdict = self.judge_calls(calls, lists);
                all |= verdict.effects.contains(Effects::WRITES);
                doubts |= verdict.touches.doubts;
                // The view's own entry is in its tree, too.
                todo.extend(calls.relations.iter().filter(|of| **of != oid).map(|of| (*of, commands)));
                continue;
            }
            slots.push(self.slot(oid));
            if let Some(family) = self.roots.get(&oid).and_then(|root| self.families.get(root)) {
                // A changed row may move to another partition.
                let moved = if commands.contains(Commands::UPDATE) { Commands::all() } else { commands };
                todo.extend(family.iter().map(|member| (*member, moved)));
            }
            for key in self.foreign_keys.get(&oid).into_iter().flatten() {
                if commands.contains(Commands::UPDATE) && matches!(key.on_update, b'c' | b'n' | b'd') {
                    todo.push((key.referencing, Commands::UPDATE));
                }
                match key.on_delete {
                    b'c' if commands.contains(Commands::DELETE) => todo.push((key.referencing, Commands::DELETE)),
                    b'n' | b'd' if commands.contains(Commands::DELETE) => {
                        todo.push((key.referencing, Commands::UPDATE))
                    }
                    _ => {}
                }
            }
        }
        let writes = if all { Slots::All } else { Slots::of(slots) };
        Touches { doubts, ..Touches::new(Slots::none(), writes) }
    }

    /// Whether code of a user's that may change the schema runs when the relation is changed so; `None`: none at all runs.
    fn has_a_say(&self, relation: &Relation, commands: Commands, lists: &FunctionLists) -> Option<bool> {
        let triggered = |triggers: &HashMap<u32, i32>| {
            let fires = triggers.get(&relation.oid).copied().unwrap_or_default();
            (commands.contains(Commands::INSERT) && fires & ON_INSERT != 0)
                || (commands.contains(Commands::UPDATE) && fires & ON_UPDATE != 0)
                || (commands.contains(Commands::DELETE) && fires & ON_DELETE != 0)
        };
        let volatile = |calls: &super::snapshot::Calls| {
            let user = super::snapshot::Calls { builtins: Box::default(), ..calls.clone() };
            let verdict = self.judge_calls(&user, lists);
            verdict.effects.contains(Effects::WRITES).then_some(verdict.touches.doubts)
        };
        let constraints = self.constraints.get(&relation.oid).into_iter().flatten();
        let policies = self.policies.get(&relation.oid).into_iter().flatten();
        let others = constraints.chain(policies).filter_map(volatile).reduce(|a, b| a | b);
        let own = triggered(&self.triggers).then(|| triggered(&self.defining_triggers));
        let rules = self.rules.contains(&relation.oid).then_some(false);
        [own, rules, others].into_iter().flatten().reduce(|a, b| a | b)
    }
}
