//! What a writer is told of its rows while servers fail, and whether it was the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use super::frames::Batch;
use super::raw::RawClient;

/// What comes instead of an answer where the connection has ended and no error was told.
const CLOSED: &str = "closed";

/// The rows of a writer, by number.
#[derive(Debug, Default)]
pub struct Heard {
    done: BTreeSet<usize>,
    /// They may have been done.
    unknown: BTreeSet<usize>,
    not_done: BTreeSet<usize>,
    /// How often which error came.
    pub errors: BTreeMap<String, usize>,
}

impl Heard {
    /// What was heard of a row that was written. Whether it was acknowledged.
    pub fn note_write(&mut self, row: usize, outcome: Result<String, String>) -> bool {
        match outcome {
            Ok(_) => {
                self.done.insert(row);
                true
            }
            Err(error) => {
                let may_be_done = error.starts_with("08007") || error == CLOSED;
                if may_be_done { &mut self.unknown } else { &mut self.not_done }.insert(row);
                self.note_error("write", &error);
                false
            }
        }
    }

    /// How many of these rows there are, as they were counted meanwhile. Whether that was told.
    pub fn note_count(&mut self, outcome: Result<String, String>) -> bool {
        match outcome {
            Ok(count) => {
                let (count, least) = (count.parse::<usize>().unwrap(), self.done.len());
                assert!((least..=least + self.unknown.len()).contains(&count), "{count} rows seen: {self:?}");
                true
            }
            Err(error) => {
                self.note_error("read", &error);
                false
            }
        }
    }

    pub fn note_error(&mut self, of: &str, error: &str) {
        *self.errors.entry(format!("{of}: {error}")).or_default() += 1;
    }

    /// What was acknowledged is there, once, and nothing of which was said that it was not done.
    pub fn check(&self, writer: &str, there: &[usize]) {
        let Self { done, unknown, not_done, errors } = self;
        eprintln!("{writer}: {} done, {} unknown, {} not done, {errors:?}", done.len(), unknown.len(), not_done.len());
        let set: BTreeSet<usize> = there.iter().copied().collect();
        assert_eq!(set.len(), there.len(), "{writer}: done twice");
        assert!(done.is_subset(&set), "{writer}: lost: {:?}", done.difference(&set));
        assert!(not_done.is_disjoint(&set), "{writer}: done after all: {:?}", not_done.intersection(&set));
    }
}

/// The last value of the answer, or SQLSTATE and message of its first error, [`CLOSED`] without one; and whether the connection has ended.
pub fn ask(client: &mut RawClient, batch: &Batch) -> (Result<String, String>, bool) {
    let (mut value, mut failure) = (String::new(), None);
    if client.try_send(batch.bytes()).is_err() {
        return (Err(CLOSED.to_owned()), true);
    }
    let mut left = batch.readies();
    while left > 0 {
        match client.try_recv() {
            Ok(frame) if frame.tag == b'D' => value = frame.columns()[0].clone().unwrap_or_default(),
            Ok(frame) if frame.tag == b'E' => {
                let told = format!("{} {}", frame.sqlstate(), frame.field(b'M').unwrap_or_default());
                failure.get_or_insert(told);
            }
            Ok(frame) => left -= usize::from(frame.tag == b'Z'),
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "nothing was heard");
                return (Err(failure.unwrap_or_else(|| CLOSED.to_owned())), true);
            }
        }
    }
    (failure.map_or(Ok(value), Err), false)
}
