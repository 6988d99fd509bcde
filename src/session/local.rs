//! Segments of the extended protocol that need no server connection, answered here.
//!
//! Those that close statements, or prepare what a server has accepted before: a client that prepares before it begins must not
//! wait for clients that are in a transaction (pgbench prepares so, blocking all its clients). And those of which all that
//! is executed is one statement about a transaction block that no server knows of (`deferred`), one that asks for a setting that is
//! known (`shown`), or one about a setting for us alone (`own_settings`).

use crate::sql::{BlockControl, Decision};
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{Frame, build};

use super::gather::Parsed;
use super::inbound::{Flow, close};
use super::names::{Named, Statement};
use super::own_names::NAMES;
use super::relay::Session;

/// What has been seen of a segment that may need no server.
pub(super) struct Ahead {
    /// Nothing in it needs one so far.
    is_local: bool,
    /// The unnamed portal stands for a statement that has not been executed.
    bound: bool,
    executed: bool,
    /// It begins or ends within a block.
    in_block: bool,
    /// What is bound asks for a setting.
    shows: bool,
    /// What is bound begins a block.
    begins: bool,
    begun: bool,
}

impl Ahead {
    pub fn goes_on(&self) -> bool {
        self.is_local
    }

    /// Whether a block has begun in it. Drivers send their `BEGIN` ahead of the first statement: what follows is judged as part of the
    /// block.
    pub fn has_begun(&self) -> bool {
        self.is_local && self.begun
    }

    /// Whether what came before a Flush can be answered: a portal might be executed otherwise than here.
    pub fn may_flush(&self) -> bool {
        self.is_local && !self.bound
    }

    /// Whether the segment can be answered as a whole. A portal of a block outlives the Sync.
    pub fn may_sync(&self) -> bool {
        self.is_local && !(self.bound && self.in_block)
    }
}

impl Session {
    pub(super) fn ahead(&self) -> Ahead {
        let portal = self.deferred.portal.as_ref();
        Ahead {
            is_local: true,
            bound: portal.is_some(),
            executed: false,
            in_block: self.deferred.is_open(),
            shows: portal.is_some_and(|of| self.shown(of.decision, &of.sql).is_some()),
            begins: portal.is_some_and(|of| self.begins_block(of.decision, &of.sql)),
            begun: false,
        }
    }

    fn begins_block(&self, decision: Decision, sql: &[u8]) -> bool {
        matches!(self.controls_block(decision, sql), Some(BlockControl::Begin { .. }))
    }

    /// Notes the next frame of a segment.
    pub(super) fn look_ahead(&self, ahead: &mut Ahead, frame: Frame<'_>, parsed: &[Parsed<'_>]) {
        let body = frame.body();
        ahead.is_local = match frame.tag {
            b'P' => self.is_accepted(body) || self.is_local(body),
            b'C' => {
                ahead.bound &= !matches!(frontend::object(body), Some((ObjectKind::Portal, b"")));
                true
            }
            b'D' => match frontend::object(body) {
                Some((ObjectKind::Statement, name)) => self.named_local(name, parsed).is_some(),
                Some((ObjectKind::Portal, name)) => name.is_empty() && ahead.bound,
                None => false,
            },
            b'B' => {
                ahead.bound = !ahead.executed
                    && frontend::bind_head(body).is_some_and(|head| {
                        let named = self.named_local(head.statement, parsed);
                        ahead.begins = named.as_ref().is_some_and(|(decision, sql)| self.begins_block(*decision, sql));
                        ahead.shows =
                            named.as_ref().is_some_and(|(decision, sql)| self.shown(*decision, sql).is_some());
                        head.portal.is_empty()
                            && binds_nothing(&body[head.rest..]).is_some_and(|format| format.is_some() || !ahead.shows)
                            && (ahead.shows
                                || named.is_some_and(|(decision, sql)| {
                                    self.controls_block(decision, &sql).is_some() || self.takes_own(decision, &sql)
                                }))
                    });
                ahead.bound
            }
            b'E' => {
                // One row of one is not the end of a portal.
                let runs =
                    ahead.bound && matches!(frontend::execute(body), Some((b"", limit)) if limit == 0 || !ahead.shows);
                ahead.bound = false;
                ahead.executed = true;
                ahead.begun = runs && ahead.begins;
                runs
            }
            _ => false,
        };
    }

    /// Whether a Parse is of a named statement that a server has accepted before, under a name that is free.
    fn is_accepted(&self, body: &[u8]) -> bool {
        frontend::parse(body).is_some_and(|parse| {
            if parse.name.is_empty()
                || self.max_prepared == 0
                || self.deferred.has_failed()
                || self.names.get(parse.name).is_some()
            {
                return false;
            }
            let decision = self.decisions.decide_typed(parse.sql, parse.types, self.lex, || None);
            !decision.effects.intersects(NAMES) && self.pools.has_accepted(self.shared_statement(parse, decision).id)
        })
    }

    /// Whether a Parse is of a statement that every server accepts, about blocks or of what is known.
    fn is_local(&self, body: &[u8]) -> bool {
        frontend::parse(body).is_some_and(|parse| {
            parse.types == [0, 0]
                && (parse.name.is_empty() || (self.max_prepared > 0 && self.names.get(parse.name).is_none()))
                && self.accepts_local(self.decisions.decide(parse.sql, self.lex), parse.sql)
        })
    }

    fn accepts_local(&self, decision: Decision, sql: &[u8]) -> bool {
        match self.reads_as_control(decision, sql) {
            Some(BlockControl::End { .. } | BlockControl::RollbackTo(_)) => true,
            Some(_) => !self.deferred.has_failed(),
            None => self.shown(decision, sql).is_some() || self.takes_own(decision, sql),
        }
    }

    /// The statement of a name, if it is one that may be answered here.
    fn named_local(&self, name: &[u8], parsed: &[Parsed<'_>]) -> Option<(Decision, Box<[u8]>)> {
        let accepted =
            |decision: Decision, sql: &[u8]| self.accepts_local(decision, sql).then(|| (decision, sql.into()));
        if let Some(parsed) = parsed.iter().rev().find(|parsed| parsed.name == name) {
            return accepted(parsed.decision, parsed.sql);
        }
        let statement = self.names.get(name)?.shared().filter(|statement| *statement.types == [0, 0])?;
        accepted(statement.decision, &statement.sql)
    }

    /// A message that needs no server connection, as a look ahead has shown.
    pub(super) fn take_alone(&mut self, frame: Frame<'_>) -> Flow {
        let body = frame.body();
        match frame.tag {
            b'S' => {
                self.skip_to_sync = false;
                self.deferred.portal = None;
                self.answer_ready();
            }
            b'P' => match frontend::parse(body) {
                Some(parse) => {
                    self.metrics.client_parse();
                    let decision = self.decisions.decide_typed(parse.sql, parse.types, self.lex, || None);
                    let statement = self.shared_statement(parse, decision);
                    self.names.set(parse.name, Named::new(Statement::Shared(statement)));
                    build::bare(&mut self.to_client, b'1');
                }
                None => return close("invalid Parse message"),
            },
            b'B' => match frontend::bind_head(body) {
                Some(head) => {
                    self.metrics.bind();
                    self.deferred.portal = self.names.get(head.statement).and_then(|named| named.shared()).cloned();
                    self.deferred.portal_format = binds_nothing(&body[head.rest..]).flatten().unwrap_or(0);
                    build::bare(&mut self.to_client, b'2');
                }
                None => return close("invalid Bind message"),
            },
            b'D' => {
                let (statement, format) = match frontend::object(body) {
                    Some((ObjectKind::Statement, name)) => {
                        build::no_parameters(&mut self.to_client);
                        (self.names.get(name).and_then(|named| named.shared()).cloned(), 0)
                    }
                    _ => (self.deferred.portal.clone(), self.deferred.portal_format),
                };
                match statement.and_then(|of| self.shown(of.decision, &of.sql)) {
                    Some(answer) => self.describe_shown(&answer, format),
                    None => build::bare(&mut self.to_client, b'n'),
                }
            }
            b'E' => {
                if let Some(statement) = self.deferred.portal.take() {
                    let (decision, sql) = (statement.decision, &statement.sql);
                    statement.used();
                    if let Some(answer) = self.shown(decision, sql) {
                        self.answer_shown(&answer, decision);
                    } else if self.takes_own(decision, sql) {
                        self.answer_own_setting(sql);
                    } else if let Some(control) = self.controls_block(decision, sql) {
                        self.control_block(control, decision, sql);
                    }
                }
            }
            b'C' => match frontend::object(body) {
                Some((kind, name)) => {
                    match kind {
                        ObjectKind::Statement => drop(self.names.remove(name)),
                        ObjectKind::Portal if name.is_empty() => self.deferred.portal = None,
                        ObjectKind::Portal => {}
                    }
                    build::bare(&mut self.to_client, b'3');
                }
                None => return close("invalid Close message"),
            },
            _ => {}
        }
        Flow::Taken
    }
}

/// When what follows the head of a Bind gives no parameters (no format for them, or one for all): the format of a result of one
/// column, if formats are given for none or one.
pub(super) fn binds_nothing(rest: &[u8]) -> Option<Option<u16>> {
    let rest = match rest {
        [0, 0, 0, 0, rest @ ..] => rest,
        [0, 1, 0, 0 | 1, 0, 0, rest @ ..] => rest,
        _ => return None,
    };
    let [a, b, formats @ ..] = rest else { return None };
    if formats.len() != 2 * usize::from(u16::from_be_bytes([*a, *b])) {
        return None;
    }
    Some(match formats {
        [] => Some(0),
        [0, format @ (0 | 1)] => Some(u16::from(*format)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_without_parameters() {
        assert!(binds_nothing(&[0, 0, 0, 0, 0, 0]).is_some());
        assert!(binds_nothing(&[0, 0, 0, 0, 0, 1, 0, 1]).is_some());
        assert!(binds_nothing(&[0, 1, 0, 1, 0, 0, 0, 0]).is_some());
        assert!(binds_nothing(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(binds_nothing(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(binds_nothing(&[0, 0, 0, 0, 0, 1, 0]).is_none());
    }
}
