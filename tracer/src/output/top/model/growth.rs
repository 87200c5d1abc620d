//! How many sockets processes had, over the last minutes.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::output::top::model::counts::float;
use crate::time::MonoNs;

/// Processes that are followed.
const MOST: usize = 4_096;
/// From one sample to the next.
const STEP_NS: u64 = 5_000_000_000;
/// Five minutes of them.
const SAMPLES: usize = 60;
/// Growth over less says little.
const LEAST_NS: u64 = 30_000_000_000;

/// Counts over time, by process.
#[derive(Debug, Default)]
pub(crate) struct Growths {
    by_process: HashMap<u32, VecDeque<(MonoNs, u32)>, FixedState>,
    last: Option<MonoNs>,
}

impl Growths {
    /// Whether counts are wanted again.
    pub(crate) fn is_due(&self, now: MonoNs) -> bool {
        self.last.is_none_or(|last| now.since(last) >= STEP_NS)
    }

    /// Sockets of every process that has some.
    pub(crate) fn sample(&mut self, counts: impl Iterator<Item = (u32, u32)>, now: MonoNs) {
        self.last = Some(now);
        for (pid, count) in counts {
            if self.by_process.len() >= MOST && !self.by_process.contains_key(&pid) {
                continue;
            }
            let samples = self.by_process.entry(pid).or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back((now, count));
        }
        // One that has no sockets any more may be gone, and its number another's.
        self.by_process.retain(|_, samples| samples.back().is_some_and(|(at, _)| *at == now));
    }

    /// More sockets a minute, over the last minutes; `None` when that is not known yet.
    pub(crate) fn per_minute(&self, pid: u32) -> Option<f64> {
        let samples = self.by_process.get(&pid)?;
        let (&(from, first), &(to, last)) = (samples.front()?, samples.back()?);
        let span = to.since(from);
        (span >= LEAST_NS).then(|| (f64::from(last) - f64::from(first)) * 60e9 / float(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_takes_half_a_minute_to_be_known() {
        let mut growths = Growths::default();
        let mut check = |seconds: u64, count, expect: Option<f64>| {
            let at = MonoNs(seconds * 1_000_000_000);
            assert!(growths.is_due(at), "{seconds}");
            growths.sample([(7, count)].into_iter(), at);
            assert!(!growths.is_due(at), "{seconds}");
            assert_eq!(growths.per_minute(7), expect, "{seconds}");
        };
        check(100, 10, None);
        check(110, 11, None);
        check(130, 20, Some(20.0));
        check(160, 10, Some(0.0));
        growths.sample(std::iter::empty(), MonoNs(200_000_000_000));
        assert_eq!(growths.per_minute(7), None);
    }
}
