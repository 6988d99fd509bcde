//! Server to client: which bytes pass, what is swallowed, and what they tell about the session.

use std::sync::Arc;

use crate::observe::Moment;
use crate::observe::fault;
use crate::pool::TOO_MANY_PARAMETERS;
use crate::wire::frame::{HEADER, backend_limit};
use crate::wire::{ErrorNotice, FrameWalker, SqlState, Step, TxStatus, backend};

use super::expect::Expect;
use super::machine::{Link, State};
use super::pins::Pins;
use super::preparing::tell_parameters;
use super::relay::Session;
use super::splice::Splice;

/// Largest control message that is waited for until it is whole; longer ones pass as they come.
const CARRY_LIMIT: usize = 32 * 1024;

/// Why a connection is not used again until it is known how many Syncs are answered.
const COPY_FAILED: &str = "a COPY failed";

/// The server broke the protocol, or said something that no client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerBroken;

/// What a Query of our own has asked.
enum Asked {
    Evidence(Pins),
    Defaults,
    Path,
}

impl Session {
    /// Takes bytes of the server's. What is for the client goes to `out`; what is left of an incomplete frame is kept in the link.
    pub(super) fn take_server(&mut self, data: &[u8], out: &mut Splice<'_>) -> Result<(), ServerBroken> {
        let Self { state: State::Linked(link), .. } = self else { return Err(ServerBroken) };
        fault::point("reply", data);
        let start = link.pass.min(data.len());
        link.pass -= start;
        if !link.pass_is_dropped {
            out.pass(0..start);
        }
        if link.pass == 0 {
            link.replies.make_leading(out);
        }
        let mut walker = FrameWalker::new(&data[start..]);
        loop {
            let at = start + walker.position();
            match walker.step(backend_limit).map_err(|_| ServerBroken)? {
                Step::Whole(frame) => {
                    let range = at..at + frame.bytes.len();
                    // Rows and COPY data: nothing to see.
                    if (frame.tag == b'D' || frame.tag == b'd')
                        && let Some(link) = self.link()
                        && !link.drops_rows()
                    {
                        link.rerun.came(frame.tag);
                        out.pass(range);
                        continue;
                    }
                    let was_holding = self.notify.is_holding();
                    if self.take_reply(frame.tag, frame.body(), out)? {
                        if let Some(link) = self.link() {
                            link.rerun.came(frame.tag);
                        }
                        out.pass(range);
                    }
                    if self.notify.is_holding() && !was_holding {
                        // What comes behind a ReadyForQuery that waits, waits too.
                        self.link().ok_or(ServerBroken)?.carry.extend_from_slice(walker.rest());
                        return Ok(());
                    }
                    let Some(link) = self.link() else { return Err(ServerBroken) };
                    if link.begin_refused.is_some() {
                        // The block goes on without it, or the session ends: nothing more of its answer is told.
                        return Ok(());
                    }
                    // Rows are not looked at: what is ours to make before them is made behind what comes before them.
                    link.replies.make_leading(out);
                }
                Step::Partial { tag, frame_len, available } => {
                    let Some(link) = self.link() else { return Err(ServerBroken) };
                    let data_row = tag == b'D' || tag == b'd';
                    if !data_row && frame_len <= CARRY_LIMIT {
                        link.carry.extend_from_slice(available);
                        return Ok(());
                    }
                    let passes =
                        if data_row { !link.drops_rows() } else { self.take_reply(tag, &available[HEADER..], out)? };
                    if passes {
                        out.pass(at..data.len());
                    }
                    let Some(link) = self.link() else { return Err(ServerBroken) };
                    if passes {
                        // Longer than what waits.
                        link.rerun.came(b'D');
                    }
                    link.pass = frame_len - available.len();
                    link.pass_is_dropped = !passes;
                    return Ok(());
                }
                Step::End => {
                    let rest = walker.rest();
                    if !rest.is_empty()
                        && let Some(link) = self.link()
                    {
                        link.carry.extend_from_slice(rest);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// One message that is no row. Returns whether it is for the client.
    fn take_reply(&mut self, tag: u8, body: &[u8], out: &mut Splice<'_>) -> Result<bool, ServerBroken> {
        let Self { state: State::Linked(link), names, lex, timing, .. } = self else { return Err(ServerBroken) };
        if link.rerun.is_due() {
            self.swallow(tag, body);
            return Ok(false);
        }
        link.said |= matches!(tag, b'C' | b'E' | b'I' | b's');
        let settings = matches!(link.replies.head(), Some(Expect::Settings));
        match (link.replies.head(), tag) {
            (Some(Expect::Begin), b'1' | b'2' | b'D') => return Ok(false),
            (Some(Expect::Begin), b'C') => {
                link.replies.pop();
                return Ok(false);
            }
            (Some(Expect::Begin), b'E') => {
                // A cancel request that strikes it is meant for the statement behind it, which then never runs.
                let struck = ErrorNotice::sqlstate_of(body) == SqlState::QUERY_CANCELED;
                if (is_fatal(body) || struck) && self.begins_anew(body) {
                    out.discard();
                    return Ok(false);
                }
                let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
                link.begin_refused = Some(ErrorNotice::sqlstate_of(body));
                // What was sent behind it has been skipped: what is known of its statements does not hold.
                link.retired = Some("it refused to begin a block");
                link.dying |= is_fatal(body);
                return Ok(true);
            }
            (Some(Expect::OwnEnd(_)), b'C' | b'T' | b'D') => {
                link.replies.take_answer_of_end(tag, body);
                return Ok(false);
            }
            (Some(Expect::OwnEnd(_)), b'E') if !is_fatal(body) => return Ok(false),
            (Some(Expect::Spoiled), b'E') if !is_fatal(body) => return Ok(false),
            // What it sets is put back at once; servers before 14 report each change.
            (Some(Expect::OwnExecute { .. }), b'D' | b'S') => return Ok(false),
            // Of a PREPARE that is put there once more, say.
            (Some(expect), b'N') if expect.is_ours() => return Ok(false),
            _ => {}
        }
        let asked = match link.replies.head() {
            Some(Expect::Evidence(pins)) => Some(Asked::Evidence(*pins)),
            Some(Expect::Defaults) => Some(Asked::Defaults),
            Some(Expect::Path) => Some(Asked::Path),
            Some(Expect::Tidy) => return self.take_tidied(tag, body, out),
            _ => None,
        };
        if let Some(asked) = asked {
            match tag {
                b'Z' => return self.take_ready(body, out),
                b'D' => match asked {
                    Asked::Evidence(pins) => self.take_evidence(pins, body),
                    Asked::Defaults => self.take_default(body),
                    Asked::Path => self.take_path(body),
                },
                b'E' if is_fatal(body) => {
                    link.dying = true;
                    return Ok(true);
                }
                b'S' => link.lease.take_parameter_status(body),
                b'E' if matches!(asked, Asked::Path) => self.take_path(&[]),
                // Not told, then: what pins stays.
                _ => {}
            }
            return Ok(false);
        }
        match tag {
            b'Z' => {
                let passes = self.take_ready(body, out)?;
                if settings
                    && let State::Linked(link) = &self.state
                    && !matches!(link.replies.head(), Some(Expect::Settings))
                    && link.settings_refused.is_none()
                    // As long as they are not there, what is reported means nothing: it was an UNLISTEN, say.
                    && Arc::ptr_eq(&link.lease.settings, self.tracked.settings())
                {
                    // Not with what may be taken back.
                    let to = if link.rerun.is_possible() { &mut self.to_client } else { out.insert() };
                    tell_parameters(&link.lease.parameters, &mut self.told, &mut self.lex, to);
                }
                return Ok(passes);
            }
            b'E' => {
                let code = ErrorNotice::sqlstate_of(body);
                let fatal = is_fatal(body);
                link.dying |= fatal;
                if fatal && (self.is_link_unused() || self.rerun(body, true, out)) {
                    return Ok(false);
                }
                if fatal && settings && self.begins_anew(body) {
                    out.discard();
                    return Ok(false);
                }
                if fatal
                    && settings
                    && let State::Linked(link) = &mut self.state
                    && link.awaits_settings
                {
                    // Nothing of the client's has been sent.
                    while link.replies.pop().is_some() {}
                    if self.is_link_unused() {
                        return Ok(false);
                    }
                }
                let is_committing = self.sight.is_committing();
                let Self { state: State::Linked(link), names, .. } = self else { return Err(ServerBroken) };
                if settings && !fatal {
                    link.refused_with_commit = is_committing;
                    link.settings_refused = Some(body.into());
                    // It does not have what it is taken to have.
                    link.retired = Some("it refused the session's settings");
                    self.plan_without_refused();
                    return Ok(false);
                }
                if !fatal && link.replies.is_before_own_sync() {
                    // Of messages of ours: told when what they were for fails.
                    link.own_failure = Some(ErrorNotice::whole(body));
                    link.replies.fail_to_sync(names, &mut link.lease.prepared);
                    return Ok(false);
                }
                if !fatal && link.names_ahead && link.replies.head().is_some_and(Expect::is_ours) {
                    // The same within the client's sequence: told when its turn comes.
                    link.failed = true;
                    link.own_failure = Some(ErrorNotice::whole(body));
                    link.void_sequence(names);
                    return Ok(false);
                }
                if code == SqlState::FEATURE_NOT_SUPPORTED
                    && ErrorNotice::field_of(body, b'R') == Some(b"RevalidateCachedQuery")
                    && self.heal()
                {
                    return Ok(false);
                }
                if code == SqlState::INVALID_STATEMENT_NAME && !fatal && self.heal_lost(body, out) {
                    return Ok(false);
                }
                if !fatal && self.rerun(body, false, out) {
                    return Ok(false);
                }
                let Self { state: State::Linked(link), names, timing, .. } = self else { return Err(ServerBroken) };
                link.failed = true;
                self.deferred.fail();
                if link.copy_syncs > 0 {
                    link.retired = Some(COPY_FAILED);
                }
                link.copy_in = false;
                if matches!(link.replies.head(), Some(Expect::Refused(_)))
                    && !fatal
                    && let Some(Expect::Refused(notice)) = link.replies.pop()
                {
                    notice.encode(out.insert());
                    timing.failed(notice.code);
                    self.metrics.error(notice.code, crate::observe::Blame::Client);
                    self.skip_to_sync = link.void_sequence(names);
                    return Ok(false);
                }
                let named = link.replies.head().and_then(Expect::named).map(|(of, since)| (of.clone(), since));
                if !matches!(link.replies.head(), Some(Expect::Simple { .. }) | None) && !fatal {
                    self.skip_to_sync = link.void_sequence(names);
                }
                // With what is void taken back: names that were to be closed stand.
                let renamed = named.and_then(|(of, since)| names.in_clients_words(&of, since, body));
                timing.failed(code);
                self.metrics.error(code, crate::observe::Blame::Server);
                if let Some(error) = renamed {
                    crate::wire::build::message(out.insert(), b'E', |out| out.extend_from_slice(&error));
                    return Ok(false);
                }
                if let Some(SqlState::INVALID_STATEMENT_NAME | SqlState::IN_FAILED_TRANSACTION) = Some(code)
                    && let Some(failure) = link.own_failure.take()
                {
                    crate::wire::build::message(out.insert(), b'E', |out| out.extend_from_slice(&failure));
                    return Ok(false);
                }
                if code == SqlState::READ_ONLY_TRANSACTION && link.primary {
                    // The client's own wish, or it was demoted: a look will tell (trap 69).
                    link.lease.pool().load.probe.notify_one();
                }
                if fatal && code.says_server_unavailable() {
                    // One killed backend is not a dead node: only a health check can say so (trap 66).
                    link.lease.pool().load.probe.notify_one();
                }
                return Ok(true);
            }
            b'S' => {
                let Some((name, value)) = backend::parameter_status(body) else { return Ok(!settings) };
                link.lease.set_parameter(name, value);
                if link.lease.parameters.are_too_many() {
                    link.lease.pool().complain(TOO_MANY_PARAMETERS);
                    return Err(ServerBroken);
                }
                if name == b"in_hot_standby" {
                    // It has been promoted.
                    link.lease.pool().load.probe.notify_one();
                }
                if settings {
                    return Ok(false);
                }
                // RESET and DISCARD ALL go back to what the client started with, and are put there before anything else runs
                // (trap 52): that is the value to tell.
                let as_started =
                    link.barrier && self.tracked.is_as_started(&String::from_utf8_lossy(name).to_ascii_lowercase());
                let started = as_started.then(|| self.pools.greeting(self.tracked.startup())).flatten();
                if let Some(value) = started.as_deref().and_then(|started| started.get(name)) {
                    lex.observe_parameter(name, value);
                    if Arc::make_mut(&mut self.told).set(name, value) {
                        crate::wire::build::parameter_status(out.insert(), name, value);
                    }
                    return Ok(false);
                }
                lex.observe_parameter(name, value);
                Arc::make_mut(&mut self.told).set(name, value);
                // A client talks to one server that is never a standby (trap 57).
                return Ok(name != b"in_hot_standby");
            }
            b'A' => {
                self.take_notification(body);
                return Ok(false);
            }
            _ if settings => return Ok(false),
            b'C' if matches!(link.replies.head(), Some(Expect::OwnExecute { .. })) => {
                link.replies.pop();
                return Ok(false);
            }
            b'C' => {
                timing.completed(backend::command_rows(body));
                link.copy_in = false;
                link.settle_copy_syncs(0);
                match body {
                    b"DISCARD ALL\0" => {
                        link.lease.prepared.clear();
                        link.lease.greeted = false;
                        names.clear();
                        if self.pins.contains(Pins::SESSION_STATE) {
                            // setseed and LOAD outlast it (trap 58).
                            link.retired = Some("state that no reset takes back");
                        }
                        self.pins = Pins::empty();
                    }
                    b"DEALLOCATE ALL\0" => {
                        link.lease.prepared.clear();
                        names.clear();
                        self.pins.remove(Pins::SQL_PREPARE | Pins::LARGE_STATEMENT);
                    }
                    _ => {}
                }
                self.take_completion(body);
                let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
                pop_if(link, |head| matches!(head, Expect::Execute { .. }));
            }
            b's' => {
                // It has given a row: what sets has run, and no CommandComplete may ever come.
                self.take_completion(b"");
                let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
                pop_if(link, |head| matches!(head, Expect::Execute { .. }));
            }
            b'I' => drop(pop_if(link, |head| matches!(head, Expect::Execute { .. }))),
            b'1' => {
                let wanted = |head: &Expect| {
                    matches!(head, Expect::Parse { .. } | Expect::RawParse { .. } | Expect::OwnParse { .. })
                };
                return match pop_if(link, wanted) {
                    Some(Expect::Parse { statement, unnamed, client }) => {
                        if !unnamed {
                            self.pools.accept_statement(statement.id);
                        }
                        let is_clients = client.is_some();
                        if let Some((_, Some(before))) = client {
                            before.let_go();
                        }
                        Ok(is_clients)
                    }
                    Some(Expect::RawParse { .. }) => Ok(true),
                    Some(Expect::OwnParse { .. }) => Ok(false),
                    _ => Err(ServerBroken),
                };
            }
            b'2' => {
                let popped = pop_if(link, |head| matches!(head, Expect::Bind { .. } | Expect::OwnBind));
                return popped.map(|expect| matches!(expect, Expect::Bind { .. })).ok_or(ServerBroken);
            }
            b'3' => {
                let wanted = |head: &Expect| {
                    matches!(
                        head,
                        Expect::Close { .. }
                            | Expect::CloseUnnamed { .. }
                            | Expect::Evict { .. }
                            | Expect::CloseStray { .. }
                            | Expect::TakeAway { .. }
                    )
                };
                return match pop_if(link, wanted) {
                    Some(Expect::Close { ours }) => Ok(!ours),
                    Some(Expect::CloseUnnamed { .. }) => Ok(true),
                    Some(_) => Ok(false),
                    None => Err(ServerBroken),
                };
            }
            b't' => return Ok(link.replies.tell_parameters(body)),
            b'T' | b'n' => {
                let columns = (tag == b'T').then_some(body);
                match pop_if(link, |head| matches!(head, Expect::Describe { .. } | Expect::Verify { .. })) {
                    Some(Expect::Verify { statement }) => {
                        self.described(&statement, columns, false);
                        return Ok(false);
                    }
                    Some(Expect::Describe { of: Some(statement), .. })
                        if !link.lease.prepared.is_verified(&statement) =>
                    {
                        self.described(&statement, columns, true);
                    }
                    _ => {}
                }
            }
            b'G' => {
                let (syncs, has_ended) = link.replies.copy_in_began();
                link.copy_syncs += syncs;
                link.copy_in = !has_ended;
            }
            // A procedure may have committed before it said this.
            b'N' if link.status == TxStatus::Idle && self.sight.is_writing() => self.sight.stamp(Moment::of(self.now)),
            _ => {}
        }
        Ok(true)
    }

    /// What a server says to [`Expect::Tidy`]. If it does not do what it is told (a cancel request that came late strikes it, say), nobody
    /// else gets the connection; the client is not concerned, as long as it has asked for nothing more on it.
    fn take_tidied(&mut self, tag: u8, body: &[u8], out: &mut Splice<'_>) -> Result<bool, ServerBroken> {
        let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
        match tag {
            b'Z' if link.copy_syncs > 0 => return self.take_stray_ready(body),
            b'Z' => return self.take_ready(body, out),
            // Whatever was asked before it has been answered.
            b'I' => link.settle_copy_syncs(0),
            b'S' => link.lease.take_parameter_status(body),
            b'E' => {
                link.retired = Some("it has not let go of what its client has left");
                link.dying = is_fatal(body);
                if link.dying && link.replies.len() > 1 {
                    return Ok(true);
                }
                if link.dying {
                    link.replies.pop();
                }
            }
            _ => {}
        }
        Ok(false)
    }

    /// A ReadyForQuery for a Sync of the client's that was sent before a COPY failed, which had not read it yet.
    fn take_stray_ready(&mut self, body: &[u8]) -> Result<bool, ServerBroken> {
        let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
        link.status = body.first().copied().and_then(TxStatus::from_byte).ok_or(ServerBroken)?;
        link.settle_copy_syncs(link.copy_syncs - 1);
        self.skip_to_sync = false;
        Ok(true)
    }

    fn take_ready(&mut self, body: &[u8], out: &mut Splice<'_>) -> Result<bool, ServerBroken> {
        let status = body.first().copied().and_then(TxStatus::from_byte).ok_or(ServerBroken)?;
        let State::Linked(link) = &mut self.state else { return Err(ServerBroken) };
        if !std::mem::take(&mut link.said)
            && link.copy_syncs > 0
            && link.replies.head().is_some_and(Expect::says_before_ready)
        {
            return self.take_stray_ready(body);
        }
        let offloaded = self.deferred.is_open();
        let was_in_block = link.status.in_block();
        let failed = std::mem::take(&mut link.failed);
        link.status = status;
        link.copy_in = false;
        let mut own_end = None;
        // It ends what the client has run, though it hears nothing of that.
        let mut own_sync = false;
        let mut is_part = false;
        // Whatever of the sequence was left unanswered will not come any more.
        let for_client = loop {
            match link.replies.pop() {
                Some(
                    expect @ (Expect::Settings | Expect::Tidy | Expect::Defaults | Expect::Path | Expect::OwnSync),
                ) => {
                    if expect.is_spared() && !link.replies.head().is_some_and(Expect::is_spared) {
                        self.client.set_applying(false);
                    }
                    // The statement's own answer is still to come.
                    self.timing.not_yet();
                    break false;
                }
                Some(Expect::OwnEnd(end)) => {
                    own_end = Some(end);
                    self.timing.not_yet();
                    break false;
                }
                Some(Expect::Evidence(_) | Expect::Spoiled) => break false,
                Some(Expect::Sync { ours }) => {
                    own_sync = ours;
                    break !ours;
                }
                Some(Expect::Simple { goes_on, .. }) => {
                    link.own_failure = None;
                    is_part = goes_on;
                    own_sync = goes_on && status == TxStatus::InTransaction;
                    break !own_sync;
                }
                Some(_) => {}
                // A Sync of a COPY that failed before the server read it.
                None if link.copy_syncs > 0 => {
                    link.settle_copy_syncs(link.copy_syncs - 1);
                    link.segment_open = false;
                    self.skip_to_sync = false;
                    break true;
                }
                None => return Err(ServerBroken),
            }
        };
        if for_client || own_sync {
            let now = self.now;
            let link = &**link;
            let (ended, quiet) = (link.ended_by_tag.is_some(), link.replies.is_empty());
            self.sight.judged_by(self.decisions.epoch());
            self.sight.ready(Moment::of(now), link.incarnation, status, ended, quiet);
            if quiet {
                self.names.local_reading = 0;
            }
            let ended = !status.in_block() && !offloaded;
            if for_client {
                self.rerun_ended();
            }
            self.schema_settled(ended);
            self.settle_fresh_pins(failed);
            if ended {
                // An implicit transaction, or a COMMIT that met an error.
                self.settle_transaction(failed);
            }
            if ended && (was_in_block || self.placement.may_go_back()) {
                self.placement.transaction_ended(failed);
            }
            self.release_pins(ended);
            if for_client || self.timing.is_running() {
                self.statement_ended(now, ended);
            }
        }
        if let Some(end) = own_end {
            self.replicas_block_ended(end, status);
        }
        if is_part {
            self.ran_before_end(for_client);
        }
        if for_client && offloaded {
            self.offloaded_ready(out);
            return Ok(false);
        }
        Ok(for_client && self.pass_ready(status, out))
    }
}

impl Link {
    /// So many Syncs that were sent while the server read COPY data may still be answered.
    fn settle_copy_syncs(&mut self, left: usize) {
        self.copy_syncs = left;
        if left == 0 && self.retired == Some(COPY_FAILED) {
            self.retired = None;
        }
    }
}

fn pop_if(link: &mut Link, wanted: impl FnOnce(&Expect) -> bool) -> Option<Expect> {
    if link.replies.head().is_some_and(wanted) { link.replies.pop() } else { None }
}

/// Whether an ErrorResponse ends the connection: severity FATAL or PANIC, which is the first field that servers send.
fn is_fatal(body: &[u8]) -> bool {
    ErrorNotice::decode(body).is_fatal()
}
