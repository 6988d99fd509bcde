//! Scalar types of the schema: durations, sizes, secrets, lists, file modes and enums, as people write them.
//!
//! Every one is read from a string or the TOML type that fits. A secret never gets into an error: its
//! visitor words its own messages instead of letting serde echo the value.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde_spanned::Spanned;

use crate::config::Secret;
use crate::config::suggest;

/// A duration with a unit; `0` and `off` are [`None`]: the time-out does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dur(pub Option<Duration>);

impl FromStr for Dur {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "0" || text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let mut rest = text;
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let tail = tail.trim_start();
            let unit_len = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let unit: u128 = match unit {
                "us" | "µs" => 1_000,
                "ms" => 1_000_000,
                "s" | "sec" => 1_000_000_000,
                "m" | "min" => 60 * 1_000_000_000,
                "h" => 3_600 * 1_000_000_000,
                "d" => 86_400 * 1_000_000_000,
                "" => return Err(format!("the unit is missing; write for example \"{number}s\" or \"{number}ms\"")),
                _ => return Err("unknown unit; the units are us, ms, s, m, h and d".into()),
            };
            nanos = decimal(number, unit)
                .and_then(|n| nanos.checked_add(n))
                .ok_or("not a duration; write for example \"200ms\", \"5s\", \"10m\" or \"1h30m\"")?;
            rest = tail.trim_start();
        }
        if text.is_empty() {
            return Err("empty; write for example \"5s\", or \"0\" for off".into());
        }
        // A hundred years keeps every later `Instant + Duration` far from overflowing.
        if nanos > 100 * 365 * 86_400 * 1_000_000_000 {
            return Err("longer than 100 years; write \"0\" for off".into());
        }
        let (secs, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let duration = Duration::new(u64::try_from(secs).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        Ok(Self((!duration.is_zero()).then_some(duration)))
    }
}

/// `number` × `unit`, where `number` may have a decimal fraction; `None` when it is not a number or too large.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    if !fraction.is_empty() {
        let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total = total.checked_add(fraction.parse::<u128>().ok()?.checked_mul(unit)? / scale)?;
    }
    Some(total)
}

impl<'de> Deserialize<'de> for Dur {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Dur;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"200ms\", \"5s\" or \"10m\", or \"0\" for off")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Dur, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Dur, E> {
                if n == 0 { Ok(Dur(None)) } else { n.to_string().parse().map_err(E::custom) }
            }
        }
        d.deserialize_any(V)
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u128 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => return Err("unknown unit; the units are B, kB, KiB, MB, MiB, GB and GiB".into()),
        };
        decimal(number, unit)
            .and_then(|n| u64::try_from(n).ok())
            .map(Self)
            .ok_or_else(|| "not a size; write for example \"64KiB\" or 65536".into())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as \"64KiB\" or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Size, E> {
                u64::try_from(n).map(Size).map_err(|_| E::custom("a size can't be negative"))
            }
        }
        d.deserialize_any(V)
    }
}

/// A count that is never negative. Kept apart from `u32` so that the error says what is wrong in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number without quotes")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Count, E> {
                let too = if n < 0 { "must not be negative" } else { "is too large (the most is 4294967295)" };
                u32::try_from(n).map(Count).map_err(|_| E::custom(format!("{n} {too}")))
            }
        }
        d.deserialize_any(V)
    }
}

/// Permission bits, written in octal as a string (`"0777"`), as chmod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = FileMode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file mode in octal and in quotes, such as \"0770\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FileMode, E> {
                let digits = text.trim().trim_start_matches("0o");
                match u32::from_str_radix(digits, 8) {
                    Ok(mode) if mode <= 0o777 => Ok(FileMode(mode)),
                    _ => Err(E::custom("not a file mode; write it in octal, such as \"0770\"")),
                }
            }
        }
        d.deserialize_any(V)
    }
}

/// A secret as written: plain, or with `${VAR}` still in it. Neither printed nor echoed by an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSecret(pub Secret);

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        const QUOTES: &str = "a secret must be a string in quotes";
        impl<'de> Visitor<'de> for V {
            type Value = RawSecret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(QUOTES)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSecret, E> {
                Ok(RawSecret(Secret::new(text)))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTES))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTES))
            }
            fn visit_i128<E: de::Error>(self, _: i128) -> Result<RawSecret, E> {
                Err(E::custom(QUOTES))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTES))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<RawSecret, E> {
                Err(E::custom(QUOTES))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<RawSecret, A::Error> {
                Err(de::Error::custom(QUOTES))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<RawSecret, A::Error> {
                Err(de::Error::custom(QUOTES))
            }
        }
        d.deserialize_any(V)
    }
}

/// A list of strings: a TOML array, or one string with commas, as PgBouncer writes lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct List(pub Vec<Spanned<String>>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = List;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings, such as [\"a\", \"b\"]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Ok(List(parts.map(|part| Spanned::new(0..0, part.to_owned())).collect()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        d.deserialize_any(V)
    }
}

/// The items of a list, each with its place: the list's own when it was written as one string.
pub fn items(list: &Option<Spanned<List>>) -> impl Iterator<Item = Spanned<String>> + '_ {
    list.iter().flat_map(|list| {
        list.get_ref().0.iter().map(|item| {
            let span = if item.span().is_empty() { list.span() } else { item.span() };
            Spanned::new(span, item.get_ref().clone())
        })
    })
}

/// A closed set of words. [`word`] reads one and words the error, with the nearest word as the fix.
pub trait Words: Sized + Copy + 'static {
    /// The accepted words, the first of each value being the one that messages use.
    const WORDS: &'static [(&'static str, Self)];
}

/// Reads one of `T::WORDS`.
pub fn parse_word<T: Words>(text: &str) -> Result<T, String> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == lower) {
        return Ok(*value);
    }
    let all: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let near = suggest::nearest(&lower, all.iter().copied());
    let near = near.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
    Err(format!("must be one of {}{near}", all.join(", ")))
}

/// A word of a closed set; see [`Words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<T>(pub T);

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<T: Words> Visitor<'_> for V<T> {
            type Value = Word<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of ")?;
                for (i, (word, _)) in T::WORDS.iter().enumerate() {
                    write!(f, "{}\"{word}\"", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<T>, E> {
                parse_word(text).map(Word).map_err(E::custom)
            }
        }
        d.deserialize_any(V(PhantomData))
    }
}
