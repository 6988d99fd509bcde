//! What is looked for besides what is configured: replicas, and what coordinators of Citus know of workers and shards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::observe::beat;
use crate::session::Context;
use crate::topology::{Cluster, Discoverer, Survey, Surveyor};

/// Time between two looks for replicas.
const DISCOVER_EVERY: Duration = Duration::from_secs(2);
/// Longest time between two looks whether a map of shards is to be looked at: where there are any, and where there are none.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
const SURVEY_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Looks for replicas that are not configured, where that is wished for.
pub(super) async fn replicas(ctx: Arc<Context>) {
    let mut discoverers = BTreeMap::<String, Discoverer>::new();
    loop {
        tokio::time::sleep_until(beat::after(DISCOVER_EVERY)).await;
        let clusters = ctx.directory.clusters();
        discoverers.retain(|name, _| clusters.contains_key(name));
        for (name, cluster) in clusters.iter() {
            let wanted = cluster.database.discovery.is_some();
            if !wanted && !discoverers.contains_key(name) {
                continue;
            }
            let found = discoverers.entry(name.clone()).or_default().look(cluster).await;
            let Some(found) = found else { continue };
            if ctx.directory.adopt(&ctx.config.load_full(), name, found) {
                tell_sessions(&ctx);
            }
            if !wanted {
                discoverers.remove(name);
            }
        }
    }
}

/// Looks after what is known of the shards of databases that Citus distributes, and whether there are any.
pub(super) async fn shards(ctx: Arc<Context>) {
    let mut surveyors = BTreeMap::<String, Surveyor>::new();
    loop {
        let clusters = ctx.directory.clusters();
        surveyors.retain(|name, _| clusters.contains_key(name));
        // What stands for many databases is asked for none of them.
        let asked: Vec<&Arc<Cluster>> = clusters.values().filter(|cluster| cluster.can_be_surveyed()).collect();
        for cluster in &asked {
            surveyors.entry(cluster.database.name.clone()).or_default();
        }
        let looks = surveyors.iter_mut().filter_map(|(name, surveyor)| {
            let cluster = clusters.get(name).filter(|cluster| surveyor.due(cluster) <= Instant::now())?;
            Some(async {
                if surveyor.look(cluster).await == Survey::New {
                    follow(&ctx, cluster);
                }
            })
        });
        // One that does not answer keeps no other waiting for long.
        futures::future::join_all(looks).await;
        for cluster in &asked {
            surveyors.entry(cluster.database.name.clone()).or_default().let_go_while_paused(cluster);
        }
        let longest = match asked.iter().any(|cluster| cluster.citus.is_known()) {
            true => SURVEY_EVERY,
            false => SURVEY_AT_LEAST_EVERY,
        };
        let next = asked.iter().filter_map(|cluster| Some(surveyors.get(&cluster.database.name)?.due(cluster))).min();
        let pause = next.map_or(longest, |next| next.saturating_duration_since(Instant::now()));
        let woken = tokio::time::timeout(pause.min(longest), ctx.directory.surveys().notified());
        let _ = woken.await;
    }
}

/// The map of a database is another one: decisions are made by it, and its workers are used.
fn follow(ctx: &Arc<Context>, cluster: &Arc<Cluster>) {
    let name = &cluster.database.name;
    let tables = cluster.citus.map().map(|map| map.tables.clone());
    ctx.decisions(&cluster.database, name).distribute(tables);
    if ctx.directory.adopt_workers(&ctx.config.load_full(), name) {
        tell_sessions(ctx);
    }
}

/// Sessions look for the pools of their cluster anew.
fn tell_sessions(ctx: &Context) {
    ctx.generation.fetch_add(1, Ordering::AcqRel);
    ctx.clients.all().iter().for_each(|client| client.nudge());
}
