//! Which node takes writes, and which take part at all: decided from what the nodes say of themselves.
//!
//! Never a node in recovery, never one of another cluster, never one on an older timeline than one that is known (traps 87
//! and 90). Where nothing tells which of two is right, none is: writes wait, and somebody has to say. Where Patroni says who leads,
//! nobody else does: it is who holds the lock that a failover is decided by.

use crate::config::NodeRole;

use super::facts::Facts;
use super::patroni::{Leadership, Told};

/// What is known of one node when the roles are found.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// The configuration names it; else it was found.
    pub is_configured: bool,
    /// The role that the configuration expects.
    pub declared: Option<NodeRole>,
    /// An administrator has taken it out.
    pub disabled: bool,
    /// It can be asked over SQL at all.
    pub can_be_asked: bool,
    /// It has been asked, with or without success, since there was reason to doubt what it said before.
    pub asked: bool,
    /// What it said last.
    pub facts: Option<Facts>,
    /// What Patroni says of it.
    pub told: Option<&'a Told>,
    /// It takes writes until now.
    pub incumbent: bool,
    /// It was the last that took writes, and that on its present timeline.
    pub has_led: bool,
}

impl Candidate<'_> {
    /// Its timeline; 0 = not known.
    pub fn timeline(&self) -> u32 {
        self.facts.map_or_else(|| self.told.map_or(0, |told| told.timeline), |facts| facts.timeline)
    }

    /// Whether Patroni says that it takes writes.
    fn is_told_to_lead(&self) -> bool {
        self.told.is_some_and(|told| told.takes_writes)
    }
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
pub(super) fn elect(candidates: &[Candidate<'_>], system: Option<u64>, leadership: &Leadership) -> Verdict {
    let is_asking = *leadership == Leadership::Asking;
    let asking = is_asking || candidates.iter().any(|one| one.can_be_asked && !one.asked && !one.disabled);
    // The first to answer may be the stranger.
    let system = if asking && system.is_none() { None } else { system_of(candidates, system) };
    let mut standings: Vec<Standing> = candidates.iter().map(|one| standing(one, system)).collect();
    let leads =
        |one: &Candidate<'_>| matches!(leadership, Leadership::Held { node, .. } if node.as_deref() == Some(one.name));
    if let Leadership::Held { name, .. } = leadership {
        let claims = |(one, standing): &(&Candidate<'_>, &mut Standing)| **standing == Standing::Primary && !leads(one);
        for (_, standing) in candidates.iter().zip(&mut standings).filter(claims) {
            *standing = Standing::Refused(format!("takes writes, but Patroni names {name} as the leader"));
        }
    }
    let member = |index: usize| !matches!(standings[index], Standing::Refused(_)) && !candidates[index].disabled;
    // Not what Patroni tells: each member says it when its turn comes, a promoted leader later than who follows it.
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
        [] if claims.is_empty() && matches!(leadership, Leadership::Held { .. }) => {
            why = unfit_leader(candidates, leadership)
        }
        [] if claims.is_empty() && is_asking => ASKING.clone_into(&mut why),
        [] => why = no_claim(candidates, &claims, newest, &names),
        [one] => {
            // While some have not been asked, one of them may be on a newer timeline; whoever took writes before goes on, and so does
            // whom Patroni names.
            if asking && !candidates[*one].incumbent && !leads(&candidates[*one]) {
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
            let those = |wanted: &dyn Fn(&Candidate<'_>) -> bool| -> Vec<usize> {
                several.iter().copied().filter(|index| wanted(&candidates[*index])).collect()
            };
            // A cluster in maintenance still has its leader, who may be right.
            let mut declared = those(&|one| one.is_told_to_lead());
            if declared.is_empty() {
                declared = those(&|one| one.declared == Some(NodeRole::Primary));
                // What is declared is older than what was written to another one since.
                let led = those(&|one| one.has_led);
                declared.retain(|one| led.is_empty() || led.contains(one));
            }
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
        // What it said is in doubt, or it has said nothing.
        _ if one.can_be_asked && !one.asked => Standing::Unknown,
        (Some(facts), _) => match (facts.system, system) {
            (Some(own), Some(wanted)) if own != wanted => Standing::Refused(format!(
                "belongs to another cluster: its system identifier is {own}, that of the others {wanted}"
            )),
            _ if facts.in_recovery => Standing::Replica,
            _ => Standing::Primary,
        },
        // Nobody can ask: what Patroni says, or else the configuration, is all there is.
        (None, _) if !one.can_be_asked && one.told.is_some() => {
            if one.is_told_to_lead() {
                Standing::Primary
            } else {
                Standing::Replica
            }
        }
        (None, Some(NodeRole::Primary)) if !one.can_be_asked => Standing::Primary,
        (None, Some(NodeRole::Replica)) if !one.can_be_asked => Standing::Replica,
        (None, _) => Standing::Unknown,
    }
}

/// The identifier that the cluster has had until now, as long as any node has it; else the declared primary's, else what
/// most have. When it is a draw, nobody knows: then all are refused, as none is equal to 0. Nodes that were found have a say only where no
/// configured one tells.
fn system_of(candidates: &[Candidate<'_>], before: Option<u64>) -> Option<u64> {
    let mut told: Vec<(&Candidate<'_>, u64)> =
        candidates.iter().filter(|one| !one.disabled).filter_map(|one| Some((one, one.facts?.system?))).collect();
    if before.is_some_and(|before| before != 0 && told.iter().any(|(_, own)| *own == before)) {
        return before;
    }
    if told.iter().any(|(one, _)| one.is_configured) {
        told.retain(|(one, _)| one.is_configured);
    }
    if let Some((_, declared)) = told.iter().find(|(one, _)| one.declared == Some(NodeRole::Primary)) {
        return Some(*declared);
    }
    let count = |system: u64| told.iter().filter(|(_, own)| *own == system).count();
    let most = told.iter().map(|(_, own)| count(*own)).max()?;
    let mut leading: Vec<u64> = told.iter().map(|(_, own)| *own).filter(|own| count(*own) == most).collect();
    leading.sort_unstable();
    leading.dedup();
    match leading.as_slice() {
        [one] => Some(*one),
        _ => Some(0),
    }
}

/// Why the member that Patroni names takes no writes.
fn unfit_leader(candidates: &[Candidate<'_>], leadership: &Leadership) -> String {
    let Leadership::Held { name, node } = leadership else { return String::new() };
    let leader = candidates.iter().find(|one| node.as_deref() == Some(one.name));
    let is = match leader {
        None => "which is no node of this database",
        Some(leader) if leader.disabled => "which is disabled (ENABLE NODE on the console ends that)",
        Some(Candidate { facts: Some(facts), .. }) if facts.in_recovery => "which is still in recovery",
        Some(Candidate { facts: None, can_be_asked: false, .. }) => "which is still being promoted",
        Some(Candidate { facts: None, asked: false, .. }) => return ASKING.to_owned(),
        Some(Candidate { facts: None, .. }) => "which does not answer",
        Some(_) => "which does not belong to this cluster",
    };
    format!("Patroni names {name} as the leader, {is}")
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
