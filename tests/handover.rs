//! The hand-over of server connections to clients that wait, under loom: every order in which the threads can take their locks.
//!
//! What is modelled is the code of the pool itself (`src/pool/line.rs`), with loom's lock in the place of its own, and a pool around it
//! that does what `Pool` does with it: it gives to the first of the line or keeps, and a wait that is given up hands on what it got. The
//! rest of the pool works under one lock and leaves threads nothing to choose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../src/pool/line.rs"]
#[allow(dead_code)]
mod line;

/// What the line stands on here.
mod sync {
    pub use loom::sync::Arc;

    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use line::{Place, Slot, hand_over};
use loom::future::block_on;
use loom::thread;
use sync::{Arc, Mutex};

/// A server connection. It is moved, never copied: who has it has it alone.
#[derive(Debug, PartialEq, Eq)]
struct Conn(u32);

/// What ends a wait: a connection, or that it is turned away, with the number of the wait that is meant.
type Answer = Result<Conn, u32>;

#[derive(Default)]
struct State {
    idle: Vec<Conn>,
    line: VecDeque<(Place<Answer>, u32)>,
}

struct Pool(Mutex<State>);

/// Whether a wait was given up.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Conn(Conn),
    TurnedAway(u32),
    GaveUp,
}

impl Pool {
    fn with(idle: Vec<Conn>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { idle, line: VecDeque::new() })))
    }

    /// `Pool::put_back`.
    fn put_back(&self, conn: Conn) {
        let mut state = self.0.lock();
        if let Some(Ok(conn)) = hand_over(&mut state.line, |(place, _)| place, Ok(conn)) {
            state.idle.push(conn);
        }
    }

    /// `Pool::check_out`, for a client that looks so many times whether it has an answer, or waits. `wait` is the number of the wait.
    fn check_out(&self, slot: &Arc<Slot<Answer>>, wait: u32, patience: Option<u32>) -> Got {
        {
            let mut state = self.0.lock();
            if state.line.is_empty()
                && let Some(conn) = state.idle.pop()
            {
                return Got::Conn(conn);
            }
            state.line.push_back((Place::of(slot), wait));
        }
        let mut looks = 0;
        let answer = block_on(poll_fn(|cx: &mut Context<'_>| match slot.poll_answer(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if patience.is_some_and(|most| looks >= most) => Poll::Ready(None),
            Poll::Pending => {
                looks += 1;
                if patience.is_some() {
                    cx.waker().wake_by_ref();
                    thread::yield_now();
                }
                Poll::Pending
            }
        }));
        // `Wait::drop`.
        let (gave_up, left) = slot.end();
        if let Some(Ok(conn)) = left {
            self.put_back(conn);
        }
        if gave_up {
            self.0.lock().line.retain(|(place, _)| !place.is_of(slot));
        }
        match answer {
            Some(Ok(conn)) => Got::Conn(conn),
            Some(Err(wait)) => Got::TurnedAway(wait),
            None => Got::GaveUp,
        }
    }

    /// `Pool::turn_away`.
    fn turn_away(&self) {
        let line = std::mem::take(&mut self.0.lock().line);
        for (place, wait) in line {
            place.give(Err(wait));
        }
    }

    /// All connections are idle again, and nobody stands in the line.
    fn is_whole(&self, conns: usize) {
        let state = self.0.lock();
        assert_eq!(state.idle.len(), conns, "connections that are lost or there twice");
        assert!(state.line.is_empty(), "a place that nobody waits behind");
        let mut ids: Vec<_> = state.idle.iter().map(|conn| conn.0).collect();
        ids.dedup();
        assert_eq!(ids.len(), conns);
    }
}

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // More switches between threads than this add hours and, as loom's authors found, hardly ever a bug.
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn a_client_that_waits_gets_the_connection_that_comes_back() {
    model(|| {
        let pool = Pool::with(vec![Conn(1)]);
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || match pool.check_out(&Arc::default(), 0, None) {
                    Got::Conn(conn) => pool.put_back(conn),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        // One of them, or both, find the connection taken. Who waits for ever is what loom calls a deadlock.
        clients.into_iter().for_each(|client| client.join().unwrap());
        pool.is_whole(1);
    });
}

#[test]
fn a_client_that_gives_up_swallows_no_connection_trap_81() {
    model(|| {
        let pool = Pool::with(Vec::new());
        let (impatient, patient) = (pool.clone(), pool.clone());
        let impatient = thread::spawn(move || match impatient.check_out(&Arc::default(), 0, Some(0)) {
            Got::Conn(conn) => impatient.put_back(conn),
            Got::GaveUp => {}
            Got::TurnedAway(_) => panic!(),
        });
        let patient = thread::spawn(move || match patient.check_out(&Arc::default(), 0, None) {
            Got::Conn(conn) => patient.put_back(conn),
            other => panic!("{other:?}"),
        });
        // It comes back while they join the line, wait in it or leave it.
        pool.put_back(Conn(1));
        impatient.join().unwrap();
        patient.join().unwrap();
        pool.is_whole(1);
    });
}

#[test]
fn an_answer_to_a_wait_that_is_over_does_not_end_the_next_one() {
    model(|| {
        let pool = Pool::with(Vec::new());
        let client = pool.clone();
        let client = thread::spawn(move || {
            // One session has one slot: the place that it gave up and the one that it has are told apart by their tickets.
            let slot = Arc::default();
            for (wait, patience) in [(1, Some(0)), (2, None)] {
                match client.check_out(&slot, wait, patience) {
                    Got::Conn(conn) => {
                        client.put_back(conn);
                        return;
                    }
                    Got::TurnedAway(meant) => assert_eq!(meant, wait, "an answer to another wait"),
                    Got::GaveUp => {}
                }
            }
        });
        pool.turn_away();
        pool.put_back(Conn(1));
        pool.turn_away();
        client.join().unwrap();
        pool.is_whole(1);
    });
}
