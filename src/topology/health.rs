//! Health checks: each node is asked on a connection of its own, so that a busy pool never looks like a dead node
//! (traps 83 and 88).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quanta::Instant;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use crate::net::{ConnectOptions, Encryption, connect, control};
use crate::wire::build;

use super::citus::SecondaryUse;
use super::cluster::Cluster;
use super::directory::control_settings;
use super::facts::{Facts, QUESTION, SHORT_QUESTION, timeline_of};
use super::moved;
use super::node::{Checked, Node};

/// Checks that must fail in a row before a node counts as down: one lost packet is not a dead node.
const FAILURES_UNTIL_DOWN: u32 = 2;

/// Pause between two checks of a node in any case, however often somebody asks for one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Pause while no node takes writes: somebody is being promoted, and clients wait.
const URGENT_PAUSE: Duration = Duration::from_millis(200);

struct Answer {
    /// `None` = it lives, and could not be asked more.
    facts: Option<Facts>,
    secondary_use: SecondaryUse,
}

/// Starts the checks of all nodes of a cluster.
pub(super) fn start(cluster: &Arc<Cluster>, control: &Handle) {
    let checks = cluster.nodes.iter().map(|node| {
        let task = watch(Arc::downgrade(cluster), node.clone());
        control.spawn(task).abort_handle()
    });
    let mut running = cluster.checks.lock();
    running.extend(checks);
    if let Some(interval) = cluster.database.routing.dns_interval {
        running.push(control.spawn(moved::watch(Arc::downgrade(cluster), interval)).abort_handle());
    }
}

async fn watch(cluster: std::sync::Weak<Cluster>, node: Arc<Node>) {
    let Some((database, tls)) = cluster.upgrade().map(|c| (c.database.clone(), c.tls.clone())) else { return };
    let routing = &database.routing;
    let pool = control_settings(&database, &node, &tls).and_then(|settings| control::pool(settings).ok());
    let mut failures = 0;
    // The control file is not open to everybody everywhere.
    let mut question = QUESTION;
    loop {
        // Of a database that is paused no connection is kept: whoever paused it wants to stop, drop or rename it.
        let Some(paused) = cluster.upgrade().map(|cluster| cluster.let_go_while_paused()) else { return };
        if let (true, Some(pool)) = (paused | node.has_moved(), &pool) {
            pool.retain(|_, _| false);
        }
        let asked = Instant::now();
        let check = async {
            match &pool {
                Some(pool) if !paused => ask(pool, &node, &mut question).await,
                _ => knock(&node, &tls).await,
            }
        };
        let outcome = tokio::time::timeout(routing.health_timeout, check)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", routing.health_timeout)));
        let Some(cluster) = cluster.upgrade() else { return };
        match outcome {
            Ok(answer) => {
                failures = 0;
                healthy(&node, answer, asked);
            }
            Err(error) => {
                failures += 1;
                if let Some(pool) = &pool {
                    pool.retain(|_, _| false);
                }
                if unhealthy(&node, error, failures) && !node.is_primary() {
                    // Who waits for a connection to it can read elsewhere.
                    cluster.turn_away_from(&node);
                }
            }
        }
        cluster.find_roles();
        // While failures are being counted, or somebody is missed, look more often.
        let urgent = !paused
            && !database.read_only
            && pool.is_some()
            && cluster.primary().is_none_or(|primary| !cluster.nodes[primary].load.is_up());
        drop(cluster);
        let pause = match failures {
            _ if urgent => routing.health_interval.min(URGENT_PAUSE),
            0 => routing.health_interval,
            _ => routing.health_interval.min(Duration::from_millis(500)),
        };
        let _ = tokio::time::timeout(pause, node.load.probe.notified()).await;
        tokio::time::sleep(SHORTEST_PAUSE.saturating_sub(asked.elapsed())).await;
    }
}

fn healthy(node: &Node, answer: Answer, asked: Instant) {
    if node.load.set_up(true) {
        tracing::info!(node = node.settings.name, "node is up");
    }
    node.set_secondary_use(answer.secondary_use);
    if let Some(facts) = answer.facts {
        node.take_facts(facts, asked);
    }
    node.metrics.check_succeeded();
    node.set_checked(Checked { at: Some(SystemTime::now()), error: None });
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

/// Asks over SQL, in one round trip once the connection is open.
async fn ask(pool: &deadpool_postgres::Pool, node: &Node, question: &mut &'static str) -> Result<Answer, String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    // The first question on a connection fills the server's caches: its time tells nothing.
    let is_warm = client.statement_cache.size() > 0;
    let statement = client.prepare_cached(question).await.map_err(|error| error.to_string())?;
    let began = Instant::now();
    let row = match client.query_one(&statement, &[]).await {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && *question != SHORT_QUESTION => {
            tracing::warn!(
                node = node.settings.name,
                error = %error,
                "the control user may not read the control file: a node of another cluster is not noticed"
            );
            *question = SHORT_QUESTION;
            return Box::pin(ask(pool, node, question)).await;
        }
        asked => asked.map_err(|error| error.to_string())?,
    };
    if is_warm {
        node.load.answered(began.elapsed());
    }
    read(&row).map_err(|error| error.to_string())
}

fn read(row: &tokio_postgres::Row) -> Result<Answer, tokio_postgres::Error> {
    let in_recovery: bool = row.try_get(0)?;
    let version: i32 = row.try_get(1)?;
    let file: Option<&str> = row.try_get(2)?;
    let system: Option<i64> = row.try_get(3)?;
    let known: Option<i32> = row.try_get(4)?;
    let timeline = file.and_then(timeline_of).or(known.and_then(|known| u32::try_from(known).ok()));
    let facts = Facts {
        in_recovery,
        timeline: timeline.unwrap_or(0),
        // It is unsigned, and shown as such.
        system: system.map(i64::cast_unsigned),
        version: u32::try_from(version).unwrap_or(0),
    };
    let secondary_use = SecondaryUse::of(row.try_get(5)?, row.try_get(6)?);
    Ok(Answer { facts: Some(facts), secondary_use })
}

/// Without a user to log in with: a server that answers an SSLRequest is alive. Its role is what the configuration says.
async fn knock(node: &Node, tls: &crate::net::ClientTlsContext) -> Result<Answer, String> {
    let mut stream = connect(&node.settings.hosts, tls, Encryption::Plain, &ConnectOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    let mut packet = Vec::with_capacity(8);
    build::ssl_request(&mut packet);
    stream.write_all(&packet).await.map_err(|error| error.to_string())?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
    match answer[0] {
        b'S' | b'N' => Ok(Answer { facts: None, secondary_use: SecondaryUse::default() }),
        other => Err(format!("answered {other:#04x} to SSLRequest")),
    }
}
