//! A statement means what it meant when it was prepared, on whichever connection it is prepared anew (trap 36).
//!
//! What a text means depends on the settings of its session ([`Reading`]). Sessions share a statement when these are the same, and
//! where others are in force by the time that a connection needs the statement, its own are set around the Parse, until the end of
//! the transaction at most: an error takes them back.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use crate::backend::{Parameters, Prepared, Reading, prepared, write_local};
use crate::sql::{Decision, Effects};
use crate::wire::frontend;

use super::inbound::Flow;
use super::machine::Link;
use super::relay::Session;
use super::splice::Splice;
use super::tracked::Script;

impl Session {
    /// What a Parse prepares, of which this has been decided; shared with all sessions in which it means the same.
    pub(super) fn shared_statement(&self, parse: frontend::Parse<'_>, decision: Decision) -> Arc<Prepared> {
        let read_by = Reading::matters(parse.sql).then_some(&*self.told);
        let context = self.statement_context(decision, read_by);
        prepared::intern(parse.sql, parse.types, decision, context, read_by)
    }

    /// What else than text and types a statement's meaning depends on: names are looked up along the search path (trap 36), as a
    /// role may, columns are told in the client's encoding, and texts are read as [`Reading`] says, by these parameters where that
    /// makes a difference.
    fn statement_context(&self, decision: Decision, read_by: Option<&Parameters>) -> u64 {
        const CONTEXT: [&str; 4] = ["client_encoding", "role", "search_path", "session_authorization"];
        if decision.effects.contains(Effects::SQL_EXECUTE) {
            // It depends on what the name stands for just now.
            return prepared::moment();
        }
        let reading = read_by.map_or(0, |parameters| parameters.reading() ^ self.names.local_reading);
        let settings = self.tracked.settings();
        if settings.is_empty() && self.names.local_context == 0 {
            return reading;
        }
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        let values = CONTEXT.map(|name| settings.get(name));
        match (values.iter().all(Option::is_none), self.names.local_context) {
            (true, 0) => reading,
            (_, local) => HASHER.hash_one((values, local, reading)),
        }
    }

    /// A setting for this transaction goes out: it may change what texts mean that are prepared behind it.
    pub(super) fn note_local_settings(&mut self, text: &[u8]) {
        const NAMES: [&[u8]; 5] = [b"search_path", b"schema", b"role", b"authorization", b"encoding"];
        const READING: [&[u8]; 5] = [b"encoding", b"names", b"conforming", b"zone", b"style"];
        let lower = text.to_ascii_lowercase();
        let says = |words: &[&[u8]]| words.iter().any(|word| memchr::memmem::find(&lower, word).is_some());
        if says(&NAMES) {
            self.names.local_context = prepared::moment();
        }
        if says(&READING) {
            self.names.local_reading = prepared::moment();
        }
    }

    /// A setting for the session goes out: how texts are read behind it is known when the server has reported it. Until then none
    /// that is prepared is anybody else's.
    pub(super) fn note_reading(&mut self, script: Option<&Script>) {
        if script.is_some_and(Script::changes_reading) {
            self.names.local_reading = prepared::moment();
        }
    }

    /// A message names a statement of which it matters how it is read: it waits for what may change that.
    pub(super) fn settle_reading(&mut self, matters: impl FnOnce() -> bool, out: &mut Splice<'_>) -> Option<Flow> {
        let link = self.link().filter(|link| link.replies.changes_reading() && matters())?;
        Some(link.wait_for_answers(out))
    }
}

impl Link {
    /// What is put in next is to be read like this, where the client was told other values. Returns what to put back.
    pub fn read_as<'t>(
        &mut self,
        reading: Option<&Reading>,
        told: &'t Parameters,
        out: &mut Splice<'_>,
    ) -> Vec<(&'static str, &'t str)> {
        let Some(reading) = reading else { return Vec::new() };
        let wanted: Vec<_> = reading.beyond(told).collect();
        let back = |name: &'static str| Some((name, std::str::from_utf8(told.get(name.as_bytes())?).ok()?));
        let before = wanted.iter().filter_map(|(name, _)| back(name)).collect();
        self.set_aside(&wanted, out);
        before
    }

    /// What comes behind it is read as the client knows it.
    pub fn read_again(&mut self, before: Vec<(&'static str, &str)>, out: &mut Splice<'_>) {
        self.set_aside(&before, out);
    }

    /// Sets these for the transaction at hand, or for what is left of the segment.
    fn set_aside(&mut self, values: &[(&'static str, &str)], out: &mut Splice<'_>) {
        if values.is_empty() {
            return;
        }
        // In a block the first snapshot is for the client to take; outside of one SET LOCAL would be a warning in the server's log.
        let in_block = self.status.in_block();
        for (name, value) in values {
            self.run_aside(&write_local(name, value, in_block), None, out);
        }
        self.segment_open = true;
    }
}
