//! Endings of a session that others bring about.

use crate::observe::Blame;
use crate::wire::{ErrorNotice, SqlState};

use super::relay::Ending;

impl Ending {
    /// The program ends, or wants to be rid of the session.
    pub fn shutdown(message: &'static str) -> Self {
        let notice = ErrorNotice::fatal(SqlState::ADMIN_SHUTDOWN, message).hint("Connect again.");
        Self::Told(Box::new(notice), Blame::Proxy)
    }

    /// An administrator, or the end of the program's patience.
    pub fn killed() -> Self {
        Self::shutdown("terminating connection due to administrator command")
    }
}
