//! The words that a pure read never has, found by the lexer alone: a second opinion beside the parser's.

use super::lexer::{Kind, Token};

bitflags::bitflags! {
    /// Which telling words a statement has outside quotes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub(super) struct KeywordBits: u8 {
        /// INSERT, UPDATE (not after FOR), DELETE, MERGE, TRUNCATE.
        const WRITE = 1;
        /// INTO.
        const INTO = 1 << 1;
        /// FOR before UPDATE, SHARE, NO or KEY.
        const LOCK = 1 << 2;
        /// TEMP or TEMPORARY after INTO, CREATE, REPLACE, LOCAL or GLOBAL; or `pg_temp` as a schema.
        const TEMP = 1 << 3;
    }
}

impl KeywordBits {
    /// Takes note of an unquoted word and the token before it. Tells whether the word can join expressions or
    /// queries, so that a parse tree grows deeper by it.
    pub(super) fn note(&mut self, text: &[u8], before: Token, word: &[u8]) -> bool {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        let after =
            |keyword: &str| before.kind == Kind::Word && before.of(text).eq_ignore_ascii_case(keyword.as_bytes());
        match word.len() {
            2 => {
                if (is("no")) && after("for") {
                    self.insert(Self::LOCK);
                }
                is("or") || is("in") || is("is") || is("at")
            }
            3 => {
                if is("key") && after("for") {
                    self.insert(Self::LOCK);
                }
                is("and") || is("not")
            }
            4 => {
                if is("into") {
                    self.insert(Self::INTO);
                } else if is("temp") && is_after_create(after) {
                    self.insert(Self::TEMP);
                }
                is("like") || is("case") || is("join")
            }
            5 => {
                if is("merge") {
                    self.insert(Self::WRITE);
                } else if is("share") && after("for") {
                    self.insert(Self::LOCK);
                }
                is("union") || is("ilike")
            }
            6 => {
                if is("update") && (after("for") || (after("key") && self.contains(Self::LOCK))) {
                    self.insert(Self::LOCK);
                } else if is("insert") || is("update") || is("delete") {
                    self.insert(Self::WRITE);
                }
                is("except") || is("select") || is("isnull")
            }
            7 => {
                self.note_schema(word);
                is("collate") || is("between") || is("similar") || is("notnull")
            }
            8 => {
                if is("truncate") {
                    self.insert(Self::WRITE);
                }
                is("overlaps") || is("operator")
            }
            9 => {
                if is("temporary") && is_after_create(after) {
                    self.insert(Self::TEMP);
                }
                is("intersect")
            }
            _ => false,
        }
    }

    /// Takes note of a name, without its quotes, that may be that of the schema of temporary objects.
    pub(super) fn note_schema(&mut self, name: &[u8]) {
        if name.eq_ignore_ascii_case(b"pg_temp") {
            self.insert(Self::TEMP);
        }
    }
}

fn is_after_create(after: impl Fn(&str) -> bool) -> bool {
    ["into", "create", "replace", "local", "global"].iter().any(|word| after(word))
}
