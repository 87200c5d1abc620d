//! Times, counted by length, without keeping each.

use hdrhistogram::Histogram;

/// The longest time told apart: an hour and a half. What is longer counts as this.
const LONGEST_US: u64 = 5_400_000_000;

/// Times in microseconds. Nothing is allocated before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    histogram: Option<Box<Histogram<u32>>>,
    figures: u8,
}

impl Times {
    /// Times known to so many decimal figures; the memory grows tenfold with each.
    pub(super) fn new(figures: u8) -> Times {
        Times { histogram: None, figures }
    }

    /// Counts a time.
    pub(super) fn add(&mut self, ns: u64) {
        if self.histogram.is_none() {
            let histogram = Histogram::new_with_max(LONGEST_US, self.figures.max(1));
            self.histogram = histogram.ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record((ns / 1_000).min(LONGEST_US));
        }
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// At most this long were so many of them, of 0 to 1; milliseconds. `None` without any.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let histogram = self.histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        #[expect(clippy::cast_precision_loss, reason = "an hour and a half is far below 2^52 us")]
        let us = histogram.value_at_quantile(quantile) as f64;
        Some(us / 1_000.0)
    }

    /// How many were between each of these bounds and the one before, and beyond the last; microseconds.
    pub(super) fn between(&self, bounds: &[u64]) -> Vec<u64> {
        let Some(histogram) = &self.histogram else { return vec![0; bounds.len() + 1] };
        let mut from = 0;
        let mut counts = Vec::with_capacity(bounds.len() + 1);
        for &bound in bounds {
            counts.push(histogram.count_between(from, bound.saturating_sub(1)));
            from = bound;
        }
        counts.push(histogram.count_between(from, LONGEST_US));
        counts
    }
}
