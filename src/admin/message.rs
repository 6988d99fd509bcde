//! Frames of a client as pgwire's messages.
//!
//! pgwire's own decoders panic on bodies that are too short and read past a frame's end (design §8): bodies are read by
//! our views, which check everything, and pgwire gets the finished message.

use bytes::Bytes;
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Flush, Parse, Sync};
use pgwire::messages::simplequery::Query;

use crate::wire::frame::frontend_limit;
use crate::wire::frontend::{self, ObjectKind};
use crate::wire::{ErrorNotice, Frame, SqlState};

/// Longest message that the console reads: a statement for `SHOW ROUTE`, at most.
const MAX_MESSAGE: u32 = 1 << 20;

/// A message that the console acts on.
#[derive(Debug)]
pub enum Message {
    /// Query.
    Query(Query),
    /// Parse.
    Parse(Parse),
    /// Bind.
    Bind(Bind),
    /// Describe.
    Describe(Describe),
    /// Execute.
    Execute(Execute),
    /// Close.
    Close(Close),
    /// Flush.
    Flush(Flush),
    /// Sync.
    Sync(Sync),
    /// FunctionCall, which is always refused.
    FunctionCall,
    /// CopyData, CopyDone and CopyFail outside of a copy: passed over, as PostgreSQL does.
    Ignored,
    /// Terminate.
    Terminate,
}

/// Largest length field of a message by its type; 0 = unknown type.
pub fn limit(tag: u8) -> u32 {
    frontend_limit(tag).min(MAX_MESSAGE)
}

/// Reads one frame.
///
/// # Errors
/// Malformed (FATAL: the stream cannot be trusted), or text that is not UTF-8 (ERROR).
pub fn read(frame: Frame<'_>) -> Result<Message, ErrorNotice> {
    let body = frame.body();
    let malformed = || {
        let message = format!("malformed message of type \"{}\"", char::from(frame.tag).escape_default());
        ErrorNotice::fatal(SqlState::PROTOCOL_VIOLATION, message)
    };
    Ok(match frame.tag {
        b'Q' => Message::Query(Query::new(text(frontend::query(body).ok_or_else(malformed)?)?)),
        b'P' => {
            let view = frontend::parse(body).ok_or_else(malformed)?;
            let (_, oids) = view.types.split_at(2);
            let oids = oids.chunks_exact(4).map(|oid| oid.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
            Message::Parse(Parse::new(name(view.name)?, text(view.sql)?, oids.collect()))
        }
        b'B' => Message::Bind(bind(body)?.ok_or_else(malformed)?),
        b'D' => {
            let (kind, called) = frontend::object(body).ok_or_else(malformed)?;
            Message::Describe(Describe::new(letter(kind), name(called)?))
        }
        b'C' => {
            let (kind, called) = frontend::object(body).ok_or_else(malformed)?;
            Message::Close(Close::new(letter(kind), name(called)?))
        }
        b'E' => {
            let (portal, rows) = frontend::execute(body).ok_or_else(malformed)?;
            // No limit: 0, or negative.
            Message::Execute(Execute::new(name(portal)?, i32::try_from(rows).unwrap_or(0)))
        }
        b'H' if body.is_empty() => Message::Flush(Flush::new()),
        b'S' if body.is_empty() => Message::Sync(Sync::new()),
        b'F' => Message::FunctionCall,
        b'd' | b'c' | b'f' => Message::Ignored,
        b'X' => Message::Terminate,
        _ => return Err(malformed()),
    })
}

fn letter(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Statement => b'S',
        ObjectKind::Portal => b'P',
    }
}

fn text(bytes: &[u8]) -> Result<String, ErrorNotice> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ErrorNotice::error(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\""))?;
    Ok(text.to_owned())
}

/// A name; the empty one is `None` for pgwire.
fn name(bytes: &[u8]) -> Result<Option<String>, ErrorNotice> {
    Ok(Some(text(bytes)?).filter(|name| !name.is_empty()))
}

/// Reads a whole Bind; `Ok(None)` = malformed.
fn bind(body: &[u8]) -> Result<Option<Bind>, ErrorNotice> {
    let Some(head) = frontend::bind_head(body) else { return Ok(None) };
    let mut rest = &body[head.rest..];
    let Some((formats, values, results)) = bind_rest(&mut rest).filter(|_| rest.is_empty()) else { return Ok(None) };
    Ok(Some(Bind::new(name(head.portal)?, name(head.statement)?, formats, values, results)))
}

type BindRest = (Vec<i16>, Vec<Option<Bytes>>, Vec<i16>);

fn bind_rest(rest: &mut &[u8]) -> Option<BindRest> {
    let formats = codes(rest)?;
    let count = u16::from_be_bytes(take(rest)?);
    let mut values = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(take(rest)?);
        values.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, tail) = rest.split_at_checked(length)?;
                *rest = tail;
                Some(Bytes::copy_from_slice(value))
            }
            Err(_) if length == -1 => None,
            Err(_) => return None,
        });
    }
    Some((formats, values, codes(rest)?))
}

/// A count, and so many format codes, each of which is 0 or 1.
fn codes(rest: &mut &[u8]) -> Option<Vec<i16>> {
    let count = u16::from_be_bytes(take(rest)?);
    let code = |_| Some(i16::from_be_bytes(take(rest)?)).filter(|code| matches!(code, 0 | 1));
    (0..count).map(code).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::wire::build::message(&mut bytes, tag, |out| out.extend_from_slice(body));
        bytes
    }

    fn parse(tag: u8, body: &[u8]) -> Result<Message, ErrorNotice> {
        read(Frame { tag, bytes: &framed(tag, body) })
    }

    #[test]
    fn reads_a_bind() {
        let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02hi\xff\xff\xff\xff\0\x01\0\0";
        let Message::Bind(bind) = parse(b'B', body).unwrap() else { panic!() };
        assert_eq!(bind.portal_name.as_deref(), Some("p"));
        assert_eq!(bind.parameters, [Some(Bytes::from_static(b"hi")), None]);
        assert_eq!((bind.parameter_format_codes, bind.result_column_format_codes), (vec![1], vec![0]));
    }

    #[test]
    fn short_and_long_bodies_are_refused() {
        for (tag, body) in [
            (b'Q', &b""[..]),
            (b'Q', b"x"),
            (b'P', b"\0\0"),
            (b'P', b"\0\0\xff\xff"),
            (b'B', b"\0\0"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"),
            (b'B', b"\0\0\0\0\0\0\0\0 "),
            (b'E', b"\0"),
            (b'D', b""),
            (b'S', b"x"),
        ] {
            assert!(parse(tag, body).unwrap_err().is_fatal(), "{}", char::from(tag));
        }
        assert_eq!(parse(b'Q', b"\xff\0").unwrap_err().code, SqlState::BAD_CHARACTER);
    }

    proptest! {
        #[test]
        fn never_panics(tag in proptest::sample::select(b"QPBDCEHSFdcfX".to_vec()),
                        body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40)) {
            let _ = parse(tag, &body);
        }
    }
}
