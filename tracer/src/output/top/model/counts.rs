//! Things that happen, by the second; and what the run costs itself.

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Kind, Role};
use crate::time::MonoNs;

const SECOND: f64 = 1e9;
/// A rate is of the last ticks that lie within this time.
const WINDOW_NS: u64 = 5_000_000_000;
/// Ticks kept: one a second, and some to spare.
const MOST: usize = 8;

/// Counted since the run began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) retransmits: u64,
    pub(crate) resets: u64,
}

/// Counts, and how fast they grow.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// So far.
    pub(crate) counts: Counts,
    ticks: Vec<(MonoNs, Counts)>,
}

/// How many a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct PerSecond {
    pub(crate) opened: f64,
    pub(crate) closed: f64,
    pub(crate) retransmits: f64,
    pub(crate) resets: f64,
}

impl Rates {
    /// Counts a change.
    #[inline]
    pub(super) fn count(&mut self, conn: &Connection, kind: &Kind) {
        match kind {
            Kind::Transition { old: TcpState::Close, new: TcpState::SynSent, .. }
            | Kind::Transition { old: TcpState::Listen, new: TcpState::SynRecv, .. } => {
                self.counts.opened += 1;
            }
            Kind::Transition { .. } | Kind::Dropped { .. } | Kind::Gone => {}
            // It was not sent after all.
            Kind::Retransmit { again, .. } if again.error != 0 => {}
            Kind::Retransmit { .. } => self.counts.retransmits += 1,
            Kind::Reset { .. } => self.counts.resets += 1,
            Kind::Finished if conn.role != Role::Listener => self.counts.closed += 1,
            Kind::Finished => {}
        }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self, now: MonoNs) {
        self.ticks.push((now, self.counts));
        let old = |(at, _): &(MonoNs, Counts)| now.since(*at) > WINDOW_NS;
        while self.ticks.len() > 2 && (self.ticks.len() > MOST || old(&self.ticks[0])) {
            self.ticks.remove(0);
        }
    }

    /// Over the last seconds; `None` before two ticks.
    pub(crate) fn per_second(&self) -> Option<PerSecond> {
        let (&(from, first), &(to, last)) = (self.ticks.first()?, self.ticks.last()?);
        let seconds = float(to.since(from)) / SECOND;
        if seconds <= 0.0 {
            return None;
        }
        let rate = |first: u64, last: u64| float(last - first) / seconds;
        Some(PerSecond {
            opened: rate(first.opened, last.opened),
            closed: rate(first.closed, last.closed),
            retransmits: rate(first.retransmits, last.retransmits),
            resets: rate(first.resets, last.resets),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

/// What the run costs itself.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Cost {
    /// Processor time so far, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Memory, bytes.
    pub(crate) memory: u64,
    /// When that was read.
    pub(crate) at: MonoNs,
    /// Share of one processor since it was read before; `None` the first time.
    pub(crate) share: Option<f64>,
}

impl Cost {
    /// The next reading.
    pub(crate) fn next(before: Option<Cost>, now: Cost) -> Cost {
        let share = before.and_then(|before| {
            let passed = now.at.since(before.at);
            (passed != 0).then(|| float(now.cpu_ns.saturating_sub(before.cpu_ns)) / float(passed))
        });
        Cost { share, ..now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), None);
        let mut at = MonoNs(0);
        let mut check = |more: u64, expect: Option<f64>| {
            at = at.after(1_000_000_000);
            rates.counts.opened += more;
            rates.tick(at);
            assert_eq!(rates.per_second().map(|rate| rate.opened), expect, "{at:?}");
        };
        check(100, None);
        check(10, Some(10.0));
        for _ in 0..4 {
            check(10, Some(10.0));
        }
        // What was in the first second has left the window.
        check(70, Some(22.0));
    }

    #[test]
    fn cost_is_a_share_of_one_processor() {
        let first = Cost { cpu_ns: 50, at: MonoNs(1000), ..Cost::default() };
        let first = Cost::next(None, first);
        assert_eq!(first.share, None);
        let second = Cost { cpu_ns: 75, at: MonoNs(1100), ..Cost::default() };
        assert_eq!(Cost::next(Some(first), second).share, Some(0.25));
    }
}
