//! rotel, a collector of OpenTelemetry as people run it, and behind it a receiver of the test's own that keeps what the
//! collector sends on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use prost::Message;

use crate::netns::Netns;
use crate::traffic::{connect, listen};
use crate::web::Daemon;
use crate::witness::eventually;

/// Where it takes OTLP over HTTP, as collectors do.
pub const PORT: u16 = 4318;
const PATIENCE: Duration = Duration::from_secs(20);

/// Attributes as text, by name.
pub type Attributes = BTreeMap<String, String>;

/// A log record that came through.
#[derive(Clone, Debug)]
pub struct Log {
    /// Whose it is.
    pub resource: Attributes,
    /// What made it.
    pub scope: String,
    /// Its own attributes.
    pub attributes: Attributes,
    /// The rest of it.
    pub record: LogRecord,
}

impl Log {
    /// An attribute; empty where it has none of that name.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// The sentence.
    #[must_use]
    pub fn body(&self) -> String {
        self.record.body.as_ref().map(text).unwrap_or_default()
    }
}

/// A point of a sum or gauge that came through.
#[derive(Clone, Debug)]
pub struct Point {
    /// Whose it is.
    pub resource: Attributes,
    /// Of its metric.
    pub unit: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its value.
    pub value: f64,
    /// Since when it counts; 0 for what does not.
    pub start_ns: u64,
    /// When it was so.
    pub time_ns: u64,
}

/// What came through.
#[derive(Debug, Default)]
pub struct Received {
    /// All log records.
    pub logs: Vec<Log>,
    /// Of each metric, those points that came last.
    pub points: BTreeMap<String, Vec<Point>>,
    /// Histograms: name, and how many values they have in all.
    pub histograms: BTreeMap<String, u64>,
}

/// The collector. It ends when dropped.
pub struct Rotel {
    daemon: Daemon,
    received: Arc<Mutex<Received>>,
}

/// Where `cargo xtask setup --tests` puts it.
fn program() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/rotel/rotel")).to_owned()
}

/// The collector proper, with the configuration that we ship: it reads findings from this file, and sends them to the
/// collector that [`Rotel`] is.
///
/// # Errors
/// When it cannot be started.
pub fn start_filelog(netns: &Netns, findings: &Path) -> Result<Daemon> {
    let mut command = Command::new(filelog());
    command
        .arg("--config")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/opentelemetry/filelog.yaml"));
    command.env("TCPTRAIL_FINDINGS", findings).stdout(Stdio::null());
    Daemon::spawn(netns, &mut command)
}

fn filelog() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/otelcol/otelcol")).to_owned()
}

/// Whether the collector that reads files is here; says why not.
#[must_use]
pub fn filelog_is_ready() -> bool {
    let ready = filelog().is_file();
    if !ready {
        println!("skipped: needs target/otelcol (cargo xtask setup --tests)");
    }
    ready
}

/// Whether it is here; says why not.
#[must_use]
pub fn ready(tools: &[&str]) -> bool {
    if !program().is_file() {
        println!("skipped: needs target/rotel (cargo xtask setup --tests)");
        return false;
    }
    crate::ready(tools)
}

impl Rotel {
    /// Starts it in a namespace; it takes requests when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &Netns) -> Result<Rotel> {
        let behind = listen(netns, "127.0.0.1:0")?;
        let to = behind.local_addr()?;
        let received = Arc::new(Mutex::new(Received::default()));
        let into = Arc::clone(&received);
        thread::spawn(move || receive(&behind, &into));
        let mut command = Command::new(program());
        command.args(["start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        command.args(["--batch-timeout", "100ms"]);
        command.arg("--otlp-exporter-endpoint").arg(format!("http://{to}"));
        command.arg("--otlp-http-endpoint").arg(format!("127.0.0.1:{PORT}"));
        command.args(["--otlp-grpc-endpoint", "127.0.0.1:4317"]).stdout(Stdio::null());
        let daemon = Daemon::spawn(netns, &mut command)?;
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        eventually("rotel listens", PATIENCE, || Ok(connect(netns, address).ok()))?;
        Ok(Rotel { daemon, received })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.0.id()
    }

    /// What came through so far.
    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first log record that `wanted` takes.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn log(&self, what: &str, wanted: impl Fn(&Log) -> bool) -> Result<Log> {
        let found = eventually(what, PATIENCE, || {
            Ok(self.received().logs.iter().find(|log| wanted(log)).cloned())
        });
        found.with_context(|| format!("so far: {:#?}", self.received().logs))
    }
}

/// Takes requests for as long as somebody may send some; the thread ends with the test.
fn receive(listener: &TcpListener, into: &Arc<Mutex<Received>>) {
    while let Ok((stream, _)) = listener.accept() {
        let into = Arc::clone(into);
        // Whoever sends half a request sends it again.
        thread::spawn(move || request(&stream, &into).ok());
    }
}

fn request(stream: &TcpStream, into: &Mutex<Received>) -> Result<()> {
    let (path, body) = read_request(stream)?;
    let mut received = into.lock().unwrap_or_else(PoisonError::into_inner);
    match path.as_str() {
        "/v1/logs" => received.take_logs(ExportLogsServiceRequest::decode(&body[..])?),
        "/v1/metrics" => received.take_metrics(ExportMetricsServiceRequest::decode(&body[..])?),
        _ => {}
    }
    drop(received);
    answer(stream, "200 OK", "Content-Type: application/x-protobuf\r\n")
}

/// Reads a request of HTTP with a body that is zipped: its path, and the body.
///
/// # Errors
/// When it breaks off.
pub fn read_request(stream: &TcpStream) -> Result<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("no request")?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.trim().to_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut zipped = vec![0; length];
    reader.read_exact(&mut zipped)?;
    // Whoever pushes OTLP zips it, as a rule.
    let mut body = Vec::new();
    GzDecoder::new(&zipped[..]).read_to_end(&mut body)?;
    Ok((path, body))
}

/// Answers without a body, and closes.
///
/// # Errors
/// When the other side has gone.
pub fn answer(mut stream: &TcpStream, status: &str, more: &str) -> Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{more}Connection: close\r\nContent-Length: 0\r\n\r\n")?;
    Ok(())
}

impl Received {
    fn take_logs(&mut self, request: ExportLogsServiceRequest) {
        for logs in request.resource_logs {
            let resource = attributes(logs.resource.map(|it| it.attributes).unwrap_or_default());
            for scope in logs.scope_logs {
                let name = scope.scope.map(|scope| scope.name).unwrap_or_default();
                self.logs.extend(scope.log_records.into_iter().map(|record| Log {
                    resource: resource.clone(),
                    scope: name.clone(),
                    attributes: attributes(record.attributes.clone()),
                    record,
                }));
            }
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for metrics in request.resource_metrics {
            let resource = attributes(metrics.resource.map(|it| it.attributes).unwrap_or_default());
            for metric in metrics.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                self.take_metric(metric, &resource);
            }
        }
    }

    fn take_metric(&mut self, metric: Metric, resource: &Attributes) {
        let points = match metric.data {
            Some(Data::Gauge(gauge)) => gauge.data_points,
            Some(Data::Sum(sum)) => sum.data_points,
            Some(Data::Histogram(histogram)) => {
                let count = histogram.data_points.iter().map(|point| point.count).sum();
                self.histograms.insert(metric.name, count);
                return;
            }
            _ => return,
        };
        let point = |point: NumberDataPoint| Point {
            resource: resource.clone(),
            unit: metric.unit.clone(),
            attributes: attributes(point.attributes),
            value: match point.value {
                Some(Number::AsInt(number)) => number as f64,
                Some(Number::AsDouble(number)) => number,
                None => f64::NAN,
            },
            start_ns: point.start_time_unix_nano,
            time_ns: point.time_unix_nano,
        };
        self.points.insert(metric.name, points.into_iter().map(point).collect());
    }
}

fn attributes(all: Vec<KeyValue>) -> Attributes {
    let value = |value: Option<AnyValue>| value.as_ref().map(text).unwrap_or_default();
    all.into_iter().map(|one| (one.key, value(one.value))).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
