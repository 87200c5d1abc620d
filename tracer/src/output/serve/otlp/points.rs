//! A snapshot as metrics of OTLP.

use std::fmt::Error;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};

use crate::output::serve::families::{Families, Family, Kind, Labels, Rows, Target, Value};
use crate::output::serve::metrics;
use crate::output::serve::otlp::naming::{self, CONNECTIONS, Name, STATE};
use crate::output::serve::otlp::resource::{Machine, text};
use crate::output::serve::otlp::starts::Starts;
use crate::output::serve::shared::Shared;
use crate::output::serve::snapshot::Snapshot;
use crate::time::{Anchor, MonoNs};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// The figures of `/metrics` at the moment of the snapshot.
pub(super) fn request(
    machine: &Machine,
    shared: &Shared,
    snapshot: &Snapshot,
    starts: &mut Starts,
) -> ExportMetricsServiceRequest {
    starts.begin(snapshot.at);
    let mut points =
        Points { metrics: Vec::new(), anchor: shared.origin.anchor(), at: snapshot.at, starts };
    // Nothing of it fails.
    let _ = metrics::all(&mut Families(&mut points), shared, snapshot);
    let metrics = std::mem::take(&mut points.metrics);
    starts.end();
    let scope = ScopeMetrics { scope: Some(machine.scope()), metrics, schema_url: String::new() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(machine.ourselves()),
            scope_metrics: vec![scope],
            schema_url: String::new(),
        }],
    }
}

/// Unix time in nanoseconds.
pub(super) fn unix_ns(anchor: Anchor, at: MonoNs) -> u64 {
    u64::try_from(anchor.wall_ns(at)).unwrap_or(0)
}

/// Where families go.
struct Points<'s> {
    metrics: Vec<Metric>,
    anchor: Anchor,
    at: MonoNs,
    starts: &'s mut Starts,
}

impl Target for Points<'_> {
    fn family<'a>(&mut self, family: Family<'_>, rows: &mut Rows<'_, 'a>) -> Result<(), Error> {
        // A test has every family in that list.
        let known = naming::name(family.name);
        let Some(Name { name, unit }) = known else { return Ok(()) };
        let data = match family.kind {
            Kind::Histogram => Data::Histogram(Histogram {
                data_points: rows.filter_map(|row| self.histogram(name, row)).collect(),
                aggregation_temporality: CUMULATIVE,
            }),
            Kind::Counter => Data::Sum(Sum {
                data_points: rows.filter_map(|row| self.number(name, row, true)).collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
            // The conventions have it as one that goes up and down, of which sums make sense.
            Kind::Gauge if family.name == CONNECTIONS => Data::Sum(Sum {
                data_points: rows
                    .map(by_state)
                    .filter_map(|row| self.number(name, row, false))
                    .collect(),
                aggregation_temporality: CUMULATIVE,
                is_monotonic: false,
            }),
            Kind::Gauge => Data::Gauge(Gauge {
                data_points: rows.filter_map(|row| self.number(name, row, false)).collect(),
            }),
        };
        self.metrics.push(Metric {
            name: name.to_owned(),
            description: family.help.to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        });
        Ok(())
    }
}

impl Points<'_> {
    fn number(
        &mut self,
        name: &str,
        (labels, value): (Labels<'_>, Value<'_>),
        sum: bool,
    ) -> Option<NumberDataPoint> {
        let (value, so_far) = match value {
            Value::Count(count) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                (Number::AsInt(count), rough(count))
            }
            Value::Number(number) => (Number::AsDouble(number), number),
            Value::Histogram(_) => return None,
        };
        let since = sum.then(|| self.starts.of(name, &labels, so_far));
        Some(NumberDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: since.map_or(0, |since| unix_ns(self.anchor, since)),
            time_unix_nano: unix_ns(self.anchor, self.at),
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    fn histogram(
        &mut self,
        name: &str,
        (labels, value): (Labels<'_>, Value<'_>),
    ) -> Option<HistogramDataPoint> {
        let Value::Histogram(histogram) = value else { return None };
        let buckets = histogram.buckets();
        let count = histogram.count();
        let so_far = rough(i64::try_from(count).unwrap_or(i64::MAX));
        let since = self.starts.of(name, &labels, so_far);
        Some(HistogramDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: unix_ns(self.anchor, since),
            time_unix_nano: unix_ns(self.anchor, self.at),
            count,
            sum: Some(histogram.sum()),
            explicit_bounds: buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|bound| bound.is_finite())
                .collect(),
            bucket_counts: buckets.iter().map(|(_, count)| *count).collect(),
            ..HistogramDataPoint::default()
        })
    }
}

/// Attributes have the names of the labels in `/metrics`; one without a value is left out, as Prometheus does.
fn attributes(labels: &Labels<'_>) -> Vec<KeyValue> {
    let known = labels.iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| text(name, *value)).collect()
}

/// With the attributes of the conventions.
fn by_state<'a>((mut labels, value): (Labels<'a>, Value<'a>)) -> (Labels<'a>, Value<'a>) {
    for (name, value) in labels.iter_mut().filter(|(name, _)| *name == STATE) {
        (*name, *value) = ("network.connection.state", naming::state(value));
    }
    labels.push(("network.transport", "tcp"));
    (labels, value)
}

#[expect(clippy::cast_precision_loss, reason = "only compared with what it was before")]
fn rough(count: i64) -> f64 {
    count as f64
}
