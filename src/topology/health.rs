//! Health checks: each node is asked on a connection of its own, so that a busy pool never looks like a dead node
//! (traps 83 and 88).
//!
//! They are asked every `health_interval`, and at once when somebody has a reason (`NodeLoad::probe`) or when none of the statements
//! that are out there has ended for a moment. Silence of a statement says nothing by itself: it is the check that decides.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quanta::Instant;
use tokio::runtime::Handle;

use crate::net::control;
use crate::observe::{Metrics, beat};
use crate::pool::NodeLoad;

use super::cluster::Cluster;
use super::directory::control_settings;
use super::moved;
use super::node::{Checked, Node};
use super::patroni;
use super::probe::{Answer, Failure, Prober};

/// Probes that must fail in a row before a node counts as down: one lost packet, or one killed backend, is not a dead node.
const FAILURES_UNTIL_DOWN: u32 = 2;

/// Pause between two checks of a node in any case, however often somebody asks for one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Pause while no node takes writes: somebody is being promoted, and clients wait.
const URGENT_PAUSE: Duration = Duration::from_millis(200);
/// Pause after a check that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(300);
/// No lease has ended for so long although some are out: the node is asked before its time.
const QUIET: Duration = Duration::from_millis(200);

/// Starts the checks of all nodes of a cluster.
pub(super) fn start(cluster: &Arc<Cluster>, control: &Handle, metrics: &Metrics) {
    let checks = cluster.nodes.iter().map(|node| {
        let task = watch(Arc::downgrade(cluster), node.clone());
        control.spawn(task).abort_handle()
    });
    let mut running = cluster.checks.lock();
    running.extend(checks);
    if let Some(interval) = cluster.database.routing.dns_interval {
        running.push(control.spawn(moved::watch(Arc::downgrade(cluster), interval)).abort_handle());
    }
    if let Some(settings) = &cluster.database.patroni {
        let metrics = metrics.patroni(&cluster.database.name);
        let task = patroni::watch(Arc::downgrade(cluster), settings.clone(), metrics);
        running.push(control.spawn(task).abort_handle());
    }
}

async fn watch(cluster: std::sync::Weak<Cluster>, node: Arc<Node>) {
    let Some((database, tls)) = cluster.upgrade().map(|c| (c.database.clone(), c.tls.clone())) else { return };
    let routing = &database.routing;
    let pool = control_settings(&database, &node, &tls).and_then(|settings| control::pool(settings).ok());
    let mut prober = Prober::new(node.clone(), tls, pool, routing.health_timeout);
    let mut failures = 0;
    loop {
        // Of a database that is paused no connection is kept: whoever paused it wants to stop, drop or rename it.
        let Some(paused) = cluster.upgrade().map(|cluster| cluster.let_go_while_paused()) else { return };
        if paused | node.has_moved() {
            prober.let_go();
        }
        let asked = Instant::now();
        let outcome = prober.check(paused).await;
        let Some(cluster) = cluster.upgrade() else { return };
        match outcome {
            Ok(answer) => {
                failures = 0;
                if answer.refusal.is_none() && node.has_been_replaced(answer.facts) && node.is_primary() {
                    let node = &node.settings.name;
                    tracing::warn!(
                        node,
                        "another server has the primary's name: what is under way on the former one ends"
                    );
                    cluster.lost.notify_one();
                }
                if healthy(&node, answer, asked) {
                    cluster.try_again_at(&node);
                }
            }
            Err(Failure { error, probes }) => {
                failures += probes;
                if unhealthy(&node, error, failures) && !node.is_primary() {
                    // Who waits for a connection to it can read elsewhere.
                    cluster.turn_away_from(&node);
                }
            }
        }
        cluster.find_roles();
        if failures > 0 {
            cluster.era.patroni.wake.notify_one();
        }
        if failures > 0 && !node.load.is_up() {
            cluster.give_up_at(&node);
            cluster.lost.notify_one();
        }
        // While failures are being counted, or somebody is missed, look more often.
        let urgent = !paused
            && !database.read_only
            && prober.can_ask()
            && cluster.primary().is_none_or(|primary| !cluster.nodes[primary].load.is_up());
        drop(cluster);
        let pause = match failures {
            _ if urgent => routing.health_interval.min(URGENT_PAUSE),
            0 => routing.health_interval,
            _ => routing.health_interval.min(PAUSE_AFTER_FAILURE),
        };
        turn(&node.load, pause).await;
        if let Some(early) = SHORTEST_PAUSE.checked_sub(asked.elapsed()) {
            tokio::time::sleep(early).await;
        }
    }
}

/// Until the next check: after `pause`, when somebody asks for one, or when what is under way at the node does not end. As long as
/// nothing is, nobody looks.
async fn turn(load: &NodeLoad, pause: Duration) {
    let due = beat::after(pause);
    let mut before = load.traffic();
    loop {
        let begun = async {
            if load.is_at_rest_until_leased() {
                load.stirred().await;
            }
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            () = load.probe.notified() => return,
            () = tokio::time::sleep_until(due) => return,
            () = begun => {}
        }
        let now = load.traffic();
        if load.is_up() && now.is_stuck_since(before) {
            return;
        }
        before = now;
    }
}

/// Returns whether it was down until now.
fn healthy(node: &Node, answer: Answer, asked: Instant) -> bool {
    let news = node.load.set_up(true);
    if news {
        tracing::info!(node = node.settings.name, "node is up");
    }
    if let Some(refusal) = answer.refusal {
        node.asked_in_vain();
        node.metrics.check_failed(true);
        if node.checked().error.as_ref() != Some(&refusal) {
            tracing::warn!(
                node = node.settings.name,
                error = refusal,
                "node is up, but does not tell its role: what it said last holds"
            );
        }
        node.set_checked(Checked { at: Some(SystemTime::now()), error: Some(refusal) });
        return news;
    }
    node.set_secondary_use(answer.secondary_use);
    node.set_group(answer.group);
    if let Some(facts) = answer.facts {
        node.take_facts(facts, asked);
    }
    node.metrics.check_succeeded();
    node.set_checked(Checked { at: Some(SystemTime::now()), error: None });
    news
}

/// Returns whether it counts as down from now on.
fn unhealthy(node: &Node, error: String, failures: u32) -> bool {
    let down = failures >= FAILURES_UNTIL_DOWN || !node.load.is_up();
    let news = down && node.load.set_up(false);
    if news {
        tracing::warn!(node = node.settings.name, error, "node is down");
    }
    node.asked_in_vain();
    node.metrics.check_failed(!down);
    node.set_checked(Checked { at: Some(SystemTime::now()), error: Some(error) });
    news
}
