//! The statements, and clients that run an exact number of them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::support::frames::{Batch, tags};
use super::support::raw::RawClient;

/// The table that is read.
pub const TABLE: &str = "CREATE TABLE accounts (aid integer PRIMARY KEY, balance integer NOT NULL);\
                         INSERT INTO accounts SELECT g, 0 FROM generate_series(1, 50000) g;";

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A Query whose text is always the same.
    Simple,
    /// A Query with another constant each time.
    Literals,
    /// Parse, Bind, Describe and Execute of the unnamed statement, Sync.
    Extended,
    /// Bind and Execute of a named statement, Sync.
    Prepared,
}

impl Shape {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Literals => "simple, other constants",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }

    /// One statement that reads the row of this number.
    fn batch(self, aid: usize) -> Batch {
        const BY_PARAMETER: &str = "SELECT balance FROM accounts WHERE aid = $1";
        let aid = aid.to_string();
        let parameters = [Some(aid.as_str())];
        match self {
            Self::Simple => Batch::new().query("SELECT balance FROM accounts WHERE aid = 17"),
            Self::Literals => Batch::new().query(&format!("SELECT balance FROM accounts WHERE aid = {aid}")),
            Self::Extended => Batch::new().run(BY_PARAMETER, &parameters).sync(),
            Self::Prepared => Batch::new().bind("", "by_aid", &parameters).execute("", 0).sync(),
        }
    }

    /// The types of the messages that answer it.
    fn answer(self) -> &'static str {
        match self {
            Self::Simple | Self::Literals => "TDCZ",
            Self::Extended => "12TDCZ",
            Self::Prepared => "2DCZ",
        }
    }
}

/// A client that has prepared what [`Shape::Prepared`] runs.
pub fn prepare(mut client: RawClient) -> RawClient {
    let parse = Batch::new().parse("by_aid", "SELECT balance FROM accounts WHERE aid = $1", &[23]).sync();
    assert_eq!(tags(&client.exchange(&parse)), "1Z");
    client
}

/// Runs `count` statements by one client, no more than 1,600 a second.
pub fn run_slowly(client: &mut RawClient, shape: Shape, count: usize) {
    const BURST: usize = 160;
    let mut next_burst = Instant::now();
    for number in 0..count {
        if number % BURST == 0 {
            // What has been missed is not caught up.
            thread::sleep(next_burst.saturating_duration_since(Instant::now()));
            next_burst = next_burst.max(Instant::now()) + Duration::from_millis(100);
        }
        run_one(client, shape);
    }
}

/// Runs `count` statements, as many by each client as by any other; all clients have one under way all the time.
pub fn run(clients: &mut [RawClient], shape: Shape, count: usize) {
    let each = count / clients.len();
    assert_eq!(each * clients.len(), count, "the same number for each client");
    let start = Barrier::new(clients.len());
    thread::scope(|scope| {
        for client in clients {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                (0..each).for_each(|_| run_one(client, shape));
            });
        }
    });
}

/// Reads another row than the statements before, by a number of always five digits.
fn run_one(client: &mut RawClient, shape: Shape) {
    static STATEMENTS: AtomicUsize = AtomicUsize::new(0);
    let aid = 10_000 + STATEMENTS.fetch_add(1, Ordering::Relaxed) % 40_000;
    let answer = client.exchange(&shape.batch(aid));
    assert_eq!(tags(&answer), shape.answer(), "{answer:?}");
}
