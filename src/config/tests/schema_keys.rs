//! The schema's keys, asked of serde itself, so that no second list of them can go stale.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::value::{BorrowedStrDeserializer, Error, StrDeserializer};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::config::schema::RawConfig;

/// Every path of the schema, such as `databases.NAME.pool.size`. Maps and lists of tables show as `NAME` and `0`.
pub(super) fn paths() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![Vec::new()];
    // serde asks a visitor once, so every path is a run of its own from the root.
    while let Some(path) = todo.pop() {
        let children = RefCell::new(Vec::new());
        let _ = RawConfig::deserialize(Probe { path: &path, found: &children });
        for child in children.into_inner() {
            let mut longer = path.clone();
            longer.push(child);
            found.insert(longer.join("."));
            todo.push(longer);
        }
    }
    found
}

/// Walks along `path`; at its end it notes what may follow.
#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [&'static str],
    found: &'a RefCell<Vec<&'static str>>,
}

/// Stands for an answer of one entry: a struct's field, a map's name or a list's item.
struct One<'a> {
    key: Option<&'static str>,
    probe: Probe<'a>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        match self.key.take() {
            None => Ok(None),
            Some(key) => seed.deserialize(Key(key)).map(Some),
        }
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.probe)
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match self.key.take() {
            None => Ok(None),
            Some(_) => seed.deserialize(self.probe).map(Some),
        }
    }
}

/// The fields of `Spanned`, in their order.
struct Spans<'a> {
    fields: &'static [&'static str],
    at: usize,
    probe: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for Spans<'_> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.get(self.at) else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.at += 1;
        match (self.fields[self.at - 1].ends_with("value"), self.probe) {
            (true, Some(probe)) => seed.deserialize(probe),
            (true, None) => seed.deserialize(StrDeserializer::new("NAME")),
            (false, _) => seed.deserialize(serde::de::value::U64Deserializer::new(0)),
        }
    }
}

/// A key, which may be asked for with its span.
struct Key(&'static str);

impl<'de> Deserializer<'de> for Key {
    type Error = Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Spans { fields, at: 0, probe: None })
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl Probe<'_> {
    /// Goes on to `name` when the path says so; at its end, notes it.
    fn step<T>(self, names: &[&'static str], go: impl FnOnce(One<'_>) -> Result<T, Error>) -> Result<T, Error> {
        match self.path.split_first() {
            None => {
                self.found.borrow_mut().extend(names);
                Err(serde::de::Error::custom("noted"))
            }
            Some((first, path)) => go(One { key: Some(first), probe: Self { path, found: self.found } }),
        }
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a value: nothing below"))
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name.contains("Spanned") {
            return visitor.visit_map(Spans { fields, at: 0, probe: Some(self) });
        }
        self.step(fields, |one| visitor.visit_map(one))
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.step(&["NAME"], |one| visitor.visit_map(one))
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.step(&["0"], |one| visitor.visit_seq(one))
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct enum identifier ignored_any
    }
}

#[test]
fn serde_tells_every_key() {
    let paths = paths();
    for path in
        ["general.listen", "hba.0.cert_map", "databases.NAME.nodes.0.port", "users.NAME.pool.wait_timeout", "log.level"]
    {
        assert!(paths.contains(path), "{path}: {paths:#?}");
    }
    assert!(paths.len() > 100, "{}", paths.len());
}
