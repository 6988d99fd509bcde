//! Large transfers in large pieces.
//!
//! PostgreSQL sends a large result by 8 KiB, and each of them wakes whoever reads, which costs more than moving the bytes. So a TCP
//! connection that has brought much since it was last written to gets a low-water mark (SO_RCVLOWAT, socket(7)): the kernel says
//! nothing before [`PIECE`] is there, and its reader sleeps meanwhile. The end of the connection is told at once, as ever.
//!
//! The end of a transfer is mostly less than a piece, and a slow sender takes long for one. So a timer of the thread ticks while there
//! are marks, and a connection of which nothing was read for a whole tick loses its mark: the kernel then tells what is there.
//! Nothing waits longer than two ticks, and only behind [`MUCH`] that came in one go.
//!
//! A Unix socket has no mark that the kernel heeds; TLS costs more than waking does, and goes without.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use tokio::io::unix::AsyncFd;

use super::plain::Shared;
use super::socket::Socket;

#[cfg(test)]
mod tests;

/// What must have come before there is a mark. It takes a server milliseconds, beside which two ticks are little.
const MUCH: usize = 1024 * 1024;
/// What must come before the next one, when a mark was taken back: a sender that has to share its processor stops for a while.
const MORE: usize = 64 * 1024;
/// A shorter read is no part of a transfer that is as fast as it can be.
const SHORT: usize = 4096;
/// The mark: somewhat less than what is read at a time, so that one read takes all.
const PIECE: usize = 48 * 1024;
/// Time between two looks at the connections with marks.
const TICK: Duration = Duration::from_micros(500);

/// No mark.
const NONE: u8 = 0;
/// A mark, and something was read since the last tick.
const HEARD: u8 = 1;
/// A mark, and nothing was.
const SILENT: u8 = 2;

/// What is known of one connection. Its reader and the thread that gave it its mark may be two, after a hand-over: whatever they do
/// at the same time, a mark that is set ends up among those that a thread looks at.
#[derive(Debug, Default)]
pub(super) struct LowWater {
    /// Bytes read since the last write or the last short read; less after a mark that was taken back.
    volume: AtomicUsize,
    mark: AtomicU8,
}

impl LowWater {
    /// So many bytes were read.
    #[inline]
    pub fn read(&self, bytes: usize) {
        if bytes < SHORT {
            self.volume.store(0, Ordering::Relaxed);
        } else {
            let volume = self.volume.load(Ordering::Relaxed).saturating_add(bytes);
            self.volume.store(volume, Ordering::Relaxed);
        }
        if self.mark.load(Ordering::Relaxed) == SILENT {
            // Lost to a tick that takes the mark back just now, which is as good.
            let _ = self.mark.compare_exchange(SILENT, HEARD, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Whether the next bytes are worth waiting for in pieces.
    #[inline]
    pub fn is_worth_a_mark(&self) -> bool {
        self.volume.load(Ordering::Relaxed) >= MUCH
    }

    /// Something is written, or else wanted of the connection: what comes next is told at once.
    #[inline]
    pub fn end(&self, socket: &Socket) {
        if self.mark.load(Ordering::Relaxed) != NONE {
            self.take_back(socket);
        }
        if self.volume.load(Ordering::Relaxed) != 0 {
            self.volume.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn take_back(&self, socket: &Socket) {
        if self.mark.swap(NONE, Ordering::AcqRel) != NONE {
            self.volume.store(MUCH - MORE, Ordering::Relaxed);
            // A socket that took a mark takes this, too.
            let _ = set_mark(socket, 1);
        }
    }

    #[cfg(test)]
    fn is_marked(&self) -> bool {
        self.mark.load(Ordering::Acquire) != NONE
    }

    /// A tick of the timer: whether there is a mark to be looked at again.
    fn tick(&self, socket: &Socket) -> bool {
        if self.mark.compare_exchange(HEARD, SILENT, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return true;
        }
        self.take_back(socket);
        false
    }
}

thread_local! {
    /// The connections with marks, of a thread that gives any.
    static MARKED: RefCell<Option<Marked>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Marked {
    connections: Vec<Weak<Shared>>,
    /// A task goes through them.
    ticking: bool,
}

/// From now on this thread, which runs a current-thread runtime, gives marks.
pub fn start() {
    MARKED.set(Some(Marked::default()));
}

/// Nothing is there to be read: the next bytes come in a piece.
#[cold]
pub(super) fn wait_for_a_piece(of: &Arc<Shared>) {
    let low_water = &of.low_water;
    if !matches!(of.socket, Socket::Tcp(..)) || low_water.mark.load(Ordering::Acquire) != NONE {
        return;
    }
    MARKED.with_borrow_mut(|marked| {
        let Some(marked) = marked else { return };
        if !marked.ticking {
            // No descriptor left: it goes on without.
            let Ok(timer) = start_timer() else { return };
            tokio::spawn(look_again(timer));
            marked.ticking = true;
        }
        if set_mark(&of.socket, PIECE).is_ok() {
            low_water.mark.store(HEARD, Ordering::Release);
            marked.connections.push(Arc::downgrade(of));
        }
    });
}

#[allow(unsafe_code)]
fn start_timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let tick = TICK.try_into().map_err(io::Error::other)?;
    let times = Itimerspec { it_interval: tick, it_value: tick };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    // SAFETY: an `OwnedFd` is one descriptor as long as it lives, and nobody else has this one.
    Ok(unsafe { AsyncFd::register(timer) }?)
}

/// Goes through the thread's marked connections at each tick, until there are none.
async fn look_again(timer: AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = timer.readable().await else { return };
        // One read takes all ticks that have passed.
        let mut ticks = [0; 8];
        let _ = rustix::io::read(timer.get_ref(), &mut ticks);
        ready.clear_ready();
        let goes_on = MARKED.with_borrow_mut(|marked| {
            let Some(marked) = marked else { return false };
            marked.connections.retain(|of| of.upgrade().is_some_and(|of| of.low_water.tick(&of.socket)));
            marked.ticking = !marked.connections.is_empty();
            marked.ticking
        });
        if !goes_on {
            return;
        }
    }
}

/// Sets SO_RCVLOWAT. When it sinks to what is there already, the kernel says so at once (`tcp_set_rcvlowat`).
#[allow(unsafe_code)]
fn set_mark(socket: &Socket, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel reads `length` bytes of `bytes` before it returns.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const bytes).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
