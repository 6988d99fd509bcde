//! Delimiting frames: one byte of type, four bytes of length that count themselves, the body.

/// Largest length field of a message that carries data (PostgreSQL: `PQ_LARGE_MESSAGE_LIMIT`).
pub const LARGE_LIMIT: u32 = 0x3fff_fffe;
/// Largest length field of a message that carries only names and flags (PostgreSQL: `PQ_SMALL_MESSAGE_LIMIT`).
pub const SMALL_LIMIT: u32 = 10_000;
/// Bytes of type and length.
pub const HEADER: usize = 5;

/// A whole frame in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Message type.
    pub tag: u8,
    /// Type, length and body.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The body: what follows the length.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

/// What stands at the walker's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame; the walker is behind it.
    Whole(Frame<'a>),
    /// The beginning of a frame: `frame_len` bytes in all, of which `available` (with the header) are here.
    /// The walker stays before it.
    Partial {
        /// Message type.
        tag: u8,
        /// Bytes of the whole frame: header and body.
        frame_len: usize,
        /// Bytes of it that are in the buffer, at least 5.
        available: &'a [u8],
    },
    /// Fewer than five bytes are left (possibly none).
    End,
}

/// A length field that cannot be: less than 4, or over the limit. The stream is lost: close (trap 70).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of type {tag:#04x} has the impossible length {len}")]
pub struct BadFrame {
    /// Message type.
    pub tag: u8,
    /// The length field.
    pub len: u32,
}

/// Walks the frames of a buffer by their headers. Bodies are never touched.
#[derive(Debug)]
pub struct FrameWalker<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> FrameWalker<'a> {
    /// Starts at the first byte of `buf`, which must be the first byte of a frame.
    pub fn new(buf: &'a [u8]) -> Self {
        Self { buf, pos: 0 }
    }

    /// Bytes behind the walker.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Bytes not yet walked.
    pub fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }

    /// Looks at the next frame, with `limit(tag)` as the largest length field allowed.
    ///
    /// # Errors
    /// [`BadFrame`] when the length field is impossible.
    #[inline]
    pub fn step(&mut self, limit: impl FnOnce(u8) -> u32) -> Result<Step<'a>, BadFrame> {
        let rest = &self.buf[self.pos..];
        let [tag, a, b, c, d, ..] = *rest else {
            return Ok(Step::End);
        };
        let len = u32::from_be_bytes([a, b, c, d]);
        if len < 4 || len > limit(tag) {
            return Err(BadFrame { tag, len });
        }
        let frame_len = len as usize + 1;
        if rest.len() < frame_len {
            return Ok(Step::Partial { tag, frame_len, available: rest });
        }
        self.pos += frame_len;
        Ok(Step::Whole(Frame { tag, bytes: &rest[..frame_len] }))
    }
}

/// Length limit of a message from a client, by type, as PostgreSQL's `SocketBackend` has it. Unknown types get 0: refused.
#[inline]
pub fn frontend_limit(tag: u8) -> u32 {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => LARGE_LIMIT,
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => SMALL_LIMIT,
        _ => 0,
    }
}

/// Length limit of a message from a server: anything that PostgreSQL can allocate.
#[inline]
pub fn backend_limit(_tag: u8) -> u32 {
    LARGE_LIMIT + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn walks_whole_partial_and_end() {
        let buf = b"Z\0\0\0\x05IS\0\0\0\x08ab";
        let mut walker = FrameWalker::new(buf);
        let Step::Whole(frame) = walker.step(backend_limit).unwrap() else { panic!() };
        assert_eq!((frame.tag, frame.body()), (b'Z', &b"I"[..]));
        assert!(
            matches!(walker.step(backend_limit).unwrap(), Step::Partial { tag: b'S', frame_len: 9, available } if available.len() == 7)
        );
        assert_eq!(walker.position(), 6);
        assert_eq!(FrameWalker::new(b"Z\0\0\0").step(backend_limit), Ok(Step::End));
    }

    #[test]
    fn trap_78_impossible_lengths() {
        assert!(FrameWalker::new(b"Q\0\0\0\x03").step(frontend_limit).is_err());
        assert!(FrameWalker::new(b"Q\x7f\xff\xff\xff").step(frontend_limit).is_err());
        assert!(FrameWalker::new(b"S\0\x01\0\0").step(frontend_limit).is_err());
        assert!(FrameWalker::new(b"?\0\0\0\x04").step(frontend_limit).is_err());
    }

    proptest! {
        #[test]
        fn never_leaves_the_buffer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut walker = FrameWalker::new(&bytes);
            while let Ok(Step::Whole(frame)) = walker.step(backend_limit) {
                prop_assert!(frame.bytes.len() >= HEADER);
                prop_assert!(walker.position() <= bytes.len());
            }
        }
    }
}
