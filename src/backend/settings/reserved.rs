//! Names of settings that an extension has for itself: once its library is loaded on a connection, a server (of version 15 or later) takes
//! those that it does not define away, and refuses them. PL/pgSQL is loaded by the first function or `DO` in it, so what one connection
//! has taken another one may refuse.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Most names that are remembered: clients invent them.
const MOST: usize = 1000;

/// What PL/pgSQL defines.
const PLPGSQL: [&str; 5] =
    ["check_asserts", "extra_errors", "extra_warnings", "print_strict_params", "variable_conflict"];

/// Names that some server has refused.
static REFUSED: LazyLock<Mutex<HashSet<Box<str>>>> = LazyLock::new(Mutex::default);
static ANY_REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether a connection may refuse a setting of this name, whatever its value.
pub fn is_doubtful(name: &str) -> bool {
    name.strip_prefix("plpgsql.").is_some_and(|of| !PLPGSQL.contains(&of))
        || (ANY_REFUSED.load(Ordering::Relaxed) && REFUSED.lock().contains(name))
}

/// The name in the message of a server that has refused it; remembered.
pub fn refused_in(message: &str) -> Option<&str> {
    let name = message.split('"').nth(1).filter(|name| name.contains('.'))?;
    let mut refused = REFUSED.lock();
    if refused.len() < MOST {
        refused.insert(name.into());
        ANY_REFUSED.store(true, Ordering::Relaxed);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_refused() {
        assert!(is_doubtful("plpgsql.nope") && !is_doubtful("plpgsql.check_asserts"));
        assert!(!is_doubtful("my_app.user") && !is_doubtful("some_extension.nope"));
        let message = "invalid configuration parameter name \"some_extension.nope\"";
        assert_eq!(refused_in(message), Some("some_extension.nope"));
        assert!(is_doubtful("some_extension.nope") && !is_doubtful("some_extension.other"));
        assert_eq!(refused_in("something else"), None);
    }
}
