//! What `trunkline route '<sql>'` and `SHOW ROUTE '<sql>'` say about a text.

use std::fmt;

use super::cache::DecisionCache;
use crate::sql::{
    self, Analysis, Effects, Fingerprint, Knowledge, LexOptions, PathId, Reason, Slots, StatementAnalysis, Target,
};

/// Where a text would go, and why, statement by statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// One row per statement, in the order of the text.
    pub statements: Vec<RouteRow>,
    /// The decision on the whole text, which is never split; its `sql` is the normalised text.
    pub overall: RouteRow,
    /// The stable fingerprint of the text.
    pub fingerprint: Fingerprint,
}

/// One statement, or the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// The statement without literals.
    pub sql: String,
    /// Where it may run.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// A sentence for people.
    pub sentence: String,
    /// The slots of the tables that it reads and writes; `None`: any.
    pub reads: Option<Vec<u16>>,
    /// Those that it may write.
    pub writes: Option<Vec<u16>>,
    /// The names of its effects, lower case, in the order of the bits.
    pub effects: Vec<String>,
}

/// Explains a text as it would be routed outside a transaction, in a session that has not written, without asking
/// any server.
pub fn explain_offline(sql: &str) -> RouteReport {
    explain(sql.as_bytes(), LexOptions::default(), &Knowledge::default())
}

/// Explains a text as the cache of a database decides it: by what is known, and by what was learned; for a session with this search
/// path, or for any.
pub fn explain_for(cache: &DecisionCache, sql: &[u8], opts: LexOptions, path: Option<PathId>) -> RouteReport {
    let known = cache.knowledge();
    let general = cache.decide(sql, opts);
    let decision = cache.decide_along(sql, opts, || path);
    let along = path.filter(|_| decision.target != general.target);
    let along = along.and_then(|path| sql::analyze_along(sql, opts, &known, path));
    let mut report = match along {
        Some(analyzed) => {
            let mut report = report(sql, opts, analyzed);
            let path = ", as search_path has it.";
            report.overall.sentence.truncate(report.overall.sentence.len() - 1);
            report.overall.sentence += path;
            report
        }
        None => explain(sql, opts, &known),
    };
    if decision.reason != report.overall.reason {
        let normalized = std::mem::take(&mut report.overall.sql);
        let learned = cache.learned().into_iter().find(|learned| learned.fingerprint == report.fingerprint);
        let culprit = learned.filter(|_| decision.reason == Reason::Learned).map(|learned| {
            let times = if learned.times == 1 { "once".to_owned() } else { format!("{} times", learned.times) };
            format!("cause {}, {times}; see SHOW LEARNED", learned.cause.as_str())
        });
        report.overall = row(normalized, decision, culprit.as_deref());
        if let [only] = &mut report.statements[..] {
            *only = RouteRow { sql: std::mem::take(&mut only.sql), ..report.overall.clone() };
        }
    }
    report
}

/// Explains a text under a session's options and what is known of a database.
pub fn explain(sql: &[u8], opts: LexOptions, known: &Knowledge) -> RouteReport {
    report(sql, opts, sql::analyze_detailed(sql, opts, known))
}

fn report(sql: &[u8], opts: LexOptions, (analysis, details): (Analysis, Vec<StatementAnalysis>)) -> RouteReport {
    let statements: Vec<RouteRow> = details
        .iter()
        .map(|detail| {
            let text = sql.get(detail.range.clone()).unwrap_or_default();
            row(sql::normalize(text, opts), detail.decision, detail.culprit.as_deref())
        })
        .collect();
    let culprit = details
        .iter()
        .find(|detail| detail.decision.reason == analysis.decision.reason)
        .and_then(|detail| detail.culprit.as_deref());
    let overall = row(sql::normalize(sql, opts), analysis.decision, culprit);
    RouteReport { statements, overall, fingerprint: analysis.fingerprint }
}

fn row(sql: String, decision: sql::Decision, culprit: Option<&str>) -> RouteRow {
    let because = decision.reason.explain();
    let culprit = culprit.map(|culprit| format!(" ({culprit})")).unwrap_or_default();
    let sentence = match decision.target {
        Target::Primary => format!("Goes to the primary, because {because}{culprit}."),
        Target::Replica => format!("May go to a replica, because {because}{culprit}."),
        Target::Anywhere => format!("Stays where the session is, because {because}{culprit}."),
    };
    RouteRow {
        sql,
        target: decision.target,
        reason: decision.reason,
        sentence,
        reads: slots(&decision.touches.get().reads),
        writes: slots(&decision.touches.get().writes),
        effects: effect_names(decision.effects),
    }
}

fn slots(slots: &Slots) -> Option<Vec<u16>> {
    match slots {
        Slots::All => None,
        Slots::Some(slots) => Some(slots.to_vec()),
    }
}

fn effect_names(effects: Effects) -> Vec<String> {
    effects.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

impl fmt::Display for RouteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.statements {
            writeln!(f, "{}\n{row}", row.sql)?;
        }
        if self.statements.len() != 1 {
            writeln!(f, "The whole text:\n{}", self.overall)?;
        }
        write!(f, "fingerprint {}", self.fingerprint)
    }
}

impl fmt::Display for RouteRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} [{}] {}", self.target.as_str(), self.reason.as_str(), self.sentence)?;
        if !self.effects.is_empty() {
            write!(f, "\n  effects: {}", self.effects.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_function_that_decided() {
        let report = explain_offline("SELECT 1; SELECT public.bump(2)");
        assert_eq!(report.statements.len(), 2);
        assert_eq!(report.statements[0].target, Target::Replica);
        assert_eq!(report.overall.target, Target::Primary);
        assert!(report.overall.sentence.contains("(function public.bump)"), "{report}");
        assert!(report.to_string().contains("primary [unknown_function]"), "{report}");
    }

    #[test]
    fn shows_no_literals() {
        assert!(!explain_offline("SELECT 'secret'").to_string().contains("secret"));
    }
}
