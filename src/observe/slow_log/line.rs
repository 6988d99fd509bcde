//! How a record becomes a line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use super::Parameter;
use super::record::StatementRecord;
use crate::config::{LogFormat, SlowLogSettings};
use crate::sql::{normalize, sql_tags};

/// What of the settings concerns a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineOptions {
    format: LogFormat,
    raw_text: bool,
    parameters: bool,
}

impl From<&SlowLogSettings> for LineOptions {
    fn from(settings: &SlowLogSettings) -> Self {
        Self { format: settings.format, raw_text: settings.raw_text, parameters: settings.parameters }
    }
}

/// The line's fields in their order. Times in milliseconds.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    duration_ms: f64,
    wait_ms: f64,
    first_byte_ms: f64,
    transfer_ms: f64,
    target: &'static str,
    node: &'a str,
    reason: &'static str,
    fingerprint: String,
    statement: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    database: &'a str,
    user: &'a str,
    application_name: &'a str,
    client: &'a str,
    rows: u64,
    bytes: u64,
    sqlstate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Vec<Option<String>>>,
}

/// Appends the record's line, newline included.
pub fn render(out: &mut Vec<u8>, record: &StatementRecord, options: LineOptions) {
    let line = Line::new(record, options);
    let start = out.len();
    let written = match options.format {
        LogFormat::Json => serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from),
        LogFormat::Text => line.write_text(out),
    };
    // writing to memory does not fail; half a line must not stay all the same
    if written.is_err() {
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

impl<'a> Line<'a> {
    fn new(record: &'a StatementRecord, options: LineOptions) -> Self {
        let (sql, lex) = (&record.sql, record.lex);
        let mut tags = sql_tags(sql, lex).unwrap_or_default();
        // it has a field of its own
        tags.tags.retain(|(key, _)| key != "traceparent");
        let parameters = (options.parameters && !record.parameters.is_empty())
            .then(|| record.parameters.iter().map(Parameter::render).collect());
        Self {
            time: time(record.at),
            event: "slow_statement",
            duration_ms: ms(record.total),
            wait_ms: ms(record.wait),
            first_byte_ms: ms(record.first_byte),
            transfer_ms: ms(record.transfer),
            target: record.role.as_str(),
            node: &record.node,
            reason: record.reason.as_str(),
            fingerprint: record.fingerprint.to_string(),
            statement: normalize(sql, lex),
            cut: record.cut,
            database: &record.database,
            user: &record.user,
            application_name: &record.application_name,
            client: &record.client,
            rows: record.rows,
            bytes: record.bytes,
            sqlstate: record.sqlstate.as_ref().map(|code| code.as_str()),
            rerun: record.rerun,
            traceparent: tags.traceparent,
            tags: tags.tags.into_iter().collect(),
            raw: options.raw_text.then(|| String::from_utf8_lossy(sql).into_owned()),
            parameters,
        }
    }

    /// One line: the time, the word `slow_statement`, then `key=value`, quoted where it must be.
    fn write_text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        write!(
            out,
            "{} {} duration_ms={:.3} wait_ms={:.3} first_byte_ms={:.3} transfer_ms={:.3}",
            self.time, self.event, self.duration_ms, self.wait_ms, self.first_byte_ms, self.transfer_ms
        )?;
        let mut pair = |key: &str, value: &str| write!(out, " {}={}", Quoted(key), Quoted(value));
        pair("target", self.target)?;
        pair("node", self.node)?;
        pair("reason", self.reason)?;
        pair("database", self.database)?;
        pair("user", self.user)?;
        pair("application_name", self.application_name)?;
        pair("client", self.client)?;
        pair("rows", &self.rows.to_string())?;
        pair("bytes", &self.bytes.to_string())?;
        if let Some(sqlstate) = self.sqlstate {
            pair("sqlstate", sqlstate)?;
        }
        if let Some(rerun) = self.rerun {
            pair("rerun", rerun)?;
        }
        if let Some(traceparent) = &self.traceparent {
            pair("traceparent", traceparent)?;
        }
        for (key, value) in &self.tags {
            pair(&format!("tag.{key}"), value)?;
        }
        pair("fingerprint", &self.fingerprint)?;
        if self.cut {
            pair("cut", "true")?;
        }
        pair("statement", &self.statement)?;
        if let Some(raw) = &self.raw {
            pair("raw", raw)?;
        }
        for (number, parameter) in self.parameters.iter().flatten().enumerate() {
            pair(&format!("${}", number + 1), parameter.as_deref().unwrap_or("NULL"))?;
        }
        Ok(())
    }
}

/// RFC 3339 in UTC, with microseconds.
fn time(at: SystemTime) -> String {
    // out of range only for clocks that are thousands of years off
    format!("{:.6}", Timestamp::try_from(at).unwrap_or_default())
}

fn ms(duration: Duration) -> f64 {
    // three digits are what the clock is good for
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A value that stays on its line: bare when it is plain, else in double quotes with escapes.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => write!(f, "{}", c.escape_unicode())?,
                c => f.write_str(c.encode_utf8(&mut [0; 4]))?,
            }
        }
        f.write_str("\"")
    }
}
