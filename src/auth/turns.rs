//! Turns at something of which there is little, fairly by where clients come from: however many wait at one place, those of another
//! one wait for one of them each.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::net::PeerAddr;

/// Hands out so many turns at once.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Turns that nobody has; 0 while somebody waits.
    free: usize,
    /// Places ([`PeerAddr::block`]) where somebody waits, in the order of their turns.
    places: VecDeque<Option<IpAddr>>,
    /// Who waits there, in their order; never empty.
    waiting: HashMap<Option<IpAddr>, VecDeque<oneshot::Sender<Turn>>>,
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let place = self.places.pop_front()?;
        let line = self.waiting.get_mut(&place)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&place);
        } else {
            self.places.push_back(place);
        }
        next
    }
}

/// Somebody's turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    of: Arc<Turns>,
    /// It has not been given to somebody who no longer waits.
    taken: bool,
}

impl Turns {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: count, places: VecDeque::new(), waiting: HashMap::new() })))
    }

    /// Waits for a turn of a client there. Whoever gives up waiting takes none.
    pub(super) async fn turn(self: &Arc<Self>, peer: PeerAddr) -> Turn {
        let granted = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Turn { of: self.clone(), taken: true };
            }
            let (grant, granted) = oneshot::channel();
            let place = peer.block();
            if !state.waiting.contains_key(&place) {
                state.places.push_back(place);
            }
            state.waiting.entry(place).or_default().push_back(grant);
            granted
        };
        // The sender is only dropped with a turn sent.
        granted.await.unwrap_or_else(|_| Turn { of: self.clone(), taken: false })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        loop {
            let next = {
                let mut state = self.of.0.lock();
                let next = state.next();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            match next.send(Self { of: self.of.clone(), taken: true }) {
                Ok(()) => return,
                // Nobody waits there any more.
                Err(mut turn) => turn.taken = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use futures::FutureExt;

    fn from(address: &str) -> PeerAddr {
        PeerAddr::tcp(format!("{address}:7").parse().unwrap())
    }

    #[test]
    fn places_take_turns() {
        let turns = Turns::new(1);
        let first = turns.turn(from("192.0.2.1")).now_or_never().unwrap();
        let mut crowd: Vec<_> = (0..5).map(|_| Box::pin(turns.turn(from("192.0.2.1")))).collect();
        assert!(crowd.iter_mut().all(|wait| wait.now_or_never().is_none()));
        let mut other = Box::pin(turns.turn(from("192.0.2.2")));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        assert!((&mut other).now_or_never().is_none(), "they were there first");
        drop((&mut crowd[0]).now_or_never().unwrap());
        assert!((&mut crowd[1]).now_or_never().is_none());
        drop((&mut other).now_or_never().unwrap());
        assert!((&mut crowd[1]).now_or_never().is_some());
    }

    #[test]
    fn who_gives_up_takes_no_turn() {
        let turns = Turns::new(2);
        let held = [(); 2].map(|()| turns.turn(PeerAddr::Unix).now_or_never().unwrap());
        let mut waits: Vec<_> = (0..10_000).map(|_| Box::pin(turns.turn(PeerAddr::Unix))).collect();
        assert!(waits.iter_mut().all(|wait| wait.now_or_never().is_none()));
        let mut last = waits.pop().unwrap();
        // One is told, and goes all the same; the others go before that.
        waits.truncate(1);
        drop(held);
        drop(waits);
        assert!((&mut last).now_or_never().is_some());
        drop(last);
        let state = turns.0.lock();
        assert_eq!((state.free, state.places.len(), state.waiting.len()), (2, 0, 0));
    }
}
