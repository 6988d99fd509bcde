//! Who may do what.

use crate::config::Admin;
use crate::wire::{ErrorNotice, SqlState};

/// What a user may do on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Not even log in.
    Nothing,
    /// `SHOW`.
    Stats,
    /// Everything.
    Admin,
}

impl Rights {
    /// The rights of a user by the configuration in force. Asked again for every command, so that a reload that
    /// takes rights away works at once, and no command is without a check (CVE-2026-6667 was one).
    pub fn of(user: &str, config: &Admin) -> Self {
        let named = |users: &[String]| users.iter().any(|name| name == user);
        if named(&config.admin_users) {
            Self::Admin
        } else if named(&config.stats_users) {
            Self::Stats
        } else {
            Self::Nothing
        }
    }

    /// Whether a command that needs `needed` may run.
    ///
    /// # Errors
    /// What to tell the client.
    pub fn check(self, needed: Self) -> Result<(), ErrorNotice> {
        if self >= needed {
            return Ok(());
        }
        let (message, hint) = match self {
            Self::Nothing => ("not allowed", "The user is no longer in admin_users or stats_users."),
            _ => ("admin access needed", "Only users in admin_users may do this; stats_users may only SHOW."),
        };
        Err(ErrorNotice::error(SqlState::INSUFFICIENT_PRIVILEGE, message).hint(hint))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stats_users_may_only_look() {
        let config = Admin { admin_users: vec!["root".into()], stats_users: vec!["prom".into(), "root".into()] };
        assert_eq!(Rights::of("root", &config), Rights::Admin);
        assert_eq!(Rights::of("prom", &config), Rights::Stats);
        assert_eq!(Rights::of("Root", &config), Rights::Nothing);
        assert_eq!(Rights::of("", &Admin::default()), Rights::Nothing);
        assert!(Rights::Stats.check(Rights::Stats).is_ok());
        assert_eq!(Rights::Stats.check(Rights::Admin).unwrap_err().message, "admin access needed");
        assert!(Rights::Nothing.check(Rights::Stats).is_err());
    }
}
