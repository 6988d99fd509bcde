//! Parse, Bind and Close: the messages in which a client names its statements, under the names that the server has them.

use std::ops::Range;

use crate::backend::{Reading, prepared};
use crate::sql::{Decision, Effects, truth_of_constant};
use crate::wire::frame::HEADER;
use crate::wire::frontend::{self, BoundValue, ObjectKind};
use crate::wire::{ErrorNotice, Frame, build};

use super::expect::Expect;
use super::inbound::{Flow, Need, UNSEEN, close};
use super::local::binds_nothing;
use super::names::{Named, Statement};
use super::own_names::NAMES;
use super::pins::Pins;
use super::placement::Place;
use super::provide::{Provided, columns_changed, describes_portal, name_on_server};
use super::relay::Session;
use super::splice::Splice;

/// Name of a statement that no server has.
const REFUSED: &[u8] = b"refused by the proxy";

impl Session {
    pub(super) fn send_parse(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        let Some(parse) = frontend::parse(body) else { return close("invalid Parse message") };
        self.metrics.client_parse();
        let rules = self.decisions.epoch();
        // Kept with the statement, for sessions with whatever path.
        let decision = self.decisions.decide_typed(parse.sql, parse.types, self.lex, || None);
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
        match self.shows_own(decision, parse.sql, out) {
            Some(Ok(_)) if parse.types == [0, 0] => {
                let statement = self.shared_statement(parse, decision);
                self.names.set(parse.name, Named::new(Statement::Shared(statement)));
                build::bare(&mut self.to_client, b'1');
                return Flow::Taken;
            }
            Some(Err(stop)) => return stop,
            _ => {}
        }
        let reading_matters = Reading::matters(parse.sql);
        if let Some(stop) = self.settle_reading(|| reading_matters, out) {
            return stop;
        }
        let statement = self.shared_statement(parse, decision);
        if let Some(link) = self.link()
            && !parse.name.is_empty()
            && link.replies.unsettles(&statement)
        {
            return link.wait_for_answers(out);
        }
        let previous = self.names.get(parse.name).cloned();
        let named = match reading_matters {
            true => Named::new(Statement::Shared(statement.clone())),
            false => Named::decided(Statement::Shared(statement.clone()), rules, decision),
        };
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

    pub(super) fn send_bind(
        &mut self,
        frame: Frame<'_>,
        range: Range<usize>,
        rest: &[u8],
        out: &mut Splice<'_>,
    ) -> Flow {
        let Some(head) = frontend::bind_head(frame.body()) else { return close("invalid Bind message") };
        if let Some(stop) = self.settle_use(head.statement, out) {
            return stop;
        }
        let (known, relies) = self.known(head.statement, || describes_portal(rest, head.portal));
        let decision = known.as_ref().map_or(UNSEEN, |named| self.judge_named(named));
        let text = known.as_ref().and_then(|named| named.shared()).map_or(&b""[..], |statement| &statement.sql);
        if let Some(stop) = self.binds_end_of_replicas_block(decision, text, rest, out) {
            return stop;
        }
        if decision.effects.contains(Effects::OWN_SETTING)
            && let Some(bound) = self.binds_own(head.portal, known.as_deref(), &frame.body()[head.rest..], out)
        {
            return bound;
        }
        if let Some(notice) = self.refusal(decision, text) {
            return self.refuse(notice, out);
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
            Provided::Changed => return self.refuse(columns_changed(), out),
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
        let since = known.as_ref().map_or(0, |named| named.since);
        self.expect(Expect::Bind { statement, relies, since });
        self.uses_plan(relies);
        if reads_names {
            // Behind the Bind: the statement itself may have to go away under our name for it.
            self.names_in_segment(decision, text, out);
        }
        self.names.bound = known.as_ref().filter(|_| shared).map(|named| (head.portal.into(), named.clone()));
        if !self.own_portals.is_empty() {
            self.own_portals.retain(|(portal, ..)| **portal != *head.portal);
        }
        if let Some(statement) = known.as_ref().and_then(|named| named.shared())
            && decision.effects.contains(Effects::OWN_SETTING)
        {
            self.own_portals.push((head.portal.into(), statement.clone(), 0));
        }
        if !self.scripts.is_empty() {
            self.scripts.retain(|(portal, _)| **portal != *head.portal);
        }
        let statement = known.as_ref().and_then(|named| named.shared());
        let script = statement.and_then(|statement| {
            let values = || frontend::bind_parameters(&frame.body()[head.rest..]);
            let parameter = |number: usize| {
                let index = number.checked_sub(1)?;
                text_of(&values()?.nth(index)?, frontend::declared_type(&statement.types, index))
            };
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

    /// Binds a statement that shows a setting for us alone, of which no server is to know, or refuses one that sets it.
    #[cold]
    fn binds_own(&mut self, portal: &[u8], named: Option<&Named>, values: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let statement = named?.shared()?;
        match self.shows_own(statement.decision, &statement.sql, out) {
            Some(Err(stop)) => return Some(stop),
            Some(Ok(_)) => {
                let format = binds_nothing(values)?.unwrap_or(0);
                self.metrics.bind();
                statement.used();
                self.own_portals.retain(|(of, ..)| **of != *portal);
                self.own_portals.push((portal.into(), statement.clone(), format));
                build::bare(&mut self.to_client, b'2');
                return Some(Flow::Taken);
            }
            None => {}
        }
        self.refuse_own(statement.decision, &statement.sql).map(|notice| self.refuse(notice, out))
    }

    /// The server must fail here, too: it is given what it does not know, and our error stands for its own.
    pub(super) fn refuse(&mut self, notice: ErrorNotice, out: &mut Splice<'_>) -> Flow {
        build::describe_statement(out.insert(), REFUSED);
        self.expect(Expect::Refused(Box::new(notice)));
        Flow::Refused
    }

    /// What a Bind of the statement does.
    pub(super) fn judge_named(&self, named: &Named) -> Decision {
        let decision = named.decision(&self.decisions, self.lex, || self.search_path());
        match named.shared() {
            Some(statement) => self.judge_names(decision, &statement.sql),
            None => decision,
        }
    }

    pub(super) fn send_close(&mut self, body: &[u8], range: Range<usize>, out: &mut Splice<'_>) -> Flow {
        let Some((kind, name)) = frontend::object(body) else { return close("invalid Close message") };
        if kind == ObjectKind::Portal || name.is_empty() {
            let close = match kind {
                ObjectKind::Portal => Expect::Close { ours: false },
                ObjectKind::Statement => Expect::CloseUnnamed { before: self.names.take_unnamed() },
            };
            if let Some(link) = self.link()
                && kind == ObjectKind::Statement
            {
                link.lease.prepared.unnamed = None;
            }
            self.expect(close);
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
            if self.pins.contains(Pins::SQL_PREPARE) {
                // Under the client's own name nobody takes it away later: there the server is asked.
                self.put_name(name, out);
            }
            self.expect(Expect::MadeClose { name: name.into(), statement });
        }
        Flow::Taken
    }
}

/// What a server makes of a parameter of this declared type where a text is wanted, or a truth; `None`: it is NULL, not whole, or of a
/// type that we don't read. What is not declared the server takes for what is wanted.
fn text_of(bound: &BoundValue<'_>, declared: u32) -> Option<Vec<u8>> {
    const BOOL: u32 = 16;
    const INTEGERS: [u32; 3] = [20, 21, 23];
    const TEXTS: [u32; 4] = [0, 25, 705, 1043];
    let value = bound.whole()?;
    if TEXTS.contains(&declared) {
        return Some(value.to_vec());
    }
    let text = || std::str::from_utf8(value).ok().map(str::trim_ascii);
    if declared == BOOL {
        let is_true = match (bound.binary, value) {
            (true, [byte]) => *byte != 0,
            (true, _) => return None,
            (false, _) => truth_of_constant(value)?,
        };
        return Some(is_true.to_string().into_bytes());
    }
    if !INTEGERS.contains(&declared) {
        return None;
    }
    let number = match (bound.binary, value) {
        (false, _) => text()?.parse::<i64>().ok()?,
        (true, [a, b]) => i16::from_be_bytes([*a, *b]).into(),
        (true, [a, b, c, d]) => i32::from_be_bytes([*a, *b, *c, *d]).into(),
        (true, _) => i64::from_be_bytes(value.try_into().ok()?),
    };
    Some(number.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_as_texts() {
        let read = |binary: bool, value: &[u8], declared: u32| {
            let len = value.len();
            let text = text_of(&BoundValue { binary, value: Some(value), len }, declared)?;
            Some(String::from_utf8_lossy(&text).into_owned())
        };
        for (binary, value, of, text) in [
            (true, &b"x"[..], 25, Some("x")),
            (false, b"x", 0, Some("x")),
            (true, b"\x01", 0, Some("\u{1}")),
            (true, b"\0\0\0*", 23, Some("42")),
            (true, b"\xff\xff\xff\xff\xff\xff\xff\xff", 20, Some("-1")),
            (true, b"\0*", 21, Some("42")),
            (false, b" +042", 23, Some("42")),
            (false, b"4.2", 23, None),
            (true, b"\x01", 16, Some("true")),
            (false, b"Off", 16, Some("false")),
            (false, b" tr\x0b", 16, Some("true")),
            (false, b"o", 16, None),
            (true, &[0x20; 16], 2950, None),
            (false, b"1.50", 1700, None),
        ] {
            assert_eq!(read(binary, value, of).as_deref(), text, "{value:?} of type {of}");
        }
    }
}
