//! Borrowed views of messages that servers send.

use super::split_cstr;
use super::startup::CancelKey;

/// Reads a ParameterStatus body: name and value.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_cstr(body)?;
    match split_cstr(rest)? {
        (value, []) => Some((name, value)),
        _ => None,
    }
}

/// Reads a BackendKeyData body.
pub fn key_data(body: &[u8]) -> Option<CancelKey> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    Some(CancelKey { pid: u32::from_be_bytes(*pid), secret: secret.to_vec() })
}

/// Reads a NotificationResponse body as far as it says whose it is: the process id of the sender, and the channel.
pub fn notification(body: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, rest) = body.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*pid), split_cstr(rest)?.0))
}

/// Rows that a CommandComplete body reports (`SELECT 5`, `INSERT 0 5`); 0 for commands without a count.
pub fn command_rows(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let digits = tag.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    tag[tag.len() - digits..].iter().fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_of_command_tags() {
        assert_eq!(command_rows(b"SELECT 50\0"), 50);
        assert_eq!(command_rows(b"INSERT 0 7\0"), 7);
        assert_eq!(command_rows(b"BEGIN\0"), 0);
    }

    #[test]
    fn reads_parameters_and_keys() {
        assert_eq!(parameter_status(b"TimeZone\0UTC\0"), Some((&b"TimeZone"[..], &b"UTC"[..])));
        assert_eq!(key_data(&[0, 0, 0, 9, 1, 2, 3, 4]).map(|k| (k.pid, k.secret.len())), Some((9, 4)));
        assert_eq!(key_data(&[0, 0]), None);
        assert_eq!(notification(b"\0\0\0\x07news\0one\0"), Some((7, &b"news"[..])));
        assert_eq!(notification(b"\0\0\0\x07news"), None);
    }
}
