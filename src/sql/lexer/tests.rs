use super::*;

fn lex(sql: &[u8], opts: LexOptions) -> Vec<(Kind, String)> {
    let mut lexer = Lexer::new(sql, opts);
    std::iter::from_fn(|| lexer.next_raw())
        .map(|token| (token.kind, String::from_utf8_lossy(token.of(sql)).into_owned()))
        .collect()
}

#[track_caller]
fn check(sql: &str, expected: &[(Kind, &str)]) {
    let got = lex(sql.as_bytes(), LexOptions::default());
    let got: Vec<_> = got.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
    assert_eq!(got, expected, "{sql}");
}

use Kind::{Bad, Colon, Comment, Number, Op, Param, Punct, QuotedWord, Semicolon, Str, UnicodeWord, Word};

#[test]
fn trap_19_strings() {
    check(r"'a''b' x", &[(Str, "'a''b'"), (Word, "x")]);
    check(r"'\' x", &[(Str, r"'\'"), (Word, "x")]);
    check(r"E'\'' x", &[(Str, r"E'\''"), (Word, "x")]);
    check(r"e'\\' x", &[(Str, r"e'\\'"), (Word, "x")]);
    check("'a'\n'b' x", &[(Str, "'a'\n'b'"), (Word, "x")]);
    check("'a' 'b'", &[(Str, "'a'"), (Str, "'b'")]);
    check("'a' -- c\n  'b'", &[(Str, "'a' -- c\n  'b'")]);
    check("'a' /* c */ \n 'b'", &[(Str, "'a'"), (Comment, "/* c */"), (Str, "'b'")]);
    check("E'a'\n'\\'' x", &[(Str, "E'a'\n'\\''"), (Word, "x")]);
    check("U&'\\' b'01' X'1f' N'x'", &[(Str, "U&'\\'"), (Str, "b'01'"), (Str, "X'1f'"), (Str, "N'x'")]);
    check("$$a'b$$ $t$ $$ $t$", &[(Str, "$$a'b$$"), (Str, "$t$ $$ $t$")]);
    check("$a$ $ab$ $a$", &[(Str, "$a$ $ab$ $a$")]);
    check("a$b$ c", &[(Word, "a$b$"), (Word, "c")]);
    check("'open", &[(Bad, "'open")]);
    check("$t$open", &[(Bad, "$t$open")]);
    let off = LexOptions { standard_conforming_strings: false, ..LexOptions::default() };
    assert_eq!(lex(br"'\'' x", off), [(Str, r"'\''".to_owned()), (Word, "x".to_owned())]);
    assert_eq!(lex(br"U&'\' x", off), [(Str, r"U&'\'".to_owned()), (Word, "x".to_owned())]);
    assert_eq!(lex(br"'\", off), [(Bad, r"'\".to_owned())]);
}

#[test]
fn trap_18_comments() {
    check("/* a /* b */ c */ x", &[(Comment, "/* a /* b */ c */"), (Word, "x")]);
    check("--a\rx", &[(Comment, "--a"), (Word, "x")]);
    check("1--a", &[(Number, "1"), (Comment, "--a")]);
    check("1+--a\n2", &[(Number, "1"), (Op, "+"), (Comment, "--a"), (Number, "2")]);
    check("@/*x*/@", &[(Op, "@"), (Comment, "/*x*/"), (Op, "@")]);
    check("/* open", &[(Bad, "/* open")]);
    check("/*/", &[(Bad, "/*/")]);
    check("/**/", &[(Comment, "/**/")]);
}

#[test]
fn operators_numbers_and_names() {
    check("a=-1", &[(Word, "a"), (Op, "="), (Op, "-"), (Number, "1")]);
    check("a@-1", &[(Word, "a"), (Op, "@-"), (Number, "1")]);
    check("a?|b", &[(Word, "a"), (Op, "?|"), (Word, "b")]);
    check("a::b", &[(Word, "a"), (Colon, "::"), (Word, "b")]);
    check("a:=b:c", &[(Word, "a"), (Colon, ":="), (Word, "b"), (Colon, ":"), (Word, "c")]);
    check(
        "1.5e-3 .5 5. 1..2",
        &[(Number, "1.5e-3"), (Number, ".5"), (Number, "5."), (Number, "1"), (Op, ".."), (Number, "2")],
    );
    check(
        "0x1F 0b01 1_000 0xg 1e",
        &[
            (Number, "0x1F"),
            (Number, "0b01"),
            (Number, "1_000"),
            (Number, "0"),
            (Word, "xg"),
            (Number, "1"),
            (Word, "e"),
        ],
    );
    check("$1$2", &[(Param, "$1"), (Param, "$2")]);
    check("\"a\"\"b\" \"\" U&\"d\"", &[(QuotedWord, "\"a\"\"b\""), (Bad, "\"\""), (UnicodeWord, "U&\"d\"")]);
    check(
        "t.a[1];",
        &[(Word, "t"), (Punct, "."), (Word, "a"), (Punct, "["), (Number, "1"), (Punct, "]"), (Semicolon, ";")],
    );
    check("é\u{b}x \\", &[(Word, "é"), (Word, "x"), (Bad, "\\")]);
    assert_eq!(lex(b"a\0b", LexOptions::default()).len(), 1);
}

#[test]
fn encodings_that_can_not_be_cut_by_bytes() {
    for name in ["SJIS", "BIG5", "GBK", "gb18030", "SHIFT_JIS_2004", "Windows932", "JOHAB", "UHC", "win950"] {
        assert!(!LexOptions::encoding_is_safe(name), "{name}");
    }
    for name in ["UTF8", "utf-8", "LATIN1", "EUC_JP", "EUC_KR", "SQL_ASCII", "WIN1252", "KOI8R", ""] {
        assert!(LexOptions::encoding_is_safe(name), "{name}");
    }
}

#[test]
fn the_comment_check_never_misses_one() {
    for (sql, expected) in
        [("a - b / c", false), ("a--b", true), ("a/*b*/", true), ("'--'", true), ("a - /", false), ("a\0--", false)]
    {
        assert_eq!(may_hold_comment(sql.as_bytes()), expected, "{sql:?}");
    }
}
