//! Making sure that the link's connection has a shared statement under our name (trap 31), with the columns that the client knows.
//!
//! Many clients and connections share a statement, each of which prepared it at its own time, and tables change in between. Three
//! things must not happen: that a client hears of a plan that is outdated when it has prepared the statement later than the table
//! was changed; that it gets rows of other columns than those that it was told; and that one waits without need. So a statement
//! remembers the columns with which it was first described ([`Prepared::described_as`]). A client that has seen them uses only what
//! is known to give the same; whoever has not uses what is no older than its own Parse, or what can be prepared anew behind its back
//! (`heal`).

use std::borrow::Cow;
use std::sync::Arc;

use crate::backend::{Parameters, Prepared, prepared};
use crate::wire::frame::frontend_limit;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{ErrorNotice, FrameWalker, SqlState, Step, TxStatus, build};

use super::expect::Expect;
use super::heal::REPLAY_LIMIT;
use super::inbound::Flow;
use super::machine::{Link, State};
use super::names::{Named, Statement};
use super::pins::Pins;
use super::relay::Session;
use super::splice::Splice;

/// How a statement is there for the message that names it.
pub(super) enum Provided {
    /// It is, or will be when the server reads the message.
    Ready,
    /// The message must wait.
    Wait(Flow),
    /// Its columns are no longer those that the client was told.
    Changed,
}

impl Session {
    /// What a name stands for, and whether the client knows its columns without asking for them again (`asks`). An outdated
    /// statement of which it does not is replaced by its successor.
    pub(super) fn known(&mut self, name: &[u8], asks: impl FnOnce() -> bool) -> (Option<Arc<Named>>, bool) {
        let Some(mut named) = self.names.get(name).cloned() else { return (None, false) };
        if !name.is_empty()
            && let Some(statement) = named.shared().filter(|statement| statement.is_read_otherwise(&self.told))
        {
            named = named.following(statement, &self.told);
            self.names.set(name, named.clone());
        }
        let Some(statement) = named.shared().filter(|_| !name.is_empty()) else { return (Some(named), false) };
        let relies = named.is_described() && statement.is_described() && !asks();
        if relies || !statement.is_outdated() {
            return (Some(named), relies);
        }
        let renewed = named.renewed(statement);
        self.names.set(name, renewed.clone());
        (Some(renewed), false)
    }

    /// Makes sure that the connection has what a Bind or Describe names. `rest` are the client's bytes from that message on.
    pub(super) fn provide(
        &mut self,
        known: Option<&Arc<Named>>,
        name: &[u8],
        relies: bool,
        rest: &[u8],
        out: &mut Splice<'_>,
    ) -> Provided {
        let Some(named) = known else {
            self.provide_nothing(name, out);
            return Provided::Ready;
        };
        let Some(statement) = named.shared() else {
            if self.put_name(name, out)
                && let Some(link) = self.link()
            {
                link.segment_open = true;
            }
            return Provided::Ready;
        };
        if let Some(stop) = self.settle_reading(|| statement.reading.is_some(), out) {
            return Provided::Wait(stop);
        }
        let max = self.max_prepared;
        let Self { state: State::Linked(link), told, .. } = self else { return Provided::Ready };
        if name.is_empty() {
            let present = link.lease.prepared.unnamed.as_ref().filter(|(present, _)| Arc::ptr_eq(present, statement));
            match present.map(|(_, prepared)| *prepared) {
                Some(prepared) if prepared >= named.since => return Provided::Ready,
                Some(_) if link.can_heal_ahead(rest) => {
                    link.barrier = true;
                    return Provided::Ready;
                }
                _ => link.parse_unnamed(statement, told, out),
            }
            self.metrics.server_parse();
            return Provided::Ready;
        }
        if link.replies.unsettles(statement) {
            return Provided::Wait(link.wait_for_answers(out));
        }
        if link.changed == Some(statement.id) {
            link.changed = None;
            return Provided::Changed;
        }
        match link.lease.prepared.prepared_at(statement) {
            Some(_) if relies && link.lease.prepared.is_verified(statement) => return Provided::Ready,
            Some(_) if relies && link.replies.verifies(statement.id) => {
                return Provided::Wait(link.wait_for_answers(out));
            }
            Some(at) if !relies && at >= named.since => return Provided::Ready,
            Some(_) if !relies && link.can_heal_ahead(rest) => {
                // Should it be outdated, nobody will know.
                link.lease.prepared.refresh(statement);
                link.barrier = true;
                return Provided::Ready;
            }
            _ => link.take_back(statement, out),
        }
        link.make_room(statement, max, out);
        link.parse_shared(statement, told, out);
        self.metrics.server_parse();
        match self.link() {
            Some(link) if relies => Provided::Wait(link.wait_for_answers(out)),
            _ => Provided::Ready,
        }
    }

    /// A name that the client does not have must not reach what others have left there.
    fn provide_nothing(&mut self, name: &[u8], out: &mut Splice<'_>) {
        let raw = self.pins.contains(Pins::LARGE_STATEMENT);
        let pinned = self.pins.contains(Pins::SQL_PREPARE);
        let State::Linked(link) = &mut self.state else { return };
        if name.is_empty() {
            if link.lease.prepared.unnamed.take().is_some() || !raw {
                // What stands there is another client's, or was closed while no connection was at hand.
                build::close_statement(out.insert(), b"");
                link.replies.push(Expect::Close { ours: true });
                link.segment_open = true;
            }
        } else if !pinned && link.lease.prepared.own(name).is_some() {
            self.put_name(name, out);
            if let Some(link) = self.link() {
                link.segment_open = true;
            }
        }
    }

    /// A server described a statement, for the client (`relied` on from now on) or for us.
    pub(super) fn described(&mut self, statement: &Arc<Prepared>, row_description: Option<&[u8]>, for_client: bool) {
        let shape = prepared::shape_of(row_description);
        let Self { state: State::Linked(link), names, .. } = self else { return };
        let registry = &mut link.lease.prepared;
        // One that is too long to be looked at is taken for unchanged.
        let Some(shape) = shape.filter(|shape| !statement.described_as(*shape)) else {
            return registry.verify(statement);
        };
        statement.outdate();
        registry.discard(statement);
        if !for_client {
            link.changed = Some(statement.id);
            return;
        }
        let new = prepared::renew(statement);
        new.described_as(shape);
        for name in names.of_statement(statement.id) {
            let named = Named::new(Statement::Shared(new.clone()));
            named.set_described();
            names.set(&name, named);
        }
    }
}

impl Link {
    /// A Parse of ours, and when clients know the statement's columns, a Describe to see that it still has them.
    pub fn parse_shared(&mut self, statement: &Arc<Prepared>, told: &Parameters, out: &mut Splice<'_>) {
        let reads = self.read_as(statement.reading.as_deref(), told, out);
        let built = out.insert();
        build::parse(built, &statement.name, &statement.sql, &statement.types);
        self.replies.push(Expect::Parse { statement: statement.clone(), unnamed: false, client: None });
        if statement.is_described() {
            build::describe_statement(built, &statement.name);
            self.replies.push(Expect::Verify { statement: statement.clone() });
        }
        self.read_again(reads, out);
        self.segment_open = true;
    }

    /// Closes what the connection has of the statement, which is about to be prepared anew.
    pub fn take_back(&mut self, statement: &Arc<Prepared>, out: &mut Splice<'_>) {
        if self.lease.prepared.has(statement) {
            self.lease.prepared.forget(statement.id);
            build::close_statement(out.insert(), &statement.name);
            self.replies.push(Expect::Evict { statement: statement.clone() });
        }
    }

    /// Whether a transaction block may be open in which an error has come.
    pub fn may_have_failed(&self) -> bool {
        self.status == TxStatus::Failed || self.replies.owes_client()
    }

    /// A Parse of ours of the unnamed statement.
    pub fn parse_unnamed(&mut self, statement: &Arc<Prepared>, told: &Parameters, out: &mut Splice<'_>) {
        let reads = self.read_as(statement.reading.as_deref(), told, out);
        self.lease.prepared.unnamed = Some((statement.clone(), prepared::moment()));
        build::parse(out.insert(), b"", &statement.sql, &statement.types);
        self.replies.push(Expect::Parse { statement: statement.clone(), unnamed: true, client: None });
        self.read_again(reads, out);
        self.segment_open = true;
    }

    /// Notes that the statement is about to be prepared, and closes what has to make room for it (trap 35).
    pub fn make_room(&mut self, statement: &Arc<Prepared>, max: usize, out: &mut Splice<'_>) {
        let registry = &mut self.lease.prepared;
        if let Some(at) = registry.strays.iter().position(|stray| *stray == statement.name) {
            let name = registry.strays.swap_remove(at);
            build::close_statement(out.insert(), &name);
            self.replies.push(Expect::CloseStray { name });
        }
        let mut evicted = registry.add(statement.clone(), max);
        while let Some(statement) = evicted {
            build::close_statement(out.insert(), &statement.name);
            self.replies.push(Expect::Evict { statement });
            let registry = &mut self.lease.prepared;
            evicted = if registry.is_over(max) { registry.evict() } else { None };
        }
    }

    /// Whether what is about to be sent could be sent again: it is the first in its segment that uses a plan, the write began with
    /// nothing under way, and the segment ends in it.
    fn can_heal_ahead(&self, rest: &[u8]) -> bool {
        if !self.replayable || self.segment_bound || self.status.in_block() || self.replies.owes_client() {
            return false;
        }
        let mut walker = FrameWalker::new(rest);
        while let Ok(Step::Whole(frame)) = walker.step(frontend_limit) {
            if frame.tag == b'S' {
                // Room for what we add.
                return walker.position() < REPLAY_LIMIT / 2;
            }
        }
        false
    }
}

/// The error of a plan that no longer gives what its statement was described with, as servers word it.
pub(super) fn columns_changed() -> ErrorNotice {
    ErrorNotice::error(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
        .routine("RevalidateCachedQuery")
}

/// Whether the message behind the Bind at the beginning of `rest` asks for the columns of its portal.
pub(super) fn describes_portal(rest: &[u8], portal: &[u8]) -> bool {
    let mut walker = FrameWalker::new(rest);
    let Ok(Step::Whole(_)) = walker.step(frontend_limit) else { return false };
    match walker.step(frontend_limit) {
        Ok(Step::Whole(frame)) if frame.tag == b'D' => {
            frontend::object(frame.body()).is_some_and(|(kind, name)| kind == ObjectKind::Portal && name == portal)
        }
        _ => false,
    }
}

/// The name to put in place of the client's; `None` = it goes as it is (the unnamed statement, and names that the server
/// knows better than we do).
pub(super) fn name_on_server<'n>(known: Option<&'n Named>, name: &[u8]) -> Option<Cow<'n, [u8]>> {
    match known.map(Named::shared) {
        _ if name.is_empty() => None,
        Some(Some(statement)) => Some(Cow::Borrowed(&statement.name)),
        Some(None) => None,
        // Nobody reaches a shared statement by guessing its name.
        None if prepared::looks_like_ours(name) => Some(Cow::Owned([b"unknown ", name].concat())),
        None => None,
    }
}
