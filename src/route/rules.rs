//! What decisions depend on besides the text, and how it changes: the configuration is read again, the schema is changed, the catalog
//! has been read.

use std::sync::Arc;

use crate::catalog::{Sink, Snapshot, Standing, Watched};
use crate::observe::Moment;
use crate::sql::{Catalog, Distribution, FunctionLists, Knowledge, Slots, StatementLists};
use crate::topology::Stamps;

use super::cache::{DecisionCache, Rules};

/// What is put aside while the schema has changed and was not read again. Its lock orders all changes of rules.
#[derive(Default)]
pub(super) struct Switch {
    /// The rules with the catalog as it was.
    aside: Option<Arc<Rules>>,
    /// The rules without it, under the same configuration.
    pending: Option<Arc<Rules>>,
}

impl DecisionCache {
    /// Judges by the catalog that this keeps, from when it is first read. To be called once.
    pub fn follow(&self, catalog: Arc<Watched>) {
        let _ = self.catalog.set(catalog);
    }

    /// How the catalog stands, and the name of its database; `None` without one.
    pub fn catalog(&self) -> Option<(&str, Standing)> {
        self.catalog.get().map(|catalog| (catalog.dbname.as_str(), catalog.standing()))
    }

    /// What texts are judged by.
    pub fn knowledge(&self) -> Knowledge {
        self.rules.load().known.clone()
    }

    /// The schema of the database has been changed: what the catalog said is not relied on until it has been read again.
    pub fn schema_changed(&self) {
        let Some(catalog) = self.catalog.get() else { return };
        let mut switch = self.switch.lock();
        catalog.change();
        let rules = self.rules.load_full();
        if let Catalog::Known(facts) = &rules.known.catalog {
            let pending = switch.pending.get_or_insert_with(|| {
                Arc::new(Rules::new(Knowledge { catalog: Catalog::Pending(facts.clone()), ..rules.known.clone() }))
            });
            self.judge_by(pending.clone());
            switch.aside = Some(rules);
        }
    }

    /// Something suggests that what is known of the schema is old: it is compared soon.
    pub fn doubt_catalog(&self) {
        if let Some(catalog) = self.catalog.get() {
            catalog.doubt();
        }
    }

    /// A transaction has ended that may have changed the schema, by a function, say: which tables texts touch is not relied on until the
    /// catalog has been compared.
    pub fn distrust_catalog(&self) {
        if let Some(catalog) = self.catalog.get() {
            catalog.distrust();
        }
    }

    /// Whether it is not certain which tables texts touch, though the catalog is known.
    #[inline]
    pub fn distrusts_catalog(&self) -> bool {
        self.catalog.get().is_some_and(|catalog| catalog.is_distrusted())
    }

    /// Judges by other lists from now on, and forgets every decision.
    pub fn reload(&self, functions: FunctionLists, statements: StatementLists) {
        self.anew(|known| {
            known.functions = functions.clone();
            known.statements = statements.clone();
        });
    }

    /// Judges by this distribution of the tables from now on; `None`: nobody distributes them.
    pub fn distribute(&self, tables: Option<Arc<Distribution>>) {
        if self.rules.load().known.distribution != tables {
            self.anew(|known| known.distribution.clone_from(&tables));
        }
    }

    /// A table that was made a partition past us, or is none any more, has another slot: what was written to it before stands under the
    /// old one.
    fn renumber_tables(&self) {
        if let Some(catalog) = self.catalog.get() {
            Stamps::of(&catalog.dbname).wrote(&Slots::All, Moment::now());
        }
    }

    /// Forgets every decision.
    pub(super) fn judge_anew(&self) {
        self.anew(|_| {});
    }

    fn anew(&self, change: impl Fn(&mut Knowledge)) {
        let mut switch = self.switch.lock();
        let renewed = |rules: &Rules| {
            let mut known = rules.known.clone();
            change(&mut known);
            Arc::new(Rules::new(known))
        };
        let rules = renewed(&self.rules.load());
        switch.aside = switch.aside.take().map(|aside| renewed(&aside));
        switch.pending = matches!(rules.known.catalog, Catalog::Pending(_)).then(|| rules.clone());
        self.judge_by(rules);
        self.clear();
    }
}

impl Sink for DecisionCache {
    fn loaded(&self, snapshot: Arc<Snapshot>, changes: u64) -> bool {
        let mut switch = self.switch.lock();
        if self.catalog.get().is_some_and(|catalog| catalog.changes() != changes) {
            return false;
        }
        let aside = switch.aside.take();
        let rules = self.rules.load_full();
        // What was read last may never have been judged by.
        let know_it = |rules: &Rules| match &rules.known.catalog {
            Catalog::Known(facts) => Arc::as_ptr(facts).cast::<()>() == Arc::as_ptr(&snapshot).cast(),
            _ => false,
        };
        if know_it(&rules) {
            return true;
        }
        let knew = aside.is_some() || matches!(rules.known.catalog, Catalog::Known(_));
        match aside.filter(|aside| know_it(aside)) {
            Some(aside) => self.judge_by(aside),
            None => {
                if knew {
                    // Learned of another schema.
                    self.learned.forget(false);
                    self.renumber_tables();
                }
                switch.pending = None;
                let known = Knowledge { catalog: Catalog::Known(snapshot), ..rules.known.clone() };
                self.judge_by(Arc::new(Rules::new(known)));
            }
        }
        true
    }

    fn lost(&self) {
        let mut switch = self.switch.lock();
        *switch = Switch::default();
        let rules = self.rules.load_full();
        if !matches!(rules.known.catalog, Catalog::Absent) {
            self.judge_by(Arc::new(Rules::new(Knowledge { catalog: Catalog::Absent, ..rules.known.clone() })));
        }
    }
}
