//! PostgreSQL's lexical rules over bytes.
//!
//! One forward pass, no allocation, no UTF-8 check. It follows the server's own scanner where the two could part:
//! string constants continued on the next line keep their kind, a comment ends an operator, a line comment ends at
//! `\r` too, `standard_conforming_strings` decides what a backslash means, and a NUL byte ends the text.

use memchr::{memchr, memchr2, memchr3};

#[cfg(test)]
mod tests;

/// What the lexer must know of the session before it may cut a text into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LexOptions {
    /// The session's `standard_conforming_strings`: when off, a backslash escapes inside plain `'…'`.
    pub standard_conforming_strings: bool,
    /// `false` when `client_encoding` lets a byte below 0x80 be the second half of a character (SJIS, BIG5, GBK,
    /// GB18030, JOHAB, UHC, SHIFT_JIS_2004). A text with bytes above 0x7F is then not trusted to be cut at all.
    pub safe_encoding: bool,
}

impl Default for LexOptions {
    /// PostgreSQL's defaults: standard strings, UTF-8.
    fn default() -> Self {
        Self { standard_conforming_strings: true, safe_encoding: true }
    }
}

impl LexOptions {
    /// A number below 4 that tells the four combinations apart, for cache keys.
    pub fn bits(self) -> u8 {
        u8::from(self.standard_conforming_strings) | (u8::from(self.safe_encoding) << 1)
    }

    /// Follows a ParameterStatus: `standard_conforming_strings` and `client_encoding` change how text is read (trap 19).
    pub fn observe_parameter(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => self.standard_conforming_strings = value == b"on",
            b"client_encoding" => {
                self.safe_encoding = std::str::from_utf8(value).is_ok_and(Self::encoding_is_safe);
            }
            _ => {}
        }
    }

    /// Whether a client encoding, as ParameterStatus or `SET client_encoding` spells it, is safe to lex by bytes.
    pub fn encoding_is_safe(name: &str) -> bool {
        const UNSAFE: [&str; 13] = [
            "sjis",
            "shiftjis",
            "mskanji",
            "win932",
            "windows932",
            "shiftjis2004",
            "big5",
            "win950",
            "windows950",
            "gbk",
            "gb18030",
            "johab",
            "uhc",
        ];
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        !UNSAFE.contains(&plain.as_str())
            && !matches!(plain.as_str(), "win936" | "windows936" | "win949" | "windows949")
    }
}

/// The kind of a [`Token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Unquoted identifier or keyword.
    Word,
    /// `"…"`, quotes included.
    QuotedWord,
    /// `U&"…"`.
    UnicodeWord,
    /// Any string constant: plain, `E''`, `U&''`, `B''`, `X''`, `$tag$…$tag$`, with its continuations.
    Str,
    /// Numeric constant.
    Number,
    /// `$1`.
    Param,
    /// An operator of one or more characters, or `..`.
    Op,
    /// One of `( ) [ ] , .`
    Punct,
    /// `:`, `::` or `:=`.
    Colon,
    /// `;`
    Semicolon,
    /// `/* … */` or `-- …`, delimiters included. Only from [`Lexer::next_raw`].
    Comment,
    /// A byte that no rule accepts, or a constant or comment that does not end. The server will refuse the text.
    Bad,
}

/// A piece of the text: `text[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Token {
    /// The bytes of this token in the text that it was read from.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Cuts a text into tokens.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    standard_strings: bool,
}

const WORD_START: u8 = 1;
const WORD_PART: u8 = 2;
const OPERATOR: u8 = 4;
const SPACE: u8 = 8;
const DIGIT: u8 = 16;

/// Character classes by byte.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 {
            class |= WORD_START | WORD_PART;
        }
        if b.is_ascii_digit() {
            class |= WORD_PART | DIGIT;
        }
        if b == b'$' {
            class |= WORD_PART;
        }
        if matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) {
            class |= SPACE;
        }
        if matches!(
            b,
            b'~' | b'!'
                | b'@'
                | b'#'
                | b'^'
                | b'&'
                | b'|'
                | b'`'
                | b'?'
                | b'+'
                | b'-'
                | b'*'
                | b'/'
                | b'%'
                | b'<'
                | b'>'
                | b'='
        ) {
            class |= OPERATOR;
        }
        table[i] = class;
        i += 1;
    }
    table
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`, which ends at its first NUL byte if it has one. Only the first 4 GiB count.
    pub fn new(text: &'a [u8], opts: LexOptions) -> Self {
        let end = memchr(0, text).unwrap_or(text.len()).min(u32::MAX as usize);
        Self { text: &text[..end], pos: 0, standard_strings: opts.standard_conforming_strings }
    }

    /// The text that is being cut (without what follows a NUL).
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The next token that is not a comment.
    #[inline]
    pub fn next_token(&mut self) -> Option<Token> {
        loop {
            match self.next_raw() {
                Some(token) if token.kind == Kind::Comment => {}
                other => return other,
            }
        }
    }

    /// The next token, comments included.
    #[inline]
    pub fn next_raw(&mut self) -> Option<Token> {
        let text = self.text;
        let mut pos = self.pos;
        while pos < text.len() && is(text[pos], SPACE) {
            pos += 1;
        }
        if pos >= text.len() {
            self.pos = pos;
            return None;
        }
        let (kind, end) = self.scan(pos);
        self.pos = end;
        Some(Token { kind, start: pos as u32, end: end as u32 })
    }

    #[inline]
    fn byte(&self, pos: usize) -> u8 {
        // The text holds no NUL, so 0 can only mean "past the end".
        self.text.get(pos).copied().unwrap_or(0)
    }

    #[inline]
    fn scan(&self, start: usize) -> (Kind, usize) {
        let first = self.text[start];
        if is(first, WORD_START) {
            return self.word(start, first);
        }
        match first {
            b'(' | b')' | b'[' | b']' | b',' => (Kind::Punct, start + 1),
            b';' => (Kind::Semicolon, start + 1),
            b'\'' => self.quoted(start, !self.standard_strings),
            b'"' => self.quoted_word(start, Kind::QuotedWord),
            b'0'..=b'9' => (Kind::Number, self.number(start)),
            b'.' if is(self.byte(start + 1), DIGIT) => (Kind::Number, self.number(start)),
            b'.' if self.byte(start + 1) == b'.' => (Kind::Op, start + 2),
            b'.' => (Kind::Punct, start + 1),
            b'$' => self.dollar(start),
            b':' => (Kind::Colon, start + 1 + usize::from(matches!(self.byte(start + 1), b':' | b'='))),
            b'-' if self.byte(start + 1) == b'-' => (Kind::Comment, self.line_end(start)),
            b'/' if self.byte(start + 1) == b'*' => self.block_comment(start),
            _ if is(first, OPERATOR) => (Kind::Op, self.operator(start)),
            _ => (Kind::Bad, start + 1),
        }
    }

    #[inline]
    fn word(&self, start: usize, first: u8) -> (Kind, usize) {
        let next = self.byte(start + 1);
        if next == b'\'' {
            match first {
                b'e' | b'E' => return self.quoted(start + 1, true),
                b'b' | b'B' | b'x' | b'X' => return self.quoted(start + 1, false),
                b'n' | b'N' => return self.quoted(start + 1, !self.standard_strings),
                _ => {}
            }
        } else if next == b'&' && matches!(first, b'u' | b'U') {
            match self.byte(start + 2) {
                b'\'' => return self.quoted(start + 2, false),
                b'"' => return self.quoted_word(start + 2, Kind::UnicodeWord),
                _ => {}
            }
        }
        let mut pos = start + 1;
        while pos < self.text.len() && is(self.text[pos], WORD_PART) {
            pos += 1;
        }
        (Kind::Word, pos)
    }

    /// A string constant whose opening quote is at `quote`, and its continuations: further quoted pieces that white
    /// space with at least one line break separates, lexed in the same way as the first.
    fn quoted(&self, quote: usize, backslash: bool) -> (Kind, usize) {
        let mut pos = quote + 1;
        loop {
            let rest = &self.text[pos..];
            let found = if backslash { memchr2(b'\'', b'\\', rest) } else { memchr(b'\'', rest) };
            let Some(offset) = found else { return (Kind::Bad, self.text.len()) };
            pos += offset;
            if self.text[pos] == b'\\' {
                pos = (pos + 2).min(self.text.len());
            } else if self.byte(pos + 1) == b'\'' {
                pos += 2;
            } else {
                match self.continuation(pos + 1) {
                    Some(next) => pos = next + 1,
                    None => return (Kind::Str, pos + 1),
                }
            }
        }
    }

    /// The quote that continues a string constant which ended just before `pos`, if there is one.
    fn continuation(&self, mut pos: usize) -> Option<usize> {
        let mut line_break = false;
        loop {
            match self.byte(pos) {
                b'\n' | b'\r' => line_break = true,
                byte if is(byte, SPACE) => {}
                b'-' if self.byte(pos + 1) == b'-' => {
                    pos = self.line_end(pos);
                    continue;
                }
                b'\'' if line_break => return Some(pos),
                _ => return None,
            }
            pos += 1;
        }
    }

    fn quoted_word(&self, quote: usize, kind: Kind) -> (Kind, usize) {
        let mut pos = quote + 1;
        while let Some(offset) = memchr(b'"', &self.text[pos..]) {
            pos += offset + 1;
            if self.byte(pos) != b'"' {
                // A zero-length delimited identifier is an error of the server.
                return (if pos == quote + 2 { Kind::Bad } else { kind }, pos);
            }
            pos += 1;
        }
        (Kind::Bad, self.text.len())
    }

    /// `$1`, or a dollar-quoted string.
    fn dollar(&self, start: usize) -> (Kind, usize) {
        let mut pos = start + 1;
        if is(self.byte(pos), DIGIT) {
            while is(self.byte(pos), DIGIT) {
                pos += 1;
            }
            return (Kind::Param, pos);
        }
        if is(self.byte(pos), WORD_START) {
            while self.byte(pos) != b'$' && is(self.byte(pos), WORD_PART) {
                pos += 1;
            }
        }
        if self.byte(pos) != b'$' {
            return (Kind::Bad, start + 1);
        }
        let tag = &self.text[start..=pos];
        pos += 1;
        while let Some(offset) = memchr(b'$', &self.text[pos..]) {
            pos += offset;
            if self.text[pos..].starts_with(tag) {
                return (Kind::Str, pos + tag.len());
            }
            pos += 1;
        }
        (Kind::Bad, self.text.len())
    }

    fn number(&self, start: usize) -> usize {
        let mut pos = start;
        if self.byte(pos) == b'0' {
            let radix: Option<fn(u8) -> bool> = match self.byte(pos + 1) {
                b'x' | b'X' => Some(|b| b.is_ascii_hexdigit()),
                b'o' | b'O' => Some(|b| (b'0'..=b'7').contains(&b)),
                b'b' | b'B' => Some(|b| matches!(b, b'0' | b'1')),
                _ => None,
            };
            if let Some(accepts) = radix {
                let mut end = pos + 2;
                while accepts(self.byte(end)) || (self.byte(end) == b'_' && accepts(self.byte(end + 1))) {
                    end += 1;
                }
                if end > pos + 2 {
                    return end;
                }
            }
        }
        pos = self.digits(pos);
        // `1..10` is a range of PL/pgSQL, not a number with a fraction.
        if self.byte(pos) == b'.' && self.byte(pos + 1) != b'.' {
            pos = self.digits(pos + 1);
        }
        if matches!(self.byte(pos), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(pos + 1), b'+' | b'-'));
            if is(self.byte(pos + 1 + sign), DIGIT) {
                pos = self.digits(pos + 1 + sign);
            }
        }
        pos
    }

    fn digits(&self, mut pos: usize) -> usize {
        while is(self.byte(pos), DIGIT) || (self.byte(pos) == b'_' && is(self.byte(pos + 1), DIGIT)) {
            pos += 1;
        }
        pos
    }

    /// The end of the operator at `start`: it stops before a comment, and a trailing `+` or `-` belongs to it only
    /// when it holds a character that no SQL operator has.
    fn operator(&self, start: usize) -> usize {
        let mut end = start + 1;
        while is(self.byte(end), OPERATOR) {
            let pair = (self.byte(end), self.byte(end + 1));
            if pair == (b'-', b'-') || pair == (b'/', b'*') {
                break;
            }
            end += 1;
        }
        let free = |b: &u8| matches!(b, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%');
        if end - start > 1 && !self.text[start..end].iter().any(free) {
            while end - start > 1 && matches!(self.text[end - 1], b'+' | b'-') {
                end -= 1;
            }
        }
        end
    }

    fn line_end(&self, start: usize) -> usize {
        memchr2(b'\n', b'\r', &self.text[start..]).map_or(self.text.len(), |n| start + n)
    }

    fn block_comment(&self, start: usize) -> (Kind, usize) {
        let mut depth = 1usize;
        let mut pos = start + 2;
        while let Some(offset) = memchr2(b'*', b'/', &self.text[pos..]) {
            pos += offset;
            match (self.text[pos], self.byte(pos + 1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    pos += 2;
                    if depth == 0 {
                        return (Kind::Comment, pos);
                    }
                }
                (b'/', b'*') => {
                    depth += 1;
                    pos += 2;
                }
                _ => pos += 1,
            }
        }
        (Kind::Bad, self.text.len())
    }
}

/// Whether a text may hold a comment: a quick answer without lexing, `true` when in doubt.
pub(crate) fn may_hold_comment(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr3(b'-', b'/', 0, rest) {
        match (rest[at], rest.get(at + 1)) {
            (0, _) => return false,
            (b'-', Some(b'-')) | (b'/', Some(b'*')) => return true,
            _ => rest = &rest[at + 1..],
        }
    }
    false
}
