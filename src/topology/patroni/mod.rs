//! Watching Patroni: who leads, by its word.
//!
//! Any member's REST API tells about all of them. One is asked; when it does not answer at once, the next one is asked beside it, and the
//! first answer counts. A look that fails changes nothing: what was heard last holds for [`reports::HOLDS_FOR`] more.

mod addresses;
mod reports;
mod view;

pub use reports::{Endpoint, Report};
pub(super) use reports::{Leadership, Reports, Told};
pub use view::{Member, View, place};

use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Patroni, PatroniEndpoint};
use crate::net::{HttpClient, HttpError};
use crate::observe::PatroniMetrics;

use super::cluster::Cluster;
use addresses::Addresses;

/// The next member is asked when one has not answered for so long.
const HEDGE: Duration = Duration::from_millis(300);
/// Longest time for one look, whoever is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks in any case, and while no node takes writes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// Most bytes of an answer.
const MOST_BYTES: usize = 1 << 20;

/// Looks again and again, as long as the cluster is there.
pub(super) async fn watch(cluster: Weak<Cluster>, settings: Patroni, metrics: PatroniMetrics) {
    let Some((database, era)) = cluster.upgrade().map(|c| (c.database.name.clone(), c.era.clone())) else { return };
    let client = match HttpClient::new(settings.ca.as_deref()) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(database, %error, "Patroni cannot be watched: the servers alone are asked");
            era.patroni.give_up();
            return;
        }
    };
    let reports = &era.patroni;
    let mut addresses = Addresses::default();
    let mut preferred = 0;
    reports.watches(&settings);
    loop {
        let began = Instant::now();
        let look =
            Look { client: &client, endpoints: &settings.endpoints, outdated: &|view| reports.is_outdated(view) };
        let outcome = look.run(preferred).await;
        let Some(cluster) = cluster.upgrade() else { return };
        metrics.looked(outcome.view.is_some());
        if let Some((endpoint, _)) = &outcome.view {
            preferred = *endpoint;
        }
        let heard = match &outcome.view {
            Some((_, view)) => Some((view, addresses.place(view, &cluster.nodes).await)),
            None => None,
        };
        reports.take(&database, &cluster.nodes, heard, &outcome.said);
        cluster.find_roles();
        let missed = cluster.primary().is_none_or(|primary| !cluster.nodes[primary].load.is_up());
        drop(cluster);
        let pause = if missed { settings.interval.min(SHORTEST_PAUSE) } else { settings.interval };
        let _ = timeout(pause, reports.wake.notified()).await;
        sleep_until(began + SHORTEST_PAUSE).await;
    }
}

/// One look.
struct Look<'a> {
    client: &'a HttpClient,
    endpoints: &'a [PatroniEndpoint],
    /// Whether an answer is older than what is known.
    outdated: &'a (dyn Fn(&View) -> bool + Sync),
}

/// What came of it.
struct Outcome {
    /// The answer, and whose it is.
    view: Option<(usize, View)>,
    /// What became of each that was asked; `None` = it answered.
    said: Vec<(usize, Option<String>)>,
}

impl Look<'_> {
    /// Asks, beginning with the endpoint that answered last.
    async fn run(&self, preferred: usize) -> Outcome {
        let count = self.endpoints.len();
        let mut order = (0..count).map(|step| (preferred + step) % count);
        let mut asked = Vec::new();
        let mut said = Vec::new();
        let mut running = FuturesUnordered::new();
        let deadline = Instant::now() + PATIENCE;
        let mut view = None;
        loop {
            if let Some(next) = order.next() {
                asked.push(next);
                running.push(self.ask(next));
            } else if running.is_empty() {
                break;
            }
            tokio::select! {
                Some((endpoint, answer)) = running.next() => match answer {
                    Ok(answer) => {
                        said.push((endpoint, None));
                        view = Some((endpoint, answer));
                        break;
                    }
                    Err(error) => said.push((endpoint, Some(error))),
                },
                () = sleep(HEDGE) => {}
                () = sleep_until(deadline) => break,
            }
        }
        if view.is_none() {
            let silent: Vec<usize> =
                asked.into_iter().filter(|one| !said.iter().any(|(other, _)| other == one)).collect();
            said.extend(silent.into_iter().map(|one| (one, Some(format!("no answer within {PATIENCE:?}")))));
        }
        Outcome { view, said }
    }

    async fn ask(&self, index: usize) -> (usize, Result<View, String>) {
        let endpoint = &self.endpoints[index];
        let answer = self.client.get(endpoint.https, &endpoint.address, "/cluster", MOST_BYTES).await;
        let read = answer.map_err(|error: HttpError| error.to_string()).and_then(|body| View::read(&body));
        let view = read.and_then(|view| match (self.outdated)(&view) {
            true => Err("it tells of an older timeline than is known: it may be cut off from the others".to_owned()),
            false => Ok(view),
        });
        (index, view)
    }
}
