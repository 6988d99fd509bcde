//! sqlcommenter: tags that an ORM or tracer appends to a statement as a comment `/*key='value',…*/`.

use super::lexer::{Kind, LexOptions, Lexer, may_hold_comment};

/// Most tags that are read of one comment.
const MAX_TAGS: usize = 32;
/// Longest key or value, in bytes after decoding, that is kept.
const MAX_LENGTH: usize = 256;

/// What a sqlcommenter comment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqlTags {
    /// Keys and values, decoded, in the order of the text; at most 32, none longer than 256 bytes.
    pub tags: Vec<(String, String)>,
    /// The W3C trace context, when the tag `traceparent` holds a well-formed one.
    pub traceparent: Option<String>,
}

/// The tags of the last comment of the text that has the form of sqlcommenter; `None` when there is none.
pub fn sql_tags(sql: &[u8], opts: LexOptions) -> Option<SqlTags> {
    if !may_hold_comment(sql) {
        return None;
    }
    let mut lexer = Lexer::new(sql, opts);
    let mut found = None;
    while let Some(token) = lexer.next_raw() {
        if token.kind == Kind::Comment
            && let Some(body) = token.of(sql).strip_prefix(b"/*").and_then(|rest| rest.strip_suffix(b"*/"))
            && let Some(tags) = parse(body)
        {
            found = Some(tags);
        }
    }
    found
}

fn parse(body: &[u8]) -> Option<SqlTags> {
    let mut out = SqlTags::default();
    let mut rest = body.trim_ascii();
    loop {
        let equals = rest.iter().position(|b| *b == b'=')?;
        let key = rest[..equals].trim_ascii();
        if key.is_empty() || key.iter().any(|b| matches!(b, b'\'' | b',' | b' ')) {
            return None;
        }
        rest = rest[equals + 1..].trim_ascii_start().strip_prefix(b"'")?;
        let end = closing_quote(rest)?;
        let (key, value) = (decode(key), decode(&rest[..end]));
        if out.tags.len() < MAX_TAGS && key.len() <= MAX_LENGTH && value.len() <= MAX_LENGTH {
            if key == "traceparent" && is_traceparent(&value) {
                out.traceparent = Some(value.clone());
            }
            out.tags.push((key, value));
        }
        rest = rest[end + 1..].trim_ascii_start();
        match rest.strip_prefix(b",") {
            Some(more) => rest = more.trim_ascii_start(),
            None if rest.is_empty() => return Some(out),
            None => return None,
        }
    }
}

/// Where the value ends: the first quote that no backslash stands before.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'\'' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Undoes `\'` and percent encoding. What is not UTF-8 afterwards becomes U+FFFD.
fn decode(text: &[u8]) -> String {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, hex(text.get(at)), hex(text.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'\\', ..) => {
                if let Some(&escaped) = text.get(at) {
                    out.push(escaped);
                    at += 1;
                }
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `version-trace id-parent id-flags`, all lower-case hexadecimal, ids not zero.
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match parts.as_slice() {
        [version, trace, parent, flags] => {
            hex(version, 2)
                && *version != "ff"
                && hex(trace, 32)
                && hex(parent, 16)
                && hex(flags, 2)
                && trace.bytes().any(|b| b != b'0')
                && parent.bytes().any(|b| b != b'0')
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<SqlTags> {
        sql_tags(sql.as_bytes(), LexOptions::default())
    }

    #[test]
    fn tags_and_traceparent() {
        let tags = of("SELECT * FROM polls /*action='%2Fparam*d',controller='index',framework='spring',\
             traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01',tracestate='a%3D1'*/;")
        .unwrap();
        assert_eq!(tags.tags[0], ("action".into(), "/param*d".into()));
        assert_eq!(tags.tags[4], ("tracestate".into(), "a=1".into()));
        assert_eq!(tags.traceparent.unwrap(), "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01");
    }

    #[test]
    fn escapes() {
        assert_eq!(
            of(r"SELECT 1 /*name='it\'s',x='%zz%4'*/").unwrap().tags,
            [("name".to_owned(), "it's".to_owned()), ("x".to_owned(), "%zz%4".to_owned()),]
        );
    }

    #[test]
    fn other_comments_are_no_tags() {
        for sql in
            ["SELECT 1 /* a = b */", "SELECT 1 /**/", "SELECT 1 /*a='b*/", "SELECT '/*a=''b''*/'", "SELECT 1 -- a='b'"]
        {
            assert_eq!(of(sql), None, "{sql}");
        }
        assert_eq!(of("SELECT 1 /*traceparent='00-0-0-01'*/").unwrap().traceparent, None);
    }
}
