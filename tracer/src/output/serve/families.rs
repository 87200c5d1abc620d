//! How families of metrics are written: name, help, and a row for each series.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::output::serve::histogram::Histogram;

const EMPTY: [(&str, &str); 0] = [];

/// Writes families of metrics.
pub(super) struct Families<'e, 'd>(pub(super) &'e mut DescriptorEncoder<'d>);

/// Names of labels and their values.
pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Families<'_, '_> {
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> Result<(), Error> {
        self.family(name, help, MetricType::Counter, rows, ConstCounter::new)
    }

    pub(super) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> Result<(), Error> {
        self.family(name, help, MetricType::Gauge, rows, ConstGauge::new)
    }

    /// One without rows is left out.
    pub(super) fn family<'a, V, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
        metric: impl Fn(V) -> M,
    ) -> Result<(), Error> {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            let metric = metric(value);
            if labels.is_empty() {
                metric.encode(family.encode_family(&EMPTY)?)?;
            } else {
                metric.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn infos<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Labels<'a>>,
    ) -> Result<(), Error> {
        let name = format!("{name}_info");
        self.gauges(&name, help, rows.into_iter().map(|labels| (labels, 1.0)))
    }

    pub(super) fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        rows: impl IntoIterator<Item = (&'a &'static str, &'a Histogram)>,
    ) -> Result<(), Error> {
        let rows = rows.into_iter().filter(|(_, histogram)| histogram.count() != 0);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (value, histogram) in rows {
            let labels = vec![(label, *value)];
            let mut metric = family.encode_family(&labels)?;
            let (sum, count) = (histogram.sum(), histogram.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &histogram.buckets(), None)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of things, far below 2^52")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}
