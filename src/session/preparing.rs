//! Getting a server connection ready for what the client sends next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Parameters;
use crate::sql::LexOptions;
use crate::wire::{TxStatus, build};

use super::expect::Expect;
use super::machine::State;
use super::relay::Session;
use super::splice::Splice;

/// Why a connection is not used again.
pub(super) const NOT_FOR_OTHERS: &str = "it may lose a setting of its session";

impl Session {
    /// What a fresh link needs before the client's bytes: the session's settings, and the end of a name left behind by another
    /// client's error. It goes out in the same write.
    pub(super) fn prepare_link(&mut self, out: &mut Splice<'_>) {
        let max = self.max_prepared;
        let State::Linked(link) = &mut self.state else { return };
        link.replayable = false;
        link.begin_write(self.client_pass > 0, self.client.cancels_sent());
        if !link.replies.is_empty() || link.segment_open || link.status == TxStatus::Failed || self.client_pass > 0 {
            return;
        }
        link.barrier = false;
        link.may_set = false;
        self.unseen = None;
        link.fence = false;
        link.awaits_settings = false;
        link.replayable = link.status == TxStatus::Idle;
        for name in std::mem::take(&mut link.lease.prepared.strays) {
            build::close_statement(out.insert(), &name);
            link.replies.push(Expect::CloseStray { name });
        }
        link.trim_own_names(max, out);
        let applying = std::mem::take(&mut link.applying);
        let conn = &mut *link.lease;
        let mut spares = false;
        if std::mem::take(&mut self.wants_sequences) && ![0, self.client.id].contains(&conn.sequences_of) {
            // Another client's values are nobody's business.
            build::query(out.insert(), b"DISCARD SEQUENCES");
            link.replies.push(Expect::Settings);
            spares = true;
            conn.sequences_of = 0;
            conn.prepared.unnamed = None;
        }
        let of_block;
        let settings = match self.deferred.offloads && !link.primary {
            true => {
                of_block = self.deferred.settings_over(self.tracked.settings());
                &of_block
            }
            false => self.tracked.settings(),
        };
        // Before the settings are there, what it tells means nothing yet.
        if Arc::ptr_eq(&conn.settings, settings) {
            if applying != spares {
                self.client.set_applying(spares);
            }
            tell_parameters(&conn.parameters, &mut self.told, &mut self.lex, &mut self.to_client);
        } else {
            link.awaits_settings = settings.may_be_refused(&conn.settings);
            if link.awaits_settings && settings.may_be_lost() {
                link.retired = Some(NOT_FOR_OTHERS);
            }
            for _ in 0..settings.write_difference(&conn.settings, link.status.in_block(), out.insert()) {
                link.replies.push(Expect::Settings);
            }
            conn.change_settings(settings);
            // A simple Query ends the unnamed statement, ours as well (trap 37).
            conn.prepared.unnamed = None;
            self.client.set_applying(true);
            if link.awaits_settings {
                return;
            }
        }
        let begins = self.deferred.is_open() && self.pools.asks_channels.load(Ordering::Relaxed);
        if std::mem::take(&mut self.notify.asks) || begins {
            self.write_channels(out);
        }
        self.ask_defaults(out);
        self.ask_path(out);
        self.send_deferred(out);
    }
}

/// Tells the client what differs on its connection from what it was told last (trap 57): nodes may differ, and connections older than
/// a change of the server's configuration.
pub(super) fn tell_parameters(
    parameters: &Parameters,
    told: &mut Arc<Parameters>,
    lex: &mut LexOptions,
    out: &mut Vec<u8>,
) {
    if parameters.tell_the_same_as(told) {
        return;
    }
    for (name, value) in parameters.beyond(told) {
        lex.observe_parameter(name, value);
        build::parameter_status(out, name, value);
    }
    *told = Arc::new(parameters.clone());
}
