//! Values as their types' input functions read them: only those spellings that mean the same whatever the session's settings are, and
//! on servers of all versions. What else the server takes is `None` here.

use smallvec::SmallVec;

use super::super::truth::without_space;

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// An integer of any width, in decimal digits.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let text = without_space(text);
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    signed(digits, negative)
}

/// The integer of these digits, and nothing but digits.
pub(super) fn signed(digits: &[u8], negative: bool) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0i64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        let sum = sum.checked_mul(10)?;
        if negative { sum.checked_sub(digit) } else { sum.checked_add(digit) }
    })
}

/// Hexadecimal digits, with a hyphen after any four and braces around all of it.
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text.strip_prefix(b"{") {
        Some(inner) => inner.strip_suffix(b"}")?,
        None => text,
    };
    let mut uuid = [0u8; 16];
    for (at, byte) in uuid.iter_mut().enumerate() {
        let (pair, behind) = rest.split_first_chunk::<2>()?;
        *byte = hex(*pair)?;
        rest = behind;
        if at % 2 == 1 && at < 15 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
    }
    rest.is_empty().then_some(uuid)
}

/// `\x` and hexadecimal digits.
pub(super) fn bytea(text: &[u8]) -> Option<SmallVec<[u8; 64]>> {
    let (pairs, odd) = text.strip_prefix(b"\\x")?.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| hex(*pair)).collect()
}

fn hex(pair: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

/// `YYYY-MM-DD` as days since 2000-01-01.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let (day, rest) = leading_date(text)?;
    rest.is_empty().then_some(day)
}

fn leading_date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > last {
        return None;
    }
    // Years that begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    // So many are there up to the first day of 2000.
    Some((i32::try_from(days).ok()? - 730_426, rest))
}

const SECOND: i64 = 1_000_000;

/// A date, and perhaps a time of day, as microseconds since 2000-01-01.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let (micros, rest) = leading_timestamp(text)?;
    rest.is_empty().then_some(micros)
}

/// The same with a distance to UTC, which must be told.
pub(super) fn timestamp_with_zone(text: &[u8]) -> Option<i64> {
    let (micros, zone) = leading_timestamp(text)?;
    // A date's own hyphens and a sign behind it are easily mistaken.
    if text.len() - zone.len() <= 10 {
        return None;
    }
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    if zone.eq_ignore_ascii_case(b"z") || zone.eq_ignore_ascii_case(b"utc") {
        return Some(micros);
    }
    let (sign, zone) = zone.split_first()?;
    let (hours, minutes, seconds) = match *zone {
        [ref hours @ .., b':', _, _, b':', _, _] if hours.len() == 2 => (hours, &zone[3..5], &zone[6..]),
        [ref hours @ .., b':', _, _] if hours.len() == 2 => (hours, &zone[3..], &b""[..]),
        [_, _, _, _] => (&zone[..2], &zone[2..], &b""[..]),
        [_, _] => (zone, &b""[..], &b""[..]),
        _ => return None,
    };
    let (hours, minutes, seconds) = (digits(hours)?, digits(minutes)?, digits(seconds)?);
    if hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    let east = i64::from(hours * 3600 + minutes * 60 + seconds) * SECOND;
    match sign {
        b'+' => Some(micros - east),
        b'-' => Some(micros + east),
        _ => None,
    }
}

fn leading_timestamp(text: &[u8]) -> Option<(i64, &[u8])> {
    let (days, rest) = leading_date(text)?;
    let day = i64::from(days) * 86_400 * SECOND;
    let Some((b' ' | b'T', time)) = rest.split_first() else { return Some((day, rest)) };
    let (time, mut rest) = time.split_first_chunk::<5>()?;
    let (hour, minute) = (digits(&time[..2])?, digits(&time[3..])?);
    if time[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut micros = i64::from(hour * 3600 + minute * 60) * SECOND;
    if let Some(seconds) = rest.strip_prefix(b":") {
        let (seconds, behind) = seconds.split_first_chunk::<2>()?;
        let seconds = digits(seconds)?;
        if seconds > 59 {
            return None;
        }
        micros += i64::from(seconds) * SECOND;
        rest = behind;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let len = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            // More digits would be rounded.
            if !(1..=6).contains(&len) {
                return None;
            }
            micros += i64::from(digits(&fraction[..len])? * 10u32.pow(6 - len as u32));
            rest = &fraction[len..];
        }
    }
    Some((day + micros, rest))
}
