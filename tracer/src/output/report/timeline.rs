//! What happened when: a bounded number of intervals, which get wider as the run gets longer.

use crate::time::MonoNs;

/// Most intervals; when they do not suffice, two become one.
pub(super) const MOST: usize = 600;
/// The narrowest interval: the engine ticks about once a second.
const NARROWEST_NS: u64 = 1_000_000_000;

/// Sockets by state; the index is the kernel's number of the state.
pub(super) type ByState = [u32; 13];

/// The process that has used most of its file descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fullest {
    pub(super) pid: u32,
    pub(super) fds: u64,
    pub(super) limit: u64,
}

/// What happened in one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) opened: u64,
    pub(super) failed: u64,
    pub(super) closed: u64,
    pub(super) retransmits: u64,
    pub(super) resets: u64,
    pub(super) dropped: u64,
    pub(super) lost: u64,
    /// Of the looks in it, the one with the most sockets.
    pub(super) sockets: Option<ByState>,
    /// Of the looks in it, the one with the fullest process.
    pub(super) fds: Option<Fullest>,
}

impl Interval {
    fn merge(&mut self, later: Interval) {
        self.opened += later.opened;
        self.failed += later.failed;
        self.closed += later.closed;
        self.retransmits += later.retransmits;
        self.resets += later.resets;
        self.dropped += later.dropped;
        self.lost += later.lost;
        if total(later.sockets.as_ref()) >= total(self.sockets.as_ref()) && later.sockets.is_some()
        {
            self.sockets = later.sockets;
        }
        if share(later.fds.as_ref()) >= share(self.fds.as_ref()) && later.fds.is_some() {
            self.fds = later.fds;
        }
    }
}

fn total(sockets: Option<&ByState>) -> u64 {
    sockets.map_or(0, |sockets| sockets.iter().copied().map(u64::from).sum())
}

/// In use, in millionths of the limit.
fn share(fds: Option<&Fullest>) -> u64 {
    fds.map_or(0, |fds| fds.fds.saturating_mul(1_000_000) / fds.limit.max(1))
}

/// Intervals of the same width, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) start: MonoNs,
    pub(super) width_ns: u64,
    pub(super) intervals: Vec<Interval>,
}

impl Timeline {
    pub(super) fn new(start: MonoNs) -> Timeline {
        Timeline { start, width_ns: NARROWEST_NS, intervals: Vec::new() }
    }

    /// The interval of a moment; what was before the start is in the first.
    pub(super) fn at(&mut self, at: MonoNs) -> &mut Interval {
        let since = at.since(self.start);
        while since / self.width_ns >= MOST as u64 {
            self.halve();
        }
        let index = usize::try_from(since / self.width_ns).unwrap_or(MOST - 1);
        if index >= self.intervals.len() {
            self.intervals.resize_with(index + 1, Interval::default);
        }
        &mut self.intervals[index]
    }

    fn halve(&mut self) {
        let mut pairs = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = pairs.next() {
            if let Some(second) = pairs.next() {
                first.merge(second);
            }
            self.intervals.push(first);
        }
        self.width_ns = self.width_ns.saturating_mul(2);
    }

    /// Takes in the sockets of a look.
    pub(super) fn sockets(&mut self, at: MonoNs, by_state: ByState) {
        let sockets = Some(by_state);
        self.at(at).merge(Interval { sockets, ..Interval::default() });
    }

    /// Takes in how full a process is.
    pub(super) fn fds(&mut self, at: MonoNs, fullest: Fullest) {
        self.at(at).merge(Interval { fds: Some(fullest), ..Interval::default() });
    }
}
