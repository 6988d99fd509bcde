//! Durations, sizes, lists and words.

use std::time::Duration;

use super::{BASE, config, shown};
use crate::config::schema::value::{Dur, Size};
use crate::config::{PoolMode, environment, suggest};

#[test]
fn durations() {
    let good: &[(&str, u64)] = &[
        ("250us", 250),
        ("200ms", 200_000),
        ("5s", 5_000_000),
        ("1.5s", 1_500_000),
        ("10m", 600_000_000),
        ("1h30m", 5_400_000_000),
        ("1h 30m", 5_400_000_000),
        ("2 d", 172_800_000_000),
        ("5sec", 5_000_000),
    ];
    for (text, micros) in good {
        assert_eq!(text.parse::<Dur>(), Ok(Dur(Some(Duration::from_micros(*micros)))), "{text}");
    }
    for off in ["0", "off", "0s", "0ms", " 0 "] {
        assert_eq!(off.parse::<Dur>(), Ok(Dur(None)), "{off}");
    }
    for bad in ["", "5", "s", "-5s", "5x", "1.2.3s", "5s3", "five seconds", "1e9s", "99999999999999999999999d", "200y"]
    {
        assert!(bad.parse::<Dur>().is_err(), "{bad}");
    }
}

#[test]
fn sizes() {
    let good: &[(&str, u64)] = &[
        ("0", 0),
        ("512", 512),
        ("64KiB", 65_536),
        ("64k", 65_536),
        ("10kB", 10_000),
        ("1.5 MiB", 1_572_864),
        ("1GiB", 1 << 30),
    ];
    for (text, bytes) in good {
        assert_eq!(text.parse::<Size>(), Ok(Size(*bytes)), "{text}");
    }
    for bad in ["", "KiB", "-1", "1TiB", "1 2", "99999999999999999999GiB"] {
        assert!(bad.parse::<Size>().is_err(), "{bad}");
    }
}

#[test]
fn lists_are_arrays_or_commas() {
    for list in ["[\"app\", \"b\"]", "\"app, b\"", "\"app,b,\""] {
        let text = format!("{BASE}[users.b]\npassword = \"x\"\n[admin]\nadmin_users = {list}");
        assert_eq!(config(&text).admin.admin_users, ["app", "b"], "{list}");
    }
}

#[test]
fn words_whatever_their_case() {
    assert_eq!(config(&format!("{BASE}[pool]\nmode = \"Session\"")).databases["app"].pool.mode, PoolMode::Session);
    assert!(shown(&format!("{BASE}[pool]\nmode = \"sesion\""), &[]).contains("did you mean \"session\"?"));
}

#[test]
fn suggestions() {
    let known = ["size", "min_size", "wait_timeout", "lifetime", "mode"];
    for (slip, meant) in [
        ("sise", "size"),
        ("szie", "size"),
        ("min-size", "min_size"),
        ("wait_timout", "wait_timeout"),
        ("life", "lifetime"),
    ] {
        assert_eq!(suggest::nearest(slip, known.into_iter()), Some(meant), "{slip}");
    }
    assert_eq!(suggest::nearest("colour", known.into_iter()), None);
}

#[test]
fn variables() {
    let env = [("A", "1"), ("B_2", "two"), ("D", "${A}")].into_iter().collect();
    let good =
        [("x${A}y", "x1y"), ("${A}${B_2}", "1two"), ("$${A}", "${A}"), ("$A a$b $", "$A a$b $"), ("${D}", "${A}")];
    for (text, meant) in good {
        assert_eq!(environment::interpolate(text, &env).unwrap().as_str(), meant, "{text}");
    }
    for bad in ["${C}", "${", "${}", "${A", "${1A}", "pw${A b}"] {
        let message = environment::interpolate(bad, &env).unwrap_err();
        assert!(!message.contains("pw"), "{bad}: {message}");
    }
}
