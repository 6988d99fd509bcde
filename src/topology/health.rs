//! Health checks: each node is asked on a connection of its own, so that a busy pool never looks like a dead node
//! (traps 83 and 88).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

use crate::config::NodeRole;
use crate::net::{ConnectOptions, Encryption, connect, control};
use crate::wire::build;

use super::cluster::Cluster;
use super::directory::control_settings;
use super::node::{Checked, Node, ObservedRole};

/// Checks that must fail in a row before a node counts as down: one lost packet is not a dead node.
const FAILURES_UNTIL_DOWN: u32 = 2;

/// Role, and how far behind: a replica that has replayed all that it received is not behind, however long ago the last
/// transaction was (trap 86).
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN 0 \
         WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0 \
         ELSE extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END::float8";

struct Answer {
    role: ObservedRole,
    lag: Option<Duration>,
}

/// Starts the checks of all nodes of a cluster.
pub(super) fn start(cluster: &Arc<Cluster>, control: &Handle) {
    let checks = cluster.nodes.iter().map(|node| {
        let task = watch(Arc::downgrade(cluster), node.clone());
        control.spawn(task).abort_handle()
    });
    cluster.checks.lock().extend(checks);
}

async fn watch(cluster: std::sync::Weak<Cluster>, node: Arc<Node>) {
    let Some((database, tls)) = cluster.upgrade().map(|c| (c.database.clone(), c.tls.clone())) else { return };
    let routing = &database.routing;
    let pool = control_settings(&database, &node, &tls).and_then(|settings| control::pool(settings).ok());
    let mut failures = 0;
    loop {
        // Of a database that is paused no connection is kept: whoever paused it wants to stop, drop or rename it.
        let Some(paused) = cluster.upgrade().map(|cluster| cluster.let_go_while_paused()) else { return };
        if let (true, Some(pool)) = (paused, &pool) {
            pool.retain(|_, _| false);
        }
        let check = async {
            match &pool {
                Some(pool) if !paused => ask(pool).await,
                _ => knock(&node, &tls).await,
            }
        };
        let outcome = tokio::time::timeout(routing.health_timeout, check)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", routing.health_timeout)));
        match outcome {
            Ok(answer) => {
                failures = 0;
                healthy(&node, answer);
            }
            Err(error) => {
                failures += 1;
                if let Some(pool) = &pool {
                    pool.retain(|_, _| false);
                }
                unhealthy(&node, error, failures);
            }
        }
        // While failures are being counted, or the node is down, look more often.
        let pause = if failures > 0 {
            routing.health_interval.min(Duration::from_millis(500))
        } else {
            routing.health_interval
        };
        let _ = tokio::time::timeout(pause, node.load.probe.notified()).await;
    }
}

fn healthy(node: &Node, answer: Answer) {
    if node.load.set_up(true) {
        tracing::info!(node = node.settings.name, "node is up");
    }
    let role = match answer.role {
        ObservedRole::Unknown => node.settings.role,
        ObservedRole::Primary => NodeRole::Primary,
        ObservedRole::Replica => NodeRole::Replica,
    };
    if node.observe_role(answer.role) && role != node.settings.role {
        tracing::warn!(node = node.settings.name, configured = ?node.settings.role, found = ?role, "node has another role than configured");
    }
    node.metrics.check_succeeded(role);
    node.metrics.set_lag(answer.lag);
    node.set_checked(Checked { at: Some(SystemTime::now()), error: None, lag: answer.lag });
}

fn unhealthy(node: &Node, error: String, failures: u32) {
    let down = failures >= FAILURES_UNTIL_DOWN || !node.load.is_up();
    if down && node.load.set_up(false) {
        tracing::warn!(node = node.settings.name, error, "node is down");
    }
    node.metrics.check_failed(!down);
    node.set_checked(Checked { at: Some(SystemTime::now()), error: Some(error), lag: None });
}

/// Asks over SQL.
async fn ask(pool: &deadpool_postgres::Pool) -> Result<Answer, String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let row = client.query_one(QUESTION, &[]).await.map_err(|error| error.to_string())?;
    let in_recovery: bool = row.try_get(0).map_err(|error| error.to_string())?;
    let lag: Option<f64> = row.try_get(1).map_err(|error| error.to_string())?;
    let role = if in_recovery { ObservedRole::Replica } else { ObservedRole::Primary };
    let lag = lag.filter(|_| in_recovery).and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
    Ok(Answer { role, lag })
}

/// Without a user to log in with: a server that answers an SSLRequest is alive. Its role stays what the configuration says.
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
        b'S' | b'N' => Ok(Answer { role: ObservedRole::Unknown, lag: None }),
        other => Err(format!("answered {other:#04x} to SSLRequest")),
    }
}
