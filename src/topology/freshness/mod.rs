//! Freshness: which replica has what a read must see, at no cost per write (design §5).
//!
//! Time is the token. A sampler asks the primary for its position in the WAL and each replica for what it has replayed. A replica's
//! *horizon* ([`Horizon`](crate::observe::Horizon)) is the latest instant at which a sample of the primary was begun whose
//! position it has replayed: whatever was committed before is there. A read that must see everything up to an instant may run
//! where the horizon is later, which is one comparison.

mod history;
mod sampler;
mod stamps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::observe::Moment;
use crate::pool::NodeLoad;

use history::History;
pub(in crate::topology) use history::Layout;
pub(super) use sampler::start;
pub use stamps::Stamps;

/// Time between two samples of the primary while reads ask for more than is known: at most 200 a second.
const FAST: Duration = Duration::from_millis(5);
/// The same while nobody asks.
const SLOW: Duration = Duration::from_secs(1);
/// How long after the last such read samples go on fast.
const DEMAND: Duration = Duration::from_millis(100);

/// What is known of one cluster's freshness, and what wakes its sampler. Goes on through reloads.
#[derive(Debug)]
pub struct Freshness {
    known: Mutex<Known>,
    /// When a read last asked for more than is known.
    asked: AtomicU64,
    wake: Notify,
    /// Grows with each horizon that has advanced.
    advanced: watch::Sender<u64>,
    /// Grows with each sample of the primary, upon which the replicas are asked.
    sampled: watch::Sender<u64>,
    /// The primary has answered once.
    has_had_primary: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    history: History,
    /// The primary whose positions these are, and its timeline.
    of: Option<(usize, u32)>,
    /// The timeline of the last primary that there was; 0 = none was asked yet.
    timeline: u32,
    /// Grows whenever all that was known is forgotten.
    epoch: u64,
}

/// What a read needs of the node on which it runs. Nothing, by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// It must see what was committed up to here.
    pub needed: Moment,
    /// What its session has read last: on a node in this incarnation, at this instant. Another node must have all of that.
    pub seen: Option<(u64, Moment)>,
    /// However old it is, it must be of the primary's history: not what a standby shows that still follows a primary which was replaced.
    pub on_timeline: bool,
}

impl Needs {
    /// Whether a replica in this state has it all.
    #[inline]
    pub fn met_by(&self, load: &NodeLoad) -> bool {
        let horizon = load.horizon.get();
        let beyond = |instant: Moment| instant == Moment::NEVER || horizon > instant;
        if self.on_timeline && load.horizon.is_astray() {
            return false;
        }
        beyond(self.needed) && self.seen.is_none_or(|(where_, end)| beyond(end) || load.horizon.incarnation() == where_)
    }

    /// Without what its session has read.
    #[must_use]
    pub fn of_level(self) -> Self {
        Self { seen: None, ..self }
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            asked: AtomicU64::new(0),
            wake: Notify::new(),
            advanced: watch::Sender::new(0),
            sampled: watch::Sender::new(0),
            has_had_primary: AtomicBool::new(false),
        }
    }
}

impl Freshness {
    /// A read asks for more than is known: the sampler hurries.
    pub fn demand(&self, now: Moment) {
        let before = self.asked.swap(now.nanos(), Ordering::AcqRel);
        if Moment::from_nanos(before).until(now) > DEMAND / 2 {
            self.wake.notify_one();
        }
    }

    /// Changes whenever a horizon has advanced.
    pub fn advances(&self) -> watch::Receiver<u64> {
        self.advanced.subscribe()
    }

    /// Whether a primary was ever seen since the cluster is known. If not, nothing can have been written through it.
    pub fn has_had_primary(&self) -> bool {
        self.has_had_primary.load(Ordering::Acquire)
    }

    /// Something was written.
    pub fn has_written(&self) {
        if !self.has_had_primary() {
            self.has_had_primary.store(true, Ordering::Release);
        }
    }

    fn is_in_demand(&self, now: Moment) -> bool {
        Moment::from_nanos(self.asked.load(Ordering::Acquire)).until(now) < DEMAND
    }

    /// A position of the primary with this index, which is on this timeline. What was known of another one is forgotten (trap 90).
    fn take_sample(&self, primary: usize, timeline: u32, begun: Moment, position: u64, replicas: &[Arc<NodeLoad>]) {
        let mut known = self.known.lock();
        if known.timeline != timeline {
            let is_promoted = known.timeline != 0;
            known.timeline = timeline;
            replicas.iter().for_each(|load| load.horizon.set_astray(is_promoted && !load.is_primary()));
        }
        if known.of != Some((primary, timeline)) || !known.history.push(begun, position) {
            known.forget(replicas);
            known.of = Some((primary, timeline));
            known.history.push(begun, position);
        }
        drop(known);
        self.has_had_primary.store(true, Ordering::Release);
        self.sampled.send_modify(|number| *number += 1);
    }

    /// What a replica has replayed, as it said when it was asked at `asked` in this epoch. A position means something on the
    /// primary's timeline only (trap 90): where that is not certain, nothing is known.
    fn take_replayed(&self, load: &NodeLoad, epoch: u64, asked: Moment, timeline: Option<u32>, replayed: u64) {
        let known = self.known.lock();
        let is_on_it = known.of.is_some_and(|(_, of)| Some(of) == timeline);
        if known.epoch != epoch {
            return;
        }
        if known.of.is_some() {
            load.horizon.set_astray(!is_on_it);
        }
        if !is_on_it {
            if load.horizon.get() != Moment::NEVER {
                load.horizon.forget();
            }
            return;
        }
        let advanced = known.history.horizon(replayed).is_some_and(|at| load.horizon.advance(at, asked));
        drop(known);
        if advanced {
            self.advanced.send_modify(|number| *number += 1);
        }
    }

    fn epoch(&self) -> u64 {
        self.known.lock().epoch
    }

    /// The primary is another one, or none: what was known says nothing of what will be written.
    fn forget(&self, replicas: &[Arc<NodeLoad>]) {
        let mut known = self.known.lock();
        if known.of.is_some() {
            known.forget(replicas);
        }
    }
}

impl Known {
    fn forget(&mut self, replicas: &[Arc<NodeLoad>]) {
        self.history.clear();
        self.of = None;
        self.epoch += 1;
        replicas.iter().for_each(|load| load.horizon.forget());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn a_position_counts_on_the_timeline_of_the_primary_only() {
        let freshness = Freshness::default();
        let loads: Vec<Arc<NodeLoad>> = vec![Arc::default(), Arc::default()];
        let horizon = |index: usize| loads[index].horizon.get();
        freshness.take_sample(0, 1, at(10), 1000, &loads);
        let epoch = freshness.epoch();
        freshness.take_replayed(&loads[0], epoch, at(11), Some(1), 1000);
        freshness.take_replayed(&loads[1], epoch, at(11), None, 1000);
        assert_eq!((horizon(0), horizon(1)), (at(10), Moment::NEVER), "an unknown timeline is not the right one");
        freshness.take_replayed(&loads[1], epoch, at(12), Some(1), 1500);
        assert_eq!(horizon(1), at(10));

        let astray = |index: usize| loads[index].horizon.is_astray();
        assert!(!astray(0) && !astray(1));

        // Promoted: a timeline of its own. The other one follows the old primary still, and is "further".
        freshness.take_sample(2, 2, at(20), 1200, &loads);
        assert_eq!((horizon(0), horizon(1)), (Moment::NEVER, Moment::NEVER), "trap 90");
        assert!(astray(0) && astray(1), "nobody knows yet whom they follow");
        freshness.take_replayed(&loads[0], epoch, at(19), Some(1), 1300);
        let epoch = freshness.epoch();
        freshness.take_replayed(&loads[0], epoch, at(21), Some(1), 9000);
        freshness.take_replayed(&loads[1], epoch, at(21), Some(2), 1200);
        assert_eq!((horizon(0), horizon(1)), (Moment::NEVER, at(20)));
        assert!(astray(0) && !astray(1));
        // The primary is away for a moment, and comes back as it was.
        freshness.forget(&loads);
        assert!(astray(0) && !astray(1));
        freshness.take_sample(2, 2, at(21), 1200, &loads);
        assert!(astray(0) && !astray(1));
        let epoch = freshness.epoch();

        // The replica has changed sides.
        freshness.take_replayed(&loads[1], epoch, at(22), Some(3), 9000);
        assert_eq!(horizon(1), Moment::NEVER);

        // Positions that go back are another life's.
        freshness.take_replayed(&loads[1], epoch, at(23), Some(2), 1200);
        freshness.take_sample(2, 2, at(24), 1100, &loads);
        assert_eq!(horizon(1), Moment::NEVER);
    }

    #[test]
    fn a_session_reads_on_where_it_has_read() {
        let (same, other) = (NodeLoad::default(), NodeLoad::default());
        same.horizon.advance(at(100), at(101));
        other.horizon.advance(at(100), at(101));
        let mut needs = Needs { needed: at(90), seen: Some((same.horizon.incarnation(), at(150))), on_timeline: true };
        assert!(needs.met_by(&same) && !needs.met_by(&other) && needs.of_level().met_by(&other));
        other.horizon.advance(at(151), at(152));
        assert!(needs.met_by(&other));
        needs.needed = at(100);
        assert!(!needs.met_by(&same), "what is needed lies before the horizon");
        assert!(Needs::default().met_by(&NodeLoad::default()), "nothing is needed");
        let needs_nothing_else = Needs { on_timeline: true, ..Needs::default() };
        assert!(needs_nothing_else.met_by(&other));
        other.horizon.set_astray(true);
        assert!(Needs::default().met_by(&other) && !needs_nothing_else.met_by(&other));
        same.horizon.forget();
        needs.needed = Moment::NEVER;
        assert!(!needs.met_by(&same), "it restarted: what was read there may be gone");
    }
}
