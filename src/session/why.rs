//! Why a statement runs where it runs, for people: `SHOW ROUTES`, `SHOW WHATIF`, `EXPLAIN (ROUTE)` and `trunkline.explain`.

use quanta::Instant;

use crate::config::PoolMode;
use crate::observe::{Moment, RouteKey, routes};
use crate::route::{RouteReport, explain_for};
use crate::sql::{Decision, Effects, LexOptions, Reason, Target, explained_route, normalize};
use crate::topology::Cluster;
use crate::wire::{ErrorNotice, Severity, SqlState, build};

use super::machine::State;
use super::own_settings::OwnValue;
use super::pins::Pins;
use super::placement::{Place, RouteChoice};
use super::prospect::{Behind, Prospect};
use super::relay::Session;

/// What decided about a statement's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The statement's text.
    Text(Reason),
    /// `split_reads` is off.
    SplitOff,
    /// Session pooling.
    SessionPooling,
    /// Transactions of the session are SERIALIZABLE.
    Serializable,
    /// `trunkline.route`.
    Choice(RouteChoice),
    /// A transaction block is open, and stays where it began.
    InBlock,
    /// State of the session that we cannot follow.
    Pinned(Pins),
    /// The session's connection was on the primary for what came before in the same pipeline.
    Pipeline,
    /// No replica is known to have what the read must see.
    Freshness(Behind),
    /// The primary has a weight, so it gets a share of the reads.
    Share,
    /// No replica takes reads.
    NoReplica,
    /// A replica has failed it.
    Rerun,
    /// The node has the one shard that it concerns.
    Owner,
    /// Any node can answer it.
    AnyNode,
}

impl Why {
    /// Stable label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Text(reason) => reason.as_str(),
            Self::SplitOff => "split_reads_off",
            Self::SessionPooling => "session_pooling",
            Self::Serializable => "serializable",
            Self::Choice(_) => "session_choice",
            Self::InBlock => "in_block",
            Self::Pinned(_) => "pinned",
            Self::Pipeline => "pipeline",
            Self::Freshness(_) => "freshness",
            Self::Share => "primary_share",
            Self::NoReplica => "no_replica",
            Self::Rerun => "rerun",
            Self::Owner => "shard_owner",
            Self::AnyNode => "any_node",
        }
    }

    /// The rest of a sentence that says where it runs.
    pub fn sentence(self, cluster: &Cluster) -> String {
        match self {
            Self::Text(reason) => reason.explain().to_owned(),
            Self::SplitOff => "split_reads is off".to_owned(),
            Self::SessionPooling => {
                "pool_mode is session, in which a client has one server connection for everything".to_owned()
            }
            Self::Serializable => "default_transaction_isolation is serializable, which no standby runs".to_owned(),
            Self::Choice(choice) => format!("the session has chosen it (trunkline.route = {})", choice.as_str()),
            Self::InBlock => "a transaction block is open, and stays where it began".to_owned(),
            Self::Pinned(pins) => {
                format!("the session keeps its server connection to itself (pinned by {})", pins.describe())
            }
            Self::Pipeline => "it is one pipeline or segment with something that needs the primary".to_owned(),
            Self::Freshness(behind) => behind.sentence(cluster),
            Self::Share => "the primary has a weight, and this read is of its share".to_owned(),
            Self::NoReplica => "no replica takes reads".to_owned(),
            Self::Rerun => "it failed on a replica and runs once more".to_owned(),
            Self::Owner => "it names one shard, and this node has it".to_owned(),
            Self::AnyNode => "it concerns several shards, and any node can answer (citus.reads = any_node)".to_owned(),
        }
    }
}

/// A statement under way of which its time is counted when it ends.
#[derive(Debug)]
pub(super) struct Sampled {
    key: RouteKey,
    would: Option<&'static str>,
    weight: u32,
}

impl Session {
    /// Why the statement with this decision runs where the session's link is.
    pub(super) fn why(&self, decision: Decision) -> Why {
        let State::Linked(link) = &self.state else { return self.why_elsewhere(decision) };
        if link.worker.is_some() {
            return if self.concerns_one_shard() { Why::Owner } else { Why::AnyNode };
        }
        if !link.primary {
            return match self.placement.own.route.get() {
                RouteChoice::Replica if decision.target == Target::Primary => Why::Choice(RouteChoice::Replica),
                _ => Why::Text(decision.reason),
            };
        }
        if decision.target != Target::Replica && !self.is_place_apart(decision) {
            return Why::Text(decision.reason);
        }
        if self.again.is_some() {
            Why::Rerun
        } else if link.status.in_block() {
            Why::InBlock
        } else if !self.pins.is_empty() {
            Why::Pinned(self.pins)
        } else {
            self.why_elsewhere(decision)
        }
    }

    /// Whether the session has more to say about it than the text.
    fn is_place_apart(&self, decision: Decision) -> bool {
        decision.effects.contains(Effects::BEGIN) && decision.effects.contains(Effects::READ_ONLY)
    }

    /// Why the primary would get it from a session that has no server connection.
    fn why_elsewhere(&self, decision: Decision) -> Why {
        if self.pool_settings.mode == PoolMode::Session {
            return Why::SessionPooling;
        }
        if decision.target != Target::Replica && !self.is_place_apart(decision) {
            return Why::Text(decision.reason);
        }
        if !self.placement.splits_reads() {
            return Why::SplitOff;
        }
        if self.placement.is_serializable() {
            return Why::Serializable;
        }
        if decision.effects.contains(Effects::HINTED) {
            return Why::Text(decision.reason);
        }
        if self.placement.own.route.get() == RouteChoice::Primary {
            return Why::Choice(RouteChoice::Primary);
        }
        match &self.state {
            State::Linked(_) if !self.placement.what_if() => self.why_not_chosen(),
            _ => match self.prospect(decision, Moment::of(self.timing.arrival())) {
                Prospect::NoReplica => Why::NoReplica,
                Prospect::Behind(behind) => Why::Freshness(behind),
                Prospect::Fresh | Prospect::Soon(_) => Why::Pipeline,
            },
        }
    }

    /// Why the link at hand is on the primary although a read may go to a replica.
    fn why_not_chosen(&self) -> Why {
        let cluster = &self.pools.cluster;
        if let Some(behind) = self.sight.missed {
            return Why::Freshness(behind);
        }
        if cluster.freshest(self.nodes_tried()).is_none() {
            return Why::NoReplica;
        }
        let shares = cluster.primary().is_some_and(|primary| cluster.nodes[primary].load.share() > 0);
        if shares { Why::Share } else { Why::Pipeline }
    }

    /// A statement has begun: it is counted when it ends, if its turn has come.
    pub(super) fn sample(&mut self, decision: Decision, text: &[u8], now: Instant) {
        if let Some(weight) = routes::sample(now) {
            self.sample_for(decision, text, weight);
        }
    }

    #[cold]
    fn sample_for(&mut self, decision: Decision, text: &[u8], weight: u32) {
        let State::Linked(link) = &self.state else { return };
        let why = self.why(decision);
        let would = self.placement.what_if().then(|| match (why, self.placement.would_read()) {
            // The mode itself keeps it here.
            (Why::Freshness(_), _) => {
                // As the read itself would have it.
                self.pools.cluster.demand_freshness(Moment::now());
                "stale"
            }
            (Why::Pipeline | Why::Text(Reason::HintReplica), true) => "replica",
            // Until a block has written, its reads may go to a replica.
            (Why::InBlock, true) if !self.sight.is_writing() => "replica",
            _ => why.label(),
        });
        let why = match would {
            Some("replica" | "stale") => "what_if",
            _ => why.label(),
        };
        let fingerprint = self.decisions.fingerprint_of(text, self.lex).0;
        let key = RouteKey { fingerprint, replica: !link.primary, why };
        self.metrics.routes().begin(key, || shown(text, self.lex));
        self.timing.sampled = Some(Sampled { key, would, weight });
    }

    /// The statement has ended, after so long.
    pub(super) fn count_sampled(&mut self, took: std::time::Duration) {
        if let Some(Sampled { key, would, weight }) = self.timing.sampled.take() {
            self.metrics.routes().end(key, would, weight, took);
        }
    }

    /// What `EXPLAIN (ROUTE)` says about a statement, in lines.
    pub(super) fn explain_route(&mut self, sql: &[u8]) -> Vec<String> {
        let decision = self.judge(sql);
        let report = explain_for(&self.decisions, sql, self.lex, self.search_path());
        let place = match &self.state {
            State::Linked(link) if link.primary => Place::Primary,
            State::Linked(link) if link.status.in_block() || !self.pins.is_empty() => Place::Reader,
            _ => {
                self.note_shard_of_query(decision, sql);
                self.place_of(decision)
            }
        };
        let mut lines = Vec::new();
        let cluster = &self.pools.cluster;
        let worker = if matches!(self.state, State::Linked(_)) { None } else { self.choose_worker(place, 0) };
        match (&self.state, worker, place) {
            (State::Linked(link), ..) => {
                let node = &cluster.nodes[link.node].settings.name;
                let why = self.why(decision);
                lines.push(format!("{}: {}", link.role().as_str(), sentence(why, &report, cluster)));
                lines.push(format!("  node {node}, on which the session is"));
            }
            (_, Some(worker), _) => {
                let why = if self.concerns_one_shard() { Why::Owner } else { Why::AnyNode };
                lines.push(format!("worker: {}", why.sentence(cluster)));
                lines.push(format!("  node {}", cluster.nodes[worker].settings.name));
            }
            (_, None, Place::Reader) => {
                let now = Moment::now();
                // A block of which all runs there is judged as one.
                let judged = match self.deferred.is_open() && !self.deferred.offloads {
                    true => self.deferred.decision,
                    false => decision,
                };
                let reads = sentence(Why::Text(decision.reason), &report, cluster);
                lines.push(match self.prospect(judged, now) {
                    Prospect::Fresh => format!("replica: {reads}"),
                    Prospect::Soon(limit) => {
                        format!(
                            "replica: {reads}; it waits up to {limit:?} for one that has all that was committed before"
                        )
                    }
                    Prospect::Behind(behind) => format!("primary: {}", behind.sentence(cluster)),
                    Prospect::NoReplica => format!("primary: {}", Why::NoReplica.sentence(cluster)),
                });
                self.tell_freshness(judged, now, &mut lines);
            }
            _ => {
                let why = match self.why_elsewhere(decision) {
                    Why::Pipeline | Why::Freshness(_) if self.deferred.is_open() => Why::InBlock,
                    why => why,
                };
                let because = match why {
                    Why::Pipeline if self.placement.what_if() => WHAT_IF.to_owned(),
                    why => sentence(why, &report, cluster),
                };
                lines.push(format!("primary: {because}"));
                lines.push(match cluster.primary() {
                    Some(primary) => format!("  node {}", cluster.nodes[primary].settings.name),
                    None => "  no primary is known at the moment".to_owned(),
                });
                if matches!(why, Why::Pipeline | Why::Freshness(_)) {
                    self.tell_freshness(decision, Moment::now(), &mut lines);
                }
            }
        }
        lines.push(format!("  reason {}, fingerprint {}", report.overall.reason.as_str(), report.fingerprint));
        lines
    }

    /// The answer to `EXPLAIN (ROUTE)`, up to its CommandComplete.
    pub(super) fn answer_explain_route(&mut self, sql: &[u8]) {
        let lines = explained_route(sql, self.lex).map(|explained| self.explain_route(explained)).unwrap_or_default();
        build::text_columns(&mut self.to_client, &["QUERY PLAN"]);
        for line in &lines {
            build::text_row(&mut self.to_client, &[line]);
        }
        build::command_complete(&mut self.to_client, "EXPLAIN");
    }

    /// The notice that a session asks for by `trunkline.explain`.
    pub(super) fn explain_notice(&self, decision: Decision, text: &[u8]) -> Option<ErrorNotice> {
        let State::Linked(link) = &self.state else { return None };
        let cluster = &self.pools.cluster;
        let node = &cluster.nodes[link.node].settings.name;
        let because = match self.why(decision) {
            Why::Pipeline if self.placement.what_if() => WHAT_IF.to_owned(),
            why => sentence(why, &explain_for(&self.decisions, text, self.lex, self.search_path()), cluster),
        };
        let message = if link.primary || link.worker.is_some() {
            format!("trunkline: {} {node}: {because}", link.role().as_str())
        } else {
            let level = self.placement.needs_of(decision).0.as_str();
            format!("trunkline: replica {node}: {because} ({}, consistency {level})", self.lag_of(link.node))
        };
        let notice = ErrorNotice::error(SqlState::SUCCESS, message);
        Some(ErrorNotice { severity: Severity::Notice, ..notice })
    }
}

const WHAT_IF: &str = "what_if is on; without it a replica would get it";

/// With the name of what decided, when it is in the text.
fn sentence(why: Why, report: &RouteReport, cluster: &Cluster) -> String {
    match why {
        Why::Text(reason) if reason == report.overall.reason => {
            let rest = report.overall.sentence.split_once("because ").map_or("", |(_, rest)| rest);
            rest.trim_end_matches('.').to_owned()
        }
        why => why.sentence(cluster),
    }
}

fn shown(text: &[u8], lex: LexOptions) -> String {
    let mut text = normalize(text, lex);
    text.truncate(text.floor_char_boundary(1000));
    text
}
