//! A snapshot as Prometheus reads it: the classic text format, or OpenMetrics.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::output::serve::families::{Families, Family, Kind, Rows, Target, Value};
use crate::output::serve::metrics;
use crate::output::serve::shared::Shared;
use crate::output::serve::snapshot::Snapshot;

const EMPTY: [(&str, &str); 0] = [];

/// Which text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Version 0.0.4, which everything reads.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Classic => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The whole page. Empty if it cannot be encoded, which no snapshot is known to bring about.
pub(super) fn page(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>, format: Format) -> String {
    let mut registry = Registry::default();
    let (shared, snapshot) = (Arc::clone(shared), Arc::clone(snapshot));
    registry.register_collector(Box::new(Told { shared, snapshot }));
    let mut page = String::new();
    let told = match format {
        Format::Classic => prometheus_text::encode(&mut page, &registry),
        Format::OpenMetrics => text::encode(&mut page, &registry),
    };
    if told.is_err() {
        page.clear();
    }
    page
}

/// What is told in one scrape.
#[derive(Debug)]
struct Told {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page(&mut encoder);
        metrics::all(&mut Families(&mut page), &self.shared, &self.snapshot)
    }
}

/// Where families go.
struct Page<'e, 'd>(&'e mut DescriptorEncoder<'d>);

impl Target for Page<'_, '_> {
    fn family<'a>(&mut self, family: Family<'_>, rows: &mut Rows<'_, 'a>) -> Result<(), Error> {
        let Family { name, help, kind } = family;
        let metric_type = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut encoder = self.0.encode_descriptor(name, help, None, metric_type)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                series(kind, value, encoder.encode_family(&EMPTY)?)?;
            } else {
                series(kind, value, encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn series(kind: Kind, value: Value<'_>, mut metric: MetricEncoder<'_>) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => ConstCounter::new(count).encode(metric),
        (Kind::Counter, Value::Number(number)) => ConstCounter::new(number).encode(metric),
        (_, Value::Count(count)) => ConstGauge::new(number(count)).encode(metric),
        (_, Value::Number(number)) => ConstGauge::new(number).encode(metric),
        (_, Value::Histogram(histogram)) => {
            let (sum, count) = (histogram.sum(), histogram.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &histogram.buckets(), None)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of things, far below 2^52")]
fn number(count: u64) -> f64 {
    count as f64
}
