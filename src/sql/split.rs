//! Cutting a text into statements, as the server's grammar would.

use smallvec::SmallVec;

use super::consistency::Consistency;
use super::hint::{self, Hint};
use super::keywords::KeywordBits;
use super::lexer::{Kind, LexOptions, Lexer, Token};

/// A statement longer than so many tokens keeps only these: enough to tell what it is, not to parse it.
pub(super) const MAX_TOKENS: usize = 16 * 1024;

/// One statement: its tokens without comments and without the semicolon.
#[derive(Debug, Default)]
pub(super) struct StatementTokens {
    pub(super) tokens: SmallVec<[Token; 64]>,
    /// Which words that a pure read never has were seen, in the whole statement.
    pub(super) bits: KeywordBits,
    /// Holds a byte that no rule accepts, a constant without an end, or unbalanced parentheses: the server will
    /// refuse the whole text.
    pub(super) bad: bool,
    /// Longer than [`MAX_TOKENS`].
    pub(super) cut: bool,
    /// Deepest nesting of parentheses and brackets.
    pub(super) depth: u32,
    /// Tokens that can make a parse tree deeper.
    pub(super) joints: u32,
}

/// Cuts a text into statements.
pub(super) struct Splitter<'a> {
    lexer: Lexer<'a>,
    /// The strongest hint of the comments passed so far.
    pub(super) hint: Option<Hint>,
    /// The strongest level that they ask for.
    pub(super) level: Option<Consistency>,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(sql: &'a [u8], opts: LexOptions) -> Self {
        Self { lexer: Lexer::new(sql, opts), hint: None, level: None }
    }

    pub(super) fn text(&self) -> &'a [u8] {
        self.lexer.text()
    }

    /// Reads the next statement into `into`; `false` at the end of the text. Empty statements are passed over.
    pub(super) fn next(&mut self, into: &mut StatementTokens) -> bool {
        *into = StatementTokens::default();
        let text = self.lexer.text();
        let mut open = 0i64;
        let mut routine = RoutineBody::default();
        let mut list = ConstantList::default();
        let mut before = Token { kind: Kind::Semicolon, start: 0, end: 0 };
        while let Some(token) = self.lexer.next_raw() {
            match token.kind {
                Kind::Comment => {
                    self.hint = self.hint.max(hint::of_comment(token.of(text)));
                    self.level = self.level.max(hint::level_of_comment(token.of(text)));
                    continue;
                }
                Kind::Semicolon if open <= 0 && routine.depth == 0 => {
                    if into.tokens.is_empty() {
                        continue;
                    }
                    into.bad |= open != 0;
                    return true;
                }
                Kind::Punct => match text[token.start as usize] {
                    b'(' | b'[' => {
                        open += 1;
                        into.joints += 1;
                        into.depth = into.depth.max(open.clamp(0, i64::from(u32::MAX)) as u32);
                    }
                    b')' | b']' => {
                        open -= 1;
                        into.bad |= open < 0;
                    }
                    _ => {}
                },
                Kind::Word => {
                    let word = token.of(text);
                    into.joints += u32::from(into.bits.note(text, before, word));
                    routine.note(into.tokens.len(), before.of(text), word);
                }
                Kind::QuotedWord => into.bits.note_schema(&text[token.start as usize + 1..token.end as usize - 1]),
                Kind::Op | Kind::Colon => into.joints += 1,
                Kind::Bad => into.bad = true,
                _ => {}
            }
            before = token;
            list.shorten(text, &mut into.tokens, token);
            if into.tokens.len() < MAX_TOKENS {
                into.tokens.push(token);
            } else {
                into.cut = true;
            }
        }
        into.bad |= open != 0;
        !into.tokens.is_empty()
    }
}

/// Keeps only the first of the constants that follow `IN (`: however long the list, it says no more.
#[derive(Default)]
struct ConstantList {
    /// Where the first constant of such a list stands.
    first: Option<usize>,
}

impl ConstantList {
    /// To be told of each token before it joins the others.
    fn shorten(&mut self, text: &[u8], tokens: &mut SmallVec<[Token; 64]>, token: Token) {
        let constant = |token: &Token| matches!(token.kind, Kind::Str | Kind::Number | Kind::Param);
        let sign = |token: &Token, sign: u8| token.kind == Kind::Punct && text[token.start as usize] == sign;
        if constant(&token) {
            if let [.., word, open] = tokens.as_slice()
                && sign(open, b'(')
                && word.kind == Kind::Word
                && word.of(text).eq_ignore_ascii_case(b"in")
            {
                self.first = Some(tokens.len());
            }
            return;
        }
        let Some(first) = self.first else { return };
        match &tokens[first..] {
            [_] => {}
            [_, comma, last] if sign(comma, b',') && constant(last) && (sign(&token, b',') || sign(&token, b')')) => {
                tokens.truncate(first + 1);
            }
            _ => self.first = None,
        }
    }
}

/// Follows `BEGIN ATOMIC … END` of a routine's body, whose semicolons don't end the statement. `BEGIN` alone is a name like any other.
#[derive(Default)]
struct RoutineBody {
    /// The statement begins with CREATE … FUNCTION or PROCEDURE.
    creates: bool,
    routine: bool,
    depth: u32,
}

impl RoutineBody {
    fn note(&mut self, index: usize, before: &[u8], word: &[u8]) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        let after = |keyword: &str| before.eq_ignore_ascii_case(keyword.as_bytes());
        match index {
            0 => self.creates = is("create"),
            1..=3 if self.creates => self.routine |= is("function") || is("procedure"),
            _ if !self.routine => {}
            _ if self.depth == 0 => self.depth = u32::from(after("begin") && is("atomic")),
            // The name of a column.
            _ if after("as") || after(".") => {}
            _ if is("case") => self.depth += 1,
            _ if is("end") => self.depth -= 1,
            _ => {}
        }
    }
}
