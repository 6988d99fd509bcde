//! Statements that the configuration knows better, by patterns over their normalised text.

use super::cursor::Cursor;
use super::keywords::KeywordBits;
use super::lexer::{Kind, LexOptions, Lexer, Token};
use super::normalize::spaced;

/// Patterns of statements. A pattern is matched, without regard to case, on the whole of a statement's normalised text (literals are `?`,
/// one space between words): `*` stands for any run of characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatementLists {
    primary: Box<[Pattern]>,
    read_only: Box<[Pattern]>,
}

impl StatementLists {
    /// From `RoutingSettings::primary_statements` and `RoutingSettings::read_only_statements`. What is no pattern is passed over.
    pub fn new<P, R>(primary: P, read_only: R) -> Self
    where
        P: IntoIterator<Item: AsRef<str>>,
        R: IntoIterator<Item: AsRef<str>>,
    {
        Self {
            primary: primary.into_iter().filter_map(|text| Pattern::new(text.as_ref()).ok()).collect(),
            read_only: read_only.into_iter().filter_map(|text| Pattern::of_reads(text.as_ref()).ok()).collect(),
        }
    }

    /// What must be asked of a statement's text; `None`: nothing. `may_read`: it is for the primary, and need not be.
    pub(super) fn ask(&self, normalized: impl FnOnce() -> String, may_read: bool, is_read: bool) -> Option<Listed<'_>> {
        let asks_reads = may_read && !self.read_only.is_empty();
        if !asks_reads && (!is_read || self.primary.is_empty()) {
            return None;
        }
        let text = normalized().to_lowercase();
        let find = |patterns: &'_ [Pattern]| patterns.iter().position(|pattern| pattern.matches(text.trim()));
        if let Some(at) = find(&self.primary) {
            return Some(Listed::Primary(&self.primary[at].text));
        }
        find(&self.read_only).filter(|_| asks_reads).map(|at| Listed::Read(&self.read_only[at].text))
    }
}

/// The pattern that a statement matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed<'a> {
    /// One of the primary's.
    Primary(&'a str),
    /// One of reads.
    Read(&'a str),
}

/// A pattern, ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Spelled as normalised texts are, lower case.
    text: Box<str>,
    /// What stands between the stars: at least one piece.
    pieces: Box<[Box<str>]>,
}

/// Why a text is no pattern: what is wrong, and what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternMistake {
    /// What is wrong with it, in a few words.
    pub label: &'static str,
    /// How to mend it.
    pub help: &'static str,
}

impl Pattern {
    /// A pattern of any statements.
    ///
    /// # Errors
    /// No statement could match it, or every one.
    pub fn new(text: &str) -> Result<Self, PatternMistake> {
        let mistake = |label, help| Err(PatternMistake { label, help });
        if text.trim().is_empty() {
            return mistake(
                "empty",
                "write a statement with ? for its constants, such as \"select * from audit_log *\"",
            );
        }
        if text.trim().bytes().all(|byte| byte == b'*') {
            return mistake("every statement", "to send all to the primary, write split_reads = false");
        }
        for token in tokens(text) {
            let found = match token.kind {
                // `name_*7` is a name of which a part is left open.
                Kind::Number if text.as_bytes()[..token.start as usize].ends_with(b"*") => continue,
                Kind::Str | Kind::Number => mistake(
                    "a constant: no statement has it in the text that is compared",
                    "write ? for each constant (SHOW ROUTE tells a statement's text, in column sql)",
                ),
                Kind::Comment => mistake("a comment: texts are compared without theirs", "leave it out"),
                Kind::Bad => mistake("a constant or name without its end", "close it, or write ? for a constant"),
                Kind::Semicolon => {
                    mistake("each statement of a string is compared by itself", "write one pattern for each")
                }
                _ => continue,
            };
            return found;
        }
        let text = respell(text);
        let pieces = text.split('*').map(Box::from).collect();
        Ok(Self { text: text.into(), pieces })
    }

    /// A pattern of statements that are said to be reads.
    ///
    /// # Errors
    /// As for [`Self::new`], and for what certainly writes or locks.
    pub fn of_reads(text: &str) -> Result<Self, PatternMistake> {
        let mut pattern = Self::new(text);
        if let Err(mistake) = &mut pattern
            && text.contains('*')
            && text.trim().bytes().all(|byte| byte == b'*')
        {
            mistake.help = "name statements of which you know that they only read";
        }
        let pattern = pattern?;
        let text = &*pattern.text;
        let tokens = tokens(text);
        let mut bits = KeywordBits::default();
        let mut before = Token { kind: Kind::Semicolon, start: 0, end: 0 };
        for token in &tokens {
            if token.kind == Kind::Word {
                bits.note(text.as_bytes(), before, token.of(text.as_bytes()));
            }
            before = *token;
        }
        let cursor = Cursor::new(text.as_bytes(), &tokens);
        let open = |token: &Token| text[token.end as usize..].starts_with('*') || token.kind == Kind::Op;
        let reads = ["select", "with", "values", "table", "explain"].iter().any(|word| cursor.is(word))
            || cursor.is_sign("(")
            || tokens.first().is_none_or(open);
        if !bits.is_empty() || !reads {
            return Err(PatternMistake {
                label: "such a statement runs on the primary, whatever is listed",
                help: "list queries (SELECT, WITH, VALUES, TABLE, EXPLAIN) that neither write nor lock",
            });
        }
        Ok(pattern)
    }

    fn matches(&self, text: &str) -> bool {
        let Some((first, others)) = self.pieces.split_first() else { return false };
        let Some(mut rest) = text.strip_prefix(&**first) else { return false };
        let Some((last, others)) = others.split_last() else { return rest.is_empty() };
        for piece in others {
            let Some(at) = rest.find(&**piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(&**last)
    }
}

/// The tokens of a pattern, its comments among them.
fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer::new(text.as_bytes(), LexOptions::default());
    std::iter::from_fn(|| lexer.next_raw()).collect()
}

/// The pattern in lower case and with the spaces that normalised texts have. Beside a star they stay as they are: nobody knows what it
/// stands for.
fn respell(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut before: Option<Token> = None;
    let bytes = pattern.as_bytes();
    for mut token in tokens(pattern) {
        if token.kind == Kind::Number {
            // The end of a name.
            token.kind = Kind::Word;
        }
        let is_star = |token: Token| token.kind == Kind::Op && token.of(bytes).contains(&b'*');
        let space = before.is_some_and(|before| match is_star(before) || is_star(token) {
            true => before.end < token.start,
            false => spaced(bytes, before, token),
        });
        if space {
            out.push(' ');
        }
        let text = &pattern[token.start as usize..token.end as usize];
        match text.strip_suffix('?').filter(|sign| matches!(*sign, "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=")) {
            // A constant right behind a comparison, not an operator with a question mark.
            Some(sign) => out.extend([sign, " ?"]),
            None => out.push_str(&text.to_lowercase()),
        }
        before = Some(token);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().matches(text);
        assert!(matches("SELECT * FROM audit*", "select a, b from audit where x = ?"));
        assert!(matches("select refresh_*()", "select refresh_all()"));
        assert!(matches("Exactly", "exactly"));
        assert!(!matches("exactly", "exactly not"));
        assert!(!matches("a*a", "a"), "what is matched once is not matched twice");
        assert!(matches("select f_*2()", "select f_12()"));
    }

    #[test]
    fn a_pattern_is_spelled_as_texts_are() {
        for (pattern, text) in [
            ("select  f (a,b)\nfrom T where x=? and y<>?", "select f(a, b) from t where x = ? and y <> ?"),
            ("select a::INT , \"B c\" from t", "select a::int, \"b c\" from t"),
            ("* from audit_* where a @? b", "* from audit_* where a @? b"),
            ("select f(*) from t", "select f(*) from t"),
        ] {
            assert_eq!(respell(pattern), text);
        }
    }

    #[test]
    fn the_primarys_list_comes_first() {
        let lists = StatementLists::new(["select a*"], ["select *"]);
        let ask = |text: &str, may_read, is_read| lists.ask(|| text.to_owned(), may_read, is_read);
        assert_eq!(ask("SELECT a", false, true), Some(Listed::Primary("select a*")));
        assert_eq!(ask("SELECT a", true, false), Some(Listed::Primary("select a*")));
        assert_eq!(ask("SELECT a", false, false), None);
        assert_eq!(ask("SELECT b", true, false), Some(Listed::Read("select *")));
        assert_eq!(ask("SELECT b", false, true), None);
        assert_eq!(ask("SELECT b", false, false), None);
    }

    #[test]
    fn what_certainly_writes_cannot_be_listed_as_a_read() {
        for text in
            ["insert into t*", "with x as (delete from t*", "* for update", "select a into b*", "call p()", "e*; d"]
        {
            assert!(Pattern::of_reads(text).is_err(), "{text}");
        }
        for text in ["select *", "sel* f()", "* from t", "(select f())*", "explain * f()", "table t"] {
            assert!(Pattern::of_reads(text).is_ok(), "{text}");
        }
    }
}
