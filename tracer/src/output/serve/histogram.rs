//! A histogram with fixed bounds, as Prometheus has them.

/// Bounds of times that make somebody wait, seconds: handshakes, round trips, time to accept.
pub(super) const WAITS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0];
/// Bounds of lives and of times in states, seconds: from a millisecond to a day.
pub(super) const LIVES: [f64; 13] =
    [0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0];

/// Values so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// How many values are within each bound and no lower one; the last beyond all.
    counts: Vec<u64>,
    sum_ns: u128,
    /// Values that are not known, or not exactly.
    pub(super) left_out: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum_ns: 0, left_out: 0 }
    }

    /// Takes in a time in nanoseconds; `None` where there was one and it is not known.
    pub(super) fn record(&mut self, ns: Option<u64>) {
        let Some(ns) = ns else {
            self.left_out += 1;
            return;
        };
        let seconds = seconds(u128::from(ns));
        let place = self.bounds.partition_point(|&bound| bound < seconds);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
            self.sum_ns += u128::from(ns);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Seconds.
    pub(super) fn sum(&self) -> f64 {
        seconds(self.sum_ns)
    }

    /// Upper bound, and how many are above the next lower one.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "15 digits are enough for seconds")]
pub(super) fn seconds(ns: u128) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it() {
        let mut histogram = Histogram::new(&LIVES);
        histogram.record(Some(1_000_000_000));
        histogram.record(Some(1_000_000_001));
        histogram.record(None);
        let filled: Vec<_> =
            histogram.buckets().into_iter().filter(|(_, count)| *count != 0).collect();
        assert_eq!(filled, [(1.0, 1), (5.0, 1)]);
        assert_eq!((histogram.count(), histogram.left_out), (2, 1));
    }

    proptest! {
        #[test]
        fn every_value_is_in_one_bucket(values in proptest::collection::vec(any::<u64>(), 0..50)) {
            for bounds in [&WAITS[..], &LIVES[..]] {
                let mut histogram = Histogram::new(bounds);
                values.iter().for_each(|&ns| histogram.record(Some(ns)));
                for (bound, _) in histogram.buckets() {
                    let within = values.iter().filter(|&&ns| seconds(u128::from(ns)) <= bound);
                    let buckets = histogram.buckets();
                    let told: u64 =
                        buckets.iter().filter(|(other, _)| *other <= bound).map(|(_, n)| n).sum();
                    prop_assert_eq!(told, within.count() as u64);
                }
                prop_assert!(bounds.windows(2).all(|two| two[0] < two[1]));
            }
        }
    }
}
