//! How values are spread: quantiles by HdrHistogram, which keeps counts of values that are alike to so many digits.

use hdrhistogram::Histogram;

/// Values of one measure.
#[derive(Clone, Debug)]
pub struct Spread {
    histogram: Option<Histogram<u32>>,
    min: u64,
    max: u64,
    sum: u128,
    /// Values that are not known.
    pub left_out: u64,
}

impl Spread {
    /// Of nothing yet; quantiles will have so many digits, 1 to 5.
    pub(super) fn new(digits: u8) -> Spread {
        // It grows with its largest value, and refuses other numbers of digits.
        let histogram = Histogram::new(digits).ok();
        Spread { histogram, min: u64::MAX, max: 0, sum: 0, left_out: 0 }
    }

    pub(super) fn record(&mut self, value: u64) {
        let recorded = self.histogram.as_mut().is_some_and(|it| it.record(value).is_ok());
        if !recorded {
            self.left_out += 1;
            return;
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += u128::from(value);
    }

    /// Takes in the values of another.
    pub(super) fn add(&mut self, other: &Spread) {
        self.left_out += other.left_out;
        let both = self.histogram.as_mut().zip(other.histogram.as_ref());
        if both.is_some_and(|(ours, theirs)| ours.add(theirs).is_ok()) {
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
            self.sum += other.sum;
        }
    }

    /// How many values are known.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The least, exactly; `None` without any.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        (self.count() != 0).then_some(self.min)
    }

    /// The greatest, exactly; `None` without any.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count() != 0).then_some(self.max)
    }

    /// The mean, rounded down; `None` without any.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        u64::try_from(self.sum.checked_div(u128::from(self.count()))?).ok()
    }

    /// The value that this share of all is not above, by nearest rank: the least with at least `share` of all values at
    /// or below it. Not less than that one, and greater by at most the precision. `None` without any.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(share).clamp(self.min, self.max))
    }

    /// How many values are in `[from, below)`, in steps of powers of two, from the least to the greatest; those of 0
    /// and 1 in one. Exact.
    #[must_use]
    pub fn doublings(&self) -> Vec<(u64, u64, u64)> {
        let (Some(histogram), Some(min), Some(max)) =
            (self.histogram.as_ref(), self.min(), self.max())
        else {
            return Vec::new();
        };
        let step = |value: u64| value.max(1).ilog2();
        let bounds = |step: u32| {
            let from = if step == 0 { 0 } else { 1 << step };
            (from, 1_u64.checked_shl(step + 1).unwrap_or(u64::MAX))
        };
        let mut counts: Vec<(u64, u64, u64)> =
            (step(min)..=step(max)).map(bounds).map(|(from, below)| (from, below, 0)).collect();
        for recorded in histogram.iter_recorded() {
            let place = step(recorded.value_iterated_to()).saturating_sub(step(min));
            let place = usize::try_from(place).unwrap_or(usize::MAX).min(counts.len() - 1);
            if let Some((.., count)) = counts.get_mut(place) {
                *count += recorded.count_since_last_iteration();
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By nearest rank.
    fn exactly(sorted: &[u64], share: f64) -> u64 {
        // 0.9 is no binary fraction: a rank that is whole is not to become the next one.
        let rank = (share * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
        sorted[rank.min(sorted.len()) - 1]
    }

    proptest! {
        #[test]
        fn quantiles_are_right_to_their_digits(
            values in proptest::collection::vec(0..4_000_000_000_000_u64, 1..200),
            digits in 2..4_u8,
        ) {
            let mut spread = Spread::new(digits);
            values.iter().for_each(|&value| spread.record(value));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            prop_assert_eq!(spread.count(), values.len() as u64);
            prop_assert_eq!(spread.min(), sorted.first().copied());
            prop_assert_eq!(spread.max(), sorted.last().copied());
            for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
                let (is, should) = (spread.quantile(share).unwrap_or(0), exactly(&sorted, share));
                prop_assert!(is >= should, "{share}: {is} < {should}");
                let most = should as f64 * (1.0 + 10_f64.powi(-i32::from(digits)));
                prop_assert!(is as f64 <= most + 1.0, "{share}: {is} > {most}");
            }
            let doublings = spread.doublings();
            let ends = [doublings.first(), doublings.last()];
            prop_assert!(ends.iter().all(|end| end.is_some_and(|&(.., count)| count != 0)));
            for (from, below, count) in doublings {
                let inside = sorted.iter().filter(|&&value| from <= value && value < below);
                prop_assert_eq!(inside.count() as u64, count, "{} {}", from, below);
            }
        }

        #[test]
        fn two_halves_are_the_whole(values in proptest::collection::vec(any::<u32>(), 2..100)) {
            let whole = |values: &[u32]| {
                let mut spread = Spread::new(3);
                values.iter().for_each(|&value| spread.record(value.into()));
                spread
            };
            let (one, two) = values.split_at(values.len() / 2);
            let mut sum = whole(one);
            sum.add(&whole(two));
            let all = whole(&values);
            prop_assert_eq!((sum.min(), sum.max(), sum.mean()), (all.min(), all.max(), all.mean()));
            prop_assert_eq!(sum.quantile(0.9), all.quantile(0.9));
        }
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        let spread = Spread::new(3);
        assert_eq!((spread.min(), spread.max(), spread.mean()), (None, None, None));
        assert_eq!(spread.quantile(0.5), None);
        assert!(spread.doublings().is_empty());
        let mut largest = Spread::new(3);
        largest.record(u64::MAX);
        assert_eq!(largest.max(), Some(u64::MAX));
        assert_eq!(largest.doublings(), [(1 << 63, u64::MAX, 1)]);
    }
}
