//! TCP sockets of this machine that wait for connections, as the kernel lists them.

use std::fs;

/// The state of a listening socket, as /proc/net/tcp writes it.
const LISTENING: &str = "0A";

/// How many sockets listen on this port; more than one with SO_REUSEPORT.
pub fn listening(port: u16) -> usize {
    let end = format!(":{port:04X}");
    let is = |line: &&str| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|own| own.ends_with(&end)) && fields.nth(1) == Some(LISTENING)
    };
    let in_file = |file| fs::read_to_string(file).unwrap_or_default().lines().filter(is).count();
    in_file("/proc/net/tcp") + in_file("/proc/net/tcp6")
}
