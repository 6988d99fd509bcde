//! A planned switchover: the primary stands down until a replica that has everything is promoted. Who promotes it is the operator's
//! tool; in between writes wait, and reads go on.

use deadpool_postgres::Pool;
use tokio_postgres::types::PgLsn;

use crate::net::control;

use super::cluster::Cluster;
use super::directory::control_settings;
use super::freshness::Layout;

/// Where the next record will be inserted, and how the WAL is laid out.
const WRITTEN: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn(), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_block_size')), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))";

const REPLAYED: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn()";

/// A primary and a replica, asked how far the second is behind the first.
pub struct Pursuit {
    primary: Pool,
    replica: Pool,
    patience: std::time::Duration,
}

impl Cluster {
    /// Takes the primary out of service, until another node takes writes ([`Cluster::find_roles`]) or an administrator enables it
    /// again. What runs there ends there.
    pub fn stand_down(&self, index: usize) {
        self.note_leaving(&self.nodes[index].settings.name);
        self.disable_node(index);
    }

    /// The same for a node that has stood down for a process before this one.
    pub fn stand_down_again(&self, index: usize) {
        self.stand_down(index);
        self.note_stood_down();
    }

    /// Server connections to a node that are open or being opened, those of pools included that a reload has closed: what runs there may
    /// still be committed. Not those of physical replication, which cannot write: the replica itself may be fed by one.
    pub fn connections_to(&self, index: usize) -> usize {
        let node = &self.nodes[index];
        node.servers.used() + node.load.passing()
    }

    /// Asks how far a replica is behind; `None` when no user is configured to ask with.
    pub fn pursuit(&self, primary: usize, replica: usize) -> Option<Pursuit> {
        let pool = |index: usize| control::pool(control_settings(&self.database, &self.nodes[index], &self.tls)?).ok();
        let patience = self.database.routing.health_timeout;
        Some(Pursuit { primary: pool(primary)?, replica: pool(replica)?, patience })
    }
}

impl Pursuit {
    /// Whether the replica has replayed all that the primary had written when this was called.
    ///
    /// # Errors
    /// One of them does not answer, or is not what it was.
    pub async fn is_over(&self) -> Result<bool, String> {
        let asked = async {
            let row = self.primary.get().await.map_err(text)?.query_one(WRITTEN, &[]).await.map_err(text)?;
            let bytes = |column| row.try_get(column).map_err(text).map(|bytes: i64| bytes.unsigned_abs());
            let layout = Layout { page: bytes(1)?, segment: bytes(2)? };
            let written = layout.end_of_records(row.try_get::<_, PgLsn>(0).map_err(text)?.into());
            let row = self.replica.get().await.map_err(text)?.query_one(REPLAYED, &[]).await.map_err(text)?;
            let replayed: Option<PgLsn> = row.try_get(0).map_err(text)?;
            Ok(replayed.is_some_and(|replayed| u64::from(replayed) >= written))
        };
        let limit = self.patience;
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
