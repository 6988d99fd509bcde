//! `trunkline run`: everything started in order, then signals, then everything ended in order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::{Console, Order, Shutdown, Wish};
use crate::auth::AuthContext;
use crate::config::{Config, Environment, Loaded, Origin};
use crate::net::{ListenError, ListenOptions, Listener, ServerTlsContext, TlsError};
use crate::observe::logging::{self, LogError};
use crate::observe::{DatabaseReadiness, HttpServer, LogHandle, Metrics, Readiness, SlowLog, SlowLogError, panics};
use crate::pool::Service;
use crate::session::{ClientState, Clients, Context, Request};
use crate::topology::Directory;

use super::front::{self, Front};
use super::reload::Reloader;
use super::rt::{self, Workers};

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
    let log = logging::init(&config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files(config.max_clients);
    let workers = Arc::new(Workers::start(config.workers)?);
    let served = rt::control(serve(config, (file, env, origin), log, workers.clone()))?;
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
    log: LogHandle,
    workers: Arc<Workers>,
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
        generation: 0.into(),
    });
    let (mut reloader, mut orders) = Reloader::new(ctx.clone(), file, env, log, origin);
    let console = Arc::new(Console::new(ctx.clone(), reloader.orders()));
    let front = Arc::new(Front { ctx: ctx.clone(), tls: ArcSwapOption::new(tls), console });

    let options = ListenOptions { keepalive: config.client.keepalive, ..ListenOptions::default() };
    let mut acceptors = Vec::new();
    for address in &config.listen {
        let listener = Listener::bind(address, &options)?;
        tracing::info!(?address, "listening");
        acceptors.push(tokio::spawn(front::accept(listener, front.clone(), workers.clone())));
    }
    let (stop_http, mut stopped) = watch::channel(false);
    if let Some(address) = config.metrics {
        let server = HttpServer::bind(address).await.map_err(|error| RunError::Http(address, error))?;
        let readiness_ctx = ctx.clone();
        let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
        tokio::spawn(server.serve(metrics.clone(), Arc::new(move || readiness(&readiness_ctx)), stop));
    }
    tokio::spawn(metrics.run());
    tokio::spawn(keep_house(ctx.clone()));
    // Not under systemd: nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);

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
        }
    };
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!(how = ?shutdown, clients = ctx.clients.len(), "shutting down");
    ctx.draining.store(true, Ordering::Release);
    acceptors.iter().for_each(tokio::task::JoinHandle::abort);
    drain(&ctx, shutdown, &mut signals, &mut orders).await;
    for cluster in ctx.directory.clusters().values() {
        cluster.close();
    }
    let _ = stop_http.send(true);
    slow_log.shutdown(Duration::from_secs(2));
    tracing::info!("stopped");
    Ok(())
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// How the program was asked to end.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// By a signal; `fast` = transactions are not waited for.
    Signal { fast: bool },
    /// On the console.
    Console(Shutdown),
}

/// Lets transactions finish for as long as the configuration grants (a signal ends that), then closes the rest. An
/// administrator on the console who wants to wait knows for how long.
async fn drain(ctx: &Arc<Context>, ending: Ending, signals: &mut Signals, orders: &mut mpsc::Receiver<Order>) {
    let limit = match ending {
        Ending::Signal { .. } => ctx.config.load().client.drain_timeout,
        Ending::Console(_) => None,
    };
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut patient = !matches!(ending, Ending::Signal { fast: true } | Ending::Console(Shutdown::Now));
    // Nobody could move otherwise.
    if ctx.directory.gates.service() == Service::Suspended {
        ctx.directory.gates.set_service(Service::Active);
    }
    ctx.clients.all().iter().for_each(|client| client.wake_up());
    while matches!(ending, Ending::Console(Shutdown::WaitForClients)) && patient && ctx.clients.sessions() > 0 {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            Some(order) = orders.recv() => patient &= !ends_now(order),
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => patient = false,
        }
    }
    let mut grace = 100;
    while !ctx.clients.is_empty() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            patient = false;
        }
        // Asked again each time: a session that was just logging in is told, too.
        front::close_sessions(ctx, !patient);
        close_the_waiting(ctx, ending);
        if !patient {
            grace -= 1;
            if grace == 0 {
                tracing::warn!(clients = ctx.clients.len(), "clients left that did not close in time");
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            Some(order) = orders.recv() => patient &= !ends_now(order),
            _ = signals.terminate.recv() => patient = false,
            _ = signals.interrupt.recv() => patient = false,
        }
    }
}

/// Closes sessions that wait for a server connection which they would not get before the end: their database is paused, or an
/// administrator waits for those that are in use only.
fn close_the_waiting(ctx: &Context, ending: Ending) {
    let all = matches!(ending, Ending::Console(Shutdown::WaitForServers));
    for client in ctx.clients.all().iter().filter(|client| client.state() == ClientState::Waiting) {
        if all || ctx.directory.gates.find(&client.database).is_some_and(|gate| gate.is_paused()) {
            client.request(Request::Kill);
        }
    }
}

/// Answers an order that comes while the program is ending; whether it ends the waiting.
fn ends_now(order: Order) -> bool {
    let now = order.wish == Wish::Shutdown(Shutdown::Now);
    order.answer(if now { Ok(()) } else { Err("the proxy is shutting down".to_owned()) });
    now
}

/// Once a second: idle connections are looked after.
async fn keep_house(ctx: Arc<Context>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for cluster in ctx.directory.clusters().values() {
            cluster.tend();
        }
    }
}

fn readiness(ctx: &Context) -> Readiness {
    let clusters = ctx.directory.clusters();
    let databases = clusters.values().map(|cluster| {
        let up = |primary: bool| {
            cluster.nodes.iter().filter(|node| node.is_primary() == primary && node.load.is_up()).count()
        };
        DatabaseReadiness {
            database: cluster.database.name.clone(),
            primary: up(true) > 0,
            replicas_up: up(false),
            replicas: cluster.nodes.iter().filter(|node| !node.is_primary()).count(),
        }
    });
    Readiness { draining: ctx.draining.load(Ordering::Acquire), databases: databases.collect() }
}
