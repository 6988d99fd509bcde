#![allow(clippy::unwrap_used)]

use super::*;

fn pairs(list: &[(&str, &str)]) -> Arc<Settings> {
    Settings::intern(list.iter().map(|(a, b)| (a.to_string(), b.to_string())))
}

/// The texts of the Query messages.
fn difference(from: &Settings, to: &Settings) -> String {
    difference_in(false, from, to)
}

fn difference_in(block: bool, from: &Settings, to: &Settings) -> String {
    let mut out = Vec::new();
    let count = to.write_difference(from, block, &mut out);
    let mut texts = Vec::new();
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        texts.push(String::from_utf8(rest[5..len].to_vec()).unwrap());
        rest = &rest[len + 1..];
    }
    assert_eq!(texts.len(), count);
    texts.join(" | ")
}

#[test]
fn equal_settings_are_one() {
    let a = pairs(&[("DateStyle", "ISO"), ("timezone", "UTC")]);
    let b = pairs(&[("TimeZone", "GMT"), ("datestyle", "ISO"), ("timezone", "UTC")]);
    assert!(Arc::ptr_eq(&a, &b));
    assert!(!Arc::ptr_eq(&a, &Settings::none()));
    assert!(Arc::ptr_eq(&a.with("timezone", None).with("datestyle", None), &Settings::none()));
}

#[test]
fn trap_56_only_the_difference() {
    let from = pairs(&[("a", "1"), ("b", "2"), ("app.x", "3")]);
    let to = pairs(&[("a", "1"), ("c", "4")]);
    assert_eq!(difference(&from, &to), r#"RESET "app"."x";RESET "b";SELECT pg_catalog.set_config('c','4',false)"#);
    assert_eq!(difference(&to, &Settings::none()), r#"RESET "a";RESET "c""#);
}

#[test]
fn trap_55_values_are_literals() {
    let to = pairs(&[("search_path", "\"$user\", public"), ("x.y", "a'; DROP TABLE t; --\\")]);
    assert_eq!(
        difference(&Settings::none(), &to),
        "SELECT pg_catalog.set_config('search_path','\"$user\", public',false),pg_catalog.set_config('x.y', E'a''; DROP TABLE t; --\\\\',false)"
    );
}

#[test]
fn lists_are_set_as_lists() {
    let of = |name: &str, values: &[&str]| Value::of_set(name, values.iter().map(ToString::to_string).collect());
    let to = Settings::none().with("search_path", Some(of("search_path", &["a, b", "c"])));
    let to =
        to.with("work_mem", Some(of("work_mem", &["7MB"]))).with("datestyle", Some(of("datestyle", &["ISO", "DMY"])));
    assert_eq!(
        difference(&Settings::none(), &to),
        r#"SET "datestyle" TO 'ISO','DMY';SET "search_path" TO 'a, b','c';SELECT pg_catalog.set_config('work_mem','7MB',false)"#
    );
    assert_eq!(of("search_path", &["one"]).text(), None);
}

#[test]
fn trap_61_who_the_session_is_comes_last_and_goes_first() {
    let from = pairs(&[("role", "a"), ("work_mem", "1MB")]);
    let to = pairs(&[("role", "a"), ("session_authorization", "s"), ("work_mem", "2MB"), ("zero", "0")]);
    assert_eq!(
        difference(&from, &to),
        "RESET \"role\";SELECT pg_catalog.set_config('work_mem','2MB',false),pg_catalog.set_config('zero','0',false),\
         pg_catalog.set_config('session_authorization','s',false),pg_catalog.set_config('role','a',false)"
    );
    assert_eq!(to.reset_all(&from), pairs(&[("role", "a"), ("session_authorization", "s"), ("work_mem", "1MB")]));
}

#[test]
fn texts_beyond_ascii_are_told_in_utf8() {
    let to = pairs(&[("application_name", "Größe"), ("client_encoding", "LATIN1")]);
    assert_eq!(
        difference(&Settings::none(), &to),
        "SET client_encoding TO 'UTF8' | SELECT pg_catalog.set_config('application_name','Größe',false),\
         pg_catalog.set_config('client_encoding','LATIN1',false)"
    );
    let from = pairs(&[("client_encoding", "LATIN1")]);
    assert!(difference(&from, &to).ends_with("pg_catalog.set_config('client_encoding','LATIN1',false)"));
    assert!(difference(&Settings::none(), &pairs(&[("a.b", "ü")])).ends_with(r#";RESET "client_encoding""#));
}

#[test]
fn in_a_block_no_snapshot_is_taken() {
    let difference = |name: &str, value: &str| difference_in(true, &Settings::none(), &pairs(&[(name, value)]));
    assert_eq!(difference("work_mem", "7MB"), r#"SET "work_mem" TO '7MB'"#);
    assert_eq!(difference("datestyle", "ISO, DMY"), r#"SET "datestyle" TO 'ISO, DMY'"#);
    assert_eq!(difference("app.x", "it's"), r#"SET "app"."x" TO 'it''s'"#);
    assert_eq!(
        difference("search_path", r#""$user", public, "a "", b""#),
        r#"SET "search_path" TO '$user','public','a ", b'"#
    );
    // What the server would show otherwise behind a SET.
    for odd in ["", "a,", "a b", "\"a", "\"a\"", "A", "a,b", "a , b"] {
        assert!(difference("search_path", odd).starts_with("SELECT pg_catalog.set_config("), "{odd}");
    }
}

#[test]
fn very_many_settings_are_several_lists() {
    let names: Vec<String> = (0..2500).map(|n| format!("app.x{n}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let sql = difference(&Settings::none(), &pairs(&all));
    let lists: Vec<usize> = sql.split(';').map(|list| list.matches("set_config(").count()).collect();
    assert_eq!(lists, [1000, 1000, 500]);
    assert!(sql.split(';').all(|list| list.starts_with("SELECT pg_catalog.set_config(")));
}

/// A startup packet has room for a hundred thousand names.
#[test]
fn very_many_settings_take_time_that_grows_with_their_number() {
    let began = std::time::Instant::now();
    let many = |value: &str| (0..100_000).rev().map(|n| (format!("N{n}"), value.to_owned())).collect::<Vec<_>>();
    let settings = Settings::intern(many("first").into_iter().chain(many("last")));
    assert_eq!((settings.iter().count(), settings.text("n7")), (100_000, Some("last")));
    let over = pairs(&[("n7", "own"), ("other", "x")]).over(&settings);
    assert_eq!((over.iter().count(), over.text("n7"), over.text("n8")), (100_001, Some("own"), Some("last")));
    assert!(over.iter().is_sorted_by_key(|(name, _)| name));
    // A minute and more if each is put into its place.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}
