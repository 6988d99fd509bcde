//! What `connect_query` sets: for clients the same as if the server's configuration said so.

use std::sync::Arc;

use super::{Settings, Value};
use crate::sql::{Change, LexOptions, SettingValue, changes};

/// The settings that a `connect_query` makes. A client's `RESET` goes back to them, and a connection that had other values is
/// given them before another client uses it.
pub fn base_settings(connect_query: &str) -> Arc<Settings> {
    let mut settings = Settings::none();
    for change in changes(connect_query.as_bytes(), LexOptions::default(), &|_| None) {
        if let Change::Set { name, value } = change.change {
            let value = match value {
                SettingValue::Default => None,
                SettingValue::Flat(text) => Some(Value::Text(text)),
                SettingValue::List(values) => Some(Value::of_set(&name, values)),
            };
            settings = settings.with(&name, value);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_brings_goes_before() {
        let base = base_settings("SET work_mem = '7MB'; SELECT load_it(); SET SESSION b.c TO 1; SET LOCAL x.y = 2");
        assert_eq!((base.text("work_mem"), base.text("b.c"), base.text("x.y")), (Some("7MB"), Some("1"), None));
        let startup = Settings::intern([("work_mem".to_owned(), "9MB".to_owned())]).over(&base);
        assert_eq!((startup.text("work_mem"), startup.text("b.c")), (Some("9MB"), Some("1")));
        assert!(base_settings("").is_empty());
    }
}
