//! `[pool]`, and what databases and users have of it.

use std::ops::Range;
use std::time::Duration;

use serde_spanned::Spanned;

use super::database::over;
use super::{Context, count, dur, get, positive, word};
use crate::config::schema::value::Count;
use crate::config::schema::{self, Opt};
use crate::config::{PoolSettings, UserPool};

/// A pool's settings over those that it inherits.
pub(super) fn pool(raw: &schema::Pool, base: PoolSettings, cx: &mut Context<'_>) -> PoolSettings {
    let pool = PoolSettings {
        mode: word(&raw.mode, base.mode),
        size: positive(&raw.size, base.size, cx),
        min_size: count(&raw.min_size, base.min_size),
        reserve_size: count(&raw.reserve_size, base.reserve_size),
        reserve_timeout: dur(&raw.reserve_timeout, base.reserve_timeout),
        wait_timeout: dur(&raw.wait_timeout, base.wait_timeout),
        wait_notify: dur(&raw.wait_notify, base.wait_notify),
        connect_timeout: dur(&raw.connect_timeout, base.connect_timeout),
        connect_query: get(&raw.connect_query).unwrap_or(base.connect_query),
        lifetime: dur(&raw.lifetime, base.lifetime),
        idle_timeout: dur(&raw.idle_timeout, base.idle_timeout),
        check_query: get(&raw.check_query).unwrap_or(base.check_query),
        check_delay: dur(&raw.check_delay, base.check_delay),
        query_timeout: dur(&raw.query_timeout, base.query_timeout),
        transaction_timeout: dur(&raw.transaction_timeout, base.transaction_timeout),
        client_idle_timeout: base.client_idle_timeout,
        idle_transaction_timeout: base.idle_transaction_timeout,
        max_prepared: count(&raw.max_prepared, base.max_prepared),
        reset_query: get(&raw.reset_query).unwrap_or(base.reset_query),
        keepalive: dur(&raw.keepalive, base.keepalive),
        tcp_user_timeout: dur(&raw.tcp_user_timeout, base.tcp_user_timeout),
    };
    min_within_size(&raw.min_size, &raw.size, pool.min_size, pool.size, cx);
    waits(raw, &pool, cx);
    texts(raw, cx);
    pool
}

/// What a user has differently.
pub(super) fn user_pool(raw: &schema::User, cx: &mut Context<'_>) -> UserPool {
    let pool = &raw.pool;
    if let (Some(size), Some(min)) = (&pool.size, &pool.min_size) {
        min_within_size(&pool.min_size, &pool.size, min.get_ref().0, size.get_ref().0, cx);
    }
    UserPool {
        mode: pool.mode.as_ref().map(|mode| mode.get_ref().0),
        size: pool.size.as_ref().map(|_| positive(&pool.size, 1, cx)),
        min_size: pool.min_size.as_ref().map(|n| n.get_ref().0),
        reserve_size: pool.reserve_size.as_ref().map(|n| n.get_ref().0),
        wait_timeout: over(&pool.wait_timeout),
        query_timeout: over(&pool.query_timeout),
        transaction_timeout: over(&pool.transaction_timeout),
        client_idle_timeout: over(&raw.client_idle_timeout),
        idle_transaction_timeout: over(&raw.idle_transaction_timeout),
    }
}

/// A limit over several pools that contradicts what one of them keeps open.
pub(super) fn within_cap(cap: &Opt<Count>, pool: &PoolSettings, raw: &schema::Pool, cx: &mut Context<'_>) {
    let Some(cap) = cap else { return };
    let most = cap.get_ref().0;
    if pool.min_size > most {
        let draft = cx.problems.error("min_size is greater than max_server_connections");
        if let Some(min) = &raw.min_size {
            draft.at(min.span(), format!("{} kept open for each user", pool.min_size));
        }
        draft.at(cap.span(), format!("but only {most} allowed for all users")).help("lower min_size");
    } else if pool.size > most
        && let Some(size) = &raw.size
    {
        cx.problems
            .warn("a pool can never reach its size")
            .at(size.span(), format!("{} for each user", pool.size))
            .at(cap.span(), format!("but only {most} for all of them"));
    }
}

fn min_within_size(min: &Opt<Count>, size: &Opt<Count>, min_value: u32, size_value: u32, cx: &mut Context<'_>) {
    // When neither stands here, the mistake is noted where they do.
    if min_value <= size_value || (min.is_none() && size.is_none()) {
        return;
    }
    let draft = cx.problems.error("min_size is greater than size");
    match (min, size) {
        (Some(min), Some(size)) => {
            draft
                .at(min.span(), format!("{min_value} kept open"))
                .at(size.span(), format!("but only {size_value} allowed"));
        }
        (Some(min), None) => {
            draft.at(min.span(), format!("{min_value} kept open, but size is {size_value}"));
        }
        (None, Some(size)) => {
            draft.at(size.span(), format!("{size_value} allowed, but min_size is {min_value}"));
        }
        (None, None) => {}
    }
    draft.help("lower min_size or raise size");
}

/// Steps of a wait that would never be reached. Noted where one of the two times stands.
fn waits(raw: &schema::Pool, pool: &PoolSettings, cx: &mut Context<'_>) {
    let place = |first: Option<Range<usize>>| first.or_else(|| raw.wait_timeout.as_ref().map(Spanned::span));
    let span = |value: &Opt<_>| value.as_ref().map(Spanned::span);
    let too_late = |step: Option<Duration>| match (step, pool.wait_timeout) {
        (Some(step), Some(end)) => step >= end,
        _ => false,
    };
    let ends = format!("a client waits no longer than {:?} (wait_timeout)", pool.wait_timeout.unwrap_or_default());
    let reserve_here = raw.reserve_size.as_ref().map(Spanned::span).or_else(|| span(&raw.reserve_timeout));
    if pool.reserve_size > 0 && pool.reserve_timeout.is_none() {
        if let Some(at) = reserve_here {
            cx.problems
                .error("the reserve would never be used")
                .at(at, "reserve_timeout is off")
                .help("give reserve_timeout a time, such as \"5s\", or leave reserve_size out");
        }
    } else if pool.reserve_size > 0
        && too_late(pool.reserve_timeout)
        && let Some(at) = place(reserve_here)
    {
        cx.problems
            .error("the reserve would never be used")
            .at(at, ends.clone())
            .help("make reserve_timeout shorter than wait_timeout");
    }
    if too_late(pool.wait_notify)
        && let Some(at) = place(span(&raw.wait_notify))
    {
        cx.problems.error("nobody would be notified").at(at, ends).help("make wait_notify shorter than wait_timeout");
    }
}

/// Statements that are sent as they are.
fn texts(raw: &schema::Pool, cx: &mut Context<'_>) {
    for text in [&raw.connect_query, &raw.check_query, &raw.reset_query].into_iter().flatten() {
        if text.get_ref().contains('\0') {
            cx.problems.error("a NUL character in a statement").at(text.span(), "PostgreSQL can't take it");
        }
    }
    if let (Some(delay), Some(query)) = (&raw.check_delay, &raw.check_query)
        && query.get_ref().is_empty()
        && delay.get_ref().0.is_some()
    {
        cx.problems
            .error("check_delay without a check_query")
            .at(delay.span(), "when is nothing to be run?")
            .at(query.span(), "empty: connections are not checked")
            .help("leave check_delay out, or give check_query a statement, such as \";\"");
    }
}
