//! One event is one line, whatever stands in it: names that clients give themselves may hold line breaks, and what follows one would pass
//! for an event of ours.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

/// Makes writers that write one line for each event, which `fmt` gives them in one piece.
#[derive(Debug)]
pub(super) struct Lines<W> {
    pub(super) inner: W,
    /// The escape sequences are the formatter's own: it escapes those of others.
    pub(super) colour: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { inner: self.inner.make_writer(), colour: self.colour }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Line { inner: self.inner.make_writer_for(meta), colour: self.colour }
    }
}

/// Writes events.
#[derive(Debug)]
pub(super) struct Line<W> {
    inner: W,
    colour: bool,
}

impl<W> Line<W> {
    fn is_foreign(&self, byte: u8) -> bool {
        byte.is_ascii_control() && byte != b'\t' && !(self.colour && byte == 0x1b)
    }
}

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if !text.iter().any(|byte| self.is_foreign(*byte)) {
            self.inner.write_all(event)?;
            return Ok(event.len());
        }
        let mut line = Vec::with_capacity(event.len() + 32);
        for byte in text {
            if self.is_foreign(*byte) { line.extend(byte.escape_ascii()) } else { line.push(*byte) }
        }
        line.extend_from_slice(&event[text.len()..]);
        self.inner.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn an_event_is_one_line() {
        let written = |event: &str, colour| {
            let mut line = Line { inner: Vec::new(), colour };
            assert!(line.write_all(event.as_bytes()).is_ok());
            String::from_utf8_lossy(&line.inner).into_owned()
        };
        assert_eq!(written("INFO as usual: \u{fc}\t1\n", false), "INFO as usual: \u{fc}\t1\n");
        assert_eq!(
            written("INFO user \"a\nINFO b\r\u{1b}[31m\0\"\n", false),
            "INFO user \"a\\nINFO b\\r\\x1b[31m\\x00\"\n"
        );
        assert_eq!(written("\u{1b}[32mINFO\u{1b}[0m a\nb\n", true), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
    }
}
