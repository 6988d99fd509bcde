//! One check of a node: a question on a connection of our own, and a second one beside it when the first stays without an answer.
//!
//! How long an answer may take depends on how long they have taken of late: a node that always answers within milliseconds is
//! missed much sooner than one far away, or on a machine that has too much to do.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::{Client, Pool, PoolError};
use futures::future::select_ok;
use quanta::Instant;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use crate::net::{ClientTlsContext, ConnectOptions, Encryption, connect, control};
use crate::wire::build;

use super::citus::{GROUP, SecondaryUse};
use super::facts::{Facts, QUESTIONS, timeline_of};
use super::node::Node;

/// Silence that tells nothing, however quick a node is: with two probes, a node counts as down after twice as long. Half a second
/// is what a probe can take on a machine with thirty processes for each of its processors.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(350);
/// An answer may take so many times as long as the slowest of late.
const SLOWER: u32 = 4;
/// How much of the slowest answer is forgotten with each quicker one: one part in so many.
const MEMORY: u32 = 8;

/// Asks one node.
pub(super) struct Prober {
    node: Arc<Node>,
    tls: Arc<ClientTlsContext>,
    /// `None` = nobody to log in as.
    pool: Option<Pool>,
    /// Most that an answer may ever take.
    longest: Duration,
    patience: Patience,
    /// Which of the questions it answers: not everywhere everything is open to everybody.
    question: AtomicUsize,
}

/// What a node answers.
pub(super) struct Answer {
    /// `None` = it lives, and could not be asked more.
    pub facts: Option<Facts>,
    /// From where it reads distributed tables, if Citus is loaded there.
    pub secondary_use: SecondaryUse,
    /// Of a worker: the node group of Citus of which it says that it is.
    pub group: Option<i32>,
    /// Why it does not say what it was asked: it is full, or does not let the control user in. A server that says so is not down.
    pub refusal: Option<String>,
}

impl Answer {
    /// It lives, and that is all that is known.
    fn without_facts(refusal: Option<String>) -> Self {
        Self { facts: None, secondary_use: SecondaryUse::default(), group: None, refusal }
    }
}

/// A probe that was answered.
struct Probed {
    /// Which of the check's probes it is.
    number: u8,
    answer: Answer,
    took: Duration,
}

/// Why there was no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people.
    pub error: String,
    /// How many probes were without one.
    pub probes: u32,
}

impl Prober {
    pub(super) fn new(node: Arc<Node>, tls: Arc<ClientTlsContext>, pool: Option<Pool>, longest: Duration) -> Self {
        Self { node, tls, pool, longest, patience: Patience::default(), question: AtomicUsize::new(0) }
    }

    /// Whether it can be asked over SQL.
    pub(super) fn can_ask(&self) -> bool {
        self.pool.is_some()
    }

    /// Closes what is open.
    pub(super) fn let_go(&self) {
        if let Some(pool) = &self.pool {
            pool.retain(|_, _| false);
        }
    }

    /// Checks the node. An answer of either probe is one, also if it comes late: as long as the node may still answer in time on a
    /// connection that was open before, or on a new one, it is not down. Of a database that is paused it is only asked whether it
    /// listens.
    pub(super) async fn check(&mut self, paused: bool) -> Result<Answer, Failure> {
        let is_up = self.node.load.is_up();
        // One that is down is waited for: it may go on any moment. And how long a login takes is not known from what comes after it.
        let is_new = self.pool.as_ref().is_some_and(|pool| pool.status().size == 0);
        let patience = if is_up && !is_new { self.patience.get(self.longest) } else { self.longest };
        match self.probe_twice(patience, is_up, paused).await {
            Ok(probed) => {
                if probed.number > 1 {
                    // The first one's connection may never answer again; which it is, is not worth knowing.
                    self.let_go();
                }
                if is_up {
                    // Else it tells how long the node was away.
                    self.patience.answered(probed.took);
                }
                Ok(probed.answer)
            }
            Err(failure) => {
                self.let_go();
                Err(failure)
            }
        }
    }

    /// Probes, and probes once more beside it when there is no answer in time, if that is wanted.
    async fn probe_twice(&self, patience: Duration, twice: bool, paused: bool) -> Result<Probed, Failure> {
        let silence = |total: Duration, probes| Failure { error: format!("no answer within {total:?}"), probes };
        let mut first = pin!(self.probe(1, paused));
        match timeout(patience, first.as_mut()).await {
            Ok(outcome) => return outcome.map_err(|error| Failure { error, probes: 1 }),
            Err(_) if !twice => return Err(silence(patience, 1)),
            Err(_) => {}
        }
        let second = pin!(self.probe(2, paused));
        match timeout(patience, select_ok([first, second])).await {
            Ok(Ok((probed, _))) => Ok(probed),
            Ok(Err(error)) => Err(Failure { error, probes: 2 }),
            Err(_) => Err(silence(patience * 2, 2)),
        }
    }

    /// One probe.
    async fn probe(&self, number: u8, paused: bool) -> Result<Probed, String> {
        let began = Instant::now();
        let answer = match &self.pool {
            Some(pool) if !paused => self.ask(pool).await,
            _ => self.knock().await,
        };
        Ok(Probed { number, answer: answer?, took: began.elapsed() })
    }

    /// Asks over SQL, in one round trip once the connection is open.
    async fn ask(&self, pool: &Pool) -> Result<Answer, String> {
        let number = self.question.load(Ordering::Relaxed);
        let client = match pool.get().await {
            Ok(client) => client,
            Err(PoolError::Backend(error)) => return refused(&error),
            Err(error) => return Err(error.to_string()),
        };
        // The first question on a connection fills the server's caches: its time tells nothing.
        let is_warm = client.statement_cache.size() > 0;
        let statement = match client.prepare_cached(QUESTIONS[number]).await {
            Ok(statement) => statement,
            Err(error) => return refused(&error),
        };
        let began = Instant::now();
        let row = match client.query_one(&statement, &[]).await {
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) && number + 1 < QUESTIONS.len() => {
                let lacks = ["a node of another cluster is not noticed", "nor is an outdated primary"][number];
                let (node, error) = (&self.node.settings.name, control::in_full(&error));
                tracing::warn!(node, error, lacks, "the control user may not ask all that matters");
                // Both probes of a check may meet this.
                self.question.fetch_max(number + 1, Ordering::Relaxed);
                return Box::pin(self.ask(pool)).await;
            }
            Err(error) => return refused(&error),
            Ok(row) => row,
        };
        if is_warm {
            self.node.load.answered(began.elapsed());
        }
        let answer = read(&row).map_err(|error| error.to_string())?;
        self.node.set_commits_wait(row.try_get(7).unwrap_or(false));
        let group = if self.node.is_worker() { self.ask_group(&client).await? } else { None };
        Ok(Answer { group, ..answer })
    }

    /// Of which group a worker is: the coordinator's name for it may lead to another server from here.
    async fn ask_group(&self, client: &Client) -> Result<Option<i32>, String> {
        let asked = async {
            let statement = client.prepare_cached(GROUP).await?;
            let row = client.query_opt(&statement, &[]).await?;
            row.map(|row| row.try_get(0)).transpose()
        };
        match asked.await {
            // It has no Citus, or does not tell.
            Err(error) if error.as_db_error().is_some_and(|error| error.code().code().starts_with("42")) => Ok(None),
            asked => asked.map_err(|error| error.to_string()),
        }
    }

    /// Without a user to log in with: a server that answers an SSLRequest is alive. Its role is what the configuration says.
    async fn knock(&self) -> Result<Answer, String> {
        let options = ConnectOptions { patience: Some(self.longest.mul_f64(0.8)), ..ConnectOptions::default() };
        let mut stream = connect(&self.node.settings.hosts, &self.tls, Encryption::Plain, &options)
            .await
            .map_err(|error| error.to_string())?;
        let mut packet = Vec::with_capacity(8);
        build::ssl_request(&mut packet);
        stream.write_all(&packet).await.map_err(|error| error.to_string())?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        match answer[0] {
            b'S' | b'N' => Ok(Answer::without_facts(None)),
            other => Err(format!("answered {other:#04x} to SSLRequest")),
        }
    }
}

/// What an error of the server's says: that it lives, unless it says that it starts or ends.
fn refused(error: &tokio_postgres::Error) -> Result<Answer, String> {
    let ends = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    match error.as_db_error() {
        Some(said) if !ends.contains(said.code()) => Ok(Answer::without_facts(Some(said.to_string()))),
        _ => Err(control::in_full(error)),
    }
}

fn read(row: &tokio_postgres::Row) -> Result<Answer, tokio_postgres::Error> {
    let in_recovery: bool = row.try_get(0)?;
    let version: i32 = row.try_get(1)?;
    let file: Option<&str> = row.try_get(2)?;
    let system: Option<i64> = row.try_get(3)?;
    let known: Option<i32> = row.try_get(4)?;
    let timeline = file.and_then(timeline_of).or(known.and_then(|known| u32::try_from(known).ok()));
    let facts = Facts {
        in_recovery,
        timeline: timeline.unwrap_or(0),
        // It is unsigned, and shown as such.
        system: system.map(i64::cast_unsigned),
        version: u32::try_from(version).unwrap_or(0),
    };
    let secondary_use = SecondaryUse::of(row.try_get(5)?, row.try_get(6)?);
    Ok(Answer { facts: Some(facts), secondary_use, ..Answer::without_facts(None) })
}

/// How long a node takes to answer.
#[derive(Debug, Default)]
struct Patience {
    /// The slowest answer of late; zero = there was none.
    slowest: Duration,
}

impl Patience {
    /// An answer took so long: a slow one is remembered, and forgotten with those that follow.
    fn answered(&mut self, took: Duration) {
        self.slowest = took.max(self.slowest - self.slowest / MEMORY);
    }

    /// How long to wait for the next one; of a node that has never answered nothing is known.
    fn get(&self, longest: Duration) -> Duration {
        if self.slowest.is_zero() {
            return longest;
        }
        (self.slowest * SLOWER).clamp(SHORTEST_PATIENCE.min(longest), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_node_is_missed_sooner_than_a_slow_one() {
        let (ms, longest) = (Duration::from_millis, Duration::from_secs(2));
        let mut patience = Patience::default();
        assert_eq!(patience.get(longest), longest, "nothing is known");
        patience.answered(ms(2));
        assert_eq!(patience.get(longest), SHORTEST_PATIENCE);
        assert_eq!(patience.get(ms(100)), ms(100), "health_timeout is the most in any case");
        patience.answered(ms(300));
        assert_eq!(patience.get(longest), ms(1200));
        patience.answered(ms(600));
        assert_eq!(patience.get(longest), longest);
        for _ in 0..20 {
            patience.answered(ms(2));
        }
        assert_eq!(patience.get(longest), SHORTEST_PATIENCE, "a slow answer is forgotten");
    }
}
