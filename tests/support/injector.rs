//! A TCP fault injector: stands between two programs, and does to their connections what networks do.
//!
//! Faults are weather: they hold for a share of the connections until the weather changes. Without any, bytes pass as they come.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What happens to a connection that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Bytes come so much later.
    Delay(Duration),
    /// Half-open: nothing is forwarded, and nothing is closed. What came meanwhile goes on its way afterwards.
    Hold,
    /// Every byte is a packet of its own.
    Split,
    /// Reset at once.
    Cut,
    /// Reset after half of what is forwarded next, in the middle of a message.
    Tear,
    /// The same for what comes back from the target.
    TearAnswer,
    /// Of what comes back from the target only so many more bytes arrive at most, fewer on most connections; then it is reset.
    CutAnswer(u16),
    /// The same, closed in peace.
    EndAnswer(u16),
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    fault: Fault,
    /// Percent of the connections.
    share: u64,
    /// New connections are reset at once.
    refuses: bool,
    /// Connections with a lower number are held for ever.
    forgotten: u64,
    /// Which connections are struck depends on it.
    number: u64,
}

impl Weather {
    fn fault(&self, connection: u64) -> Fault {
        if connection < self.forgotten {
            return Fault::Hold;
        }
        if self.drawn(connection) % 100 < self.share { self.fault } else { Fault::None }
    }

    fn drawn(&self, connection: u64) -> u64 {
        (connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.number.wrapping_mul(0xD1B5_4A32_D192_ED03)) >> 32
    }

    /// How many bytes of at most so many.
    fn portion(&self, connection: u64, most: u16) -> usize {
        usize::try_from(self.drawn(connection) / 100).unwrap_or(0) % usize::from(most.max(1))
    }
}

/// A running injector; its connections end with it.
#[derive(Debug)]
pub struct Injector {
    port: u16,
    weather: Option<watch::Sender<Weather>>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    /// Forwards connections to this port of the loopback.
    pub fn before(target: u16) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), target)
    }

    /// The same, at this address.
    pub fn at(place: SocketAddr, target: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(place)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (weather, changes) =
            watch::channel(Weather { fault: Fault::None, share: 0, refuses: false, forgotten: 0, number: 0 });
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let thread = thread::spawn(move || runtime.block_on(accept(listener, target, changes, count)));
        Self { port, weather: Some(weather), accepted, thread: Some(thread) }
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were accepted until now.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// From now on so many percent of the connections suffer this fault. Those that were cut stay cut; others recover.
    pub fn strike(&self, fault: Fault, percent: u8) {
        self.change(|weather| (weather.fault, weather.share) = (fault, percent.into()));
    }

    /// What was held is reset, and never arrives.
    pub fn cut_held(&self) {
        if let Some(weather) = &self.weather {
            // The same connections: their draw stays as it was.
            weather.send_if_modified(|weather| {
                let held = weather.fault == Fault::Hold;
                if held {
                    weather.fault = Fault::Cut;
                }
                held
            });
        }
    }

    /// What is connected at this moment is forgotten, as by a firewall: nothing is forwarded any more, and nothing is closed. New
    /// connections are none of it.
    pub fn forget(&self) {
        let count = self.accepted();
        self.change(|weather| weather.forgotten = count);
    }

    /// All is well again, for whoever is not forgotten.
    pub fn calm(&self) {
        self.change(|weather| (weather.fault, weather.share, weather.refuses) = (Fault::None, 0, false));
    }

    /// Resets new connections at once, or stops doing so.
    pub fn refuse(&self, refuses: bool) {
        self.change(|weather| weather.refuses = refuses);
    }

    fn change(&self, how: impl FnOnce(&mut Weather)) {
        if let Some(weather) = &self.weather {
            weather.send_modify(|weather| {
                how(weather);
                weather.number += 1;
            });
        }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        drop(self.weather.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts until the weather's end.
async fn accept(listener: TcpListener, target: u16, mut weather: watch::Receiver<Weather>, count: Arc<AtomicU64>) {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let number = count.fetch_add(1, Ordering::Relaxed);
                if weather.borrow().refuses {
                    reset(&stream);
                } else {
                    tokio::spawn(forward(stream, target, number, weather.clone()));
                }
            }
            changed = weather.changed() => if changed.is_err() { return },
        }
    }
}

/// With no time to linger, closing resets.
#[allow(deprecated, reason = "a time of 0 never blocks")]
fn reset(stream: &TcpStream) {
    let _ = stream.set_linger(Some(Duration::ZERO));
}

async fn forward(near: TcpStream, target: SocketAddr, number: u64, mut weather: watch::Receiver<Weather>) {
    let Ok(far) = TcpStream::connect(target).await else { return reset(&near) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, mut near_write) = near.into_split();
    let (far_read, mut far_write) = far.into_split();
    let torn = {
        let there = pump(&near_read, &mut far_write, false, number, weather.clone());
        let back = pump(&far_read, &mut near_write, true, number, weather.clone());
        tokio::pin!(there, back);
        let (mut there_ended, mut back_ended) = (false, false);
        loop {
            let outcome = tokio::select! {
                outcome = &mut there, if !there_ended => { there_ended = true; outcome }
                outcome = &mut back, if !back_ended => { back_ended = true; outcome }
                () = until_cut(number, &mut weather) => break true,
            };
            match outcome {
                Ok(()) if there_ended && back_ended => break false,
                Ok(()) => {}
                Err(_) => break true,
            }
        }
    };
    if torn {
        reset(near_read.as_ref());
        reset(far_read.as_ref());
    }
}

/// Ends when the connection is cut.
async fn until_cut(number: u64, weather: &mut watch::Receiver<Weather>) {
    while weather.borrow_and_update().fault(number) != Fault::Cut {
        if weather.changed().await.is_err() {
            return;
        }
    }
}

/// Forwards until the end of what comes, which is passed on, too.
async fn pump(
    from: &OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    is_answer: bool,
    number: u64,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    // What has passed since the weather with this number.
    let (mut passed, mut since) = (0, 0);
    loop {
        from.readable().await?;
        // What is held is not taken from the sender's system, either.
        loop {
            match weather.borrow_and_update().fault(number) {
                Fault::Hold => {}
                Fault::Cut => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => break,
            }
            weather.changed().await.map_err(io::Error::other)?;
        }
        let count = match from.try_read(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let (fault, now) = (weather.borrow().fault(number), *weather.borrow());
        if std::mem::replace(&mut since, now.number) != now.number {
            passed = 0;
        }
        match fault {
            Fault::CutAnswer(most) | Fault::EndAnswer(most) if is_answer => {
                let left = now.portion(number, most).saturating_sub(passed);
                to.write_all(&buffer[..count.min(left)]).await?;
                passed += count;
                if count > left {
                    sleep(Duration::from_millis(2)).await;
                    return match fault {
                        Fault::EndAnswer(_) => to.shutdown().await,
                        _ => Err(io::ErrorKind::ConnectionReset.into()),
                    };
                }
            }
            Fault::Split => {
                for byte in &buffer[..count] {
                    to.write_all(std::slice::from_ref(byte)).await?;
                    tokio::task::yield_now().await;
                }
            }
            Fault::Tear | Fault::TearAnswer if is_answer || fault == Fault::Tear => {
                to.write_all(&buffer[..count / 2]).await?;
                // Time for that to arrive: a reset overtakes what is not read yet.
                sleep(Duration::from_millis(2)).await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Fault::Delay(time) => {
                sleep(time).await;
                to.write_all(&buffer[..count]).await?;
            }
            _ => to.write_all(&buffer[..count]).await?,
        }
    }
}
