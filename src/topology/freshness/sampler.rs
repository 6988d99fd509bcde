//! The sampler: asks the primary for its position and the replicas for theirs, on connections of its own, so that no busy pool is in
//! its way (trap 88).

use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::{Client, Pool};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::PgLsn;

use crate::net::control;
use crate::observe::Moment;
use crate::pool::NodeLoad;
use crate::topology::cluster::Cluster;
use crate::topology::directory::control_settings;
use crate::topology::node::Node;

use super::history::Layout;
use super::{FAST, Freshness, SLOW};

/// The position at which the next record will be inserted, and a WAL file's name, which begins with the timeline. An error on a
/// standby.
const PRIMARY: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn(), \
    pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), pg_catalog.pg_is_in_recovery()";

/// Bytes of a WAL page and of a segment.
const LAYOUT: &str = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_block_size')), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))";

/// What a standby has replayed, and its timeline: that which it is being sent, if we may know (`pg_monitor`), else that of
/// its last restart point, which may be an older one for some minutes after a promotion. In this order: what it had replayed
/// before it told its timeline is on that, too.
const REPLICA: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn(), COALESCE(\
    (SELECT received_tli FROM pg_catalog.pg_stat_get_wal_receiver() WHERE status = 'streaming'), \
    (SELECT GREATEST(c.timeline_id, r.min_recovery_end_timeline) \
     FROM pg_catalog.pg_control_checkpoint() AS c, pg_catalog.pg_control_recovery() AS r))::int4, \
    pg_catalog.pg_is_in_recovery()";

/// Pause before a node that could not be asked is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// Starts the sampler of a cluster that has more than one node and a user to ask with.
pub(in crate::topology) fn start(cluster: &Arc<Cluster>, control: &Handle) {
    if !cluster.is_sampled() {
        return;
    }
    let mut tasks = Vec::new();
    let has_standby = |group: u32| cluster.nodes.iter().any(|node| node.settings.group == group && node.is_secondary());
    for (index, node) in cluster.nodes.iter().enumerate() {
        if node.is_worker() && !has_standby(node.settings.group) {
            continue;
        }
        let Some(asker) = Asker::new(cluster, index) else { continue };
        tasks.push(control.spawn(asker.run()).abort_handle());
    }
    cluster.checks.lock().extend(tasks);
}

/// Asks one node, as what it is at the time.
struct Asker {
    cluster: Weak<Cluster>,
    freshness: Arc<Freshness>,
    loads: Vec<Arc<NodeLoad>>,
    /// The node's group: the primary's positions are those of this group's.
    group: u32,
    node: Arc<Node>,
    index: usize,
    pool: Pool,
    patience: Duration,
}

/// A connection to it, and what is known of the server at its other end.
struct Link {
    client: Client,
    layout: Layout,
    /// [`Node::moves`] before it was opened.
    moves: u64,
}

impl Asker {
    fn new(cluster: &Arc<Cluster>, index: usize) -> Option<Self> {
        let node = cluster.nodes[index].clone();
        let pool = control::pool(control_settings(&cluster.database, &node, &cluster.tls)?).ok()?;
        let group = node.settings.group;
        // What is seen through a coordinator's standby is on those of the workers.
        let is_concerned = |other: &&Arc<Node>| {
            other.settings.group == group || (node.is_worker() && !other.is_worker() && !other.is_primary())
        };
        Some(Self {
            cluster: Arc::downgrade(cluster),
            freshness: match group {
                0 => cluster.freshness.clone(),
                group => cluster.citus.freshness_of(group),
            },
            loads: cluster.nodes.iter().filter(is_concerned).map(|node| node.load.clone()).collect(),
            group,
            node,
            index,
            pool,
            patience: cluster.database.routing.health_timeout,
        })
    }

    /// Until the cluster is gone.
    async fn run(self) {
        let mut link = None;
        let mut sampled = self.freshness.sampled.subscribe();
        let mut begun = None;
        let Some(mut roles) = self.cluster.upgrade().map(|cluster| cluster.roles()) else { return };
        loop {
            let Some(cluster) = self.cluster.upgrade() else { return };
            let (primary, paused) = (cluster.primary_of(self.group), cluster.is_paused());
            drop(cluster);
            if link.as_ref().is_some_and(|link: &Link| link.moves != self.node.moves()) {
                self.let_go(&mut link);
            }
            if paused {
                // Of a database that is paused no connection is kept.
                self.let_go(&mut link);
                sleep(RETRY).await;
                continue;
            }
            let result = if primary == Some(self.index) {
                self.wait_for_turn(begun).await;
                begun = Some(Instant::now());
                self.sample(&mut link).await
            } else {
                if primary.is_none() {
                    self.freshness.forget(&self.loads);
                }
                // A sample of the primary, or another primary.
                tokio::select! {
                    _ = sampled.changed() => {}
                    _ = roles.changed() => continue,
                    () = sleep(SLOW) => {}
                }
                self.ask_replica(&mut link).await
            };
            if let Err(error) = result {
                tracing::debug!(node = self.node.settings.name, error, "freshness could not be asked for");
                self.let_go(&mut link);
                sleep(RETRY).await;
            }
        }
    }

    /// Fast while a read wants more than is known, else slowly.
    async fn wait_for_turn(&self, begun: Option<Instant>) {
        let Some(begun) = begun else { return };
        if !self.freshness.is_in_demand(Moment::now()) {
            tokio::select! {
                () = self.freshness.wake.notified() => {}
                () = sleep_until(begun + SLOW) => {}
            }
        }
        sleep_until(begun + FAST).await;
    }

    /// The connection, and with it all that was known by it: the server at its end may be another one next time, or have restarted
    /// with less than it had.
    fn let_go(&self, link: &mut Option<Link>) {
        if let Some(link) = link.take() {
            drop(Client::take(link.client));
        }
        self.pool.retain(|_, _| false);
        self.forget_horizon();
    }

    /// What is known of what the server has is void; and of what is seen through those that read from it.
    fn forget_horizon(&self) {
        self.node.load.horizon.forget();
        if self.node.is_secondary() {
            self.loads.iter().for_each(|load| load.horizon.forget());
        }
    }

    async fn link<'a>(&self, link: &'a mut Option<Link>) -> Result<&'a Link, String> {
        if link.is_none() {
            let moves = self.node.moves();
            let client = self.pool.get().await.map_err(text)?;
            let row = client.query_one(LAYOUT, &[]).await.map_err(text)?;
            let bytes = |column| row.try_get(column).map_err(text).map(|bytes: i64| bytes.unsigned_abs());
            // Nobody knows whether the server is the one that was asked last, as after a reload. Until now what was known held for the
            // connections that are as old (`Horizon::covers_connection`).
            self.forget_horizon();
            *link = Some(Link { layout: Layout { page: bytes(0)?, segment: bytes(1)? }, client, moves });
        }
        link.as_ref().ok_or_else(String::new)
    }

    async fn sample(&self, link: &mut Option<Link>) -> Result<(), String> {
        let asked = async {
            let link = self.link(link).await?;
            let statement = link.client.prepare_cached(PRIMARY).await.map_err(text)?;
            let begun = Moment::now();
            let row = link.client.query_one(&statement, &[]).await.map_err(text)?;
            let (position, file): (PgLsn, String) = (row.try_get(0).map_err(text)?, row.try_get(1).map_err(text)?);
            if row.try_get(2).map_err(text)? {
                return Err("it is in recovery".to_owned());
            }
            Ok((begun, link.layout.end_of_records(position.into()), timeline_of(&file).ok_or("no timeline")?))
        };
        let (begun, position, timeline) = in_time(self.patience, asked).await?;
        // Demoted meanwhile: what it says does not count.
        if self.cluster.upgrade().and_then(|cluster| cluster.primary_of(self.group)) == Some(self.index) {
            self.freshness.take_sample(self.index, timeline, begun, position, &self.loads);
        }
        Ok(())
    }

    async fn ask_replica(&self, link: &mut Option<Link>) -> Result<(), String> {
        let epoch = self.freshness.epoch();
        let asked = async {
            let link = self.link(link).await?;
            let statement = link.client.prepare_cached(REPLICA).await.map_err(text)?;
            let begun = Moment::now();
            let row = link.client.query_one(&statement, &[]).await.map_err(text)?;
            let replayed: Option<PgLsn> = row.try_get(0).map_err(text)?;
            let timeline: Option<i32> = row.try_get(1).map_err(text)?;
            let in_recovery: bool = row.try_get(2).map_err(text)?;
            Ok((begun, replayed.filter(|_| in_recovery), timeline.and_then(|number| u32::try_from(number).ok())))
        };
        let (begun, replayed, timeline) = in_time(self.patience, asked).await?;
        match replayed {
            Some(replayed) => self.freshness.take_replayed(&self.node.load, epoch, begun, timeline, replayed.into()),
            // No standby: whatever it is, it is none of this primary's.
            None => {
                self.forget_horizon();
                self.node.load.probe.notify_one();
            }
        }
        Ok(())
    }
}

/// The timeline in a WAL file's name: its first eight hexadecimal digits.
fn timeline_of(file: &str) -> Option<u32> {
    u32::from_str_radix(file.get(..8)?, 16).ok()
}

async fn in_time<T>(patience: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(patience, work).await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_stands_in_the_name_of_a_file() {
        assert_eq!(timeline_of("0000001A0000000300000001"), Some(26));
        assert_eq!(timeline_of("short"), None);
    }
}
