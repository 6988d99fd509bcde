//! Statements that listen, notify, or ask for channels, on their way to the server.

use std::sync::atomic::Ordering;

use crate::sql::{Change, Effects};
use crate::wire::frame::frontend_limit;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{ErrorNotice, FrameWalker, SqlState, Step, TxStatus, build};

use crate::session::expect::Expect;
use crate::session::inbound::{Flow, Need};
use crate::session::machine::State;
use crate::session::relay::Session;
use crate::session::splice::Splice;
use crate::session::tracked::Script;

use super::Noted;
use super::channels::write_command;

impl Session {
    /// Notes what a statement that is about to be sent has to do with notifications.
    pub(in crate::session) fn begin_notifying(&mut self, effects: Effects, script: Option<&Script>) {
        let changes = script.is_some_and(|script| {
            script.all().any(|change| {
                matches!(change, Change::Listen(_) | Change::Unlisten(_) | Change::UnlistenAll | Change::DiscardAll)
            })
        });
        let State::Linked(link) = &mut self.state else { return };
        link.fence |= changes || self.tracked.channels().has_changed();
        link.listens |= effects.contains(Effects::LISTEN) && !effects.contains(Effects::RELEASES_ONLY);
        if !self.may_notify(effects) {
            return;
        }
        let State::Linked(link) = &mut self.state else { return };
        let hubs = self.ctx.hubs.of(&self.client.database);
        if hubs.is_empty() {
            return;
        }
        let (server, client) = (link.lease.info.cancel.pid, self.client.key.pid);
        hubs.iter().for_each(|hub| hub.note_sender(server, client));
        match &mut self.notify.noted {
            // The connection stays until what was notified on it has been seen.
            Some(noted) => noted.hubs = hubs,
            none => *none = Some(Noted { server, client, hubs }),
        }
        self.notify.may_have_notified = true;
    }

    /// A trigger may notify wherever something is written; whose process id that carries matters to a client that listens.
    fn may_notify(&self, effects: Effects) -> bool {
        let listens = self.notify.membership.is_some();
        effects.contains(Effects::NOTIFIES) || (listens && effects.contains(Effects::WRITES))
    }

    /// What a client notifies itself of must not come before the answers to what it asked for earlier.
    pub(in crate::session) fn must_notify_alone(&mut self, effects: Effects) -> bool {
        self.notify.membership.is_some()
            && self.may_notify(effects)
            && self.link().is_some_and(|link| link.replies.owes_answers() && !link.copy_in)
    }

    /// Refuses what cannot be followed.
    pub(in crate::session) fn refuse_listening(&mut self, effects: Effects, sql: &[u8]) -> Option<ErrorNotice> {
        if effects.contains(Effects::LISTEN) && !self.lex.safe_encoding && !sql.is_ascii() {
            return Some(
                ErrorNotice::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "channel names that are not ASCII are not understood in this client encoding",
                )
                .hint("SET client_encoding TO 'UTF8' to LISTEN and UNLISTEN."),
            );
        }
        let asks = effects.contains(Effects::ASKS_CHANNELS);
        // A block that has failed refuses it in its own words.
        let link = self.link().filter(|link| asks && link.deaf && link.status != TxStatus::Failed)?;
        let is_in_block = link.status.in_block();
        if !is_in_block && !link.segment_open {
            return None;
        }
        if is_in_block && !self.pools.asks_channels.swap(true, Ordering::Relaxed) {
            tracing::info!(
                database = self.client.database,
                user = self.client.user,
                "pg_listening_channels() was asked for in the middle of a transaction: from now on, transactions of this \
                 user's sessions begin with their channels listened on"
            );
        }
        let what = if is_in_block { "transaction" } else { "sequence of messages" };
        Some(
            ErrorNotice::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("pg_listening_channels() cannot be answered in the middle of a {what}"),
            )
            .hint("Ask before BEGIN. Repeating the transaction will do, too."),
        )
    }

    /// A statement asks for the session's channels: the connection listens on them for the time being.
    pub(in crate::session) fn provide_channels(&mut self, effects: Effects, out: &mut Splice<'_>) -> Option<Flow> {
        let wanted = match self.pools.asks_channels.load(Ordering::Relaxed) {
            true => Effects::ASKS_CHANNELS | Effects::BEGIN,
            false => Effects::ASKS_CHANNELS,
        };
        if !effects.intersects(wanted) {
            return None;
        }
        let link = self.link().filter(|link| link.deaf && link.status == TxStatus::Idle && !link.segment_open)?;
        if link.replies.owes_answers() {
            return Some(Flow::Stop(Need::Quiet));
        }
        self.write_channels(out);
        None
    }

    /// The connection, on which nothing of the client's is under way, is to listen on the session's channels.
    pub(in crate::session) fn write_channels(&mut self, out: &mut Splice<'_>) {
        let Self { state: State::Linked(link), tracked, .. } = self else { return };
        if !link.deaf || !link.primary {
            return;
        }
        let mut sql = b"UNLISTEN *;".to_vec();
        tracked.committed_channels().iter().for_each(|channel| write_command(&mut sql, "LISTEN", channel));
        build::query(out.insert(), &sql);
        link.replies.push(Expect::Settings);
        self.client.set_applying(true);
        link.lease.prepared.unnamed = None;
        link.deaf = false;
        link.listens = true;
    }

    /// Looks ahead to the next Sync for statements that notify or ask for channels, if it matters in this session.
    pub(in crate::session) fn prepare_segment(&mut self, rest: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        let listens = self.notify.membership.is_some();
        self.link().filter(|link| (listens || link.deaf) && !link.segment_open)?;
        let mut walker = FrameWalker::new(rest);
        let mut effects = Effects::empty();
        while let Ok(Step::Whole(frame)) = walker.step(frontend_limit) {
            let body = frame.body();
            match frame.tag {
                b'P' => {
                    effects |= frontend::parse(body)
                        .map_or(Effects::empty(), |parse| self.decisions.decide(parse.sql, self.lex).effects);
                }
                b'B' => effects |= self.effects_of(frontend::bind_head(body).map(|head| head.statement)),
                b'D' => {
                    let described = frontend::object(body).filter(|(kind, _)| *kind == ObjectKind::Statement);
                    effects |= self.effects_of(described.map(|(_, name)| name));
                }
                b'C' | b'E' | b'H' => {}
                _ => break,
            }
        }
        if self.must_notify_alone(effects) {
            return Some(Flow::Stop(Need::Quiet));
        }
        self.provide_channels(effects, out)
    }

    fn effects_of(&self, name: Option<&[u8]>) -> Effects {
        name.and_then(|name| self.names.get(name))
            .map_or(Effects::empty(), |statement| statement.decision(&self.decisions, self.lex, || None).effects)
    }
}
