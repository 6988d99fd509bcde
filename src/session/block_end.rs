//! The end of a block on a replica that does not come alone: another block begins with it (`AND CHAIN`), or statements follow in the same
//! string or segment.
//!
//! All of that is to see what has been committed when it comes, which the replica may not have, and may be for the primary. So a message
//! of ours ends the block there, and in the client's eyes it goes on as one that no server knows of ([`Deferred`](super::deferred::Deferred)):
//! what the client has sent comes to that, and whatever begins with it finds its place like any other.

use crate::sql::{Decision, Effects, Isolation, inner_end, leading_end};
use crate::wire::frame::frontend_limit;
use crate::wire::{FrameWalker, Step, TxStatus, build, frontend};

use super::expect::Expect;
use super::gather::GATHER_LIMIT;
use super::inbound::{Flow, Need};
use super::machine::State;
use super::pins::Pins;
use super::relay::Session;
use super::splice::Splice;

/// What has been sent to end a block.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OwnEnd {
    /// What the block has set is taken back.
    rolls_back: bool,
    /// It had failed before.
    failed: bool,
    /// Its isolation level, once the server has told.
    isolation: Option<Isolation>,
    /// It is DEFERRABLE, as the server has told.
    deferrable: bool,
    /// The server has said that it is over.
    is_over: bool,
}

impl OwnEnd {
    /// One of the server's answers. Of rows each has one value: the level, then whether it is DEFERRABLE.
    pub fn take_answer(&mut self, tag: u8, body: &[u8]) {
        if tag == b'D' {
            let value = body.get(6..).and_then(|value| std::str::from_utf8(value).ok());
            self.deferrable |= value == Some("on");
            self.isolation = self.isolation.or_else(|| value.and_then(Isolation::parse));
        }
        self.is_over |= tag == b'C';
    }
}

/// The modes are those of the block that is chained, which has them from the one before, failed or not.
const COMMITS: &[u8] = b"COMMIT AND CHAIN; SHOW transaction_isolation; SHOW transaction_deferrable; COMMIT";
const ROLLS_BACK: &[u8] = b"ROLLBACK AND CHAIN; SHOW transaction_isolation; SHOW transaction_deferrable; COMMIT";

impl Session {
    /// A Query comes that ends the block on a replica and says more: the block is ended first.
    pub(super) fn ends_replicas_block(&mut self, decision: Decision, sql: &[u8], out: &mut Splice<'_>) -> Option<Flow> {
        if !self.is_in_replicas_block(decision) {
            return None;
        }
        let effects = decision.effects;
        match leading_end(sql, self.lex) {
            Some(end) if end.chain || end.more => Some(self.end_replicas_block(end.rolls_back, out)),
            None if effects.contains(Effects::MULTI) && !effects.contains(Effects::OWN_SETTING) => {
                let at = inner_end(sql, self.lex)?;
                Some(self.run_before_end(&sql[..at], out))
            }
            _ => None,
        }
    }

    /// What a Query says before it ends the block belongs to that, and goes ahead.
    fn run_before_end(&mut self, sql: &[u8], out: &mut Splice<'_>) -> Flow {
        if let Some(stop) = self.needs_quiet(out) {
            return stop;
        }
        let decision = self.judge(sql);
        if let Some(notice) = self.refusal(decision, sql) {
            return self.refuse_query(notice, out);
        }
        if let Some(stop) = self.names_before_query(decision, sql, out) {
            return stop;
        }
        let script = self.read_script(decision.effects, sql, &|_| None);
        self.begin_statement(decision, sql, None, script.as_deref());
        // A simple Query ends the unnamed statement (trap 37).
        self.names.set_unnamed(None);
        let Some(link) = self.link() else { return Flow::Stop(Need::Quiet) };
        link.lease.prepared.unnamed = None;
        build::query(out.insert(), sql);
        link.replies.push(Expect::Simple { script, unnamed: None, goes_on: true });
        Flow::Stop(Need::Quiet)
    }

    /// That has been answered. The rest of the Query, at the beginning of the inbox, comes to what it has left: positions in it are those in
    /// the whole text. An error is the answer to all of it.
    pub(super) fn ran_before_end(&mut self, failed: bool) {
        let Ok(Step::Whole(frame)) = FrameWalker::new(&self.inbox).step(frontend_limit) else { return };
        let len = frame.bytes.len();
        let mut rest = Vec::new();
        if !failed
            && let Some(sql) = frontend::query(frame.body())
            && let Some(at) = inner_end(sql, self.lex)
        {
            let characters = String::from_utf8_lossy(&sql[..at]).chars().count();
            build::query(&mut rest, &[" ".repeat(characters).as_bytes(), &sql[at..]].concat());
        }
        self.inbox.splice(..len, rest);
    }

    /// The same of a Bind of this text with which the rest of a segment begins.
    pub(super) fn binds_end_of_replicas_block(
        &mut self,
        decision: Decision,
        text: &[u8],
        rest: &[u8],
        out: &mut Splice<'_>,
    ) -> Option<Flow> {
        if !self.is_in_replicas_block(decision) {
            return None;
        }
        let end = leading_end(text, self.lex)?;
        match end.chain.then_some(true).or_else(|| binds_more(rest)) {
            Some(true) => Some(self.end_replicas_block(end.rolls_back, out)),
            Some(false) => {
                // Behind a Flush more may come all the same.
                self.link()?.end_bound = true;
                None
            }
            None => Some(Flow::Stop(Need::Input)),
        }
    }

    /// Whether a statement with this decision comes in a block of the session's on a replica, and may end it.
    fn is_in_replicas_block(&self, decision: Decision) -> bool {
        let State::Linked(link) = &self.state else { return false };
        decision.effects.contains(Effects::TX_END)
            && !link.primary
            // It was got for this very statement, and begun with it.
            && !link.chosen
            && link.worker.is_none()
            && link.status.in_block()
            && !link.is_past_end()
            && !self.deferred.is_open()
            && self.pins == Pins::empty()
            && !self.keeps_lease
    }

    fn end_replicas_block(&mut self, rolls_back: bool, out: &mut Splice<'_>) -> Flow {
        if let Some(stop) = self.needs_quiet(out) {
            return stop;
        }
        let Self { state: State::Linked(link), client, .. } = self else { return Flow::Stop(Need::Quiet) };
        let failed = link.status == TxStatus::Failed;
        let rolls_back = rolls_back || failed;
        build::query(out.insert(), if rolls_back { ROLLS_BACK } else { COMMITS });
        link.replies.push(Expect::OwnEnd(OwnEnd { rolls_back, failed, ..OwnEnd::default() }));
        // It ends the unnamed statement (trap 37).
        link.lease.prepared.unnamed = None;
        client.set_applying(true);
        Flow::Stop(Need::Quiet)
    }

    /// The server has answered to that.
    pub(super) fn replicas_block_ended(&mut self, end: OwnEnd, status: TxStatus) {
        self.client.set_applying(false);
        if status != TxStatus::Idle {
            if let Some(link) = self.link().filter(|_| end.is_over) {
                // It has ended well. The one behind it, which was to tell the modes, has failed: by a time-out of the client's, say.
                build::query(&mut link.backlog, ROLLS_BACK);
                link.replies.push(Expect::OwnEnd(end));
                self.client.set_applying(true);
            }
            // Else a conflict with replay has failed it: it is ended once more, as a failed one.
            return;
        }
        if end.rolls_back {
            self.settle_transaction(true);
            self.placement.transaction_ended(true);
        } else {
            // Should the server refuse the text that ends it, the client's block has failed with all that it has set.
            self.tracked.ended_early();
            self.placement.ended_early();
            self.names.local_context = 0;
            self.names.temporary_path = false;
        }
        self.fresh_pins = Pins::empty();
        self.deferred.reopen(end.isolation, end.deferrable, end.failed);
        if let Some(link) = self.link() {
            link.left = true;
        }
    }
}

/// Whether something else is bound in a segment of which the rest begins with a Bind; `None`: what is to come may tell.
fn binds_more(rest: &[u8]) -> Option<bool> {
    let mut walker = FrameWalker::new(rest);
    let mut binds = 0;
    while let Ok(Step::Whole(frame)) = walker.step(frontend_limit) {
        match frame.tag {
            b'B' => binds += 1,
            b'S' | b'H' | b'Q' => return Some(binds > 1),
            _ => {}
        }
    }
    (binds > 1 || rest.len() > GATHER_LIMIT).then_some(true)
}
