//! Host names of servers, as they were looked up last: every connection asks anew, and an operator wants to see what came of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;

static LAST: Mutex<BTreeMap<String, Vec<IpAddr>>> = Mutex::new(BTreeMap::new());

/// Notes what a look-up brought. Addresses are no names.
pub(super) fn note(host: &str, found: &[SocketAddr]) {
    if host.parse::<IpAddr>().is_err() {
        LAST.lock().insert(host.to_owned(), found.iter().map(SocketAddr::ip).collect());
    }
}

/// Every name that was looked up, with its addresses; none when it was not found.
pub fn looked_up() -> Vec<(String, Vec<IpAddr>)> {
    LAST.lock().iter().map(|(host, found)| (host.clone(), found.clone())).collect()
}
