//! The channels that a session listens on.

use std::sync::Arc;

/// A channel's name as the server stores it.
pub(in crate::session) type Channel = Arc<[u8]>;

/// The channels of a session in the order in which it began to listen. Cheap to clone: every savepoint keeps one.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Channels(Option<Arc<Vec<Channel>>>);

impl Channels {
    /// `LISTEN`.
    pub fn add(&mut self, name: &[u8]) {
        if !self.contains(name) {
            Arc::make_mut(self.0.get_or_insert_default()).push(name.into());
        }
    }

    /// `UNLISTEN` of one.
    pub fn remove(&mut self, name: &[u8]) {
        if !self.contains(name) {
            return;
        }
        match &mut self.0 {
            Some(names) if names.len() > 1 => Arc::make_mut(names).retain(|known| **known != *name),
            names => *names = None,
        }
    }

    /// `UNLISTEN *`.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Whether it is among them.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.iter().any(|known| **known == *name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether nothing has happened that made one of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.0.iter().flat_map(|names| names.iter())
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

    fn names(channels: &Channels) -> Vec<String> {
        channels.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn a_set_in_order() {
        let mut channels = Channels::default();
        for name in ["b", "a", "b"] {
            channels.add(name.as_bytes());
        }
        let before = channels.clone();
        assert!(before.is_same(&channels));
        assert_eq!(names(&channels), ["b", "a"]);
        channels.remove(b"nowhere");
        assert!(before.is_same(&channels));
        channels.remove(b"b");
        assert_eq!((names(&channels), names(&before)), (vec!["a".to_owned()], vec!["b".to_owned(), "a".to_owned()]));
        channels.remove(b"a");
        assert!(channels.is_empty() && channels.is_same(&Channels::default()));
    }

    #[test]
    fn quoted() {
        let mut sql = Vec::new();
        write_command(&mut sql, "LISTEN", b"a\"; DROP TABLE t; --");
        assert_eq!(sql, b"LISTEN \"a\"\"; DROP TABLE t; --\";");
    }
}
