#![allow(clippy::unwrap_used)]

use super::*;

fn change(sql: &str) -> Option<(String, String, bool)> {
    let change = setting_change(sql.as_bytes(), LexOptions::default())?;
    let value = match change.value {
        SettingValue::Default => "DEFAULT".to_owned(),
        SettingValue::List(values) => values.join("|"),
        SettingValue::Flat(value) => value,
    };
    Some((change.name, value, change.local))
}

#[test]
fn reads_settings() {
    let rows = [
        ("SET a = 1", "a", "1", false),
        ("set Search_Path to \"$user\", Public, 'C d';", "search_path", "$user|public|C d", false),
        ("SET LOCAL my.\"Var\" = 'it''s'", "my.var", "it's", true),
        ("SET SESSION x TO DEFAULT", "x", "DEFAULT", false),
        ("SET x = -1.5", "x", "-1.5", false),
        ("SET x = -007", "x", "-7", false),
        ("SET x = 10_000", "x", "10000", false),
        ("SET x = 0x1_F, 0O17, 0b101", "x", "31|15|5", false),
        ("SET x = 10_000_000_000, 1_0.5", "x", "10_000_000_000|1_0.5", false),
        ("SET x = E'a\\n\\x41\\101\\u0042\\''", "x", "a\nAAB'", false),
        ("SET x = 'a' -- c\n 'b'", "x", "ab", false),
        ("SET x = $tag$it's$tag$", "x", "it's", false),
        ("SET x = on", "x", "on", false),
        ("SET TIME ZONE 'UTC'", "timezone", "UTC", false),
        ("SET TIME ZONE LOCAL", "timezone", "DEFAULT", false),
        ("SET ROLE admin", "role", "admin", false),
        ("SET LOCAL ROLE NONE", "role", "none", true),
        ("SET SESSION AUTHORIZATION 'bob'", "session_authorization", "bob", false),
        ("SET NAMES 'LATIN1'", "client_encoding", "LATIN1", false),
        ("SET SCHEMA 'x'", "search_path", "x", false),
        ("RESET x", "x", "DEFAULT", false),
        ("RESET TIME ZONE", "timezone", "DEFAULT", false),
        ("RESET my.var", "my.var", "DEFAULT", false),
    ];
    for (sql, name, value, local) in rows {
        assert_eq!(change(sql), Some((name.to_owned(), value.to_owned(), local)), "{sql}");
    }
}

#[test]
fn refuses_what_is_no_plain_setting() {
    for sql in [
        "SELECT 1",
        "SET x = 1; SELECT 1",
        "SET TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE",
        "SET x = U&'\\0061'",
        "SET x =",
        "SET x = 'open",
        "SET x FROM CURRENT",
        "RESET ALL",
        "",
    ] {
        assert_eq!(change(sql), None, "{sql}");
    }
}

#[test]
fn trap_19_a_backslash_depends_on_standard_conforming_strings() {
    let off = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
    let value = |opts| setting_change(br"SET x = 'a\\b'", opts).unwrap().value;
    assert_eq!(value(LexOptions::default()).single(), Some(r"a\\b"));
    assert_eq!(value(off).single(), Some(r"a\b"));
}

#[test]
fn own_settings() {
    let own = |sql: &str| own_setting(sql.as_bytes(), LexOptions::default());
    let set = |value: &str, local| OwnAction::Set { value: value.to_owned(), local };
    let route = |action| Some(OwnSetting { name: "route".to_owned(), action });
    assert_eq!(own("SET trunkline.route = 'primary'"), route(set("primary", false)));
    assert_eq!(own("set local TRUNKLINE.Route to Replica;"), route(set("replica", true)));
    assert_eq!(own("RESET trunkline.route"), route(OwnAction::Reset));
    assert_eq!(own("SET trunkline.route TO DEFAULT"), route(OwnAction::Reset));
    assert_eq!(own("SHOW trunkline.route"), route(OwnAction::Show));
    assert_eq!(own("SHOW search_path"), None);
    assert_eq!(own("SET trunkline.route = x; SELECT 1"), None);
}
