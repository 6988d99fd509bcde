//! ParameterStatus values of a server connection.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::reading;

type Bytes = Box<[u8]>;

/// Most parameters that are kept, and most bytes of their names and values. PostgreSQL 18 reports 16 of a few hundred bytes; a server that
/// invents new ones without end, or long ones, costs no more than these.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 << 10;

/// The reported parameters in the order in which the server first told them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    list: Vec<(Bytes, Bytes)>,
    /// Changes with every value that clients are told: equal ones have equal digests.
    digest: u64,
    /// The same of those by which texts are read.
    reading: u64,
    in_hot_standby: Option<bool>,
    /// Of all names and values.
    bytes: usize,
    /// More was reported than is kept.
    too_many: bool,
}

/// What a client is told of a parameter: it talks to one server that is never a standby (trap 57).
pub fn as_told<'v>(name: &[u8], value: &'v [u8]) -> &'v [u8] {
    if name == b"in_hot_standby" { b"off" } else { value }
}

fn digest(name: &[u8], value: &[u8]) -> u64 {
    FixedState::default().hash_one((name, as_told(name, value)))
}

impl Parameters {
    /// Takes a reported value; returns whether it is new.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> bool {
        if name == b"in_hot_standby" {
            self.in_hot_standby = Some(value == b"on");
        }
        let known = self.list.iter().position(|(key, _)| **key == *name);
        let before = known.map(|at| &*self.list[at].1);
        if before == Some(value) {
            return false;
        }
        let bytes = self.bytes + value.len() - before.map_or(0, <[u8]>::len) + known.map_or(name.len(), |_| 0);
        if bytes > MOST_BYTES || (known.is_none() && self.list.len() >= MOST) {
            self.too_many = true;
            return false;
        }
        self.bytes = bytes;
        let change = digest(name, value) ^ before.map_or(0, |before| digest(name, before));
        match known {
            Some(at) => self.list[at].1 = value.into(),
            None => self.list.push((name.into(), value.into())),
        }
        self.digest ^= change;
        if reading::is_parameter(name) {
            self.reading ^= change;
        }
        true
    }

    /// Whether the server has last said that it is a standby; `None` = it does not say (PostgreSQL before 14).
    pub fn in_hot_standby(&self) -> Option<bool> {
        self.in_hot_standby
    }

    /// Whether the server has reported more than is kept: it is no PostgreSQL, or broken, and what it has reported is not known any more.
    pub fn are_too_many(&self) -> bool {
        self.too_many
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last reported value.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.list.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// A number for the values by which texts are read ([`super::Reading`]).
    pub fn reading(&self) -> u64 {
        self.reading
    }

    /// Whether a client that was told `other` has nothing more to be told. Two words are compared.
    pub fn tell_the_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// What a client that was told `other` must be told now, as [`as_told`] has it.
    pub fn beyond<'p>(&'p self, other: &'p Self) -> impl Iterator<Item = (&'p [u8], &'p [u8])> {
        let told = |(name, value): (&'p [u8], &'p [u8])| (name, as_told(name, value));
        self.iter().map(told).filter(|(name, value)| other.get(name).map(|known| as_told(name, known)) != Some(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_57_what_is_to_be_told() {
        let of = |list: &[(&[u8], &[u8])]| {
            let mut parameters = Parameters::default();
            for (name, value) in list {
                parameters.set(name, value);
            }
            parameters
        };
        let a = of(&[(b"TimeZone", b"UTC"), (b"in_hot_standby", b"off"), (b"server_version", b"15.1")]);
        let b = of(&[(b"server_version", b"15.2"), (b"TimeZone", b"UTC"), (b"in_hot_standby", b"on")]);
        assert!(!a.tell_the_same_as(&b));
        assert_eq!(b.beyond(&a).collect::<Vec<_>>(), [(b"server_version".as_slice(), b"15.2".as_slice())]);
        let mut c = b.clone();
        c.set(b"server_version", b"15.1");
        assert!(a.tell_the_same_as(&c));
        assert_eq!(c.beyond(&a).count(), 0);
    }

    #[test]
    fn a_server_that_invents_parameters_without_end() {
        let mut parameters = Parameters::default();
        let new = (0..100_000).filter(|n| parameters.set(format!("x.p{n}").as_bytes(), b"v")).count();
        assert_eq!((new, parameters.iter().count()), (MOST, MOST));
        assert!(parameters.are_too_many());
        assert!(parameters.set(b"x.p0", b"w"), "those that are known still change");
    }

    #[test]
    fn a_server_that_reports_long_values() {
        let mut parameters = Parameters::default();
        let half = vec![b'v'; MOST_BYTES / 2 - 10];
        assert!(parameters.set(b"a", &half) && parameters.set(b"b", &half) && !parameters.are_too_many());
        assert!(parameters.set(b"a", b"short"), "what was replaced counts no more");
        assert!(parameters.set(b"c", &half) && !parameters.are_too_many());
        assert!(!parameters.set(b"a", &half) && parameters.are_too_many());
        assert_eq!(parameters.get(b"a"), Some(&b"short"[..]));
        assert_eq!(parameters.bytes(), 3 + 5 + 2 * half.len());
    }
}
