//! What Patroni has said last, and for how long that holds.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{HostPort, Patroni};
use crate::topology::node::Node;

use super::view::{Member, View};

/// What was heard last binds for so long when nobody answers any more: then servers are believed as without Patroni. Longer than a
/// member takes to restart, shorter than Patroni itself needs to replace a leader that is gone (`ttl`, 30 s).
pub(super) const HOLDS_FOR: Duration = Duration::from_secs(5);
/// Timelines go back only when a cluster was made anew.
const TIMELINE_HOLDS_FOR: Duration = Duration::from_secs(30);
/// Looks in a row that fail before it is told.
const FAILURES_UNTIL_TOLD: u32 = 2;

/// What Patroni has said of one database's cluster. It goes on through reloads.
#[derive(Debug, Default)]
pub(in crate::topology) struct Reports {
    state: Mutex<State>,
    /// Something has happened: it is asked at once.
    pub wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    settings: Option<Patroni>,
    endpoints: Vec<Endpoint>,
    /// Somebody has answered, or nobody does.
    has_looked: bool,
    failures: u32,
    heard: Option<Heard>,
}

#[derive(Debug)]
struct Heard {
    view: View,
    at: Instant,
    /// The member that each node is, by the node's name.
    members: Vec<(String, usize)>,
}

/// One endpoint, as it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub url: String,
    /// When it answered last.
    pub answered: Option<SystemTime>,
    /// Why it did not, the last time; `None` = it did, or was not asked.
    pub error: Option<String>,
}

/// What is known of Patroni, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The leader that it names.
    pub leader: Option<String>,
    /// Its timeline; 0 = not told.
    pub timeline: u32,
    /// What its word counts for.
    pub standing: &'static str,
}

/// Who may take writes, by Patroni's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::topology) enum Leadership {
    /// It says nothing: servers are believed.
    Open,
    /// It is about to be heard for the first time: nobody new takes writes until then.
    Asking,
    /// This member, and nobody else.
    Held {
        /// Its name.
        name: String,
        /// The name of the node that it is; `None` = of none.
        node: Option<String>,
    },
}

/// What Patroni says of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::topology) struct Told {
    /// Its role, in Patroni's word.
    pub role: String,
    /// It takes writes.
    pub takes_writes: bool,
    /// Its timeline; 0 = not told.
    pub timeline: u32,
    /// It takes no reads.
    pub spared: bool,
}

impl Reports {
    /// These endpoints are asked from now on. What others have said before is forgotten.
    pub(super) fn watches(&self, settings: &Patroni) {
        let mut state = self.state.lock();
        if state.settings.as_ref().is_some_and(|before| before.endpoints == settings.endpoints) {
            return;
        }
        let endpoint = |url: String| Endpoint { url, answered: None, error: None };
        *state = State {
            endpoints: settings.endpoints.iter().map(|one| endpoint(one.to_string())).collect(),
            settings: Some(settings.clone()),
            ..State::default()
        };
    }

    /// Nobody will be asked: nothing is to be waited for.
    pub(super) fn give_up(&self) {
        self.state.lock().has_looked = true;
    }

    /// Whether an answer tells of an older timeline than was heard not long ago.
    pub(super) fn is_outdated(&self, view: &View) -> bool {
        let state = self.state.lock();
        let Some(heard) = state.heard.as_ref().filter(|heard| heard.at.elapsed() < TIMELINE_HOLDS_FOR) else {
            return false;
        };
        let timeline = |view: &View| view.leader().map_or(0, |leader| leader.timeline);
        let (now, before) = (timeline(view), timeline(&heard.view));
        now > 0 && now < before
    }

    /// Takes the outcome of one look: what was heard, with the member that each node is, and what became of each endpoint.
    pub(super) fn take(
        &self,
        database: &str,
        nodes: &[Arc<Node>],
        heard: Option<(&View, Vec<Option<usize>>)>,
        said: &[(usize, Option<String>)],
    ) {
        let mut state = self.state.lock();
        state.has_looked = true;
        for (index, error) in said {
            let Some(endpoint) = state.endpoints.get_mut(*index) else { continue };
            if error.is_none() {
                endpoint.answered = Some(SystemTime::now());
            }
            endpoint.error.clone_from(error);
        }
        let Some((view, places)) = heard else {
            state.failures += 1;
            if state.failures == FAILURES_UNTIL_TOLD {
                let errors: Vec<String> = said
                    .iter()
                    .filter_map(|(index, error)| {
                        Some(format!("{}: {}", state.endpoints.get(*index)?.url, error.as_ref()?))
                    })
                    .collect();
                tracing::warn!(database, errors = errors.join("; "), "no Patroni answers: the servers alone are asked");
            }
            return;
        };
        let was_silent = std::mem::take(&mut state.failures) >= FAILURES_UNTIL_TOLD;
        let members: Vec<(String, usize)> =
            nodes.iter().zip(places).filter_map(|(node, member)| Some((node.settings.name.clone(), member?))).collect();
        let before = state.heard.as_ref();
        let name = |view: &View| view.leader().map(|leader| leader.name.clone());
        if before.is_none_or(|before| name(&before.view) != name(view) || before.view.paused != view.paused)
            || was_silent
        {
            tracing::info!(database, leader = name(view), paused = view.paused, "Patroni answers");
        }
        if members.is_empty() && before.is_none_or(|before| !before.members.is_empty()) {
            let names: Vec<&str> = view.members.iter().map(|member| member.name.as_str()).collect();
            tracing::warn!(
                database,
                members = names.join(", "),
                "none of Patroni's members is a node of this database: the servers alone are asked"
            );
        }
        state.heard = Some(Heard { view: view.clone(), at: Instant::now(), members });
    }

    /// Who may take writes, as far as Patroni binds.
    pub(in crate::topology) fn leadership(&self) -> Leadership {
        self.state.lock().leadership()
    }

    /// What was said of a node, however long ago.
    pub(in crate::topology) fn told(&self, node: &str) -> Option<Told> {
        let state = self.state.lock();
        let heard = state.heard.as_ref()?;
        let member = heard.member(node)?;
        Some(Told {
            role: member.role.clone(),
            takes_writes: member.takes_writes() && heard.view.leader().is_some(),
            timeline: member.timeline,
            spared: member.spared,
        })
    }

    /// Members with their places that are none of these nodes; `None` while nobody answers.
    pub(in crate::topology) fn strangers(&self, nodes: &[&str]) -> Option<Vec<(String, HostPort)>> {
        let state = self.state.lock();
        let heard = state.heard.as_ref().filter(|heard| heard.at.elapsed() < HOLDS_FOR)?;
        let known: Vec<usize> = heard
            .members
            .iter()
            .filter(|(name, _)| nodes.contains(&name.as_str()))
            .map(|(_, member)| *member)
            .collect();
        let strangers = heard.view.members.iter().enumerate().filter(|(index, _)| !known.contains(index));
        Some(strangers.filter_map(|(_, member)| Some((member.name.clone(), member.place.clone()?))).collect())
    }

    /// What is known, for people.
    pub(in crate::topology) fn report(&self) -> Report {
        let state = self.state.lock();
        let leader = state.heard.as_ref().and_then(|heard| heard.view.leader());
        Report {
            endpoints: state.endpoints.clone(),
            leader: leader.map(|leader| leader.name.clone()),
            timeline: leader.map_or(0, |leader| leader.timeline),
            standing: state.standing(),
        }
    }
}

impl State {
    fn standing(&self) -> &'static str {
        match &self.heard {
            None if self.has_looked => "silent",
            None => "asking",
            Some(heard) if heard.at.elapsed() >= HOLDS_FOR => "silent",
            Some(heard) if heard.members.is_empty() => "unmatched",
            Some(heard) if heard.view.paused => "paused",
            Some(heard) if heard.view.leader().is_none() => "no leader",
            Some(_) => "binding",
        }
    }

    fn leadership(&self) -> Leadership {
        match (self.standing(), &self.heard) {
            ("asking", _) => Leadership::Asking,
            ("binding", Some(heard)) => match heard.view.leader() {
                Some(leader) => {
                    let is_leader = |(_, member): &&(String, usize)| heard.view.members.get(*member) == Some(leader);
                    let node = heard.members.iter().find(is_leader).map(|(node, _)| node.clone());
                    Leadership::Held { name: leader.name.clone(), node }
                }
                None => Leadership::Open,
            },
            _ => Leadership::Open,
        }
    }
}

impl Heard {
    fn member(&self, node: &str) -> Option<&Member> {
        let (_, member) = self.members.iter().find(|(name, _)| name == node)?;
        self.view.members.get(*member)
    }
}
