//! The packets that open a connection: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

use super::split_cstr;

/// Protocol code of SSLRequest.
pub const SSL_REQUEST: u32 = 80_877_103;
/// Protocol code of GSSENCRequest.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// Protocol code of CancelRequest.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// Protocol 3.2: cancel keys of variable length.
pub const PROTOCOL_3_2: u32 = (3 << 16) | 2;
/// Longest cancel key (protocol 3.2).
pub const MAX_CANCEL_KEY: usize = 256;

/// A packet that opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The client asks for TLS.
    SslRequest,
    /// The client asks for GSSAPI encryption.
    GssEncRequest,
    /// The client asks to cancel a running query.
    Cancel(CancelKey),
    /// The client opens a session.
    Startup(Startup),
}

/// Process id and secret by which a query is cancelled (BackendKeyData).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Process id as told to the client.
    pub pid: u32,
    /// 4 bytes in protocol 3.0, 4 to 256 in 3.2.
    pub secret: Vec<u8>,
}

/// A StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Minor version that the client asked for (the major is 3).
    pub minor: u16,
    /// Parameters in the order sent, `user` and `database` included, `_pq_.` options excluded.
    pub parameters: Vec<(String, String)>,
    /// Names of `_pq_.` protocol options (all unknown to us: named in NegotiateProtocolVersion).
    pub protocol_options: Vec<String>,
}

impl Startup {
    /// The value of a parameter, the last one when it is repeated (as PostgreSQL takes it).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether NegotiateProtocolVersion is due: a newer minor than ours or an unknown option (trap 74).
    pub fn needs_negotiation(&self) -> bool {
        self.minor > 2 || !self.protocol_options.is_empty()
    }
}

/// Why an opening packet was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOpening {
    /// The length field is under 8 or over the limit.
    #[error("invalid length of startup packet")]
    Length,
    /// A cancel request whose key is shorter than 4 bytes or longer than 256. PostgreSQL gives no answer to any cancel
    /// request, so neither to this one.
    #[error("invalid length of cancel key")]
    CancelKey,
    /// Another major version.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    /// Names and values do not pair up, or the terminator is missing.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A parameter is not UTF-8.
    #[error("startup parameter is not valid UTF-8")]
    Encoding,
    /// No user was named.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

/// How long the packet is that starts with these bytes: `None` while fewer than four are here.
///
/// # Errors
/// [`BadOpening::Length`] when the length is under 8 or over `max` (traps 75 and 78).
pub fn packet_len(bytes: &[u8], max: u32) -> Result<Option<usize>, BadOpening> {
    let [a, b, c, d, ..] = *bytes else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([a, b, c, d]);
    if len < 8 || len > max {
        return Err(BadOpening::Length);
    }
    Ok(Some(len as usize))
}

/// Reads one whole packet (length field included).
///
/// # Errors
/// What is wrong with it; the connection is closed after telling the client.
pub fn parse(packet: &[u8]) -> Result<Opening, BadOpening> {
    let (Some(code), Some(body)) = (packet.get(4..8), packet.get(8..)) else {
        return Err(BadOpening::Length);
    };
    let code = u32::from_be_bytes([code[0], code[1], code[2], code[3]]);
    match code {
        SSL_REQUEST if body.is_empty() => Ok(Opening::SslRequest),
        GSSENC_REQUEST if body.is_empty() => Ok(Opening::GssEncRequest),
        SSL_REQUEST | GSSENC_REQUEST => Err(BadOpening::Length),
        CANCEL_REQUEST => {
            if !(8..=4 + MAX_CANCEL_KEY).contains(&body.len()) {
                return Err(BadOpening::CancelKey);
            }
            let pid = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            Ok(Opening::Cancel(CancelKey { pid, secret: body[4..].to_vec() }))
        }
        _ if code >> 16 == 3 => parse_startup((code & 0xffff) as u16, body).map(Opening::Startup),
        _ => Err(BadOpening::Version((code >> 16) as u16, (code & 0xffff) as u16)),
    }
}

fn parse_startup(minor: u16, body: &[u8]) -> Result<Startup, BadOpening> {
    let mut startup = Startup { minor, parameters: Vec::new(), protocol_options: Vec::new() };
    let mut rest = body;
    loop {
        let (name, tail) = split_cstr(rest).ok_or(BadOpening::Layout)?;
        if name.is_empty() {
            if !tail.is_empty() {
                return Err(BadOpening::Layout);
            }
            break;
        }
        let (value, tail) = split_cstr(tail).ok_or(BadOpening::Layout)?;
        rest = tail;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| BadOpening::Encoding);
        let name = text(name)?;
        if name.starts_with("_pq_.") {
            startup.protocol_options.push(name);
        } else {
            startup.parameters.push((name, text(value)?));
        }
    }
    match startup.get("user") {
        Some(user) if !user.is_empty() => Ok(startup),
        _ => Err(BadOpening::NoUser),
    }
}

/// Splits the startup parameter `options` (`-c a=b --c=d`, with `\ ` for a blank) into settings, as
/// PostgreSQL's `pg_split_opts` and `process_postgres_switches` do (trap 54).
///
/// # Errors
/// The first word that is not a setting.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = split_words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(word)?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(word);
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| setting.clone())?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let c = if c == '\\' { chars.next() } else { Some(c) };
            word.get_or_insert_default().extend(c);
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;

    #[test]
    fn reads_a_startup_message() {
        let mut packet = Vec::new();
        build::startup(&mut packet, PROTOCOL_3_2, &[("user", "u"), ("database", "d"), ("_pq_.x", "1")]);
        assert_eq!(packet_len(&packet, 10_000).unwrap(), Some(packet.len()));
        let Opening::Startup(startup) = parse(&packet).unwrap() else { panic!() };
        assert_eq!((startup.get("user"), startup.get("database"), startup.minor), (Some("u"), Some("d"), 2));
        assert!(startup.needs_negotiation());
    }

    #[test]
    fn trap_75_lengths() {
        assert_eq!(packet_len(&[0, 0], 10_000), Ok(None));
        assert_eq!(packet_len(&[0, 0, 0, 7], 10_000), Err(BadOpening::Length));
        assert_eq!(packet_len(&[255, 255, 255, 255], 10_000), Err(BadOpening::Length));
    }

    #[test]
    fn refuses_bad_layouts() {
        for body in [&b"user\0u\0"[..], b"user\0u", b"user\0u\0\0x"] {
            let mut packet = ((8 + body.len()) as u32).to_be_bytes().to_vec();
            packet.extend(PROTOCOL_3_0.to_be_bytes());
            packet.extend(body);
            assert_eq!(parse(&packet), Err(BadOpening::Layout), "{body:?}");
        }
        let mut packet = 9u32.to_be_bytes().to_vec();
        packet.extend(PROTOCOL_3_0.to_be_bytes());
        packet.push(0);
        assert_eq!(parse(&packet), Err(BadOpening::NoUser));
        assert_eq!(parse(&[0, 0, 0, 8, 0, 2, 0, 0]), Err(BadOpening::Version(2, 0)));
    }

    #[test]
    fn trap_54_options() {
        let parsed = parse_options(r"-c search_path=a,\ b --work-mem=4MB -cx.y=1=2").unwrap();
        let pairs: Vec<(&str, &str)> = parsed.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("search_path", "a, b"), ("work_mem", "4MB"), ("x.y", "1=2")]);
        assert!(parse_options("-x").is_err());
        assert!(parse_options("-c").is_err());
    }
}
