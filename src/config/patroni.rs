//! Where Patroni is asked who leads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::HostPort;

/// Port of Patroni's REST API when none is given.
const PORT: u16 = 8008;

/// How Patroni is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patroni {
    /// Where its REST API is; any of its members tells about all. Never empty.
    pub endpoints: Vec<PatroniEndpoint>,
    /// Time between two looks.
    pub interval: Duration,
    /// PEM roots for `https`; `None` = the Mozilla roots.
    pub ca: Option<PathBuf>,
}

/// One member's REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatroniEndpoint {
    /// By TLS.
    pub https: bool,
    /// Where.
    pub address: HostPort,
}

impl fmt::Display for PatroniEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.address)
    }
}

impl PatroniEndpoint {
    /// Reads `http://host[:port][/]`, or `https`; else says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be http:// or https://, a name or an address, and a port if it is not 8008";
        let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(FORM),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("GET /cluster needs no login: leave user and password out");
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, tail)) => (host, Some(tail.strip_prefix(':').ok_or(FORM)?)),
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ', ',']) {
            return Err(FORM);
        }
        let port = port.map_or(Ok(PORT), |port| port.parse().ok().filter(|port| *port != 0).ok_or(FORM))?;
        Ok(Self { https, address: HostPort { host: host.to_owned(), port } })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn where_a_rest_api_is() {
        let read = |text: &str| PatroniEndpoint::parse(text).map(|endpoint| endpoint.to_string()).ok();
        assert_eq!(read("http://db1").unwrap(), "http://db1:8008");
        assert_eq!(read("https://10.0.0.1:8443/").unwrap(), "https://10.0.0.1:8443");
        assert_eq!(read("http://[fd00::1]:9000").unwrap(), "http://[fd00::1]:9000");
        assert_eq!(read("http://[::1]").unwrap(), "http://[::1]:8008");
        for wrong in ["db1:8008", "http://", "http://a:0", "http://a:x", "http://a/cluster", "http://u:p@a", "ftp://a"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
