//! What the body of a `DO` may leave behind in the session.

use super::decision::Effects;

/// Looks for temporary objects, for settings, locks and cursors that outlive the transaction, and for prepared statements given up, by
/// words alone: a body is in a language that we don't read, and a word too many costs a question to the server. The catalog is asked
/// the same about functions, by regular expressions.
pub(super) fn leaves(body: &[u8]) -> Effects {
    let mut effects = Effects::empty();
    // Whether a statement may begin here.
    let mut begins = true;
    // Whether the target of an UPDATE comes next, or HOLD.
    let (mut updates, mut may_hold) = (false, false);
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        let end = at + body[at..].iter().take_while(|byte| is_of_word(**byte)).count();
        let word = &body[at..end];
        let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        if word.is_empty() {
            begins = *byte == b';' || matches!(byte, b'\'' | b'$') || (begins && byte.is_ascii_whitespace());
            at += 1;
            continue;
        }
        if is("temp") || is("temporary") || is("pg_temp") {
            effects |= Effects::TEMP_OBJECT;
        } else if ADVISORY_LOCKS.iter().any(|known| is(known)) {
            effects |= Effects::ADVISORY_LOCK;
        } else if is("deallocate") {
            effects |= Effects::DEALLOCATE_ALL;
        } else if may_hold && is("hold") {
            effects |= Effects::HOLD_CURSOR;
        } else if is("set_config") && !is_local_call(&body[end..])
            || is("pg_settings") && updates
            || is("set") && begins && !["local", "transaction", "constraints"].contains(&&*next_word(&body[end..]))
        {
            effects |= Effects::UNKNOWN_SETTING;
        }
        updates = is("update") || updates && ["only", "pg_catalog"].iter().any(|known| is(known));
        may_hold = is("with");
        begins = ["begin", "then", "else", "loop"].iter().any(|known| is(known));
        at = end;
    }
    effects
}

/// Functions that take locks of the session.
const ADVISORY_LOCKS: [&str; 4] =
    ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"];

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn next_word(rest: &[u8]) -> String {
    let word = rest.trim_ascii_start();
    let length = word.iter().take_while(|byte| is_of_word(**byte)).count();
    String::from_utf8_lossy(&word[..length]).to_ascii_lowercase()
}

/// Whether the arguments that follow end with `true`.
fn is_local_call(rest: &[u8]) -> bool {
    let statement = rest.split(|byte| *byte == b';').next().unwrap_or_default();
    let mut ends = memchr::memchr_iter(b')', statement);
    ends.any(|end| {
        let inside = statement[..end].trim_ascii_end();
        inside.len() >= 4 && inside[inside.len() - 4..].eq_ignore_ascii_case(b"true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell() {
        for (body, wanted) in [
            ("'BEGIN CREATE TEMP TABLE t (a int); END'", Effects::TEMP_OBJECT),
            ("$$BEGIN CREATE TABLE pg_temp.t (a int); END$$", Effects::TEMP_OBJECT),
            ("$$BEGIN PERFORM set_config('a.b', 'c', false); END$$", Effects::UNKNOWN_SETTING),
            ("$$BEGIN PERFORM set_config('a.b', f(1), true); END$$", Effects::empty()),
            ("$$BEGIN SET a.b = 1; END$$", Effects::UNKNOWN_SETTING),
            ("$$BEGIN IF x THEN SET ROLE a; END IF; END$$", Effects::UNKNOWN_SETTING),
            ("$$BEGIN PERFORM 1;\n  set search_path = a; END$$", Effects::UNKNOWN_SETTING),
            ("$$BEGIN UPDATE ONLY pg_catalog.\"pg_settings\" SET setting = 'a'; END$$", Effects::UNKNOWN_SETTING),
            ("$$BEGIN UPDATE t SET a = (SELECT setting FROM pg_settings); END$$", Effects::empty()),
            ("$$BEGIN SET LOCAL a.b = 1; SET CONSTRAINTS ALL DEFERRED; END$$", Effects::empty()),
            ("$$BEGIN UPDATE t SET a = 1; INSERT INTO template VALUES (1); END$$", Effects::empty()),
            ("$$BEGIN PERFORM pg_catalog.pg_Try_advisory_lock(1); END$$", Effects::ADVISORY_LOCK),
            ("$$BEGIN PERFORM pg_advisory_xact_lock(1), pg_advisory_unlock(1); END$$", Effects::empty()),
            ("$$BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END$$", Effects::HOLD_CURSOR),
            ("$$BEGIN UPDATE t SET hold = 1; WITH a AS (SELECT hold FROM t) DELETE FROM a; END$$", Effects::empty()),
            ("'BEGIN EXECUTE ''DEALLOCATE ALL''; END'", Effects::DEALLOCATE_ALL),
            ("", Effects::empty()),
        ] {
            assert_eq!(leaves(body.as_bytes()), wanted, "{body}");
        }
    }
}
