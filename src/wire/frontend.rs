//! Borrowed views of messages that clients send. Each takes the body of one whole frame (or the part of it that it needs).

use super::split_cstr;

/// Which of the two name spaces a Describe or Close means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// Parse: name, text, and the parameter types as they stand on the wire (count and OIDs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Statement name; empty = unnamed.
    pub name: &'a [u8],
    /// The statement.
    pub sql: &'a [u8],
    /// Two bytes of count, four per OID.
    pub types: &'a [u8],
}

/// Reads a Parse body; `None` when it is malformed.
pub fn parse(body: &[u8]) -> Option<Parse<'_>> {
    let (name, rest) = split_cstr(body)?;
    let (sql, types) = split_cstr(rest)?;
    let [a, b, oids @ ..] = types else {
        return None;
    };
    let count = usize::from(u16::from_be_bytes([*a, *b]));
    (oids.len() == count * 4).then_some(Parse { name, sql, types })
}

/// The types that a Parse declares ([`Parse::types`]); 0 leaves one to the server.
pub fn declared_types(types: &[u8]) -> impl Iterator<Item = u32> {
    let (oids, _) = types.get(2..).unwrap_or_default().as_chunks::<4>();
    oids.iter().map(|oid| u32::from_be_bytes(*oid))
}

/// The type that is declared for a parameter, by its index; 0: none.
pub fn declared_type(types: &[u8], index: usize) -> u32 {
    declared_types(types).nth(index).unwrap_or(0)
}

/// The head of a Bind: portal and statement, and where the rest begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// Portal name; empty = unnamed.
    pub portal: &'a [u8],
    /// Statement name; empty = unnamed.
    pub statement: &'a [u8],
    /// Offset in the body at which formats and parameters begin.
    pub rest: usize,
}

/// Reads the head of a Bind body, which may be cut off behind it; `None` when a NUL is missing.
pub fn bind_head(body: &[u8]) -> Option<BindHead<'_>> {
    let (portal, rest) = split_cstr(body)?;
    let (statement, rest) = split_cstr(rest)?;
    Some(BindHead { portal, statement, rest: body.len() - rest.len() })
}

/// The value of one parameter in a Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundValue<'a> {
    /// In the type's binary format, which for text is the text.
    pub binary: bool,
    /// As much of it as is here; `None` = NULL.
    pub value: Option<&'a [u8]>,
    /// Length of all of it.
    pub len: usize,
}

impl<'a> BoundValue<'a> {
    /// The value, unless it is NULL or not all here.
    pub fn whole(&self) -> Option<&'a [u8]> {
        self.value.filter(|value| value.len() == self.len)
    }
}

/// Reads the parameters of a Bind from what follows its head ([`BindHead::rest`]); `None` when not even the formats are whole. The
/// values end where the bytes do.
pub fn bind_parameters(rest: &[u8]) -> Option<impl Iterator<Item = BoundValue<'_>>> {
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (formats, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * 2)?;
    let (count, mut rest) = rest.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    Some((0..count).map_while(move |index| {
        let format = match formats.len() {
            2 => formats,
            _ => formats.get(index * 2..index * 2 + 2).unwrap_or_default(),
        };
        let (len, tail) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(i32::from_be_bytes(*len)).ok();
        let (value, tail) = tail.split_at_checked(len.unwrap_or(0)).unwrap_or((tail, &[]));
        rest = tail;
        Some(BoundValue { binary: format == [0, 1], value: len.map(|_| value), len: len.unwrap_or(0) })
    }))
}

/// Reads a Describe or Close body: kind and name.
pub fn object(body: &[u8]) -> Option<(ObjectKind, &[u8])> {
    let (kind, rest) = body.split_first()?;
    let kind = match kind {
        b'S' => ObjectKind::Statement,
        b'P' => ObjectKind::Portal,
        _ => return None,
    };
    match split_cstr(rest)? {
        (name, []) => Some((kind, name)),
        _ => None,
    }
}

/// Reads an Execute body: portal and row limit (0 = none).
pub fn execute(body: &[u8]) -> Option<(&[u8], u32)> {
    let (portal, rest) = split_cstr(body)?;
    let limit: [u8; 4] = rest.try_into().ok()?;
    Some((portal, u32::from_be_bytes(limit)))
}

/// Reads a Query body: the statement up to its NUL, which ends the body.
pub fn query(body: &[u8]) -> Option<&[u8]> {
    match split_cstr(body)? {
        (sql, []) => Some(sql),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    #[test]
    fn reads_what_the_builders_write() {
        let mut out = Vec::new();
        build::parse(&mut out, b"s1", b"SELECT $1", &[0, 1, 0, 0, 0, 23]);
        let view = parse(&out[5..]).unwrap();
        assert_eq!((view.name, view.sql), (&b"s1"[..], &b"SELECT $1"[..]));
        assert_eq!((declared_type(view.types, 0), declared_type(view.types, 1), declared_type(&[0, 0], 0)), (23, 0, 0));
        assert!(parse(b"s\0x\0\0\x02\0\0\0\0").is_none(), "count and OIDs disagree");
        let head = bind_head(b"p\0s\0rest").unwrap();
        assert_eq!((head.portal, head.statement, head.rest), (&b"p"[..], &b"s"[..], 4));
        assert!(bind_head(b"p\0s").is_none());
        assert_eq!(object(b"Sx\0"), Some((ObjectKind::Statement, &b"x"[..])));
        assert_eq!(object(b"Xx\0"), None);
        assert_eq!(execute(b"\0\0\0\0\x05"), Some((&b""[..], 5)));
        assert_eq!(query(b"SELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert_eq!(query(b"a\0b\0"), None);
    }

    #[test]
    fn trap_46_parameters_of_a_bind() {
        let read = |rest: &'static [u8]| -> Vec<_> {
            bind_parameters(rest).unwrap().map(|bound| (bound.binary, bound.value, bound.len)).collect()
        };
        let text = b"\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
        assert_eq!(read(text), [(false, Some(&b"ab"[..]), 2), (false, None, 0)]);
        let all_binary = b"\0\x01\0\x01\0\x02\0\0\0\x01a\0\0\0\0\0\0";
        assert_eq!(read(all_binary), [(true, Some(&b"a"[..]), 1), (true, Some(&b""[..]), 0)]);
        let mixed = b"\0\x02\0\0\0\x01\0\x02\0\0\0\x01a\0\0\0\x01b\0\0";
        assert_eq!(read(mixed), [(false, Some(&b"a"[..]), 1), (true, Some(&b"b"[..]), 1)]);
        let streaming = b"\0\0\0\x02\0\x10\0\0abc";
        assert_eq!(read(streaming), [(false, Some(&b"abc"[..]), 1 << 20)]);
        assert_eq!(bind_parameters(streaming).unwrap().next().unwrap().whole(), None);
        assert!(read(&text[..6]).is_empty());
        assert!(bind_parameters(&[0, 9, 0]).is_none());
        for cut in 8..mixed.len() {
            assert!(read(&mixed[..cut]).len() <= 2);
        }
    }
}
