//! The end of the program: who asks for it, and how clients are let go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admin::{Order, Shutdown, Wish};
use crate::pool::Service;
use crate::session::{ClientState, Context, Request};

use super::front;
/// The signals that the program listens to.
pub struct Signals {
    /// Read the configuration again.
    pub hangup: Signal,
    /// End in peace.
    pub terminate: Signal,
    /// End.
    pub interrupt: Signal,
}

impl Signals {
    /// Listens to them from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> io::Result<Self> {
        // Somebody may send them who takes the program for another one, to have it open its log anew, say: they must not end it.
        for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            drop(signal(kind)?);
        }
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// How the program was asked to end.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// By a signal.
    Signal {
        /// Transactions are not waited for.
        fast: bool,
    },
    /// On the console.
    Console(Shutdown),
    /// Another process has taken over; who is left here may stay for a while.
    TakenOver,
}

/// Lets transactions finish for as long as the configuration grants (a signal ends that), then closes the rest. An
/// administrator on the console who wants to wait knows for how long. When another process has taken over, clients have as
/// long again before that to leave by themselves, and are served as ever: SIGTERM ends this part.
pub async fn drain(ctx: &Arc<Context>, ending: Ending, signals: &mut Signals, orders: &mut mpsc::Receiver<Order>) {
    let limit = match ending {
        Ending::Signal { .. } | Ending::TakenOver => ctx.config.load().client.drain_timeout,
        Ending::Console(_) => None,
    };
    let mut patient = !matches!(ending, Ending::Signal { fast: true } | Ending::Console(Shutdown::Now));
    // Nobody could move otherwise.
    if ctx.directory.gates.service() == Service::Suspended {
        ctx.directory.gates.set_service(Service::Active);
    }
    ctx.clients.all().iter().for_each(|client| client.wake_up());
    let taken_over = matches!(ending, Ending::TakenOver);
    // A client that was accepted before the takeover may log in.
    ctx.draining.store(!taken_over, Ordering::Release);
    if taken_over || matches!(ending, Ending::Console(Shutdown::WaitForClients)) {
        patient &= leave(ctx, taken_over, limit, signals, orders).await;
    }
    ctx.draining.store(true, Ordering::Release);
    let deadline = limit.map(|limit| Instant::now() + limit);
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

/// Waits until clients have left by themselves, with `logging_in` those included that are logging in. False: there is no more time for
/// transactions, either.
async fn leave(
    ctx: &Arc<Context>,
    logging_in: bool,
    limit: Option<Duration>,
    signals: &mut Signals,
    orders: &mut mpsc::Receiver<Order>,
) -> bool {
    let deadline = limit.map(|limit| Instant::now() + limit);
    while ctx.clients.sessions() > 0 || logging_in && ctx.clients.logging_in_now() > 0 {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            Some(order) = orders.recv() => {
                if ends_now(order) {
                    return false;
                }
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => return false,
        }
    }
    true
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
