//! Routing decisions by target and reason: an array of atomics per stripe, no look-up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::cells::STRIPES;
use crate::sql::Target;

/// Most reasons. A reason's number is its place in the array; numbers beyond share the last.
pub const REASONS: usize = 128;

const TARGETS: [Target; 3] = [Target::Replica, Target::Primary, Target::Anywhere];

/// Place of a target in the arrays, whatever number it has as an enum.
const fn place(target: Target) -> usize {
    match target {
        Target::Replica => 0,
        Target::Primary => 1,
        Target::Anywhere => 2,
    }
}

/// The label's value of a target.
pub fn target_label(target: Target) -> &'static str {
    match target {
        Target::Replica => "replica",
        Target::Primary => "primary",
        Target::Anywhere => "anywhere",
    }
}

/// Counters of one stripe.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe([[AtomicU64; REASONS]; TARGETS.len()]);

/// Counts decisions. About 200 KiB in all.
#[derive(Debug)]
pub struct RoutingTable {
    stripes: Vec<Stripe>,
    labels: [OnceLock<&'static str>; REASONS],
}

impl Default for RoutingTable {
    fn default() -> Self {
        let stripe = || Stripe([const { [const { AtomicU64::new(0) }; REASONS] }; TARGETS.len()]);
        Self {
            stripes: std::iter::repeat_with(stripe).take(STRIPES).collect(),
            labels: [const { OnceLock::new() }; REASONS],
        }
    }
}

impl RoutingTable {
    /// Counts one decision; `label` names the reason of this number in `/metrics`. One addition, and one
    /// load to see that the label is known.
    #[inline]
    pub fn count(&self, stripe: usize, target: Target, number: u8, label: &'static str) {
        let number = usize::from(number).min(REASONS - 1);
        if let Some(cell) = self.stripes.get(stripe).and_then(|stripe| stripe.0[place(target)].get(number)) {
            cell.fetch_add(1, Relaxed);
        }
        if let Some(known) = self.labels.get(number) {
            known.get_or_init(|| label);
        }
    }

    /// Target, reason and count of the decisions made so far.
    pub fn non_zero(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        for target in TARGETS {
            for (number, label) in self.labels.iter().enumerate() {
                let Some(label) = label.get() else { continue };
                let count: u64 = self.stripes.iter().map(|stripe| stripe.0[place(target)][number].load(Relaxed)).sum();
                if count > 0 {
                    all.push((target_label(target), *label, count));
                }
            }
        }
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_array_is_the_target() {
        for (number, target) in TARGETS.into_iter().enumerate() {
            assert_eq!(place(target), number);
        }
    }

    #[test]
    fn counts_over_the_stripes() {
        let table = RoutingTable::default();
        table.count(0, Target::Replica, 0, "read");
        table.count(3, Target::Replica, 0, "read");
        table.count(3, Target::Primary, 2, "write");
        table.count(3, Target::Primary, 255, "far");
        assert_eq!(table.non_zero(), [("replica", "read", 2), ("primary", "write", 1), ("primary", "far", 1)]);
    }
}
