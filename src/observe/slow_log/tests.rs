//! The slow-query log from a record to its lines.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{LogFormat, NodeRole};
use crate::sql::{LexOptions, Reason};
use crate::wire::SqlState;

const STOP: Duration = Duration::from_secs(10);

fn settings(file: &Path) -> SlowLogSettings {
    SlowLogSettings {
        format: LogFormat::Json,
        file: Some(file.into()),
        raw_text: false,
        parameters: false,
        per_fingerprint_per_second: 0,
        queue: 1000,
    }
}

/// Three parameters: text, binary, NULL.
fn parameters() -> [Parameter; 3] {
    [
        Parameter::capture(false, Some(b"it's a \"secret\"\n")),
        Parameter::capture(true, Some(&[0, 1, 255])),
        Parameter::capture(false, None),
    ]
}

fn slow<'a>(sql: &'a str, parameters: &'a [Parameter]) -> SlowStatement<'a> {
    SlowStatement {
        at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456),
        total: Duration::from_micros(1_234_567),
        wait: Duration::from_micros(34_500),
        first_byte: Duration::from_micros(1_200_000),
        transfer: Duration::from_micros(67),
        role: NodeRole::Replica,
        node: "pg2",
        reason: Reason::Read,
        sql: sql.as_bytes(),
        lex: LexOptions { standard_conforming_strings: true, safe_encoding: true },
        parameters,
        database: "shop",
        user: "ann",
        application_name: "web worker",
        client: "127.0.0.1:51234",
        rows: 3,
        bytes: 4096,
        sqlstate: None,
        rerun: None,
    }
}

const TAGGED: &str = "SELECT 'hunter2', 4711 /*controller='orders',traceparent=\
                      '00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/";

/// Writes one statement and returns the file's text.
fn written(change: impl FnOnce(&mut SlowLogSettings), statement: SlowStatement<'_>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slow.log");
    let mut settings = settings(&file);
    change(&mut settings);
    let log = SlowLog::start(&settings, &Metrics::new()).unwrap();
    log.log(&statement);
    log.shutdown(STOP);
    std::fs::read_to_string(file).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

/// A JSON line, one field per line in the order in which they were written; what `normalize` and
/// `fingerprint` made of the statement is their own tests' business.
fn readable(text: &str) -> String {
    let line = json(text);
    let text = text.replace(&line["statement"].to_string(), "\"[normalized]\"");
    text.trim_end().replace(&line["fingerprint"].to_string(), "\"[fingerprint]\"").replace(",\"", ",\n\"")
}

#[test]
fn the_json_line() {
    let text = written(|_| (), slow(TAGGED, &parameters()));
    assert!(!text.contains("hunter2") && !text.contains("4711") && !text.contains("secret"), "{text}");
    insta::assert_snapshot!(readable(&text));
}

#[test]
fn the_json_line_with_everything_that_may_be_asked_for() {
    let parameters = parameters();
    let failed = SlowStatement { sqlstate: Some(SqlState::QUERY_CANCELED), ..slow(TAGGED, &parameters) };
    let text = written(|s| (s.raw_text, s.parameters) = (true, true), failed);
    insta::assert_snapshot!(readable(&text));
}

#[test]
fn the_text_line_stays_one_line() {
    let parameters = parameters();
    let nasty = slow("SELECT\n\t1 -- \u{2028}\r\n", &parameters);
    let nasty = SlowStatement { application_name: "a\nb=\"c\"\u{1b}[31m", ..nasty };
    let all = |s: &mut SlowLogSettings| (s.format, s.raw_text, s.parameters) = (LogFormat::Text, true, true);
    let text = written(all, nasty);
    assert_eq!(text.matches('\n').count(), 1);
    let (before, after) = text.trim_end().split_once("fingerprint=").unwrap();
    insta::assert_snapshot!(format!("{before}fingerprint={}", after.split_at(32).1));
}

#[test]
fn long_texts_are_cut() {
    let long = format!("SELECT '{}' /*k='v'*/", "x".repeat(100_000));
    let line = json(&written(|s| s.raw_text = true, slow(&long, &[])));
    assert_eq!(line["cut"], true);
    assert_eq!(line["raw"].as_str().unwrap().len(), 16 * 1024);
    assert!(line["statement"].as_str().unwrap().len() <= 16 * 1024);
    assert!(!line["statement"].as_str().unwrap().contains("xx"), "a literal that was cut in two is still one");
    assert_eq!(line.get("tags"), None);
}

#[test]
fn each_fingerprint_has_its_rate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slow.log");
    let metrics = Metrics::new();
    let log = SlowLog::start(&SlowLogSettings { per_fingerprint_per_second: 2, ..settings(&file) }, &metrics).unwrap();
    for n in 0..20u64 {
        log.log(&slow(if n % 2 == 0 { "SELECT 1" } else { "SELECT a" }, &[]));
    }
    log.shutdown(STOP);
    let lines = std::fs::read_to_string(&file).unwrap().lines().count() as u64;
    // a second may have begun in between
    assert!((4..=8).contains(&lines), "{lines}");
    let counters = metrics.slow_log();
    assert_eq!(counters.rate_limited.load(Relaxed), 20 - lines);
    assert_eq!(counters.written.load(Relaxed), lines);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let file = dir.path().join("slow.log");
    let log = SlowLog::start(&SlowLogSettings { queue: 0, ..settings(&file) }, &metrics).unwrap();
    for _ in 0..10 {
        log.log(&slow("SELECT 1", &[]));
    }
    log.prepare(&settings(&file)).unwrap()();
    log.log(&slow("SELECT 1", &[]));
    log.shutdown(STOP);
    assert_eq!(metrics.slow_log().queue_full.load(Relaxed), 10);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
}

/// A writer that can't write (a FIFO that nobody reads) never holds up who records.
#[test]
#[cfg(target_os = "linux")]
fn a_stuck_writer_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // opened for both, so that opening for writing does not wait and writing fills the pipe
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let metrics = Metrics::new();
    let log = SlowLog::start(&SlowLogSettings { queue: 50, ..settings(&fifo) }, &metrics).unwrap();
    let long = "SELECT a FROM b ".repeat(900);
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let started = std::time::Instant::now();
        log.log(&slow(&long, &[]));
        slowest = slowest.max(started.elapsed());
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert!(metrics.slow_log().queue_full.load(Relaxed) > 50);
    let started = std::time::Instant::now();
    log.shutdown(Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn reopens_after_a_rename_and_loses_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let (file, old) = (dir.path().join("slow.log"), dir.path().join("slow.log.1"));
    let log = SlowLog::start(&settings(&file), &Metrics::new()).unwrap();
    log.log(&slow("SELECT 1", &[]));
    std::fs::rename(&file, &old).unwrap();
    log.log(&slow("SELECT 2", &[]));
    log.reopen();
    log.log(&slow("SELECT 3", &[]));
    log.shutdown(STOP);
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(&old) + lines(&file), 3);
    assert_eq!(lines(&file), 1);
}

#[test]
fn a_change_of_settings_is_taken_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.log"), dir.path().join("second.log"));
    let log = SlowLog::start(&settings(&first), &Metrics::new()).unwrap();
    log.log(&slow("SELECT 1", &[]));
    let bad = SlowLogSettings { parameters: true, ..settings(&dir.path().join("no/such/dir.log")) };
    let error = log.prepare(&bad).err().unwrap().to_string();
    assert!(error.starts_with("can't open the slow-query log"), "{error}");
    assert!(!log.wants_parameters());
    log.prepare(&SlowLogSettings { parameters: true, ..settings(&second) }).unwrap()();
    assert!(log.wants_parameters());
    log.log(&slow("SELECT 2", &parameters()));
    log.shutdown(STOP);
    assert_eq!(std::fs::read_to_string(&first).unwrap().lines().count(), 1);
    let line = json(&std::fs::read_to_string(&second).unwrap());
    assert_eq!(line["parameters"][1], "\\x0001ff");
}
