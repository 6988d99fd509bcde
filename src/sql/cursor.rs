//! A reading head over the tokens of one statement, for the keyword scanner.

use std::borrow::Cow;

use super::lexer::{Kind, LexOptions, Token};

/// Longest name of anything on a server; longer ones are cut (`NAMEDATALEN` - 1).
const MAX_NAME: usize = 63;

/// Reads tokens one after the other. Words match regardless of case; quoted identifiers never match a keyword.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    opts: LexOptions,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], tokens: &'a [Token]) -> Self {
        Self { text, tokens, opts: LexOptions::default() }
    }

    /// With the options under which the tokens were read, for [`Cursor::string`].
    pub(super) fn with_options(self, opts: LexOptions) -> Self {
        Self { opts, ..self }
    }

    /// The options under which the tokens were read.
    pub(super) fn options(&self) -> LexOptions {
        self.opts
    }

    /// What follows so many tokens.
    pub(super) fn skipping(&self, tokens: usize) -> Self {
        Self { tokens: self.tokens.get(tokens..).unwrap_or_default(), ..*self }
    }

    /// The whole text that the tokens are of.
    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The value of a string constant, where it can be told.
    pub(super) fn string(&self, token: Token) -> Option<String> {
        super::settings::decode_string(token, self.text, self.opts)
    }

    /// The tokens not read yet.
    pub(super) fn rest(&self) -> &'a [Token] {
        self.tokens
    }

    pub(super) fn at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.first().copied()
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, token: Token) -> &'a [u8] {
        token.of(self.text)
    }

    /// Whether the next token is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.is_at(0, keyword)
    }

    /// Whether the token `ahead` places further is this keyword.
    pub(super) fn is_at(&self, ahead: usize, keyword: &str) -> bool {
        self.tokens.get(ahead).is_some_and(|token| {
            token.kind == Kind::Word && token.of(self.text).eq_ignore_ascii_case(keyword.as_bytes())
        })
    }

    /// Whether the next token is exactly this punctuation or operator.
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.peek().is_some_and(|token| {
            matches!(token.kind, Kind::Punct | Kind::Op | Kind::Colon) && token.of(self.text) == sign.as_bytes()
        })
    }

    /// Passes over this keyword if it comes next.
    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.next();
        }
        found
    }

    /// Passes over these keywords if all of them come next.
    pub(super) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let found = keywords.iter().enumerate().all(|(ahead, keyword)| self.is_at(ahead, keyword));
        if found {
            self.tokens = &self.tokens[keywords.len()..];
        }
        found
    }

    /// Passes over this sign if it comes next.
    pub(super) fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        if found {
            self.next();
        }
        found
    }

    /// With the next token an opening parenthesis: what stands inside, the cursor behind the closing one.
    pub(super) fn parenthesised(&mut self) -> Option<Cursor<'a>> {
        if !self.is_sign("(") {
            return None;
        }
        let mut depth = 0usize;
        for (at, token) in self.tokens.iter().enumerate() {
            if token.kind != Kind::Punct {
                continue;
            }
            match self.text[token.start as usize] {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inside = Cursor { tokens: &self.tokens[1..at], ..*self };
                self.tokens = &self.tokens[at + 1..];
                return Some(inside);
            }
        }
        None
    }

    /// What stands before the next comma that is in no parentheses, or all of it; the cursor behind the comma.
    pub(super) fn until_comma(&mut self) -> Self {
        let mut depth = 0i32;
        let comma = self.tokens.iter().position(|token| {
            match (token.kind, token.of(self.text)) {
                (Kind::Punct, b"(" | b"[") => depth += 1,
                (Kind::Punct, b")" | b"]") => depth -= 1,
                (Kind::Punct, b",") if depth == 0 => return true,
                _ => {}
            }
            false
        });
        let end = comma.unwrap_or(self.tokens.len());
        let before = Self { tokens: &self.tokens[..end], ..*self };
        *self = self.skipping(end + 1);
        before
    }

    /// An identifier as the server would store it: unquoted in lower case, quotes removed, cut when it is too long. `None`, and
    /// nothing read, when the next token is something else (`U&"…"` too).
    pub(super) fn identifier(&mut self) -> Option<Cow<'a, [u8]>> {
        let token = self.peek()?;
        let name = identifier(self.text, token)?;
        self.next();
        Some(name)
    }
}

/// A word or quoted word as the server would store it.
pub(super) fn identifier(text: &[u8], token: Token) -> Option<Cow<'_, [u8]>> {
    let mut name = unquoted(text, token)?;
    if name.len() > MAX_NAME {
        let len = clipped_len(&name);
        match &mut name {
            Cow::Borrowed(name) => *name = &name[..len],
            Cow::Owned(name) => name.truncate(len),
        }
    }
    Some(name)
}

/// Bytes that the server keeps of a name: it breaks no character.
pub(super) fn clipped_len(name: &[u8]) -> usize {
    match std::str::from_utf8(name) {
        Ok(text) => text.floor_char_boundary(MAX_NAME),
        Err(_) => name.len().min(MAX_NAME),
    }
}

fn unquoted(text: &[u8], token: Token) -> Option<Cow<'_, [u8]>> {
    let bytes = token.of(text);
    match token.kind {
        Kind::Word if bytes.iter().any(u8::is_ascii_uppercase) => Some(Cow::Owned(bytes.to_ascii_lowercase())),
        Kind::Word => Some(Cow::Borrowed(bytes)),
        Kind::QuotedWord => {
            let inner = bytes.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            Some(match memchr::memchr(b'"', inner) {
                None => Cow::Borrowed(inner),
                Some(_) => {
                    let mut out = Vec::with_capacity(inner.len());
                    let mut doubled = false;
                    for &byte in inner {
                        doubled = byte == b'"' && !doubled;
                        if !doubled {
                            out.push(byte);
                        }
                    }
                    Cow::Owned(out)
                }
            })
        }
        _ => None,
    }
}
