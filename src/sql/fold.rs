//! A text as a stream of tokens that differ only where the statement does: no comments, no literals, no lists of
//! literals. The fingerprint hashes this stream and the normalised text prints it, so they can't disagree.

use super::consistency::Consistency;
use super::hint::{self, Hint};
use super::lexer::{Kind, LexOptions, Lexer, Token};

/// One item of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A token that matters by its bytes (words regardless of case).
    Token(Token),
    /// Any string or number, or a list of them after `IN (`.
    Literal(Token),
}

/// Reads a text as [`Item`]s.
pub(super) struct Folded<'a> {
    lexer: Lexer<'a>,
    place: Place,
    /// Read but not yet given out: what follows a comma.
    held: Option<Item>,
    /// The strongest hint of the comments passed so far.
    pub(super) hint: Option<Hint>,
    /// The strongest level that they ask for.
    pub(super) level: Option<Consistency>,
}

/// Where the stream stands with respect to a list of constants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Elsewhere,
    /// After the word `IN`.
    AfterIn,
    /// After `IN (`.
    Opened,
    /// After a constant of such a list.
    AfterConstant,
}

impl<'a> Folded<'a> {
    pub(super) fn new(sql: &'a [u8], opts: LexOptions) -> Self {
        Self { lexer: Lexer::new(sql, opts), place: Place::Elsewhere, held: None, hint: None, level: None }
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.lexer.text()
    }

    #[inline(always)]
    fn read(&mut self) -> Option<Item> {
        loop {
            let token = self.lexer.next_raw()?;
            match token.kind {
                Kind::Comment => {
                    let comment = token.of(self.lexer.text());
                    self.hint = self.hint.max(hint::of_comment(comment));
                    self.level = self.level.max(hint::level_of_comment(comment));
                }
                Kind::Str | Kind::Number => return Some(Item::Literal(token)),
                _ => return Some(Item::Token(token)),
            }
        }
    }

    // Into the loop that hashes: a token costs half as much there.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Item> {
        if let Some(item) = self.held.take() {
            return Some(item);
        }
        let item = self.read()?;
        if self.place == Place::Elsewhere {
            if let Item::Token(token) = item
                && token.kind == Kind::Word
                && token.end - token.start == 2
                && token.of(self.text()).eq_ignore_ascii_case(b"in")
            {
                self.place = Place::AfterIn;
            }
            return Some(item);
        }
        Some(self.in_list(item))
    }

    /// Follows a list of constants after `IN (`: of `1, 2, 3` only the first is given out.
    #[inline(never)]
    fn in_list(&mut self, mut item: Item) -> Item {
        let text = self.text();
        let punct = |item: Item| match item {
            Item::Token(token) if token.kind == Kind::Punct => text[token.start as usize],
            _ => 0,
        };
        self.place = match (self.place, punct(item)) {
            (Place::AfterIn, b'(') => Place::Opened,
            (Place::Opened, _) if is_constant(item) => Place::AfterConstant,
            (Place::AfterConstant, b',') => {
                while punct(item) == b',' {
                    match self.read() {
                        Some(next) if is_constant(next) => match self.read() {
                            Some(after) => item = after,
                            // The text ends inside the list: nothing more to give out but its last constant.
                            None => return next,
                        },
                        Some(next) => {
                            self.held = Some(next);
                            break;
                        }
                        None => break,
                    }
                }
                Place::Elsewhere
            }
            _ => Place::Elsewhere,
        };
        item
    }
}

fn is_constant(item: Item) -> bool {
    match item {
        Item::Literal(_) => true,
        Item::Token(token) => token.kind == Kind::Param,
    }
}
