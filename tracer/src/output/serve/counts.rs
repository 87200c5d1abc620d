//! What is counted of one workload.

use crate::engine::conn::{Failed, How, Role};
use crate::event::{Cause, Direction, Segment};

/// How often each of a few things happened. Most workloads know few of them, so a list is found through faster than a
/// map, and takes less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally<K>(Vec<(K, u64)>);

impl<K> Default for Tally<K> {
    fn default() -> Tally<K> {
        Tally(Vec::new())
    }
}

impl<K: PartialEq + Copy> Tally<K> {
    pub(super) fn add(&mut self, key: K, count: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, so_far)) => *so_far = so_far.saturating_add(count),
            None => self.0.push((key, count)),
        }
    }

    pub(super) fn merge(&mut self, other: &Tally<K>) {
        for &(key, count) in &other.0 {
            self.add(key, count);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// Counters of one workload. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Handshakes that were completed.
    pub(super) opened: Tally<Role>,
    /// Connects and handshakes that failed.
    pub(super) failed: Tally<(Role, Failed)>,
    /// Connections that had been established and have ended.
    pub(super) closed: Tally<(Role, How)>,
    /// Segments sent again, and why, where that is known.
    pub(super) retransmits: Tally<(Segment, Option<Cause>)>,
    /// RSTs, with `enum sk_rst_reason` of those sent.
    pub(super) resets: Tally<(Direction, u32)>,
    /// Payload of connections that have ended.
    pub(super) bytes: Tally<Direction>,
}

impl Counts {
    pub(super) fn merge(&mut self, other: &Counts) {
        self.opened.merge(&other.opened);
        self.failed.merge(&other.failed);
        self.closed.merge(&other.closed);
        self.retransmits.merge(&other.retransmits);
        self.resets.merge(&other.resets);
        self.bytes.merge(&other.bytes);
    }
}
