//! Growth of a series of figures. That of a group, from the ages of its members, is in `generations`.

use std::collections::VecDeque;

use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;

/// Samples kept; when there are as many, every other goes.
const MOST: usize = 64;
/// What is older says nothing about now.
const WINDOW_NS: u64 = 900 * SECOND;

/// A figure over time, thinned as it gets long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    samples: VecDeque<(MonoNs, u64)>,
    /// Least time between two samples.
    step_ns: u64,
}

/// Growth that has gone on for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Growth {
    /// Per second.
    pub(crate) per_second: f64,
    /// Over this time, nanoseconds.
    pub(crate) span_ns: u64,
}

impl Series {
    /// Adds a sample.
    pub(crate) fn push(&mut self, at: MonoNs, value: u64) {
        if self.samples.back().is_some_and(|&(last, _)| at.since(last) < self.step_ns.max(1)) {
            return;
        }
        self.samples.push_back((at, value));
        while self.samples.front().is_some_and(|&(first, _)| at.since(first) > WINDOW_NS) {
            self.samples.pop_front();
        }
        if self.samples.len() >= MOST {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            let span = at.since(self.samples[0].0);
            self.step_ns = span / (MOST as u64 / 2);
        }
    }

    /// Time from the first sample to the last.
    #[must_use]
    pub(crate) fn span_ns(&self) -> u64 {
        match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) => last.0.since(first.0),
            _ => 0,
        }
    }

    /// The slope per second, whatever it is worth: the median of the slopes between all pairs (Theil
    /// and Sen), which a burst or a dip does not bend.
    #[must_use]
    pub(crate) fn slope(&self) -> Option<f64> {
        slope(self.samples.iter().copied())
    }

    /// No growth of it, between whatever samples, is steeper than this, per second.
    #[must_use]
    pub(crate) fn steepest(&self) -> f64 {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let slopes = pairs.map(|(&(from, value), &(to, other))| {
            (as_f64(other) - as_f64(value)) / (as_f64(to.since(from)) / 1e9)
        });
        slopes.fold(0.0, f64::max)
    }

    /// Growth, if it is one that goes on: up in the first half, in the second, and in the last third,
    /// in all of them by a like amount, and by much more than the figure wavers. A plateau ends it, and so
    /// does a single step.
    #[must_use]
    pub(crate) fn sustained(&self) -> Option<Growth> {
        let count = self.samples.len();
        if count < 6 {
            return None;
        }
        let all = self.slope().filter(|&slope| slope > 0.0)?;
        let part = |from: usize, to: usize| slope(self.samples.range(from..to).copied());
        let (early, late) = (part(0, count / 2 + 1)?, part(count / 2, count)?);
        let last = part(count - (count / 3).max(3), count)?;
        if early < all / 4.0 || late < all / 3.0 || last < all / 4.0 {
            return None;
        }
        // Up and down is no growth: what it wavers by is small against what it grew.
        let span = as_f64(self.span_ns()) / 1e9;
        let (first_at, _) = *self.samples.front()?;
        let rest =
            |&(at, value): &(MonoNs, u64)| as_f64(value) - all * as_f64(at.since(first_at)) / 1e9;
        let mut rests: Vec<f64> = self.samples.iter().map(rest).collect();
        let middle = median(&mut rests)?;
        let mut off: Vec<f64> = rests.iter().map(|rest| (rest - middle).abs()).collect();
        let wavers = median(&mut off)?;
        // What is to come depends on what is now more than on what was: the later half, when both
        // agree that there is growth.
        let now = if late > 0.0 { f64::midpoint(all, late) } else { all };
        (all * span > 5.0 * wavers).then_some(Growth { per_second: now, span_ns: self.span_ns() })
    }
}

fn slope(samples: impl DoubleEndedIterator<Item = (MonoNs, u64)> + Clone) -> Option<f64> {
    let mut slopes = Vec::new();
    let mut later = samples.clone();
    for (from, value) in samples {
        later.next();
        for (to, other) in later.clone() {
            let seconds = as_f64(to.since(from)) / 1e9;
            if seconds > 0.0 {
                slopes.push((as_f64(other) - as_f64(value)) / seconds);
            }
        }
    }
    median(&mut slopes)
}

/// The middle one; of an even number, the mean of the two.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    Some(if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    })
}

/// Counts and times here are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53, and only for estimates")]
pub(crate) const fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(values: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::default();
        for (second, value) in values.into_iter().enumerate() {
            series.push(MonoNs((second as u64 + 5) * SECOND), value);
        }
        series
    }

    #[test]
    fn growth_is_told_from_what_is_none() {
        let check = |values: Vec<u64>, expect: Option<f64>| {
            let got = series(values.iter().copied()).sustained().map(|growth| growth.per_second);
            match expect {
                None => assert_eq!(got, None, "{values:?}"),
                Some(rate) => {
                    let got = got.unwrap_or_else(|| panic!("no growth: {values:?}"));
                    assert!((got - rate).abs() < rate * 0.2, "{got}, not {rate}: {values:?}");
                }
            }
        };
        check((0..20).map(|t| 100 + 3 * t).collect(), Some(3.0));
        // Bursts on the way do not matter.
        check((0..40).map(|t| 100 + 3 * t + if t % 7 == 0 { 25 } else { 0 }).collect(), Some(3.0));
        // A step, then a plateau; a ramp, then a plateau; up and down; nothing; down.
        check((0..20).map(|t| if t < 5 { 10 } else { 60 }).collect(), None);
        check((0..40).map(|t| 10 + 3 * t.min(15)).collect(), None);
        check((0..40).map(|t| 100 + [0, 30, 10, 40][t as usize % 4]).collect(), None);
        check(vec![50; 30], None);
        check((0..30).map(|t| 100 - t).collect(), None);
        check(vec![1, 2, 3], None);
    }

    #[test]
    fn a_long_series_stays_short_and_right() {
        let long = series((0..3000).map(|t| 10 + t / 4));
        assert!(long.samples.len() <= MOST);
        let growth = long.sustained().expect("growth");
        assert!((growth.per_second - 0.25).abs() < 0.02, "{growth:?}");
    }

    proptest! {
        /// What grows is not told to be too slow to matter.
        #[test]
        fn no_growth_is_steeper_than_the_steepest_step(
            values in proptest::collection::vec((1u64..100_000_000_000, 0u64..100_000), 0..80),
        ) {
            let (mut series, mut at) = (Series::default(), MonoNs(0));
            for (step, value) in values {
                at = at.after(step);
                series.push(at, value);
            }
            let growth = series.sustained().map_or(0.0, |growth| growth.per_second);
            prop_assert!(growth <= series.steepest() * 1.000_001, "{growth} {}", series.steepest());
        }

        /// Whatever the noise, a leak of one a second or more is found and not misjudged by much.
        #[test]
        fn a_leak_under_noise_is_found(rate in 1u64..20, noise in proptest::collection::vec(0u64..5, 60)) {
            let grown = series(noise.iter().enumerate().map(|(t, noise)| 50 + rate * t as u64 + noise));
            let growth = grown.sustained().expect("growth").per_second;
            prop_assert!((growth - as_f64(rate)).abs() < as_f64(rate) / 3.0, "{} {}", growth, rate);
        }

        /// Noise alone is no growth: less than one in a hundred is taken for one.
        #[test]
        fn values_do_not_panic(values in proptest::collection::vec(any::<u32>(), 0..200)) {
            let _ = series(values.iter().map(|&value| u64::from(value))).sustained();
        }
    }
}
