//! Which tables may change when one is written.

use std::collections::HashMap;

use crate::sql::{Commands, Effects, FIRST_USER_OID, FunctionLists, Slots};

use super::read::Relation;
use super::snapshot::Snapshot;

/// `tgtype`: fires for INSERT, DELETE, UPDATE.
const ON_INSERT: i32 = 1 << 2;
const ON_DELETE: i32 = 1 << 3;
const ON_UPDATE: i32 = 1 << 4;

impl Snapshot {
    /// The tables that may change when this one is changed so: its relatives, what foreign keys change along, the tables behind a
    /// view. All, where a trigger, a rule or a volatile function has a say.
    pub(super) fn changed_by(&self, relation: &Relation, commands: Commands, lists: &FunctionLists) -> Slots {
        let mut done: HashMap<u32, Commands> = HashMap::new();
        let mut todo = vec![(relation.oid, commands)];
        let mut slots = Vec::new();
        while let Some((oid, commands)) = todo.pop() {
            let before = done.get(&oid).copied().unwrap_or(Commands::empty());
            if before.contains(commands) {
                continue;
            }
            done.insert(oid, before | commands);
            let Some(relation) = self.relations.get(&oid) else { return Slots::All };
            if oid < FIRST_USER_OID || relation.kind == b'f' || self.has_a_say(relation, commands, lists) {
                return Slots::All;
            }
            if relation.kind == b'v' {
                let Some(calls) = self.views.get(&oid) else { return Slots::All };
                if self.judge_calls(calls, lists).effects.contains(Effects::WRITES) {
                    return Slots::All;
                }
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
        Slots::of(slots)
    }

    /// Whether code of a user runs when the relation is changed so.
    fn has_a_say(&self, relation: &Relation, commands: Commands, lists: &FunctionLists) -> bool {
        let fires = self.triggers.get(&relation.oid).copied().unwrap_or_default();
        let triggered = (commands.contains(Commands::INSERT) && fires & ON_INSERT != 0)
            || (commands.contains(Commands::UPDATE) && fires & ON_UPDATE != 0)
            || (commands.contains(Commands::DELETE) && fires & ON_DELETE != 0);
        let volatile = |calls: &super::snapshot::Calls| {
            let user = super::snapshot::Calls { builtins: Box::default(), ..calls.clone() };
            self.judge_calls(&user, lists).effects.contains(Effects::WRITES)
        };
        let constraints = self.constraints.get(&relation.oid).into_iter().flatten();
        let policies = self.policies.get(&relation.oid).into_iter().flatten();
        triggered || self.rules.contains(&relation.oid) || constraints.chain(policies).any(volatile)
    }
}
