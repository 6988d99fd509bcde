//! The extended protocol, client to server: Parse, Bind, Describe, Execute, Close, Flush, Sync.

use std::ops::Range;

use crate::sql::Effects;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{Frame, TxStatus, build};

use super::expect::Expect;
use super::gather::Gathered;
use super::inbound::{Flow, Need, close};
use super::machine::State;
use super::names::Named;
use super::pins::Pins;
use super::placement::Place;
use super::provide::{Provided, name_on_server};
use super::relay::Session;
use super::splice::Splice;

impl Session {
    pub(super) fn take_extended(
        &mut self,
        frame: Frame<'_>,
        range: Range<usize>,
        rest: &[u8],
        out: &mut Splice<'_>,
    ) -> Flow {
        if !matches!(frame.tag, b'S' | b'H')
            && let Some(stop) = self.awaits_offloaded(out)
        {
            return stop;
        }
        self.wants_sequences = false;
        self.notify.asks = false;
        if let Some(end) = self.is_deposed() {
            return end;
        }
        let linked = match &self.state {
            // Whether a transaction block is open is known only while no ReadyForQuery is outstanding.
            State::Linked(link) => Some(
                link.primary
                    || (self.segment_cleared && !link.unsure)
                    || link.copy_in
                    || self.pins != Pins::empty()
                    || (link.status.in_block() && !link.is_past_end() && !link.replies.owes_ready()),
            ),
            _ => None,
        };
        match linked {
            Some(true) => {}
            Some(false) if frame.tag == b'S' || frame.tag == b'H' => {}
            Some(false) if self.is_unsettled_segment(rest) => {
                return self.link().map_or(Flow::Stop(Need::Quiet), |link| link.wait_for_answers(out));
            }
            Some(false) => match self.gather(rest) {
                Gathered::Incomplete => return Flow::Stop(Need::Input),
                Gathered::Runs(Place::Primary) if !self.is_at_chosen_worker() => return self.leave_replica(out),
                Gathered::Runs(Place::Reader) if !self.suits_link() => return self.leave_replica(out),
                _ => {
                    self.segment_cleared = true;
                    if let Some(link) = self.link() {
                        link.unsure = false;
                    }
                }
            },
            None => {
                if self.skip_to_sync || frame.tag == b'S' || frame.tag == b'H' {
                    return self.take_alone(frame);
                }
                match self.gather(rest) {
                    Gathered::Incomplete => return Flow::Stop(Need::Input),
                    Gathered::Runs(place) => {
                        let stop = self.link_at_once(place, range.start, out);
                        return stop.unwrap_or_else(|| self.take_extended(frame, range, rest, out));
                    }
                    Gathered::Local => return self.take_alone(frame),
                }
            }
        }
        if let Some(stop) = self.prepare_segment(rest, out) {
            return stop;
        }
        self.send_extended(frame, range, rest, out)
    }

    /// What comes next cannot go to the link as it stands (it needs the primary, say, and the link is on a replica, which has seen
    /// only Parse and Describe of the segment): a Sync of ours ends an open segment, and the rest waits for its end.
    pub(super) fn leave_replica(&mut self, out: &mut Splice<'_>) -> Flow {
        if let Some(link) = self.link()
            && link.segment_open
        {
            link.close_segment();
            link.end_executed = false;
            link.replies.push(Expect::Sync { ours: true });
            build::sync(out.insert());
        }
        Flow::Stop(Need::Quiet)
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
                    if let Some(stop) = self.settle_use(name, out) {
                        return stop;
                    }
                    let (known, _) = self.known(name, || true);
                    if let Some(described) = self.describes_here(known.as_deref(), out) {
                        return described;
                    }
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
                    if !self.own_portals.is_empty()
                        && let Some(described) = self.describes_own(name, out)
                    {
                        return described;
                    }
                    let bound = self.names.bound.take_if(|(portal, _)| **portal == *name).map(|(_, named)| named);
                    self.expect_description(bound.as_deref());
                    out.pass(range);
                }
                None => return close("invalid Describe message"),
            },
            b'E' => {
                let Some((portal, _)) = frontend::execute(body) else { return close("invalid Execute message") };
                if let Some(stop) = self.names_before_execute(portal, out) {
                    return stop;
                }
                if !self.own_portals.is_empty()
                    && let Some(executed) = self.executes_own(portal, out)
                {
                    return executed;
                }
                let script = self.scripts.iter().position(|(of, _)| **of == *portal);
                let script = script.map(|at| self.scripts.swap_remove(at).1);
                self.expect(Expect::Execute { script });
                if let Some(link) = self.link() {
                    link.segment_executed = true;
                    link.end_executed = link.end_bound;
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

    pub(super) fn expect(&mut self, expect: Expect) {
        if let Some(link) = self.link() {
            link.segment_open = true;
            link.replies.push(expect);
        }
    }

    /// Describes a statement about a setting for us alone, and one without result in a failed block, on a connection that would have to
    /// prepare it first and may not: a server that has it answers.
    fn describes_here(&mut self, known: Option<&Named>, out: &mut Splice<'_>) -> Option<Flow> {
        let statement = known?.shared()?;
        match self.shows_own(statement.decision, &statement.sql, out) {
            Some(Ok(answer)) => {
                build::no_parameters(&mut self.to_client);
                self.describe_shown(&answer, 0);
                return Some(Flow::Taken);
            }
            Some(Err(stop)) => return Some(stop),
            None => {}
        }
        let link = self.link().filter(|link| link.status == TxStatus::Failed)?;
        if link.lease.prepared.has(statement) {
            return None;
        }
        let parameters = statement.parameters_of_no_result()?;
        if !link.replies.is_empty() {
            return Some(link.wait_for_answers(out));
        }
        build::message(&mut self.to_client, b't', |out| out.extend_from_slice(parameters));
        build::bare(&mut self.to_client, b'n');
        Some(Flow::Taken)
    }

    /// A Describe goes out, of a named statement or of its portal: the client knows the columns from now on.
    fn expect_description(&mut self, named: Option<&Named>) {
        let of = named.and_then(|named| {
            named.set_described();
            named.shared().cloned()
        });
        let since = named.map_or(0, |named| named.since);
        self.expect(Expect::Describe { of, since, begun: false });
    }

    /// A message goes out that uses the plan of a statement.
    pub(super) fn uses_plan(&mut self, relies: bool) {
        if let Some(link) = self.link() {
            link.segment_bound = true;
            link.shared_bound |= !relies;
        }
    }
}
