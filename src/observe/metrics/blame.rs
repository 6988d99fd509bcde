//! Who is to blame for an error, and the bounded table that counts errors by SQLSTATE class.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Who is to blame for an error: a label of `trunkline_errors_total`, so that an alert can tell an
/// application's typing errors from a broken network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Blame {
    /// The client broke the protocol, gave a wrong password, went over a limit.
    Client,
    /// The server answered with an ErrorResponse.
    Server,
    /// A bug of Trunkline.
    Proxy,
    /// The configuration asks for what can't be.
    Config,
    /// A connection that could not be made, was lost or timed out.
    Network,
}

impl Blame {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Client, Self::Server, Self::Proxy, Self::Config, Self::Network];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
            Self::Config => "config",
            Self::Network => "network",
        }
    }
}

/// Classes of PostgreSQL's appendix A. A function may raise any SQLSTATE that it likes, so others are
/// counted as `other`: the label stays bounded.
const CLASSES: [&str; 44] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25",
    "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57",
    "58", "72", "F0", "HV", "P0", "XX",
];

/// Errors of one database by class and blame. Shared by all sessions of the database: errors are rare,
/// and when they are not, a shared cache line is not what hurts.
#[derive(Debug)]
pub struct ErrorTable {
    counts: [[AtomicU64; Blame::ALL.len()]; CLASSES.len() + 1],
}

impl Default for ErrorTable {
    fn default() -> Self {
        Self { counts: [const { [const { AtomicU64::new(0) }; Blame::ALL.len()] }; CLASSES.len() + 1] }
    }
}

impl ErrorTable {
    /// Counts one error. `sqlstate` is the code of five characters; anything else is counted as `other`.
    pub fn count(&self, sqlstate: &[u8], blame: Blame) {
        let class = match sqlstate {
            [a, b, _, _, _] => [*a, *b],
            _ => *b"??",
        };
        let row = CLASSES.binary_search_by(|known| known.as_bytes().cmp(&class)).unwrap_or(CLASSES.len());
        if let Some(cell) = self.counts.get(row).and_then(|row| row.get(blame as usize)) {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// Class, blame and count of what happened at least once.
    pub fn non_zero(&self) -> impl Iterator<Item = (&'static str, Blame, u64)> + '_ {
        self.counts.iter().enumerate().flat_map(|(row, counts)| {
            let class = CLASSES.get(row).copied().unwrap_or("other");
            Blame::ALL
                .iter()
                .zip(counts)
                .map(move |(blame, count)| (class, *blame, count.load(Relaxed)))
                .filter(|(_, _, count)| *count > 0)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sorted_for_the_search() {
        assert!(CLASSES.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn counts_by_class_and_blame_and_folds_the_unknown() {
        let table = ErrorTable::default();
        table.count(b"42P01", Blame::Server);
        table.count(b"42601", Blame::Server);
        table.count(b"08006", Blame::Network);
        table.count(b"ZZ123", Blame::Server);
        table.count(b"", Blame::Proxy);
        let all: Vec<_> = table.non_zero().collect();
        assert_eq!(
            all,
            [
                ("08", Blame::Network, 1),
                ("42", Blame::Server, 2),
                ("other", Blame::Server, 1),
                ("other", Blame::Proxy, 1)
            ]
        );
    }
}
