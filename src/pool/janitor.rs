//! Housekeeping: idle and old connections are closed, the minimum is kept open.

use std::sync::Arc;

use quanta::Instant;

use super::Pool;
use super::cap::Turn;
use crate::observe::CloseCause;

/// One round of housekeeping over a pool; called about once a second.
pub fn tend(pool: &Arc<Pool>) {
    let now = Instant::now();
    let mut state = pool.state.lock();
    let settings = state.settings.clone();
    // Waits that were given up leave their entries behind; only the front ones are passed over by hand-overs.
    state.waiters.retain(super::waiter::Waiter::is_waiting);
    let epoch = state.epoch;
    let mut spare = state.open.saturating_sub(settings.min_size as usize);
    let unwanted = state.take_idle_if(|conn| {
        if !conn.stream.is_quiet() || conn.epoch != epoch || super::is_too_old(conn, &settings, now) {
            spare = spare.saturating_sub(1);
            return true;
        }
        let limit = settings.idle_timeout.map(|limit| limit.mul_f64(conn.jitter));
        let idle_too_long = limit.is_some_and(|limit| now.duration_since(conn.idle_since) >= limit);
        if idle_too_long && spare > 0 {
            spare -= 1;
            return true;
        }
        false
    });
    for conn in &unwanted {
        state.forget(&conn.info);
        pool.metrics.closed(CloseCause::Idle);
    }
    if pool.load.is_up()
        && !pool.load.is_draining()
        && !pool.gate.is_paused()
        && !pool.closed.load(std::sync::atomic::Ordering::Acquire)
    {
        let wanted = settings.min_size.min(settings.size) as usize;
        if state.open + state.opening < wanted && state.opening == 0 && !state.backoff.is_on(now) {
            pool.start_opening(&mut state, Turn::Own, None);
        }
        pool.open_for_waiters(&mut state);
    }
    drop(state);
    drop(unwanted);
    pool.publish();
}
