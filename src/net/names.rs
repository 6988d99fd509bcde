//! Host names of servers, as they were looked up last: every connection asks anew, and an operator wants to see what came of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;

/// Names of servers come from others, too (a Patroni, a Citus): beyond so many all are forgotten, and told again as they are used.
const MOST_NAMES: usize = 4096;

static LAST: Mutex<BTreeMap<String, Vec<IpAddr>>> = Mutex::new(BTreeMap::new());

/// Notes what a look-up brought. Addresses are no names.
pub(super) fn note(host: &str, found: &[SocketAddr]) {
    if host.parse::<IpAddr>().is_err() {
        let mut last = LAST.lock();
        if last.len() >= MOST_NAMES {
            last.clear();
        }
        last.insert(host.to_owned(), found.iter().map(SocketAddr::ip).collect());
    }
}

/// Every name that was looked up, with its addresses; none when it was not found.
pub fn looked_up() -> Vec<(String, Vec<IpAddr>)> {
    LAST.lock().iter().map(|(host, found)| (host.clone(), found.clone())).collect()
}
