//! Words within constants that mean the time at which the transaction began.

/// What PostgreSQL reads as a time of its own when a text becomes a date or timestamp (`datetktbl` of its `datetime.c`).
const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a text has one of these words, wherever it stands. One that means something else does no harm.
pub fn names_time(text: &[u8]) -> bool {
    text.split(|byte| !byte.is_ascii_alphabetic()).any(|word| {
        matches!(word.first(), Some(b'n' | b'N' | b't' | b'T' | b'y' | b'Y'))
            && WORDS.iter().any(|name| word.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for text in ["SELECT 'now'::timestamp", "d > 'Today 12:00'", "TOMORROW", "'yesterday'", "todaY04:05"] {
            assert!(names_time(text.as_bytes()), "{text}");
        }
        for text in ["", "known", "SELECT snow FROM nowhere", "todays", "the day before yesterdays"] {
            assert!(!names_time(text.as_bytes()), "{text}");
        }
    }
}
