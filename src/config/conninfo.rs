//! Connection URLs (`postgres://…`) and connection strings (`host=… port=…`), with libpq's grammar.
//!
//! Errors never repeat the text: what looks like a port may be half a password.

use zeroize::Zeroizing;

use super::Secret;

/// What a URL or connection string says. Whatever it leaves out is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conninfo {
    /// Hosts in order, each with its port if given. A host that starts with `/` is a socket directory.
    pub(super) hosts: Vec<(String, Option<u16>)>,
    /// Role name.
    pub(super) user: Option<String>,
    /// Password.
    pub(super) password: Option<Secret>,
    /// Database name.
    pub(super) dbname: Option<String>,
    /// Everything else, in order.
    pub(super) params: Vec<(String, String)>,
}

impl Conninfo {
    /// The value of a further parameter; the last one counts.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes one `key=value`; `ports` and `hosts` are joined by [`Conninfo::join`] when all are known.
    fn set(&mut self, key: &str, value: &str, lists: &mut Lists) {
        match key {
            "host" => lists.hosts = Some(split(value)),
            "hostaddr" => lists.addrs = Some(split(value)),
            "port" => lists.ports = Some(split(value)),
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(Secret::new(value)),
            "dbname" => self.dbname = Some(value.to_owned()),
            _ => self.params.push((key.to_owned(), value.to_owned())),
        }
    }

    fn join(&mut self, lists: Lists) -> Result<(), String> {
        if let Some(hosts) = lists.addrs.or(lists.hosts) {
            self.hosts = hosts.into_iter().map(|host| (host, None)).collect();
        }
        if !self.hosts.iter().all(|(host, _)| may_be_host(host)) {
            return Err("this is no host: it holds a character that none has".into());
        }
        if let Some(ports) = lists.ports {
            if ports.len() != 1 && ports.len() != self.hosts.len() {
                return Err("give one port, or as many ports as hosts".into());
            }
            for (i, (_, port)) in self.hosts.iter_mut().enumerate() {
                *port = parse_port(&ports[if ports.len() == 1 { 0 } else { i }])?;
            }
        }
        Ok(())
    }
}

/// Whether this may be a name, an address or a directory. What stands between parts of other kinds of connection strings is in none
/// of them: a password must not become a host, which is told everywhere.
pub(super) fn may_be_host(text: &str) -> bool {
    !text.contains(['=', '@', ',', ';', '?', '&', '#', '"', '\'']) && !text.contains(char::is_whitespace)
}

#[derive(Default)]
struct Lists {
    hosts: Option<Vec<String>>,
    addrs: Option<Vec<String>>,
    ports: Option<Vec<String>>,
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(|part| part.trim().to_owned()).collect()
}

/// A port, 1–65535; empty = not given.
fn parse_port(text: &str) -> Result<Option<u16>, String> {
    match text.parse::<u16>() {
        _ if text.is_empty() => Ok(None),
        Ok(port) if port != 0 => Ok(Some(port)),
        _ => Err("the port must be a number from 1 to 65535 (a password with : / ? # or @ must be \
                  percent-encoded, such as %40 for @)"
            .into()),
    }
}

/// Parses `postgres://[user[:password]@][host[:port][,…]][/dbname][?key=value&…]`.
pub(super) fn parse_url(text: &str) -> Result<Conninfo, String> {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or("a database URL starts with postgres:// or postgresql://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    if dbname.contains('@') || (!authority.contains('@') && query.contains('@') && authority.contains(':')) {
        return Err("an @ after the host: a password with / ? # or @ must be percent-encoded (%2F %3F %23 %40)".into());
    }
    let mut info = Conninfo::default();
    let mut lists = Lists::default();
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((userinfo, hosts)) => {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            if !user.is_empty() {
                info.user = Some(decode(user)?.to_string());
            }
            if let Some(password) = password.filter(|p| !p.is_empty()) {
                info.password = Some(Secret::new(decode(password)?.as_str()));
            }
            hosts
        }
    };
    for part in hosts.split(',').filter(|_| !hosts.is_empty()) {
        let (host, port) = split_host_port(part)?;
        let host = decode(host)?;
        info.hosts.push((host.to_string(), parse_port(port)?));
    }
    if !dbname.is_empty() {
        info.dbname = Some(decode(dbname)?.to_string());
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("each parameter after ? is written key=value")?;
        info.set(&decode(key)?, &decode(value)?, &mut lists);
    }
    info.join(lists)?;
    Ok(info)
}

/// `host`, `host:port` or `[v6]:port`.
fn split_host_port(text: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or("an IPv6 address stands in [ and ]")?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if tail.is_empty() => Ok((host, "")),
            None => Err("after ] only :port may follow".into()),
        };
    }
    Ok(text.rsplit_once(':').unwrap_or((text, "")))
}

/// Undoes percent-encoding. A `+` is a plus, as in libpq.
fn decode(text: &str) -> Result<Zeroizing<String>, String> {
    const BAD: &str = "a % must be followed by two hexadecimal digits; a literal % is written %25";
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(BAD);
        let value = digit()? * 16 + digit()?;
        if value == 0 {
            return Err("%00 can't be part of a name or password".into());
        }
        bytes.push(u8::try_from(value).map_err(|_| BAD)?);
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("the percent-encoded bytes are not UTF-8".into()),
    }
}

/// Parses `key = value` pairs; a value with spaces stands in single quotes, `\` escapes.
pub(super) fn parse_pairs(text: &str) -> Result<Conninfo, String> {
    let mut info = Conninfo::default();
    let mut lists = Lists::default();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            break;
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') || key.is_empty() {
            return Err("write it as \"host=… port=…\"".into());
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = Zeroizing::new(String::new());
        let quoted = chars.next_if(|c| *c == '\'').is_some();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err("the closing ' is missing".into()),
                None => break,
            }
        }
        if key != "password" && !quoted && holds_another(&value) {
            return Err("spaces stand between its parts, not commas or semicolons".into());
        }
        info.set(&key, &value, &mut lists);
    }
    info.join(lists)?;
    Ok(info)
}

/// Whether a value goes on with `,key=` or `;key=`.
fn holds_another(value: &str) -> bool {
    let key = |part: &str| {
        part.split_once('=').is_some_and(|(key, _)| key.trim().bytes().all(|b| b.is_ascii_alphabetic() || b == b'_'))
    };
    value.split([',', ';']).skip(1).any(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hosts(list: &[(&str, Option<u16>)]) -> Vec<(String, Option<u16>)> {
        list.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
    }

    #[test]
    fn reads_every_part() {
        let info =
            parse_url("postgres://app:p%40ss%2Fw%25@db1.example:5433/shop?sslmode=require&connect_timeout=3").unwrap();
        assert_eq!(info.user.as_deref(), Some("app"));
        assert_eq!(info.password, Some(Secret::new("p@ss/w%")));
        assert_eq!(info.hosts, hosts(&[("db1.example", Some(5433))]));
        assert_eq!(info.dbname.as_deref(), Some("shop"));
        assert_eq!(info.param("sslmode"), Some("require"));
        assert_eq!(info.param("connect_timeout"), Some("3"));
    }

    #[test]
    fn reads_several_hosts_and_ipv6() {
        let info = parse_url("postgresql://u@a:1,[::1]:2,b,[fe80::1]/d").unwrap();
        assert_eq!(info.hosts, hosts(&[("a", Some(1)), ("::1", Some(2)), ("b", None), ("fe80::1", None)]));
    }

    #[test]
    fn reads_socket_directories() {
        for url in [
            "postgres:///d?host=/run/pg&port=5433",
            "postgres://%2Frun%2Fpg:5433/d",
            "postgres:///d?host=%2Frun%2Fpg&port=5433",
        ] {
            let info = parse_url(url).unwrap();
            assert_eq!(info.hosts, hosts(&[("/run/pg", Some(5433))]), "{url}");
            assert_eq!(info.dbname.as_deref(), Some("d"));
        }
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(parse_url("postgres://").unwrap(), Conninfo::default());
        let info = parse_url("postgres://host").unwrap();
        assert_eq!((info.hosts.len(), info.user, info.dbname), (1, None, None));
    }

    #[test]
    fn plus_is_a_plus() {
        assert_eq!(parse_url("postgres://a:1+1@h/d").unwrap().password, Some(Secret::new("1+1")));
    }

    #[test]
    fn an_unencoded_password_is_refused_and_not_repeated() {
        for url in
            ["postgres://u:se/cret@h/d", "postgres://u:secret", "postgres://u:se?cret@h/d", "postgres://u:se%cret@h/d"]
        {
            let message = parse_url(url).unwrap_err();
            assert!(!message.contains("cret"), "{url}: {message}");
        }
    }

    #[test]
    fn a_password_may_hold_an_at_sign() {
        let info = parse_url("postgres://u:a@b@h:1/d").unwrap();
        assert_eq!(info.password, Some(Secret::new("a@b")));
        assert_eq!(info.hosts, hosts(&[("h", Some(1))]));
    }

    #[test]
    fn ports_are_checked() {
        for url in ["postgres://h:0/d", "postgres://h:65536/d", "postgres://h:x/d", "postgres:///d?host=a,b,c&port=1,2"]
        {
            assert!(parse_url(url).is_err(), "{url}");
        }
        assert!(parse_url("mysql://h/d").is_err());
    }

    #[test]
    fn reads_pairs_as_libpq_does() {
        let info = parse_pairs("host=db1,db2 port=5433,5434 password='a b\\'c' weight=3").unwrap();
        assert_eq!(info.hosts, hosts(&[("db1", Some(5433)), ("db2", Some(5434))]));
        assert_eq!(info.password, Some(Secret::new("a b'c")));
        assert_eq!(info.param("weight"), Some("3"));
        for bad in ["host", "host db1", "=x", "host='db1"] {
            assert!(parse_pairs(bad).is_err(), "{bad}");
        }
    }
}
