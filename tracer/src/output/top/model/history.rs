//! How many sockets were in each state, over the last minutes.

use std::collections::VecDeque;

use tracer_common::TcpState;

use crate::engine::Engine;
use crate::filter::Filter;
use crate::time::MonoNs;

/// Least time between two samples.
const STEP_NS: u64 = 900_000_000;
/// Samples kept: five minutes of one a second.
const MOST: usize = 300;

/// States as the header counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    Established,
    CloseWait,
    TimeWait,
    SynSent,
    SynRecv,
    FinWait,
    LastAck,
    Listen,
}

impl Shown {
    /// All, the most telling first.
    pub(crate) const ALL: [Shown; 8] = [
        Shown::Established,
        Shown::CloseWait,
        Shown::TimeWait,
        Shown::SynSent,
        Shown::SynRecv,
        Shown::FinWait,
        Shown::LastAck,
        Shown::Listen,
    ];

    /// As the header names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Shown::Established => "ESTABLISHED",
            Shown::CloseWait => "CLOSE_WAIT",
            Shown::TimeWait => "TIME_WAIT",
            Shown::SynSent => "SYN_SENT",
            Shown::SynRecv => "SYN_RECV",
            Shown::FinWait => "FIN_WAIT",
            Shown::LastAck => "LAST_ACK",
            Shown::Listen => "LISTEN",
        }
    }

    const fn of(state: TcpState) -> Option<Shown> {
        Some(match state {
            TcpState::Established => Shown::Established,
            TcpState::CloseWait => Shown::CloseWait,
            TcpState::TimeWait => Shown::TimeWait,
            TcpState::SynSent => Shown::SynSent,
            TcpState::SynRecv | TcpState::NewSynRecv => Shown::SynRecv,
            TcpState::FinWait1 | TcpState::FinWait2 => Shown::FinWait,
            TcpState::LastAck | TcpState::Closing => Shown::LastAck,
            TcpState::Listen => Shown::Listen,
            TcpState::Close => return None,
        })
    }
}

/// Sockets by [`Shown`].
pub(crate) type ByState = [u32; Shown::ALL.len()];

/// Samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<ByState>,
    last: MonoNs,
}

impl History {
    /// Counts, unless that was done just now.
    pub(super) fn sample(&mut self, engine: &Engine, scope: &Filter, now: MonoNs) {
        if !self.samples.is_empty() && now.since(self.last) < STEP_NS {
            return;
        }
        self.last = now;
        let mut counts = ByState::default();
        for (state, count) in engine.states(scope) {
            if let Some(shown) = Shown::of(state) {
                counts[shown as usize] += count;
            }
        }
        self.push(counts);
    }

    fn push(&mut self, counts: ByState) {
        if self.samples.len() == MOST {
            self.samples.pop_front();
        }
        self.samples.push_back(counts);
    }

    /// The last counts.
    pub(crate) fn now(&self) -> ByState {
        self.samples.back().copied().unwrap_or_default()
    }

    /// The last minutes of one state in at most `width` figures, the newest last; of several samples in one
    /// figure the largest.
    pub(crate) fn line(&self, shown: Shown, width: usize) -> Vec<u32> {
        let count = self.samples.len();
        if width == 0 || count == 0 {
            return Vec::new();
        }
        let each = count.div_ceil(width).max(1);
        // Chunks end at the newest, so that figures do not change by moving.
        let first = count % each;
        let mut line = Vec::with_capacity(width);
        let largest = |range: std::ops::Range<usize>| {
            self.samples.range(range).map(|counts| counts[shown as usize]).max()
        };
        line.extend(largest(0..first));
        for start in (first..count).step_by(each) {
            line.extend(largest(start..start + each));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_largest_of_each_part() {
        let mut history = History::default();
        let mut sample = |established: u32| {
            let mut counts = ByState::default();
            counts[Shown::Established as usize] = established;
            history.push(counts);
        };
        for number in [1, 9, 2, 3, 4, 8, 5] {
            sample(number);
        }
        let check = |width, expect: &[u32]| {
            assert_eq!(history.line(Shown::Established, width), expect, "{width}");
        };
        check(0, &[]);
        check(10, &[1, 9, 2, 3, 4, 8, 5]);
        check(7, &[1, 9, 2, 3, 4, 8, 5]);
        check(4, &[1, 9, 4, 8]);
        check(1, &[9]);
        assert_eq!(history.line(Shown::Listen, 2), [0, 0]);
    }

    #[test]
    fn no_more_is_kept_than_five_minutes() {
        let mut history = History::default();
        for _ in 0..1000 {
            history.push(ByState::default());
        }
        assert_eq!(history.samples.len(), MOST);
    }
}
