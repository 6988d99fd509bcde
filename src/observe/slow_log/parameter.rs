//! A parameter of a Bind message, as the slow-query log keeps and writes it.

use std::fmt::Write as _;

/// Most bytes of a parameter's value that are kept.
const KEPT: usize = 1024;

/// A parameter's value: its first KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    binary: bool,
    value: Option<Box<[u8]>>,
    /// Length before the cut.
    length: usize,
}

impl Parameter {
    /// Most parameters of one statement that are kept.
    pub const MOST: usize = 100;

    /// Copies the start of a parameter's value; `None` = NULL. `binary` is the format code of Bind.
    pub fn capture(binary: bool, value: Option<&[u8]>) -> Self {
        Self::capture_start(binary, value, value.map_or(0, <[u8]>::len))
    }

    /// As [`Self::capture`], of a value of which only the start may be here: it has `length` bytes in all.
    pub fn capture_start(binary: bool, start: Option<&[u8]>, length: usize) -> Self {
        Self { binary, value: start.map(|bytes| bytes.get(..KEPT).unwrap_or(bytes).into()), length }
    }

    /// Readable form: text as it is, binary as `\x` and hex digits, `…` where it was cut; `None` = NULL.
    pub fn render(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        let mut text = if self.binary {
            let mut hex = String::with_capacity(2 + 2 * value.len());
            hex.push_str("\\x");
            for byte in value {
                // writing to a String can't fail
                let _ = write!(hex, "{byte:02x}");
            }
            hex
        } else {
            String::from_utf8_lossy(value).into_owned()
        };
        if self.length > value.len() {
            text.push('…');
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_binary_null_and_long() {
        let render = |binary, value: Option<&[u8]>| Parameter::capture(binary, value).render();
        assert_eq!(render(false, Some(b"it's")).as_deref(), Some("it's"));
        assert_eq!(render(true, Some(&[0, 255])).as_deref(), Some("\\x00ff"));
        assert_eq!(render(false, None), None);
        assert_eq!(render(false, Some(&[0xff])).as_deref(), Some("\u{fffd}"));
        let long = render(false, Some(&[b'x'; 5000])).unwrap_or_default();
        assert_eq!(long.chars().count(), KEPT + 1);
        assert!(long.ends_with('…'));
        assert_eq!(Parameter::capture_start(false, Some(b"ab"), 3).render().as_deref(), Some("ab…"));
    }
}
