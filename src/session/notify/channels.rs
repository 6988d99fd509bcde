//! The channels that a session listens on.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// A channel's name as the server stores it.
pub(in crate::session) type Channel = Arc<[u8]>;

/// The channels of a session, and what has changed since the hub was told of them. However many they are, a change of one costs the
/// same, and so do a savepoint and going back to it.
#[derive(Debug, Default)]
pub(in crate::session) struct Channels {
    /// Each with the number of its `LISTEN`: servers tell them in that order.
    numbers: HashMap<Channel, u64, RandomState>,
    next: u64,
    /// Changes since, in order: a channel, and what its number was before.
    log: Vec<(Channel, Option<u64>)>,
}

/// How they stand at some moment since the hub was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Mark(usize);

/// What the hub is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Changes {
    pub added: Vec<Channel>,
    pub removed: Vec<Channel>,
}

impl Channels {
    /// `LISTEN`.
    pub fn add(&mut self, name: &[u8]) {
        if !self.contains(name) {
            let channel: Channel = name.into();
            self.next += 1;
            self.numbers.insert(channel.clone(), self.next);
            self.log.push((channel, None));
        }
    }

    /// `UNLISTEN` of one.
    pub fn remove(&mut self, name: &[u8]) {
        self.log.extend(self.numbers.remove_entry(name).map(|(channel, number)| (channel, Some(number))));
    }

    /// `UNLISTEN *`.
    pub fn clear(&mut self) {
        self.log.extend(self.numbers.drain().map(|(channel, number)| (channel, Some(number))));
    }

    /// Whether it is among them.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.numbers.contains_key(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// All of them, in their order.
    pub fn all(&self) -> Vec<Channel> {
        let mut all: Vec<_> = self.numbers.iter().map(|(channel, number)| (*number, channel)).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, channel)| channel.clone()).collect()
    }

    /// Whether all their names are ASCII.
    pub fn are_ascii(&self) -> bool {
        self.numbers.keys().all(|channel| channel.is_ascii())
    }

    /// How they stand now.
    pub fn mark(&self) -> Mark {
        Mark(self.log.len())
    }

    /// They are as they were then: what came later has not been.
    pub fn go_back(&mut self, mark: Mark) {
        for (channel, number) in self.log.drain(mark.0.min(self.log.len())..).rev() {
            match number {
                Some(number) => self.numbers.insert(channel, number),
                None => self.numbers.remove(&channel),
            };
        }
    }

    /// How many they were then.
    pub fn count_at(&self, mark: Mark) -> usize {
        let since = self.log.get(mark.0..).unwrap_or_default();
        let removed = since.iter().filter(|(_, number)| number.is_some()).count();
        (self.numbers.len() + removed).saturating_sub(since.len() - removed)
    }

    /// All that they were then, in their order.
    pub fn all_at(&self, mark: Mark) -> Vec<Channel> {
        let mut then = Self { numbers: self.numbers.clone(), next: self.next, log: self.log.clone() };
        then.go_back(mark);
        then.all()
    }

    /// Whether there is something to tell the hub.
    pub fn has_changed(&self) -> bool {
        !self.log.is_empty()
    }

    /// Whether the hub knows this one.
    pub fn is_told(&self, name: &[u8]) -> bool {
        match self.log.iter().find(|(channel, _)| **channel == *name) {
            Some((_, number)) => number.is_some(),
            None => self.contains(name),
        }
    }

    /// The hub is about to be told: all that has changed, in the order in which it did.
    pub fn tell(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut seen: HashMap<Channel, (), RandomState> = HashMap::default();
        for (channel, number) in std::mem::take(&mut self.log) {
            if seen.insert(channel.clone(), ()).is_some() {
                continue;
            }
            match (number.is_some(), self.numbers.contains_key(&channel)) {
                (false, true) => changes.added.push(channel),
                (true, false) => changes.removed.push(channel),
                _ => {}
            }
        }
        changes
    }
}

/// Appends `LISTEN` or `UNLISTEN` of a channel and a semicolon.
pub(super) fn write_command(sql: &mut Vec<u8>, command: &str, channel: &[u8]) {
    sql.extend_from_slice(command.as_bytes());
    sql.extend_from_slice(b" \"");
    sql.extend(channel.iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 })));
    sql.extend_from_slice(b"\";");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn a_set_in_order() {
        let mut channels = Channels::default();
        for name in ["b", "a", "b"] {
            channels.add(name.as_bytes());
        }
        assert_eq!(names(&channels.all()), ["b", "a"]);
        assert_eq!(names(&channels.tell().added), ["b", "a"]);
        channels.remove(b"nowhere");
        assert!(!channels.has_changed());
        let mark = channels.mark();
        channels.remove(b"b");
        channels.add(b"c");
        channels.add(b"b");
        assert_eq!((names(&channels.all()), names(&channels.all_at(mark))), (vec_of("a c b"), vec_of("b a")));
        assert_eq!((channels.count_at(channels.mark()), channels.count_at(mark)), (3, 2));
        assert!(channels.is_told(b"b") && channels.is_told(b"a") && !channels.is_told(b"c"));
        channels.remove(b"a");
        let told = channels.tell();
        assert_eq!((names(&told.added), names(&told.removed)), (vec_of("c"), vec_of("a")));
        channels.clear();
        assert!(channels.is_empty() && channels.tell().removed.len() == 2);
    }

    fn vec_of(names: &str) -> Vec<String> {
        names.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_taken_back_is_never_told() {
        let mut channels = Channels::default();
        channels.add(b"a");
        channels.tell();
        let mark = channels.mark();
        channels.clear();
        channels.add(b"b");
        channels.add(b"a");
        channels.remove(b"b");
        channels.go_back(mark);
        assert!(!channels.has_changed());
        assert_eq!(names(&channels.all()), ["a"]);
        channels.remove(b"a");
        channels.add(b"a");
        assert_eq!(channels.tell(), Changes::default(), "as the hub knows it");
    }

    #[test]
    fn quoted() {
        let mut sql = Vec::new();
        write_command(&mut sql, "LISTEN", b"a\"; DROP TABLE t; --");
        assert_eq!(sql, b"LISTEN \"a\"\"; DROP TABLE t; --\";");
    }
}
