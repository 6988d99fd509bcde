//! The extended protocol, client to server: Parse, Bind, Describe, Execute, Close, Flush, Sync.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::backend::{Prepared, prepared};
use crate::sql::{Decision, Effects, Reason, Target, TouchId};
use crate::wire::frame::{HEADER, frontend_limit};
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{ErrorNotice, Frame, FrameWalker, Step, build};

use super::inbound::{Flow, Need, UNSEEN, close};
use super::machine::State;
use super::names::{Named, Statement};
use super::own_names::NAMES;
use super::pins::Pins;
use super::placement::Place;
use super::provide::{Provided, columns_changed, describes_portal, name_on_server};
use super::relay::Session;
use super::replies::Expect;
use super::splice::Splice;

/// Bytes of a segment (what stands between two Syncs) that are waited for before it is routed. A longer one goes to the primary.
pub(super) const GATHER_LIMIT: usize = 48 * 1024;

/// Name of a statement that no server has.
const REFUSED: &[u8] = b"refused by the proxy";

/// A segment without statements: it may run anywhere.
pub(super) const NOTHING: Decision =
    Decision { target: Target::Anywhere, reason: Reason::Empty, effects: Effects::empty(), touches: TouchId::NOTHING };

enum Gathered {
    /// Not all of it is here.
    Incomplete,
    /// It is to run here.
    Runs(Place),
    /// It closes statements, or prepares what a server has accepted before, and syncs: no server is needed. A client that prepares
    /// before it begins must not wait for clients that are in a transaction (pgbench prepares so, blocking all its clients).
    Local,
}

impl Session {
    pub(super) fn take_extended(
        &mut self,
        frame: Frame<'_>,
        range: Range<usize>,
        rest: &[u8],
        out: &mut Splice<'_>,
    ) -> Flow {
        self.wants_sequences = false;
        self.notify.asks = false;
        let linked = match &self.state {
            // Whether a transaction block is open is known only while no ReadyForQuery is outstanding.
            State::Linked(link) => Some(
                link.primary
                    || self.segment_cleared
                    || link.copy_in
                    || self.pins != Pins::empty()
                    || (link.status.in_block() && !link.replies.owes_ready()),
            ),
            _ => None,
        };
        match linked {
            Some(true) => {}
            Some(false) if frame.tag == b'S' || frame.tag == b'H' => {}
            Some(false) => match self.gather(rest) {
                Gathered::Incomplete => return Flow::Stop(Need::Input),
                Gathered::Runs(Place::Primary) => return self.leave_replica(out),
                _ => self.segment_cleared = true,
            },
            None => {
                if self.skip_to_sync || frame.tag == b'S' || frame.tag == b'H' {
                    return self.take_alone(frame);
                }
                match self.gather(rest) {
                    Gathered::Incomplete => return Flow::Stop(Need::Input),
                    Gathered::Runs(place) => return Flow::Stop(Need::Lease(place)),
                    Gathered::Local => return self.take_alone(frame),
                }
            }
        }
        if let Some(stop) = self.prepare_segment(rest, out) {
            return stop;
        }
        self.send_extended(frame, range, rest, out)
    }

    /// Whether a Parse is of a named statement that a server has accepted before, under a name that is free.
    fn is_accepted(&self, body: &[u8]) -> bool {
        frontend::parse(body).is_some_and(|parse| {
            !parse.name.is_empty()
                && self.max_prepared > 0
                && self.names.get(parse.name).is_none()
                && !self.decisions.decide(parse.sql, self.lex).effects.intersects(NAMES)
                && self.pools.has_accepted(self.shared_statement(parse).id)
        })
    }

    fn shared_statement(&self, parse: frontend::Parse<'_>) -> Arc<Prepared> {
        let decision = self.decisions.decide(parse.sql, self.lex);
        prepared::intern(parse.sql, parse.types, decision, self.statement_context(decision))
    }

    /// A Sync, Flush, Close or Parse that needs no server connection.
    fn take_alone(&mut self, frame: Frame<'_>) -> Flow {
        match frame.tag {
            b'S' => {
                self.skip_to_sync = false;
                self.answer_ready();
            }
            b'P' => match frontend::parse(frame.body()) {
                Some(parse) => {
                    self.metrics.client_parse();
                    self.names.set(parse.name, Named::new(Statement::Shared(self.shared_statement(parse))));
                    build::bare(&mut self.to_client, b'1');
                }
                None => return close("invalid Parse message"),
            },
            b'C' => match frontend::object(frame.body()) {
                Some((kind, name)) => {
                    if kind == ObjectKind::Statement {
                        self.names.remove(name);
                    }
                    build::bare(&mut self.to_client, b'3');
                }
                None => return close("invalid Close message"),
            },
            _ => {}
        }
        Flow::Taken
    }

    /// What comes next cannot go to the link as it stands (it needs the primary, say, and the link is on a replica, which has seen
    /// only Parse and Describe of the segment): a Sync of ours ends an open segment, and the rest waits for its end.
    pub(super) fn leave_replica(&mut self, out: &mut Splice<'_>) -> Flow {
        if let Some(link) = self.link()
            && link.segment_open
        {
            link.close_segment();
            link.replies.push(Expect::Sync { ours: true });
            build::sync(out.insert());
        }
        Flow::Stop(Need::Quiet)
    }

    /// Looks ahead to the Sync or Flush that ends the segment at the beginning of `rest`, and judges all that it executes: it is
    /// one implicit transaction (traps 1 and 30).
    fn gather(&mut self, rest: &[u8]) -> Gathered {
        let mut walker = FrameWalker::new(rest);
        let mut parsed: SmallVec<[(&[u8], Decision); 4]> = SmallVec::new();
        let mut worst = NOTHING;
        let mut executes = false;
        let mut local = true;
        loop {
            let frame = match walker.step(frontend_limit) {
                Ok(Step::Whole(frame)) => frame,
                Ok(Step::Partial { frame_len, .. }) if walker.position() + frame_len > GATHER_LIMIT => {
                    return Gathered::Runs(Place::Primary);
                }
                Ok(_) if rest.len() > GATHER_LIMIT => return Gathered::Runs(Place::Primary),
                Ok(_) => return Gathered::Incomplete,
                // The frame itself will be refused when its turn comes.
                Err(_) => return Gathered::Runs(Place::Primary),
            };
            let body = frame.body();
            let decision = match frame.tag {
                // Where prepared statements are not shared the Parse pins its connection: the primary's, for whatever comes.
                b'P' if self.max_prepared == 0 && body.first() != Some(&0) => None,
                b'P' => frontend::parse(body).map(|parse| {
                    let decision = self.judge(parse.sql);
                    parsed.push((parse.name, decision));
                    decision
                }),
                b'B' => {
                    // A portal cannot move to another node either.
                    executes = true;
                    frontend::bind_head(body).map(|head| self.decision_of(head.statement, &parsed))
                }
                b'D' => frontend::object(body).map(|(kind, name)| match kind {
                    ObjectKind::Statement => self.decision_of(name, &parsed),
                    ObjectKind::Portal => NOTHING,
                }),
                b'E' => {
                    executes = true;
                    Some(NOTHING)
                }
                b'C' => frontend::object(body).map(|_| NOTHING),
                b'H' if local => return Gathered::Local,
                // What comes after a Flush is not known yet: only what has not run can still move.
                b'H' if executes => return Gathered::Runs(Place::Primary),
                b'H' | b'S' if !local => return Gathered::Runs(self.place_of(worst)),
                b'S' => return Gathered::Local,
                _ => None,
            };
            local &= match frame.tag {
                b'C' => true,
                b'P' => self.is_accepted(body),
                _ => false,
            };
            match decision {
                None => return Gathered::Runs(Place::Primary),
                Some(NOTHING) => {}
                Some(decision) => {
                    self.wants_sequences |= decision.effects.contains(Effects::SEQUENCE_STATE);
                    self.notify.asks |= decision.effects.contains(Effects::ASKS_CHANNELS);
                    worst = worse(worst, decision);
                }
            }
        }
    }

    fn decision_of(&self, name: &[u8], parsed: &[(&[u8], Decision)]) -> Decision {
        let in_segment =
            parsed.iter().rev().find(|(parsed_name, _)| *parsed_name == name).map(|(_, decision)| *decision);
        in_segment.or_else(|| self.names.get(name).map(|named| self.judge_named(named))).unwrap_or(UNSEEN)
    }

    /// Sends a frame of the segment to the link.
    fn send_extended(&mut self, frame: Frame<'_>, range: Range<usize>, rest: &[u8], out: &mut Splice<'_>) -> Flow {
        let body = frame.body();
        match frame.tag {
            b'P' => return self.send_parse(body, range, out),
            b'B' => return self.send_bind(frame, range, rest, out),
            b'C' => return self.send_close(body, range, out),
            b'D' => match frontend::object(body) {
                Some((ObjectKind::Statement, name)) => {
                    if let Some(stop) = self.settle_name(name, out) {
                        return stop;
                    }
                    let (known, _) = self.known(name, || true);
                    let executes = known.as_ref().and_then(|named| named.shared()).cloned();
                    if let Some(statement) = executes.filter(|s| s.decision.effects.contains(Effects::SQL_EXECUTE))
                        // It is described by what that stands for now.
                        && let Some(stop) = self.names_in_segment(statement.decision, &statement.sql, out)
                    {
                        return stop;
                    }
                    if let Provided::Wait(stop) = self.provide(known.as_ref(), name, false, rest, out) {
                        return stop;
                    }
                    match name_on_server(known.as_deref(), name) {
                        Some(renamed) => build::describe_statement(out.insert(), &renamed),
                        None => out.pass(range),
                    }
                    self.expect_description(known.as_deref().filter(|_| !name.is_empty()));
                    self.uses_plan(false);
                }
                Some((ObjectKind::Portal, name)) => {
                    let bound = self.names.bound.take_if(|(portal, _)| **portal == *name).map(|(_, named)| named);
                    self.expect_description(bound.as_deref());
                    out.pass(range);
                }
                None => return close("invalid Describe message"),
            },
            b'E' => {
                let Some((portal, _)) = frontend::execute(body) else { return close("invalid Execute message") };
                let script = self.scripts.iter().position(|(of, _)| **of == *portal);
                let script = script.map(|at| self.scripts.swap_remove(at).1);
                self.expect(Expect::Execute { script });
                if let Some(link) = self.link() {
                    link.segment_executed = true;
                }
                out.pass(range);
            }
            b'H' => {
                self.segment_cleared = false;
                out.pass(range);
            }
            _ => {
                self.segment_cleared = false;
                self.skip_to_sync = false;
                if let Some(link) = self.link() {
                    // Ignored by the server while it reads COPY data (trap 48).
                    if link.copy_in {
                        link.copy_syncs += 1;
                    } else {
                        link.close_segment();
                        link.replies.push(Expect::Sync { ours: false });
                    }
                }
                out.pass(range);
            }
        }
        Flow::Taken
    }

    fn expect(&mut self, expect: Expect) {
        if let Some(link) = self.link() {
            link.segment_open = true;
            link.replies.push(expect);
        }
    }

    /// A Describe goes out, of a named statement or of its portal: the client knows the columns from now on.
    fn expect_description(&mut self, named: Option<&Named>) {
        let of = named.and_then(|named| {
            named.set_described();
            named.shared().cloned()
        });
        self.expect(Expect::Describe { of, begun: false });
    }

    /// A message goes out that uses the plan of a statement.
    fn uses_plan(&mut self, relies: bool) {
        if let Some(link) = self.link() {
            link.segment_bound = true;
            link.shared_bound |= !relies;
        }
    }

    fn send_parse(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        let Some(parse) = frontend::parse(body) else { return close("invalid Parse message") };
        self.metrics.client_parse();
        let decision = self.decisions.decide(parse.sql, self.lex);
        if self.max_prepared == 0 && !parse.name.is_empty() {
            // Not shared: the client's own name on a connection of its own.
            self.pin(Pins::SQL_PREPARE);
            self.pinned_by(parse.sql);
            self.expect(Expect::RawParse { client: None });
            out.pass(range);
            return Flow::Taken;
        }
        if let Some(stop) = self.settle_name(parse.name, out) {
            return stop;
        }
        if decision.effects.contains(Effects::SQL_EXECUTE) {
            // It is described by what that stands for now.
            if let Some(stop) = self.names_in_segment(decision, parse.sql, out) {
                return stop;
            }
        }
        if !parse.name.is_empty() && self.names.get(parse.name).is_some() {
            // The server is to complain in its own words, and to fail the implicit transaction: let it have the name first.
            if let Some(link) = self.link() {
                link.occupy(parse.name, out);
            }
            self.expect(Expect::RawParse { client: None });
            out.pass(range);
            return Flow::Taken;
        }
        let statement = prepared::intern(parse.sql, parse.types, decision, self.statement_context(decision));
        if let Some(link) = self.link()
            && !parse.name.is_empty()
            && link.replies.unsettles(&statement)
        {
            return link.wait_for_answers(out);
        }
        let previous = self.names.get(parse.name).cloned();
        let named = Named::new(Statement::Shared(statement.clone()));
        self.names.set(parse.name, named);
        let max = self.max_prepared;
        let Some(link) = self.link() else { return Flow::Stop(Need::Lease(Place::Primary)) };
        link.segment_open = true;
        let client = Some((parse.name.into(), previous));
        if parse.name.is_empty() {
            link.lease.prepared.unnamed = Some((statement.clone(), prepared::moment()));
            link.replies.push(Expect::Parse { statement, unnamed: true, client });
            out.pass(range);
        } else if link.lease.prepared.has(&statement) && !link.may_have_failed() {
            // What stands may be outdated: that is seen to when it is used (`provide`).
            link.replies.push(Expect::MadeParse { name: parse.name.into() });
            return Flow::Taken;
        } else {
            // In a transaction that has failed a server refuses it, whatever it has.
            link.take_back(&statement, out);
            link.make_room(&statement, max, out);
            build::parse(out.insert(), &statement.name, &statement.sql, &statement.types);
            link.replies.push(Expect::Parse { statement, unnamed: false, client });
        }
        self.metrics.server_parse();
        Flow::Taken
    }

    fn send_bind(&mut self, frame: Frame<'_>, range: Range<usize>, rest: &[u8], out: &mut Splice<'_>) -> Flow {
        let Some(head) = frontend::bind_head(frame.body()) else { return close("invalid Bind message") };
        if let Some(stop) = self.settle_name(head.statement, out) {
            return stop;
        }
        let (known, relies) = self.known(head.statement, || describes_portal(rest, head.portal));
        let decision = known.as_ref().map_or(UNSEEN, |named| self.judge_named(named));
        let text = known.as_ref().and_then(|named| named.shared()).map_or(&b""[..], |statement| &statement.sql);
        if let Some(notice) = self.refusal(decision.effects, text) {
            self.refuse(notice, out);
            return Flow::Taken;
        }
        let reads_names = decision.effects.contains(Effects::READS_PREPARED);
        if let Some(link) = self.link()
            && reads_names
            && link.replies.owes_client()
        {
            return link.wait_for_answers(out);
        }
        let first = decision.effects & NAMES;
        if let Some(stop) = self.names_in_segment(Decision { effects: first, ..decision }, text, out) {
            return stop;
        }
        match self.provide(known.as_ref(), head.statement, relies, rest, out) {
            Provided::Ready => {}
            Provided::Wait(stop) => return stop,
            Provided::Changed => {
                self.refuse(columns_changed(), out);
                return Flow::Taken;
            }
        }
        self.metrics.bind();
        match name_on_server(known.as_deref(), head.statement) {
            Some(renamed) => {
                let tail = range.start + HEADER + head.rest..range.end;
                // The length on the wire, which may count parameters that have not come yet.
                let [_, a, b, c, d, ..] = *frame.bytes else { return close("invalid Bind message") };
                let len = u32::from_be_bytes([a, b, c, d]) as usize - head.statement.len() + renamed.len();
                let grown = u32::try_from(len).unwrap_or(u32::MAX);
                let built = out.insert();
                built.push(b'B');
                built.extend_from_slice(&grown.to_be_bytes());
                built.extend_from_slice(head.portal);
                built.push(0);
                built.extend_from_slice(&renamed);
                built.push(0);
                out.pass(tail);
            }
            None => out.pass(range),
        }
        let statement = known.as_ref().and_then(|named| named.shared()).filter(|_| !head.statement.is_empty()).cloned();
        if let Some(statement) = &statement {
            statement.used();
        }
        let shared = statement.is_some() && !relies;
        self.expect(Expect::Bind { statement, relies });
        self.uses_plan(relies);
        if reads_names {
            // Behind the Bind: the statement itself may have to go away under our name for it.
            self.names_in_segment(decision, text, out);
        }
        self.names.bound = known.as_ref().filter(|_| shared).map(|named| (head.portal.into(), named.clone()));
        if !self.scripts.is_empty() {
            self.scripts.retain(|(portal, _)| **portal != *head.portal);
        }
        let statement = known.as_ref().and_then(|named| named.shared());
        let script = statement.and_then(|statement| {
            let values = || frontend::bind_parameters(&frame.body()[head.rest..]);
            let parameter = |number: usize| values()?.nth(number.checked_sub(1)?)?.whole().map(<[u8]>::to_vec);
            self.read_script(decision.effects, &statement.sql, &parameter)
        });
        let wants_parameters = self.timing.wants_parameters(&self.ctx.slow_log);
        self.begin_statement(decision, &[], statement, script.as_deref());
        if wants_parameters {
            self.timing.keep_parameters(&frame.body()[head.rest..]);
        }
        if let Some(script) = script {
            self.scripts.push((head.portal.into(), script));
        }
        Flow::Taken
    }

    /// The server must fail here, too: it is given what it does not know, and our error stands for its own.
    fn refuse(&mut self, notice: ErrorNotice, out: &mut Splice<'_>) {
        build::describe_statement(out.insert(), REFUSED);
        self.expect(Expect::Refused(Box::new(notice)));
    }

    /// What a Bind of the statement does.
    fn judge_named(&self, named: &Named) -> Decision {
        match named.shared() {
            Some(statement) => self.judge_names(statement.decision, &statement.sql),
            None => named.decision(),
        }
    }

    fn send_close(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        let Some((kind, name)) = frontend::object(body) else { return close("invalid Close message") };
        if kind == ObjectKind::Portal || name.is_empty() {
            if kind == ObjectKind::Statement {
                self.names.remove(name);
                if let Some(link) = self.link() {
                    link.lease.prepared.unnamed = None;
                }
            }
            self.expect(Expect::Close { ours: false });
            out.pass(range);
            return Flow::Taken;
        }
        if let Some(stop) = self.settle_name(name, out) {
            return stop;
        }
        let statement = self.names.remove(name);
        let raw = match &statement {
            Some(named) => matches!(named.statement, Statement::Raw),
            None => self.max_prepared == 0 || self.pins.contains(Pins::SQL_PREPARE),
        };
        if raw && !prepared::looks_like_ours(name) {
            self.expect(Expect::Close { ours: false });
            out.pass(range);
        } else {
            // Other clients use it: it stays on the connection until it is the least recently used.
            self.expect(Expect::MadeClose { name: name.into(), statement });
        }
        Flow::Taken
    }
}

/// Of two decisions the one that binds more; effects are united.
pub(super) fn worse(a: Decision, b: Decision) -> Decision {
    let rank = |decision: &Decision| match decision.target {
        Target::Anywhere => 0,
        Target::Replica => 1,
        Target::Primary => 2,
    };
    let mut effects = a.effects | b.effects;
    // `BEGIN READ ONLY` and a write: what the block says does not hold for all of it.
    effects.set(Effects::MULTI, a != NOTHING);
    let touches = a.touches.union(b.touches);
    let worse = if rank(&b) > rank(&a) { b } else { a };
    Decision { effects, touches, ..worse }
}
