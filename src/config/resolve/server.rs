//! The process itself: addresses, workers, TLS towards clients.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;

use super::files::{self, Pem};
use super::{Context, get, word};
use crate::config::schema::value::items;
use crate::config::schema::{self};
use crate::config::{ClientTls, ClientTlsMode, ListenAddr, defaults};

/// Longest path that `sockaddr_un` takes, with its terminator left out.
const SOCKET_PATH_MAX: usize = 107;
/// The same for the takeover socket, which is made under a longer name first: a dot and a process id.
const TAKEOVER_PATH_MAX: usize = SOCKET_PATH_MAX - 11;

/// `listen` and the Unix socket.
pub(super) fn listen(raw: &schema::General, cx: &mut Context<'_>) -> Vec<ListenAddr> {
    let default = Spanned::new(0..0, defaults::LISTEN.to_owned());
    let asked: Vec<Spanned<String>> = if raw.listen.is_some() { items(&raw.listen).collect() } else { vec![default] };
    let mut addrs: Vec<ListenAddr> = Vec::new();
    for item in &asked {
        match tcp_addresses(item.get_ref()) {
            Ok(found) => {
                for addr in found.into_iter().map(ListenAddr::Tcp) {
                    // Port 0 asks for any free port: two of them are two listeners.
                    if addrs.contains(&addr) && !matches!(addr, ListenAddr::Tcp(a) if a.port() == 0) {
                        cx.problems.error("the same address twice").at(item.span(), "already listed");
                    } else {
                        addrs.push(addr);
                    }
                }
            }
            Err(why) => {
                cx.problems.error("not an address to listen on").at(item.span(), why).help(
                    "write \"127.0.0.1:6432\", \"[::1]:6432\" or \"*:6432\"; a Unix socket goes into unix_socket_dir",
                );
            }
        }
    }
    if let Some(dir) = &raw.unix_socket_dir {
        addrs.extend(unix_socket(dir, raw, &addrs, cx));
    } else {
        let stray =
            [raw.unix_socket_port.as_ref().map(Spanned::span), raw.unix_socket_mode.as_ref().map(Spanned::span)];
        for span in stray.into_iter().flatten() {
            cx.problems.error("there is no Unix socket").at(span, "needs unix_socket_dir");
        }
    }
    if let (true, Some(list)) = (addrs.is_empty() && !cx.problems.has_errors(), &raw.listen) {
        cx.problems
            .error("nobody could connect")
            .at(list.span(), "no address")
            .help("name an address, or give unix_socket_dir");
    }
    addrs
}

/// The addresses of `host:port`; `*` is every address of both families.
fn tcp_addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text.starts_with('/') {
        return Err("this is a path".into());
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing, such as \":6432\"")?;
    let port: u16 = port.parse().map_err(|_| "the port must be a number from 0 to 65535 (0 = any free one)")?;
    if host == "*" {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))]);
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(host).parse::<IpAddr>() {
        return match (ip, bare) {
            (IpAddr::V6(_), None) => Err("an IPv6 address stands in [ and ]".into()),
            _ => Ok(vec![SocketAddr::new(ip, port)]),
        };
    }
    if host.is_empty() {
        return Err("the host is missing; \"*\" stands for every address".into());
    }
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| "this name has no address")?.collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn unix_socket(
    dir: &Spanned<String>,
    raw: &schema::General,
    addrs: &[ListenAddr],
    cx: &mut Context<'_>,
) -> Option<ListenAddr> {
    let tcp_port = addrs.iter().find_map(|addr| match addr {
        ListenAddr::Tcp(addr) if addr.port() != 0 => Some(addr.port()),
        _ => None,
    });
    let mut port = tcp_port.unwrap_or(defaults::PORT);
    if let Some(asked) = &raw.unix_socket_port {
        match u16::try_from(asked.get_ref().0) {
            Ok(asked) if asked != 0 => port = asked,
            _ => {
                cx.problems.error("port out of range").at(asked.span(), "must be from 1 to 65535");
            }
        }
    }
    let path: PathBuf = files::path(dir.get_ref(), cx.dir);
    if dir.get_ref().is_empty() || !path.is_dir() {
        cx.problems
            .error(format!("there is no directory {}", path.display()))
            .at(dir.span(), "the socket is made in it")
            .help("make the directory, or leave the key out for no Unix socket");
        return None;
    }
    if path.join(format!(".s.PGSQL.{port}")).as_os_str().len() > SOCKET_PATH_MAX {
        cx.problems
            .error("the path of a Unix socket may have 107 bytes")
            .at(dir.span(), "too long")
            .help("use a shorter directory, such as /run/trunkline");
    }
    let mode = raw.unix_socket_mode.as_ref().map_or(defaults::UNIX_SOCKET_MODE, |mode| mode.get_ref().0);
    Some(ListenAddr::Unix { dir: path, port, mode })
}

/// The socket for processes that take over from each other.
pub(super) fn takeover_socket(raw: &schema::General, listen: &[ListenAddr], cx: &mut Context<'_>) -> Option<PathBuf> {
    let text = raw.takeover_socket.as_ref().filter(|text| !text.get_ref().is_empty())?;
    let path: PathBuf = files::path(text.get_ref(), cx.dir);
    let for_clients = |addr: &ListenAddr| match addr {
        ListenAddr::Unix { dir, port, .. } => path == dir.join(format!(".s.PGSQL.{port}")),
        ListenAddr::Tcp(_) => false,
    };
    if path.as_os_str().len() > TAKEOVER_PATH_MAX {
        cx.problems
            .error(format!("the path of this socket may have {TAKEOVER_PATH_MAX} bytes"))
            .at(text.span(), "too long")
            .help("use a shorter one, such as /run/trunkline/takeover.sock");
    } else if !path.parent().is_some_and(Path::is_dir) {
        cx.problems
            .error(format!("there is no directory for {}", path.display()))
            .at(text.span(), "the socket is made in it")
            .help("make the directory, or leave the key out: then no process can take over");
    } else if listen.iter().any(for_clients) {
        cx.problems.error("clients connect there").at(text.span(), "needs a path of its own");
    } else if std::fs::symlink_metadata(&path).is_ok_and(|meta| !meta.file_type().is_socket()) {
        cx.problems
            .error(format!("{} exists and is not a socket", path.display()))
            .at(text.span(), "in the way")
            .help("remove it, or use another path");
    }
    Some(path)
}

/// Worker threads: one per CPU unless said otherwise.
pub(super) fn workers(raw: &schema::General, cx: &mut Context<'_>) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match &raw.workers {
        None => cpus,
        Some(n) if n.get_ref().0 == 0 => cpus,
        Some(n) if n.get_ref().0 > 1024 => {
            cx.problems.error("too many workers").at(n.span(), "at most 1024").help("0 = one for each CPU");
            cpus
        }
        Some(n) => n.get_ref().0 as usize,
    }
}

/// `[metrics] listen`.
pub(super) fn metrics(raw: &schema::Metrics, cx: &mut Context<'_>) -> Option<SocketAddr> {
    let listen = raw.listen.as_ref()?;
    if listen.get_ref() == "off" || listen.get_ref().is_empty() {
        return None;
    }
    // One listener: of both families, IPv4's.
    match tcp_addresses(listen.get_ref()) {
        Ok(found) => found.into_iter().next(),
        Err(why) => {
            cx.problems
                .error("not an address to listen on")
                .at(listen.span(), why)
                .help("write for example \"127.0.0.1:9127\"");
            None
        }
    }
}

/// `[tls]`.
pub(super) fn client_tls(raw: &schema::Tls, cx: &mut Context<'_>) -> ClientTls {
    let default = ClientTls::default();
    let tls = ClientTls {
        mode: word(&raw.mode, default.mode),
        cert: files::pem(&raw.cert, Pem::Certificate, cx),
        key: files::pem(&raw.key, Pem::Key, cx),
        client_ca: files::pem(&raw.client_ca, Pem::Certificate, cx),
        require_client_cert: get(&raw.require_client_cert).unwrap_or(default.require_client_cert),
    };
    if let (Some(mode), true) = (&raw.mode, tls.mode != ClientTlsMode::Disable) {
        for (key, given) in [("cert", &raw.cert), ("key", &raw.key)] {
            if given.is_none() {
                cx.problems
                    .error(format!("TLS is on, but there is no {key}"))
                    .at(mode.span(), format!("needs {key}"))
                    .help(format!("add {key} = \"…/server.{}\" to [tls]", if key == "cert" { "crt" } else { "key" }));
            }
        }
    } else if let Some(cert) = &raw.cert {
        cx.problems
            .warn("a certificate is given, but TLS is off")
            .at(cert.span(), "not used")
            .help("add mode = \"allow\" or mode = \"require\" to [tls]");
    }
    if let (Some(require), true, None) = (&raw.require_client_cert, tls.require_client_cert, &raw.client_ca) {
        cx.problems
            .error("client certificates are required, but no CA is given to check them")
            .at(require.span(), "needs client_ca")
            .help("add client_ca = \"…/clients-ca.crt\" to [tls]");
    }
    tls
}
