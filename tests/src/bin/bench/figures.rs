//! Several measurements of one thing: the median, and how far they lie apart.

use serde_json::{Value, json};

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Half are below, half above.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Figure {
    /// Of what was measured; none of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Figure> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Some(Figure { median, min, max })
    }

    /// With so many digits after the point: `212 (205-219)`.
    pub(crate) fn text(&self, digits: usize) -> String {
        let Figure { median, min, max } = self;
        if min == max {
            format!("{median:.digits$}")
        } else {
            format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
        }
    }

    /// For `--json`.
    pub(crate) fn json(&self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |values: &[f64], median: f64| {
            assert_eq!(
                Figure::of(values.iter().copied()).map(|figure| figure.median),
                Some(median)
            );
        };
        check(&[3.0], 3.0);
        check(&[3.0, 1.0], 2.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[f64::NAN, 1.0], 1.0);
        assert_eq!(Figure::of([]), None);
    }
}
