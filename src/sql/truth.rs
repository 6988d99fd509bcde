//! Truth values as PostgreSQL reads them, wherever it does.

/// Of a setting (`parse_bool`): any beginning of `true`, `false`, `yes`, `no`, `on` and `off` that only one of them has, in any case of
/// letters, `1` and `0`. `None` = the server refuses it.
pub fn truth(text: &[u8]) -> Option<bool> {
    const WORDS: [(&[u8], usize, bool); 6] = [
        (b"true", 1, true),
        (b"false", 1, false),
        (b"yes", 1, true),
        (b"no", 1, false),
        (b"on", 2, true),
        (b"off", 2, false),
    ];
    let begins = |word: &[u8]| word.get(..text.len()).is_some_and(|part| part.eq_ignore_ascii_case(text));
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ => WORDS.iter().find(|(word, least, _)| text.len() >= *least && begins(word)).map(|(.., value)| *value),
    }
}

/// Of a constant of type boolean (`boolin`): the same, with white space around.
pub fn truth_of_constant(text: &[u8]) -> Option<bool> {
    truth(without_space(text))
}

/// Without the white space that the server's input functions pass over.
pub(super) fn without_space(text: &[u8]) -> &[u8] {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let start = text.iter().position(|byte| !space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_that_only_one_has() {
        for text in ["t", "tr", "TRUE", "y", "Ye", "yes", "on", "ON", "1"] {
            assert_eq!(truth(text.as_bytes()), Some(true), "{text}");
        }
        for text in ["f", "fAl", "false", "n", "no", "of", "off", "0"] {
            assert_eq!(truth(text.as_bytes()), Some(false), "{text}");
        }
        for text in ["", "o", "truex", "2", "01", "+1", "ja", " t", "on "] {
            assert_eq!(truth(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn constants_may_stand_in_white_space() {
        assert_eq!(truth_of_constant(b" \t\x0bTr\n"), Some(true));
        assert_eq!(truth_of_constant(b" o "), None);
        assert_eq!(truth_of_constant(b"  "), None);
    }
}
