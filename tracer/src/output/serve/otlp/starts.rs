//! Since when each sum counts.
//!
//! A sum says since when it has counted from 0, so that whoever adds up knows when it began anew. That happens: the
//! series of a workload that has been gone for long go, and it may come back.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

use crate::output::serve::families::Labels;
use crate::time::MonoNs;

#[derive(Clone, Copy, Debug)]
struct Series {
    since: MonoNs,
    last: f64,
    /// The push that had it last.
    push: u64,
}

/// Of every series in the last push.
#[derive(Debug)]
pub(super) struct Starts {
    /// By name and labels.
    series: HashMap<u64, Series, RandomState>,
    /// The run's, for what is there from the first push on; then of the last push: what it did not have began later.
    new_since: MonoNs,
    now: MonoNs,
    push: u64,
}

impl Starts {
    pub(super) fn new(run: MonoNs) -> Starts {
        Starts { series: HashMap::default(), new_since: run, now: run, push: 0 }
    }

    /// A push begins, of figures as they were then.
    pub(super) fn begin(&mut self, now: MonoNs) {
        self.push += 1;
        self.new_since = self.now;
        self.now = now;
    }

    /// Since when this series counts, whose value this is.
    pub(super) fn of(&mut self, name: &str, labels: &Labels<'_>, value: f64) -> MonoNs {
        let mut hasher = self.series.hasher().build_hasher();
        (name, labels).hash(&mut hasher);
        let key = std::hash::Hasher::finish(&hasher);
        let (push, new_since) = (self.push, self.new_since);
        let series = self.series.entry(key).or_insert(Series { since: new_since, last: 0.0, push });
        if value < series.last {
            series.since = new_since;
        }
        series.last = value;
        series.push = push;
        series.since
    }

    /// A push is over: what it did not have is forgotten.
    pub(super) fn end(&mut self) {
        self.series.retain(|_, series| series.push == self.push);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_that_begins_anew_says_so() {
        let mut starts = Starts::new(MonoNs(5));
        // (time, values of a and b, expected starts)
        let pushes = [
            (10, [Some(3.0), None], [Some(5), None]),
            (20, [Some(4.0), Some(1.0)], [Some(5), Some(10)]),
            (30, [Some(4.0), None], [Some(5), None]),
            (40, [Some(2.0), Some(1.0)], [Some(30), Some(30)]),
            (50, [Some(9.0), Some(2.0)], [Some(30), Some(30)]),
        ];
        for (now, values, expect) in pushes {
            starts.begin(MonoNs(now));
            for ((label, value), expect) in ["a", "b"].iter().zip(values).zip(expect) {
                let told = value.map(|value| starts.of("x", &vec![("l", label)], value));
                assert_eq!(told, expect.map(MonoNs), "{label} at {now}");
            }
            starts.end();
        }
        assert_eq!(starts.series.len(), 2);
    }
}
