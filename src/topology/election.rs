//! Which node takes writes, and which take part at all: decided from what the nodes say of themselves.
//!
//! Never a node in recovery, never one of another cluster, never one on an older timeline than one that is known (traps 87
//! and 90). Where nothing tells which of two is right, none is: writes wait, and somebody has to say.

use crate::config::NodeRole;

use super::facts::Facts;

/// What is known of one node when the roles are found.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// The role that the configuration expects.
    pub declared: Option<NodeRole>,
    /// An administrator has taken it out.
    pub disabled: bool,
    /// It can be asked over SQL at all.
    pub can_be_asked: bool,
    /// It has been asked, with or without success.
    pub asked: bool,
    /// What it said last.
    pub facts: Option<Facts>,
    /// It takes writes until now.
    pub incumbent: bool,
}

/// What a node is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has not said yet.
    Unknown,
    /// It takes writes.
    Primary,
    /// It takes reads.
    Replica,
    /// The primary of a worker group of a Citus cluster: it takes what is for its shards, and is no candidate here.
    Worker,
    /// A standby of a worker group: it takes reads of its shards.
    Secondary,
    /// It takes nothing, for this reason.
    Refused(String),
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// One per candidate.
    pub standings: Vec<Standing>,
    /// The cluster's system identifier.
    pub system: Option<u64>,
    /// Why no node takes writes; empty when one does.
    pub why: String,
}

/// Why there is no primary right after the start.
pub(super) const ASKING: &str = "the nodes are still being asked for their roles";

/// Finds the roles. `system` is the identifier that the cluster has had until now.
pub(super) fn elect(candidates: &[Candidate<'_>], system: Option<u64>) -> Verdict {
    let asking = candidates.iter().any(|one| one.can_be_asked && !one.asked && !one.disabled);
    // The first to answer may be the stranger.
    let system = if asking && system.is_none() { None } else { system_of(candidates, system) };
    let mut standings: Vec<Standing> = candidates.iter().map(|one| standing(one, system)).collect();
    let member = |index: usize| !matches!(standings[index], Standing::Refused(_)) && !candidates[index].disabled;
    let timeline = |index: usize| candidates[index].facts.map_or(0, |facts| facts.timeline);
    let newest = (0..candidates.len()).filter(|index| member(*index)).map(timeline).max().unwrap_or(0);
    let claims: Vec<usize> =
        (0..candidates.len()).filter(|i| member(*i) && standings[*i] == Standing::Primary).collect();
    let (newer, outdated): (Vec<usize>, Vec<usize>) = claims.iter().partition(|index| timeline(**index) == newest);
    for index in outdated {
        standings[index] = Standing::Refused(format!(
            "takes writes on timeline {}, but the cluster is on timeline {newest}: an outdated primary",
            timeline(index)
        ));
    }
    let names = |of: &[usize]| of.iter().map(|index| candidates[*index].name).collect::<Vec<_>>().join(" and ");
    let mut why = String::new();
    // A disabled one has no say and no part.
    for index in 0..candidates.len() {
        if candidates[index].disabled && standings[index] == Standing::Primary {
            standings[index] = Standing::Unknown;
        }
    }
    match newer.as_slice() {
        [] => why = no_claim(candidates, &claims, newest, &names),
        [one] => {
            // While some have not been asked, one of them may be on a newer timeline; whoever took writes before goes on.
            if asking && !candidates[*one].incumbent {
                standings[*one] = Standing::Unknown;
                ASKING.clone_into(&mut why);
            }
        }
        several if asking && system.is_none() => {
            for index in several {
                standings[*index] = Standing::Unknown;
            }
            ASKING.clone_into(&mut why);
        }
        several => {
            let declared: Vec<usize> =
                several.iter().copied().filter(|i| candidates[*i].declared == Some(NodeRole::Primary)).collect();
            if declared.len() != 1 {
                why = format!(
                    "{} both take writes on timeline {newest}, and nothing tells which is right",
                    names(several)
                );
            }
            for index in several.iter().filter(|index| declared.as_slice() != [**index]) {
                standings[*index] =
                    Standing::Refused(format!("two nodes take writes on timeline {newest}: {}", names(several)));
            }
        }
    }
    Verdict { standings, system, why }
}

/// What a node alone tells.
fn standing(one: &Candidate<'_>, system: Option<u64>) -> Standing {
    match (one.facts, one.declared) {
        (Some(facts), _) => match (facts.system, system) {
            (Some(own), Some(wanted)) if own != wanted => Standing::Refused(format!(
                "belongs to another cluster: its system identifier is {own}, that of the others {wanted}"
            )),
            _ if facts.in_recovery => Standing::Replica,
            _ => Standing::Primary,
        },
        // Nobody can ask: what the configuration says is all there is.
        (None, Some(NodeRole::Primary)) if !one.can_be_asked => Standing::Primary,
        (None, Some(NodeRole::Replica)) if !one.can_be_asked => Standing::Replica,
        (None, _) => Standing::Unknown,
    }
}

/// The identifier that the cluster has had until now, as long as any node has it; else the declared primary's, else what
/// most have. When it is a draw, nobody knows: then all are refused, as none is equal to 0.
fn system_of(candidates: &[Candidate<'_>], before: Option<u64>) -> Option<u64> {
    let told: Vec<(&Candidate<'_>, u64)> =
        candidates.iter().filter(|one| !one.disabled).filter_map(|one| Some((one, one.facts?.system?))).collect();
    let count = |system: u64| told.iter().filter(|(_, own)| *own == system).count();
    if before.is_some_and(|before| before != 0 && count(before) > 0) {
        return before;
    }
    if let Some((_, declared)) = told.iter().find(|(one, _)| one.declared == Some(NodeRole::Primary)) {
        return Some(*declared);
    }
    let most = told.iter().map(|(_, own)| count(*own)).max()?;
    let mut leading: Vec<u64> = told.iter().map(|(_, own)| *own).filter(|own| count(*own) == most).collect();
    leading.sort_unstable();
    leading.dedup();
    match leading.as_slice() {
        [one] => Some(*one),
        _ => Some(0),
    }
}

fn no_claim(
    candidates: &[Candidate<'_>],
    claims: &[usize],
    newest: u32,
    names: &impl Fn(&[usize]) -> String,
) -> String {
    if !claims.is_empty() {
        let takes = if claims.len() == 1 { "takes" } else { "take" };
        return format!("{} {takes} writes, but a node has seen timeline {newest}, which is newer", names(claims));
    }
    let out: Vec<usize> = (0..candidates.len())
        .filter(|i| candidates[*i].disabled && candidates[*i].facts.is_some_and(|facts| !facts.in_recovery))
        .collect();
    if !out.is_empty() {
        return format!("{} is disabled (ENABLE NODE on the console ends that)", names(&out));
    }
    if candidates.iter().any(|one| one.can_be_asked && !one.asked) {
        return ASKING.to_owned();
    }
    if candidates.iter().any(|one| one.facts.is_some_and(|facts| !facts.in_recovery)) {
        return "no node that takes writes belongs to this cluster".to_owned();
    }
    "no node is known to take writes".to_owned()
}

#[cfg(test)]
mod tests;
