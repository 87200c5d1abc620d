//! Families of metrics: name, help, and a row for each series. Who takes them in is a [`Target`].

use std::fmt::Error;

use crate::output::serve::histogram::Histogram;

/// Names of labels and their values.
pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

/// What a series has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// How many.
    Count(u64),
    /// How much.
    Number(f64),
    /// How it is spread.
    Histogram(&'a Histogram),
}

impl From<u64> for Value<'_> {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

/// What kind of metric it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
    /// It tells how values are spread.
    Histogram,
}

/// What all series of a metric have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family<'f> {
    /// As Prometheus has it, without `_total`.
    pub(super) name: &'f str,
    pub(super) help: &'f str,
    pub(super) kind: Kind,
}

/// Rows of a family.
pub(super) type Rows<'r, 'a> = dyn Iterator<Item = (Labels<'a>, Value<'a>)> + 'r;

/// What families are written into.
pub(super) trait Target {
    /// Takes in a family of one row or more.
    fn family<'a>(&mut self, family: Family<'_>, rows: &mut Rows<'_, 'a>) -> Result<(), Error>;
}

/// Writes families of metrics.
pub(super) struct Families<'t>(pub(super) &'t mut dyn Target);

impl Families<'_> {
    pub(super) fn counters<'a, V: Into<Value<'a>>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        self.family(Family { name, help, kind: Kind::Counter }, rows)
    }

    pub(super) fn gauges<'a, V: Into<Value<'a>>>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        self.family(Family { name, help, kind: Kind::Gauge }, rows)
    }

    pub(super) fn infos<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Labels<'a>>,
    ) -> Result<(), Error> {
        let name = format!("{name}_info");
        self.gauges(&name, help, rows.into_iter().map(|labels| (labels, 1_u64)))
    }

    pub(super) fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (&'a &'static str, &'a Histogram)>,
    ) -> Result<(), Error> {
        let rows = rows.into_iter().filter(|(_, histogram)| histogram.count() != 0);
        let rows =
            rows.map(|(value, histogram)| (vec![(label, *value)], Value::Histogram(histogram)));
        self.family(Family { name, help, kind: Kind::Histogram }, rows)
    }

    /// One without rows is left out.
    fn family<'a, V: Into<Value<'a>>>(
        &mut self,
        family: Family<'_>,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        let rows = rows.into_iter().map(|(labels, value)| (labels, value.into()));
        let mut rows = rows.peekable();
        match rows.peek() {
            Some(_) => self.0.family(family, &mut rows),
            None => Ok(()),
        }
    }
}
