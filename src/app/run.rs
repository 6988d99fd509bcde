//! `trunkline run`: everything started in order, then signals, then everything ended in order.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use tokio::sync::Mutex;

use crate::admin::{Console, Wish};
use crate::auth::AuthContext;
use crate::config::{Config, Environment, Loaded, Origin};
use crate::net::{Inherited, ListenError, ServerTlsContext, TlsError};
use crate::observe::beat;
use crate::observe::logging::{self, Log, LogError};
use crate::observe::{DatabaseReadiness, Metrics, Readiness, SlowLog, SlowLogError, panics};
use crate::session::{Clients, Context};
use crate::topology::Directory;

use super::discover;
use super::doors::Doors;
use super::ending::{Ending, Signals, drain};
use super::front::Front;
use super::reload::Reloader;
use super::rt::{self, Workers};
use super::takeover::{self, Offering, Predecessors, Received, StandDown, TakeoverError};

/// How long it takes at most to start for a replica that does not tell how fresh it is.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Why the program could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// TLS files that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The slow-query log cannot be opened.
    #[error(transparent)]
    SlowLog(#[from] SlowLogError),
    /// The address of /metrics cannot be listened on.
    #[error("cannot serve /metrics on {0}: {1}")]
    Http(std::net::SocketAddr, io::Error),
    /// A running process could not be taken over from.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves until a signal ends the program. `file` is what a reload reads again.
///
/// # Errors
/// [`RunError`]: the program could not start.
pub fn run(loaded: Loaded, file: Option<PathBuf>, env: Environment) -> Result<(), RunError> {
    let (config, origin) = (loaded.config, loaded.origin);
    // First of all: there is one thread, and nothing is open but what was passed.
    let passed = Inherited::from_service_manager();
    let log = logging::init(&config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files(config.max_clients);
    let workers = Arc::new(Workers::start(config.workers, config.batch_sends)?);
    let served = rt::control(serve(config, (file, env, origin), &log, workers.clone(), passed))?;
    drop(workers);
    served
}

/// Raises the soft limit of open files to the hard one, and says so when even that is less than the configuration allows
/// clients (trap 80). Servers, files and connections that are not logged in yet come on top.
fn raise_open_files(max_clients: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "cannot raise the limit of open files");
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < u64::from(max_clients) + 100
    {
        tracing::warn!(
            limit,
            max_clients,
            "fewer files may be open than clients are allowed: raise LimitNOFILE (ulimit -n)"
        );
    }
}

async fn serve(
    config: Config,
    (file, env, origin): (Option<PathBuf>, Environment, Origin),
    log: &Log,
    workers: Arc<Workers>,
    passed: Inherited,
) -> Result<(), RunError> {
    // Before anybody can know that there is a process to be signalled.
    let mut signals = Signals::new()?;
    let metrics = Metrics::new();
    metrics.set_max_clients(config.max_clients);
    panics::report_to(metrics.clone());
    let slow_log = SlowLog::start(&config.slow_log, &metrics)?;
    let tls = ServerTlsContext::load(&config.client_tls)?;
    let control = tokio::runtime::Handle::current();
    let directory = Directory::new(&config, control, metrics.clone(), Arc::new(AuthContext::new()?))?;
    let ctx = Arc::new(Context {
        config: ArcSwap::from_pointee(config.clone()),
        directory,
        clients: Arc::<Clients>::default(),
        metrics: metrics.clone(),
        slow_log: slow_log.clone(),
        decisions: Default::default(),
        hubs: Default::default(),
        draining: false.into(),
        succeeded: false.into(),
        preceded: Arc::default(),
        generation: 0.into(),
    });
    ctx.read_catalogs(&config);
    let (mut reloader, mut orders) = Reloader::new(ctx.clone(), file, env, log.handle.clone(), origin);
    let console = Arc::new(Console::new(ctx.clone(), reloader.orders()));
    let predecessors = Arc::new(Predecessors::counted_by(ctx.preceded.clone()));
    let front = Arc::new(Front { ctx: ctx.clone(), tls: ArcSwapOption::new(tls), console, predecessors });

    tokio::spawn(log.watch(metrics.clone()));
    tokio::spawn(metrics.run());
    ctx.directory.first_look(FIRST_LOOK).await;
    let (doors, mut offering) = tokio::select! {
        opened = open_doors(&config, passed, &front, workers) => opened?,
        // It may have to wait for its turn; whom it takes over from goes on.
        _ = signals.terminate.recv() => return Ok(()),
        _ = signals.interrupt.recv() => return Ok(()),
    };
    tokio::spawn(keep_house(ctx.clone()));
    tokio::spawn(discover::replicas(ctx.clone()));
    tokio::spawn(discover::shards(ctx.clone()));

    let shutdown = loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                slow_log.reopen();
                let _ = sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready)]);
                // A refused reload has been logged; the old configuration stays.
                let _ = reloader.reload(&front);
                let _ = sd_notify::notify(&[NotifyState::Ready]);
            }
            Some(order) = orders.recv() => match order.wish.clone() {
                Wish::Reload => order.answer(reloader.reload(&front)),
                Wish::Set { path, value } => order.answer(reloader.set(path, value, &front)),
                Wish::Shutdown(when) => {
                    order.answer(Ok(()));
                    break Ending::Console(when);
                }
            },
            _ = signals.terminate.recv() => break Ending::Signal { fast: false },
            _ = signals.interrupt.recv() => break Ending::Signal { fast: true },
            successor = offering.handed() => {
                front.predecessors.leave();
                tokio::spawn(takeover::serve_cancels(successor, ctx.clients.clone()));
                break Ending::TakenOver;
            }
        }
    };
    if !matches!(shutdown, Ending::TakenOver) {
        // The service manager follows the successor already.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
    tracing::info!(how = ?shutdown, clients = ctx.clients.len(), "shutting down");
    drop(offering);
    doors.lock().await.close().await;
    drain(&ctx, shutdown, &mut signals, &mut orders).await;
    for cluster in ctx.directory.clusters().values() {
        cluster.close();
    }
    doors.lock().await.stop_metrics();
    slow_log.shutdown(Duration::from_secs(2));
    tracing::info!("stopped");
    Ok(())
}

/// Gets the listening sockets, from a running process if there is one, and starts to accept. All else must be prepared.
async fn open_doors(
    config: &Config,
    passed: Inherited,
    front: &Arc<Front>,
    workers: Arc<Workers>,
) -> Result<(Arc<Mutex<Doors>>, Offering), RunError> {
    let path = config.takeover_socket.as_deref();
    let mut received = match path {
        Some(path) => Received::ask(path).await?,
        None => None,
    };
    let mut inherited = received.as_mut().map(Received::take_listeners).unwrap_or_default();
    inherited.append(passed);
    let readiness_ctx = front.ctx.clone();
    let readiness = Arc::new(move || readiness(&readiness_ctx));
    let mut doors = Doors::new(config, &mut inherited, front.clone(), workers, readiness).await?;
    let takeover = match received {
        Some(received) => {
            let take_up = |leaving| stand_down_again(&front.ctx.directory, leaving);
            let (listener, links) = received.serve(take_up, announce_successor).await?;
            front.predecessors.follow(links);
            Some(listener)
        }
        None => path.map(takeover::listen).transpose()?,
    };
    inherited.close();
    doors.open();
    // Not under systemd: nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let doors = Arc::new(Mutex::new(doors));
    let offering = match (takeover, path) {
        (Some(listener), Some(path)) => Offering::start(listener, path, doors.clone(), front.clone()),
        _ => Offering::none(),
    };
    Ok((doors, offering))
}

/// What stood down for a switchover in the process before this one does so here. A database that is not configured any more is written to
/// by nobody.
fn stand_down_again(directory: &Directory, leaving: Vec<StandDown>) -> Result<(), String> {
    let clusters = directory.clusters();
    for StandDown { database, node } in leaving {
        let Some(cluster) = clusters.get(&database) else { continue };
        let index = cluster.nodes.iter().position(|one| one.settings.name == node).ok_or_else(|| {
            format!(
                "{node} of database {database} stands down for a switchover, and is no node of it by this configuration"
            )
        })?;
        tracing::info!(database, node, "switchover: the node stands down here, too, until a replica is promoted");
        cluster.stand_down_again(index);
    }
    Ok(())
}

/// Tells the service manager that it is this process now which it should follow, and waits until it knows: the old one may
/// end at once.
async fn announce_successor() {
    let told = async {
        sd_notify::notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready])?;
        let (own, theirs) = tokio::net::UnixStream::pair()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
        drop(theirs);
        // Closed by the service manager when it has read everything before.
        own.readable().await
    };
    match tokio::time::timeout(Duration::from_secs(3), told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the service manager was not told of this process"),
        Err(_) => tracing::warn!("the service manager does not answer"),
    }
}

/// Once a second: idle connections are looked after, logins that take too long, and those who wait for a node that does not answer; these
/// also as soon as one is lost.
async fn keep_house(ctx: Arc<Context>) {
    let mut tick = beat::every(Duration::from_secs(1));
    loop {
        for cluster in ctx.directory.clusters().values() {
            cluster.tend();
        }
        ctx.directory.gates.tidy();
        if ctx.directory.misses_a_node() {
            ctx.clients.tell_of_lost_nodes();
        }
        ctx.clients.look_at_logins();
        ctx.all_decisions().iter().for_each(|(_, decisions)| decisions.forget_old());
        loop {
            tokio::select! {
                _ = tick.tick() => break,
                () = ctx.directory.lost.notified() => ctx.clients.tell_of_lost_nodes(),
            }
        }
    }
}

fn readiness(ctx: &Context) -> Readiness {
    let clusters = ctx.directory.clusters();
    let databases = clusters.values().map(|cluster| {
        // What workers of Citus do, their coordinator does without them.
        let nodes = || cluster.nodes.iter().filter(|node| !node.is_worker());
        let up = |primary: bool| nodes().filter(|node| node.is_primary() == primary && node.load.is_up()).count();
        DatabaseReadiness {
            database: cluster.database.name.clone(),
            primary: up(true) > 0,
            replicas_up: up(false),
            replicas: nodes().filter(|node| !node.is_primary()).count(),
        }
    });
    Readiness { draining: ctx.draining.load(Ordering::Acquire), databases: databases.collect() }
}
