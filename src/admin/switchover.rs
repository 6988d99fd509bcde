//! `SWITCHOVER`: makes a replica ready to be promoted without a lost write.

use std::sync::Arc;

use super::action::NodeName;
use super::handler::Handler;
use super::operate::{LOOK, Look, state};
use crate::topology::{Cluster, Node, Standing};
use crate::wire::{ErrorNotice, SqlState};

impl Handler {
    /// Keeps writes waiting, lets those that run end, and waits until the replica has replayed all of it: then it may be promoted. Writes
    /// go on by themselves once it is.
    ///
    /// # Errors
    /// It cannot be done, or was given up: then the primary is in service again.
    pub(super) async fn switchover(&self, database: &str, replica: Option<&str>) -> Result<(), ErrorNotice> {
        let clusters = self.console.ctx.directory.clusters();
        let cluster = clusters.get(database).ok_or_else(|| {
            let message = format!("no such database: {database}");
            ErrorNotice::error(SqlState::UNKNOWN_DATABASE, message).hint("SHOW NODES lists them.")
        })?;
        self.must_be_alone()?;
        let from = cluster.primary().ok_or_else(|| {
            state(format!("no node of database {database} takes writes")).detail(cluster.why_no_primary())
        })?;
        let to = successor(cluster, replica)?;
        let name =
            |index: usize| NodeName { database: database.to_owned(), node: cluster.nodes[index].settings.name.clone() };
        let (primary, replica) = (name(from), name(to));
        cluster.stand_down(from);
        // Behind that: a successor that comes at this moment sees it, or is seen here.
        if let Err(succeeded) = self.must_be_alone() {
            cluster.enable_node(from);
            return Err(succeeded);
        }
        tracing::info!(database, from = primary.node, to = replica.node, "switchover: writes wait");
        let mut attempt = Attempt { handler: self, primary: &primary, has_succeeded: false };
        self.hand_over(&primary, &replica).await?;
        attempt.has_succeeded = true;
        if let Ok((cluster, _)) = self.node(&primary) {
            cluster.note_stood_down();
        }
        let (from, to) = (&primary.node, &replica.node);
        tracing::info!(database, from, to, "switchover: the replica has everything and may be promoted");
        Ok(())
    }

    async fn hand_over(&self, primary: &NodeName, replica: &NodeName) -> Result<(), ErrorNotice> {
        self.wait(|| match self.node(primary) {
            Ok((cluster, from)) if !cluster.nodes[from].is_disabled() => Look::Undone("ENABLE NODE"),
            Ok((cluster, from)) if cluster.connections_to(from) > 0 => Look::Wait,
            _ => Look::Done,
        })
        .await?;
        let ((cluster, from), (_, to)) = (self.node(primary)?, self.node(replica)?);
        let pursuit = cluster.pursuit(from, to).ok_or_else(|| {
            state("the nodes cannot be asked how far they are")
                .hint("Set control_user and control_password for the database.")
        })?;
        let caught_up = async {
            loop {
                match pursuit.is_over().await {
                    Ok(true) => return Ok(()),
                    Ok(false) => tokio::time::sleep(LOOK).await,
                    Err(error) => {
                        return Err(state("it cannot be found out whether the replica has everything").detail(error));
                    }
                }
            }
        };
        let undone = self.wait(|| match self.node(primary) {
            Ok((cluster, from)) if !cluster.nodes[from].is_disabled() => Look::Undone("ENABLE NODE"),
            _ => Look::Wait,
        });
        tokio::select! {
            biased;
            ended = undone => ended,
            caught_up = caught_up => caught_up,
        }
    }
}

/// A switchover until the replica may be promoted. Whatever ends it before that, an administrator who has gone included, puts the primary
/// back into service.
struct Attempt<'a> {
    handler: &'a Handler,
    primary: &'a NodeName,
    has_succeeded: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // By its name: a reload may have made another cluster of it.
        if !self.has_succeeded
            && let Ok((cluster, from)) = self.handler.node(self.primary)
        {
            tracing::info!(node = self.primary.node, "switchover: given up");
            cluster.enable_node(from);
        }
    }
}

/// The replica that is to take over: the one that is named, or the only one.
fn successor(cluster: &Cluster, name: Option<&str>) -> Result<usize, ErrorNotice> {
    let fit = |node: &Arc<Node>| node.standing() == Standing::Replica && !node.is_disabled() && node.load.is_up();
    let database = &cluster.database.name;
    let Some(name) = name else {
        let mut replicas = (0..cluster.nodes.len()).filter(|index| fit(&cluster.nodes[*index]));
        return match (replicas.next(), replicas.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(state(format!("database {database} has no replica that is up"))),
            _ => Err(ErrorNotice::error(SqlState::SYNTAX_ERROR, format!("database {database} has several replicas"))
                .hint("SWITCHOVER db.node says which of them is to be promoted. SHOW NODES lists them.")),
        };
    };
    let index = cluster.nodes.iter().position(|node| node.settings.name == name).ok_or_else(|| {
        let message = format!("database {database} has no node {name}");
        ErrorNotice::error(SqlState::UNDEFINED_OBJECT, message).hint("SHOW NODES lists them.")
    })?;
    match &cluster.nodes[index] {
        node if node.is_primary() => Err(state(format!("{name} is the primary already"))),
        node if !fit(node) => Err(state(format!("{name} is no replica that is up")).hint("See SHOW NODES.")),
        _ => Ok(index),
    }
}
