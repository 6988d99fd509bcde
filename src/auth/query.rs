//! `auth_query`: users' secrets looked up on a server.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use deadpool_postgres::{Pool, PoolError};
use quick_cache::sync::Cache;
use tokio_postgres::types::{Timestamp, Type};

use super::StoredSecret;
use super::turns::{Turn, Turns};
use crate::config::Secret;
use crate::net::PeerAddr;

/// How long an answer is believed. A login that fails by it makes the next one ask again.
const FRESH: Duration = Duration::from_secs(5);
/// Longest name, in bytes, of which an answer is kept: anybody can ask for names, and names of roles are shorter.
const MAX_NAME: usize = 256;
/// Longest time for one look-up.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a look-up gave no answer. That a user is not there is an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthQueryError {
    /// No connection to the server, or it broke.
    #[error("no control connection: {0}")]
    Connection(Arc<PoolError>),
    /// The query failed.
    #[error("the query failed: {0}")]
    Query(Arc<tokio_postgres::Error>),
    /// The result is not (name, secret[, valid_until]).
    #[error("{0}: it must return (name, secret) or (name, secret, valid_until) for the user $1")]
    Shape(&'static str),
    /// No answer in time.
    #[error("no answer within {LIMIT:?}")]
    TimedOut,
    /// The control plane's runtime is gone.
    #[error("the control plane has stopped")]
    Stopped,
}

/// What is known about a user.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The secret; `None` = no such user, or one without a password.
    pub(super) secret: Option<StoredSecret>,
    /// The password is past its VALID UNTIL (trap 76): the exchange runs, and fails.
    pub(super) expired: bool,
}

#[derive(Debug, Clone)]
struct Answer {
    found: Arc<Found>,
    at: Instant,
}

/// One database's `auth_query`. Runs on the control plane's runtime over its own pool, as its own user: the user that
/// logs in only ever is a parameter (trap 76).
#[derive(Debug)]
pub struct AuthQuery {
    /// Of the node that is asked: the primary, as long as there is one.
    pool: ArcSwap<Pool>,
    sql: String,
    control: tokio::runtime::Handle,
    answers: Cache<String, Answer>,
    /// At its connections: anybody can ask for names.
    turns: Arc<Turns>,
}

impl AuthQuery {
    /// `pool` must come from [`net::control::pool`](crate::net::control::pool), which fixes `search_path`.
    pub fn new(pool: Pool, sql: impl Into<String>, control: tokio::runtime::Handle) -> Self {
        let turns = Turns::new(pool.status().max_size);
        Self { pool: ArcSwap::from_pointee(pool), sql: sql.into(), control, answers: Cache::new(10_000), turns }
    }

    /// Looks a user up for a client there; concurrent look-ups of one user share one query, if its name is not very long.
    ///
    /// # Errors
    /// [`AuthQueryError`]: nobody is let in or turned away for a wrong password by that.
    pub(super) async fn look_up(&self, user: &str, peer: PeerAddr) -> Result<Arc<Found>, AuthQueryError> {
        if user.len() > MAX_NAME {
            let turn = self.turns.turn(peer).await;
            return Ok(self.ask(user, turn).await?.found);
        }
        self.answers.remove_if(user, |answer| answer.at.elapsed() > FRESH);
        if let Some(answer) = self.answers.get(user) {
            return Ok(answer.found);
        }
        let turn = self.turns.turn(peer).await;
        let answer = self.answers.get_or_insert_async(user, self.ask(user, turn)).await?;
        Ok(answer.found)
    }

    /// Asks another node from now on.
    pub fn ask_at(&self, pool: Pool) {
        self.pool.swap(Arc::new(pool)).close();
    }

    /// Closes its connections that are not in use; they are opened again when they are needed.
    pub fn let_go(&self) {
        self.pool.load().retain(|_, _| false);
    }

    /// The password may have been changed since: ask again next time.
    pub(super) fn forget(&self, user: &str) {
        self.answers.remove(user);
    }

    /// The turn lasts as long as the query, whatever becomes of the client.
    async fn ask(&self, user: &str, turn: Turn) -> Result<Answer, AuthQueryError> {
        let (pool, sql, user) = (self.pool.load_full(), self.sql.clone(), user.to_owned());
        let asking = self.control.spawn(async move {
            let _turn = turn;
            let at = Instant::now();
            match tokio::time::timeout(LIMIT, fetch(&pool, &sql, &user)).await {
                Ok(found) => found.map(|found| Answer { found: Arc::new(found), at }),
                Err(_) => {
                    // Its connection may never answer again, as when a firewall has forgotten it: the next one asks on another.
                    pool.retain(|_, _| false);
                    Err(AuthQueryError::TimedOut)
                }
            }
        });
        asking.await.map_err(|_| AuthQueryError::Stopped)?
    }
}

async fn fetch(pool: &Pool, sql: &str, user: &str) -> Result<Found, AuthQueryError> {
    let query_failed = |e| AuthQueryError::Query(Arc::new(e));
    let client = pool.get().await.map_err(|e| AuthQueryError::Connection(Arc::new(e)))?;
    let rows = client.query_typed(sql, &[(&user, Type::TEXT)]).await.map_err(query_failed)?;
    let row = match rows.as_slice() {
        [] => return Ok(Found { secret: None, expired: false }),
        [row] => row,
        _ => return Err(AuthQueryError::Shape("the query returned several rows")),
    };
    if !(2..=3).contains(&row.len()) {
        return Err(AuthQueryError::Shape("the query returned another number of columns"));
    }
    const WRONG_TYPE: AuthQueryError = AuthQueryError::Shape("a column has another type than text, text, timestamptz");
    let name: Option<&str> = row.try_get(0).map_err(|_| WRONG_TYPE)?;
    if name != Some(user) {
        // A query that gives someone else's secret must not make the client that someone (trap 76).
        return Err(AuthQueryError::Shape("the query returned another user than $1"));
    }
    let secret: Option<&str> = row.try_get(1).map_err(|_| WRONG_TYPE)?;
    let secret = secret.filter(|text| !text.is_empty()).map(|text| StoredSecret::parse(&Secret::new(text)));
    if secret.as_ref().is_some_and(StoredSecret::is_broken_verifier) {
        return Err(AuthQueryError::Shape("a verifier is not whole, or has too many iterations"));
    }
    let until = match row.columns().get(2).map(tokio_postgres::Column::type_) {
        None => None,
        Some(&Type::TIMESTAMPTZ) => row.try_get::<_, Option<Timestamp<SystemTime>>>(2).map_err(|_| WRONG_TYPE)?,
        Some(_) => return Err(WRONG_TYPE),
    };
    let expired = match until {
        None | Some(Timestamp::PosInfinity) => false,
        Some(Timestamp::NegInfinity) => true,
        Some(Timestamp::Value(until)) => until < SystemTime::now(),
    };
    Ok(Found { secret, expired })
}
