//! Client to server: what each frame of the client's means for the session, and what of it goes out.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Prepared;
use crate::sql::{Change, Decision, Effects, OwnAction, ParameterText, Reason, Target, normalize, own_setting};
use crate::wire::frame::{HEADER, frontend_limit};
use crate::wire::{ErrorNotice, Frame, FrameWalker, SqlState, Step, TxStatus, build, frontend};

use super::machine::State;
use super::pins::Pins;
use super::placement::{Place, RouteChoice};
use super::relay::Session;
use super::replies::Expect;
use super::splice::Splice;
use super::tracked::Script;

/// Why the reading of the client's bytes stopped.
#[derive(Debug)]
pub(super) enum Need {
    /// All whole frames are taken; more bytes are needed.
    Input,
    /// The next frame needs a server connection.
    Lease(Place),
    /// The next frame must wait until the server has answered everything before it.
    Quiet,
    /// The session ends, with this error if any.
    Close(Option<ErrorNotice>),
}

/// What to do after a frame.
#[derive(Debug)]
pub(super) enum Flow {
    /// It is taken.
    Taken,
    /// It stays where it is, for this reason.
    Stop(Need),
}

/// A decision for what is not looked at: too long, or not SQL.
pub(super) const UNSEEN: Decision = Decision::unknown(Reason::Unparsed);

/// Effects of statements that change what the session keeps ([`super::tracked`]).
const KEPT_STATE: Effects = Effects::SET_SESSION
    .union(Effects::SAVEPOINT)
    .union(Effects::LISTEN)
    .union(Effects::SQL_PREPARE)
    .union(Effects::DEALLOCATE_ALL)
    .union(Effects::DISCARD_ALL);

impl Session {
    /// Takes as many frames from `data` as it can. Returns how many bytes are done with, and why it stopped.
    pub(super) fn take_client(&mut self, data: &[u8], out: &mut Splice<'_>) -> (usize, Need) {
        let mut start = 0;
        if self.client_pass > 0 {
            start = self.client_pass.min(data.len());
            self.client_pass -= start;
            if !self.pass_is_dropped {
                out.pass(0..start);
            }
        }
        let mut walker = FrameWalker::new(&data[start..]);
        loop {
            let at = start + walker.position();
            let step = match walker.step(frontend_limit) {
                Ok(step) => step,
                Err(bad) => return (at, Need::Close(Some(violation(bad.to_string())))),
            };
            let flow = match step {
                Step::End => return (at, Need::Input),
                Step::Partial { tag, frame_len, available } => {
                    match self.take_partial(tag, frame_len, available, at, out) {
                        Flow::Taken => return (data.len(), Need::Input),
                        stop => stop,
                    }
                }
                Step::Whole(frame) => self.take_frame(frame, at, &data[at..], out),
            };
            if let Flow::Stop(need) = flow {
                return (at, need);
            }
        }
    }

    fn take_frame(&mut self, frame: Frame<'_>, at: usize, rest: &[u8], out: &mut Splice<'_>) -> Flow {
        let range = at..at + frame.bytes.len();
        if self.skip_to_sync && !matches!(frame.tag, b'S' | b'X') {
            // What an error made void: the server would skip it too.
            return Flow::Taken;
        }
        if let State::Linked(link) = &self.state
            && (link.barrier || link.fence)
            && !link.segment_open
            && !link.replies.is_empty()
            && !matches!(frame.tag, b'S' | b'H' | b'X' | b'd' | b'c' | b'f')
        {
            return Flow::Stop(Need::Quiet);
        }
        match frame.tag {
            b'Q' => match frontend::query(frame.body()) {
                Some(sql) => self.take_query(sql, range, out),
                None => close("invalid Query message"),
            },
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' => self.take_extended(frame, range, rest, out),
            b'd' | b'c' | b'f' => {
                self.take_copy(frame.tag, range, out);
                Flow::Taken
            }
            b'F' => self.take_function_call(frame.body(), range, out),
            // What it has asked for before is still its to read.
            b'X' if self.link().is_some_and(|link| link.replies.owes_ready() && !link.copy_in) => {
                Flow::Stop(Need::Quiet)
            }
            b'X' => Flow::Stop(Need::Close(None)),
            tag => close(format!("unexpected message type {tag:#04x} in a session")),
        }
    }

    /// The beginning of a frame. `Taken` when its bytes went out and the rest of it will pass unseen.
    fn take_partial(&mut self, tag: u8, frame_len: usize, available: &[u8], at: usize, out: &mut Splice<'_>) -> Flow {
        let range = at..at + available.len();
        let remaining = frame_len - available.len();
        if self.skip_to_sync && !matches!(tag, b'S' | b'X') {
            return self.stream_rest(remaining, true);
        }
        match tag {
            b'd' => {
                let dropped = !self.take_copy(tag, range, out);
                self.stream_rest(remaining, dropped)
            }
            // A Bind of which the head is here: its parameters stream.
            b'B' if frame_len > super::extended::GATHER_LIMIT
                && frontend::bind_head(&available[HEADER..]).is_some() =>
            {
                match self.take_extended(Frame { tag, bytes: available }, range, available, out) {
                    Flow::Taken => self.stream_rest(remaining, false),
                    stop => stop,
                }
            }
            // The name of what is prepared must be there.
            b'P' if frame_len > self.max_inspect && !available[HEADER..].contains(&0) => Flow::Stop(Need::Input),
            b'Q' | b'F' | b'P' if frame_len > self.max_inspect => {
                match self.take_unseen(tag, &available[HEADER..], range, out) {
                    Flow::Taken => self.stream_rest(remaining, false),
                    stop => stop,
                }
            }
            _ => Flow::Stop(Need::Input),
        }
    }

    fn stream_rest(&mut self, remaining: usize, dropped: bool) -> Flow {
        self.client_pass = remaining;
        self.pass_is_dropped = dropped;
        Flow::Taken
    }

    /// A message too long to be inspected: it streams to the primary as it is. A Parse of that kind stays on its connection,
    /// which is pinned, since the text is not kept for another one.
    fn take_unseen(&mut self, tag: u8, head: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        if let Some(stop) = self.needs_other_link(UNSEEN, out) {
            return stop;
        }
        let mut client = None;
        if tag == b'P' {
            let name = head.split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(stop) = self.settle_name(name, out) {
                return stop;
            }
            client = self.take_raw_name(name, out);
            if client.is_some() {
                self.pin(Pins::LARGE_STATEMENT);
                self.pinned_by(b"-- a statement longer than max_inspect");
            }
        }
        self.begin_statement(UNSEEN, &[], None, None);
        if tag != b'P' || client.as_ref().is_some_and(|name| name.is_empty()) {
            self.names.set_unnamed(None);
        }
        let unnamed = self.names.get(b"").is_none();
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        if unnamed {
            link.lease.prepared.unnamed = None;
        }
        if tag == b'P' {
            link.segment_open = true;
            link.replies.push(Expect::RawParse { client: client.filter(|name| !name.is_empty()) });
        } else {
            link.ends_segment(None);
            self.segment_cleared = false;
        }
        out.pass(range);
        Flow::Taken
    }

    fn take_query(&mut self, sql: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        let decision = self.judge(sql);
        let effects = decision.effects;
        let own = effects.contains(Effects::OWN_SETTING) && !effects.contains(Effects::MULTI);
        if own || (decision.reason == Reason::Empty && matches!(self.state, State::Idle | State::Waiting)) {
            // Answered here, but in its turn.
            if let Some(stop) = self.needs_quiet(out) {
                return stop;
            }
            match own {
                true => self.answer_own_setting(sql),
                false => build::bare(&mut self.to_client, b'I'),
            }
            self.answer_ready();
            return Flow::Taken;
        }
        if let Some(notice) = self.refusal(effects, sql) {
            if let Some(stop) = self.needs_quiet(out) {
                return stop;
            }
            notice.encode(&mut self.to_client);
            self.answer_ready();
            return Flow::Taken;
        }
        if let Some(answered) = self.take_block_control(decision, sql) {
            return answered;
        }
        if let Some(stop) = self.needs_other_link(decision, out) {
            return stop;
        }
        if self.must_notify_alone(effects)
            && let Some(stop) = self.needs_quiet(out)
        {
            return stop;
        }
        if let Some(stop) = self.provide_channels(effects, out) {
            return stop;
        }
        if let Some(stop) = self.names_before_query(decision, sql, out) {
            return stop;
        }
        let script = self.read_script(decision.effects, sql, &|_| None);
        self.begin_statement(decision, sql, None, script.as_deref());
        // A simple Query ends the unnamed statement (trap 37).
        self.names.set_unnamed(None);
        self.segment_cleared = false;
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        link.lease.prepared.unnamed = None;
        link.ends_segment(script);
        out.pass(range);
        Flow::Taken
    }

    fn take_function_call(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        if let Some(stop) = self.needs_other_link(UNSEEN, out) {
            return stop;
        }
        self.begin_statement(UNSEEN, b"-- function call", None, None);
        self.segment_cleared = false;
        // Large objects live in a transaction (trap 14); any other function may leave session state behind.
        let oid = body.first_chunk::<4>().map_or(0, |oid| u32::from_be_bytes(*oid));
        if !matches!(oid, 715 | 764 | 767 | 952..=958 | 964 | 1004 | 3170..=3172 | 3457..=3460) {
            self.pin(Pins::SESSION_STATE);
            self.pinned_by(b"-- function call");
        }
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        link.ends_segment(None);
        out.pass(range);
        Flow::Taken
    }

    /// COPY data and its end. Passed on only while the server may read it; PostgreSQL ignores what comes too late, and nobody
    /// else must get it (trap 49). Returns whether it was passed on.
    fn take_copy(&mut self, tag: u8, range: Range<usize>, out: &mut Splice<'_>) -> bool {
        let Some(link) = self.link() else { return false };
        if !link.copy_in && link.replies.is_empty() {
            return false;
        }
        if tag != b'd' {
            if link.copy_in {
                link.copy_in = false;
            } else {
                link.replies.push(Expect::CopyEnd);
            }
        }
        out.pass(range);
        true
    }

    /// Whether the frame with this decision cannot go to the link at hand: there is none, or it is on a replica and the
    /// statement is not for one. A transaction stays where it began.
    pub(super) fn needs_other_link(&mut self, decision: Decision, out: &mut Splice<'_>) -> Option<Flow> {
        // Whatever segment follows is judged anew.
        self.segment_cleared = false;
        self.wants_sequences = decision.effects.contains(Effects::SEQUENCE_STATE);
        self.notify.asks = decision.effects.contains(Effects::ASKS_CHANNELS);
        let place = match &self.state {
            State::Linked(link) if link.primary => return None,
            State::Linked(link)
                if link.replies.all_ours() && (link.status.in_block() || self.pins != Pins::empty()) =>
            {
                return None;
            }
            _ => self.place_of(decision),
        };
        match &self.state {
            State::Linked(_) if place == Place::Reader => None,
            State::Linked(_) => Some(self.leave_replica(out)),
            _ => Some(Flow::Stop(Need::Lease(place))),
        }
    }

    /// Stops when the server owes something, or a segment is open that only a Sync would have answered: an answer of our own
    /// must wait for its turn. A Query would end the segment; a Sync of ours does it here (trap 42).
    fn needs_quiet(&mut self, out: &mut Splice<'_>) -> Option<Flow> {
        let link = self.link()?;
        if link.replies.is_empty() && !link.segment_open {
            return None;
        }
        Some(self.leave_replica(out))
    }

    /// What must be refused in this mode, or on this node.
    pub(super) fn refusal(&mut self, effects: Effects, sql: &[u8]) -> Option<ErrorNotice> {
        if self.statement_mode && effects.contains(Effects::BEGIN) {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "transaction blocks are not possible in statement pooling",
                )
                .hint("Set pool_mode to \"transaction\" for this database or user."),
            );
        }
        let on_replica = self.link().is_some_and(|link| !link.primary && link.status.in_block());
        let listens = effects.contains(Effects::LISTEN) && !effects.contains(Effects::RELEASES_ONLY);
        if on_replica && (listens || Pins::of(effects) != Pins::empty()) {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "session state cannot be changed inside a READ ONLY transaction that runs on a replica",
                )
                .hint("Use SET LOCAL, or do it before BEGIN."),
            );
        }
        self.refuse_listening(effects, sql)
    }

    /// Notes what a statement that is about to be sent does to the session, and starts its clock.
    pub(super) fn begin_statement(
        &mut self,
        decision: Decision,
        sql: &[u8],
        prepared: Option<&Arc<Prepared>>,
        script: Option<&Script>,
    ) {
        let effects = decision.effects;
        let text = prepared.map_or(sql, |statement| &statement.sql);
        let mut pins = Pins::of(effects);
        if script.is_some_and(|script| script.all().any(|change| *change == Change::UnknownSetting)) {
            pins |= Pins::SETTINGS | Pins::ROLE;
        }
        if self.max_prepared == 0 && effects.contains(Effects::SQL_PREPARE) && !effects.contains(Effects::RELEASES_ONLY)
        {
            pins |= Pins::SQL_PREPARE;
        }
        if effects.contains(Effects::SQL_EXECUTE) && effects.contains(Effects::SET_SESSION) {
            // What is executed is not in the text.
            pins |= Pins::SETTINGS | Pins::ROLE;
        }
        if effects.contains(Effects::SET_LOCAL) {
            self.note_local_settings(text);
        }
        if effects.contains(Effects::RELEASES_ONLY) {
            self.begin_release(text);
        }
        if pins != Pins::empty() {
            self.pin(pins);
            self.pinned_by(text);
        }
        if pins.contains(Pins::TEMP_OBJECT) {
            let client = self.client.id;
            if let Some(link) = self.link() {
                link.lease.temp_schema_of = client;
            }
        }
        self.raise_barrier(effects, script);
        self.evidence.note(decision);
        self.begin_notifying(effects, script);
        let primary = self.link().is_some_and(|link| link.primary);
        if effects.contains(Effects::WRITES) {
            self.wrote = true;
            self.note_sequences();
            self.pinned_by(text);
        }
        self.metrics.routed(if primary { Target::Primary } else { Target::Replica }, decision.reason);
        self.timing.begin(decision, sql, prepared);
        super::fault::point("statement", text);
    }

    /// A statement goes out that may use a sequence (an INSERT does, by a column's default).
    fn note_sequences(&mut self) {
        self.used_sequences = true;
        let client = self.client.id;
        if let Some(link) = self.link() {
            link.lease.sequences_of = client;
        }
        if self.pools.keeps_sequences.load(Ordering::Relaxed) {
            self.pin(Pins::SEQUENCE);
        }
    }

    /// What the statements of a text change of the state that the session keeps.
    pub(super) fn read_script(
        &self,
        effects: Effects,
        sql: &[u8],
        parameter: ParameterText<'_>,
    ) -> Option<Box<Script>> {
        effects.intersects(KEPT_STATE).then(|| Script::read(sql, self.lex, parameter))?
    }

    /// A statement that gives state up: what it will end if it succeeds. A RESET pins nothing, rolled back or not: what it takes
    /// away of the settings that the client brought along is put back ([`Self::raise_barrier`]).
    fn begin_release(&mut self, text: &[u8]) {
        // Behind a pipeline nobody knows yet whether a block will be open.
        let certain = match &self.state {
            State::Linked(link) => link.status == TxStatus::Idle && link.replies.is_empty(),
            _ => false,
        };
        self.releasing = if certain { Pins::released_by(&normalize(text, self.lex)) } else { Pins::empty() };
    }

    /// A statement that takes away settings that the client started with (trap 52), or all statement names (trap 45): what follows
    /// waits for its end, since the settings are put back before it.
    fn raise_barrier(&mut self, effects: Effects, script: Option<&Script>) {
        let undoes = script.is_some_and(|script| script.all().any(|change| self.tracked.is_undone_by(change)));
        if let Some(link) = self.link() {
            link.barrier |= undoes || effects.contains(Effects::DEALLOCATE_ALL);
        }
    }

    pub(super) fn pin(&mut self, pins: Pins) {
        self.fresh_pins |= (pins & Pins::TRANSACTIONAL) - self.pins;
        self.pins |= pins;
        self.evidence.outdated_for(pins);
        // Made after what is being given up: it stays.
        self.releasing.remove(pins);
    }

    /// `SET`, `RESET` and `SHOW` of `trunkline.…` settings.
    fn answer_own_setting(&mut self, sql: &[u8]) {
        let Some(setting) = own_setting(sql, self.lex) else {
            return ErrorNotice::error(
                SqlState::SYNTAX_ERROR,
                "this form of SET is not understood for trunkline settings",
            )
            .hint("Write SET [LOCAL] trunkline.route = 'auto' | 'primary' | 'replica'.")
            .encode(&mut self.to_client);
        };
        if setting.name != "route" {
            return ErrorNotice::error(
                SqlState::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"trunkline.{}\"", setting.name),
            )
            .hint("Known: trunkline.route.")
            .encode(&mut self.to_client);
        }
        match setting.action {
            OwnAction::Set { value, local } => {
                let Some(choice) = RouteChoice::parse(&value) else {
                    return ErrorNotice::error(
                        SqlState::INVALID_PARAMETER_VALUE,
                        format!("invalid value for parameter \"trunkline.route\": \"{value}\""),
                    )
                    .hint("Available values: auto, primary, replica.")
                    .encode(&mut self.to_client);
                };
                if local && !self.status().in_block() {
                    ErrorNotice {
                        severity: crate::wire::Severity::Warning,
                        ..ErrorNotice::error(
                            SqlState::NO_ACTIVE_TRANSACTION,
                            "SET LOCAL can only be used in transaction blocks",
                        )
                    }
                    .encode(&mut self.to_client);
                } else {
                    if local {
                        self.placement.choice_before_local.get_or_insert(self.placement.choice);
                    }
                    self.placement.choice = choice;
                }
                build::command_complete(&mut self.to_client, "SET");
            }
            OwnAction::Reset => {
                self.placement.choice = RouteChoice::Auto;
                build::command_complete(&mut self.to_client, "RESET");
            }
            OwnAction::Show => {
                build::text_columns(&mut self.to_client, &["trunkline.route"]);
                build::text_row(&mut self.to_client, &[self.placement.choice.as_str()]);
                build::command_complete(&mut self.to_client, "SHOW");
            }
        }
    }
}

pub(super) fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> ErrorNotice {
    ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

pub(super) fn close(message: impl Into<std::borrow::Cow<'static, str>>) -> Flow {
    Flow::Stop(Need::Close(Some(violation(message))))
}
