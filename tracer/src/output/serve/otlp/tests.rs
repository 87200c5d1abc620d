//! What is pushed, decoded again; and collectors that answer this and that.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use proptest::prelude::*;
use prost::Message;

use super::client::{Limits, Outcome};
use super::starts::Starts;
use super::status::Reason;
use super::*;
use crate::config::Endpoint;
use crate::engine::rules::{Code, Forecast, Process, RuleId, Severity, What};
use crate::event::Comm;
use crate::names::Place;
use crate::output::recorder;
use crate::output::serve::answer::answer;
use crate::output::serve::tests::{finding, origin, served, snapshot};
use crate::time::Anchor;

const ANCHOR: Anchor = Anchor { wall_at_zero: 1_000_000_000_000_000_000 };

fn machine(given: &[(&str, &str)]) -> Machine {
    let given: Vec<_> =
        given.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Machine::new("1.2.3", &given)
}

/// Attributes as text, by key.
fn by_key(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |one: &KeyValue| match one.value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => format!("{} values", array.values.len()),
        other => panic!("{other:?}"),
    };
    let all: BTreeMap<_, _> = attributes.iter().map(|one| (one.key.clone(), value(one))).collect();
    assert_eq!(all.len(), attributes.len(), "a key twice: {attributes:?}");
    all
}

fn decoded(events: &[Arc<Event>], machine: &Machine) -> ExportLogsServiceRequest {
    let bytes = records::request(machine, ANCHOR, events).encode_to_vec();
    ExportLogsServiceRequest::decode(&bytes[..]).expect("it is what was encoded")
}

/// The only record, and the attributes of its resource.
fn only(events: &[Arc<Event>], machine: &Machine) -> (LogRecord, BTreeMap<String, String>) {
    let request = decoded(events, machine);
    let [logs] = &request.resource_logs[..] else { panic!("{request:?}") };
    let [scope] = &logs.scope_logs[..] else { panic!("{request:?}") };
    let [record] = &scope.log_records[..] else { panic!("{request:?}") };
    assert_eq!(scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("tcptrail"));
    (record.clone(), by_key(&logs.resource.as_ref().expect("a resource").attributes))
}

fn event(update: Update, finding: Finding, place: &Place<'_>) -> Arc<Event> {
    Arc::new(Event { at: MonoNs(9_000_000_000), update, finding, place: Kept::from(place) })
}

fn body(record: &LogRecord) -> &str {
    match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The series of the page, without buckets, sums and counts of histograms: name and labels, and the value.
fn page_series(page: &str) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let of_histogram = |line: &str| {
        line.split(['{', ' ']).next().is_some_and(|name| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().any(|end| {
                let base = name.strip_suffix(end);
                base.is_some_and(|base| page.contains(&format!("# TYPE {base} histogram")))
            })
        })
    };
    let lines = page.lines().filter(|line| !line.starts_with('#') && !of_histogram(line));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split("\",").filter(|it| !it.is_empty());
            let labels = labels.filter_map(|pair| {
                let (key, value) = pair.split_once("=\"").expect("a label");
                let value = value.trim_end_matches('"');
                // The text format escapes them.
                (!value.is_empty()).then(|| (key.to_owned(), value.replace("\\\\", "\\")))
            });
            let name = name.strip_suffix("_total").unwrap_or(name);
            ((name.to_owned(), labels.collect()), value.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn metrics_are_those_of_the_page() {
    let (mut serve, shared, _) = served("synthetic.tcpt", Vec::new());
    serve.running.take().expect("it runs").0.end();
    let status = Arc::new(Status::default());
    let ours = Shared::new(origin(), Vec::new())
        .with_recorder(Some(Arc::new(recorder::Status::default())))
        .with_otlp(Some(status));
    let snapshot = shared.latest().expect("it is published");
    ours.publish((*snapshot).clone());
    let ours = Arc::new(ours);
    let mut starts = Starts::new(MonoNs(7));
    let request = points::request(&machine(&[]), &ours, &snapshot, &mut starts);
    let request = ExportMetricsServiceRequest::decode(&request.encode_to_vec()[..]).expect("same");
    let page = String::from_utf8(answer(&ours, "GET", "/metrics", "").body).expect("UTF-8");
    let mut pushed = BTreeMap::new();
    let mut histograms = 0;
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    for metric in metrics {
        assert!(!metric.description.is_empty(), "{metric:?}");
        let points = match metric.data.as_ref().expect("data") {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => {
                assert_eq!(sum.is_monotonic, metric.name.starts_with("tcptrail."), "{metric:?}");
                assert_eq!(sum.aggregation_temporality, 2, "cumulative");
                &sum.data_points
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    let value = by_key(&point.attributes);
                    let name = format!("tcptrail_{}_seconds", &metric.name[9..].replace('.', "_"));
                    let (key, value) = value.iter().next().expect("an attribute");
                    let line = format!("{name}_count{{{key}=\"{value}\"}} {}\n", point.count);
                    assert!(page.contains(&line), "{line}");
                    histograms += 1;
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        let name = super::naming::page_name(&metric.name).expect("it is in the list");
        for point in points {
            let mut labels = by_key(&point.attributes);
            if metric.name == "system.network.connection.count" {
                assert_eq!(labels.remove("network.transport").as_deref(), Some("tcp"));
                let state = labels.remove("network.connection.state").expect("a state");
                let states = tracer_common::TcpState::ALL.into_iter().map(|state| state.name());
                let mut states = states.filter(|name| super::naming::state(name) == state);
                labels.insert("state".into(), states.next().expect("of the kernel").into());
            }
            let value = match point.value.expect("a value") {
                number_data_point::Value::AsDouble(number) => number,
                number_data_point::Value::AsInt(number) => number as f64,
            };
            let sum = matches!(&metric.data, Some(Data::Sum(sum)) if sum.is_monotonic);
            assert_eq!(point.start_time_unix_nano != 0, sum, "{metric:?}");
            pushed.insert((name.to_owned(), labels), value);
        }
    }
    let mut expect = page_series(&page);
    for changes in ["tcptrail_cpu_seconds", "tcptrail_resident_bytes"] {
        for all in [&mut pushed, &mut expect] {
            all.remove(&(changes.to_owned(), BTreeMap::new())).expect("it is there");
        }
    }
    assert!(expect.len() > 60 && histograms > 5, "{} and {histograms}", expect.len());
    assert_eq!(pushed, expect);
    let resource = by_key(&request.resource_metrics[0].resource.as_ref().expect("one").attributes);
    assert_eq!(resource["service.name"], "tcptrail");
    assert_eq!(resource["service.version"], "1.2.3");
    assert_eq!(resource["service.instance.id"], resource["host.name"]);
}

#[test]
fn every_family_has_a_name() {
    let sources =
        [include_str!("../metrics.rs"), include_str!("../recorder.rs"), include_str!("status.rs")];
    let mut found = 0;
    for source in sources {
        let literals = source.split('"').filter(|text| text.starts_with("tcptrail_"));
        for text in literals.filter(|text| !text.contains(' ')) {
            let info = format!("{text}_info");
            let known = super::naming::name(text).or(super::naming::name(&info));
            assert!(known.is_some(), "{text} is not in the list of naming.rs");
            found += 1;
        }
    }
    assert_eq!(found, super::naming::LENGTH);
}

#[test]
fn a_finding_says_whose_it_is_and_where() {
    let shop = Place {
        path: Some(b"/system.slice/shop.service"),
        service: Some(b"shop.service"),
        ..Place::default()
    };
    let id = "0123456789abcdef".repeat(4);
    let pod = Place {
        container: Some(id.as_bytes()),
        container_name: Some(b"app"),
        namespace: Some(b"shop"),
        pod: Some(b"web-6d4cf56db6-x7k2p"),
        ..Place::default()
    };
    let leak = || Finding {
        remote: Some("10.0.0.7:5432".parse().expect("an address")),
        opener: Some("com.acme.Crawler.fetch:42".into()),
        forecast: Some(Forecast {
            what: What::Fds,
            limit: 9,
            in_use: 3,
            share: None,
            per_second: None,
            left_ns: Some(1_500_000_000),
        }),
        ..finding("java[7] leaks; 9 in 1h")
    };
    let given = machine(&[("k8s.node.name", "n1"), ("service.name", "other"), ("os.type", "x")]);
    let (record, resource) = only(&[event(Update::Appear, leak(), &shop)], &given);
    assert_eq!(
        (record.event_name.as_str(), record.severity_text.as_str()),
        ("tcptrail.finding", "leak")
    );
    assert_eq!((record.severity_number, body(&record)), (14, "java[7] leaks; 9 in 1h"));
    assert_eq!(record.time_unix_nano, 1_000_000_009_000_000_000);
    assert_eq!(resource["service.name"], "shop.service");
    assert_eq!((resource["k8s.node.name"].as_str(), resource["os.type"].as_str()), ("n1", "x"));
    assert!(!resource.contains_key("service.version"), "{resource:?}");
    let attributes = by_key(&record.attributes);
    for (key, value) in [
        ("tcptrail.finding.id", "close_wait/7/1/:80"),
        ("tcptrail.finding.state", "appeared"),
        ("tcptrail.finding.rule", "close_wait"),
        ("tcptrail.finding.code", "TT101"),
        ("tcptrail.finding.severity", "leak"),
        ("tcptrail.finding.sockets", "3"),
        ("tcptrail.finding.oldest_seconds", "7"),
        ("tcptrail.finding.exhaustion_seconds", "1.5"),
        ("tcptrail.finding.opener", "com.acme.Crawler.fetch:42"),
        ("tcptrail.workload", "shop.service"),
        ("network.transport", "tcp"),
        ("network.connection.state", "close_wait"),
        ("network.local.port", "80"),
        ("network.peer.address", "10.0.0.7"),
        ("network.peer.port", "5432"),
        ("process.pid", "7"),
        ("process.executable.name", "java"),
    ] {
        assert_eq!(attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(attributes["tcptrail.finding.fingerprint"].len(), 16);

    let over = Update::Clear { since: MonoNs(2_000_000_000) };
    let (record, resource) = only(&[event(over, leak(), &pod)], &given);
    assert_eq!((record.severity_number, body(&record)), (9, "over after 7.00s: java[7] leaks"));
    let attributes = by_key(&record.attributes);
    assert_eq!(attributes["tcptrail.finding.state"], "ended");
    assert_eq!(attributes["tcptrail.finding.lasted_seconds"], "7");
    assert_eq!(attributes["tcptrail.workload"], "shop/web");
    for (key, value) in [
        ("service.name", "web"),
        ("service.namespace", "shop"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-6d4cf56db6-x7k2p"),
        ("k8s.container.name", "app"),
        ("container.id", &id),
    ] {
        assert_eq!(resource.get(key).map(String::as_str), Some(value), "{key}");
    }
    // Without a unit it is the process; what nobody has is told by tcptrail of itself.
    let (_, resource) = only(&[event(Update::Change, leak(), &Place::default())], &given);
    assert_eq!(resource["service.name"], "java");
    let nobody = Finding { process: None, ..finding("x") };
    let (_, resource) = only(&[event(Update::Change, nobody, &Place::default())], &given);
    assert_eq!(
        (resource["service.name"].as_str(), resource["service.version"].as_str()),
        ("other", "1.2.3")
    );
}

#[test]
fn records_of_one_service_stand_together() {
    let one = |comm: &str| {
        let process = Some(Process { pid: Some(1), comm: Comm::new(comm.as_bytes()) });
        event(Update::Appear, Finding { process, ..finding(comm) }, &Place::default())
    };
    let events = [one("a"), one("b"), one("a")];
    let request = decoded(&events, &machine(&[]));
    let counts = request.resource_logs.iter().map(|logs| logs.scope_logs[0].log_records.len());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 1]);
}

proptest! {
    #[test]
    fn no_text_breaks_a_record(
        (verdict, advice, opener) in ("(?s).{0,80}", "(?s).{0,80}", "(?s).{0,80}"),
        (comm, id) in (proptest::collection::vec(any::<u8>(), 0..16), "(?s).{0,40}"),
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 6),
        (oldest, left) in (any::<u64>(), any::<u64>()),
    ) {
        let place = Place {
            path: Some(&names[0]),
            service: Some(&names[1]),
            container: Some(&names[2]),
            container_name: Some(&names[3]),
            namespace: Some(&names[4]),
            pod: Some(&names[5]),
        };
        let finding = Finding {
            id,
            advice,
            rule: RuleId::CloseWait,
            code: Code::CloseWait,
            severity: Severity::Exhaustion,
            oldest_ns: Some(oldest),
            process: Some(Process { pid: Some(u32::MAX), comm: Comm::new(&comm) }),
            opener: Some(opener.as_str().into()),
            forecast: Some(Forecast {
                what: What::Ports,
                limit: u64::MAX,
                in_use: 0,
                share: None,
                per_second: Some(f64::NAN),
                left_ns: Some(left),
            }),
            ..finding(&verdict)
        };
        for update in [Update::Appear, Update::Clear { since: MonoNs(left) }] {
            let (record, resource) = only(&[event(update, finding.clone(), &place)], &machine(&[]));
            let attributes = by_key(&record.attributes);
            let texts = attributes.values().chain(resource.values()).map(String::as_str);
            for text in texts.chain([body(&record)]) {
                let hidden = |c: char| c.is_control() || c == '\u{202e}';
                prop_assert!(!text.contains(hidden), "{text:?}");
            }
        }
    }
}

/// A collector that gives these answers, one to a connection, and tells what it was sent. An empty answer is none at
/// all: it waits for the other side to go.
fn collector(answers: Vec<Vec<u8>>) -> (OtlpOptions, mpsc::Receiver<(String, Bytes)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            let mut all = Vec::new();
            let mut buffer = [0; 4096];
            let whole = loop {
                let head = all.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
                let text = String::from_utf8_lossy(&all[..head.unwrap_or(0)]).to_lowercase();
                let length = text.split("content-length: ").nth(1);
                let length: Option<usize> =
                    length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
                if let Some((head, length)) = head.zip(length)
                    && all.len() >= head + length
                {
                    break Some((text, all.split_off(head)));
                }
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break None,
                    Ok(read) => all.extend_from_slice(&buffer[..read]),
                }
            };
            if let Some((head, body)) = whole {
                let mut plain = Vec::new();
                let mut gzip = flate2::read::GzDecoder::new(&body[..]);
                gzip.read_to_end(&mut plain).expect("gzip");
                let _ = send.send((head, plain.into()));
            }
            match answer.is_empty() {
                true => while matches!(stream.read(&mut buffer), Ok(1..)) {},
                // It may have gone already.
                false => drop(stream.write_all(&answer)),
            }
        }
    });
    let endpoint = Endpoint { host: "127.0.0.1".into(), port, base: "/otlp".into() };
    let mut headers = hyper::HeaderMap::new();
    headers.insert("x-token", "1".parse().expect("a value"));
    let interval = Duration::from_secs(60);
    (OtlpOptions { endpoint, interval, headers, resource: Vec::new() }, received)
}

fn http(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const SHORT: Limits = Limits { connect: Duration::from_secs(1), whole: Duration::from_millis(500) };

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

#[test]
fn whatever_answers_has_an_outcome() {
    let long = vec![b'x'; 100 << 10];
    let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'x'; 1 << 20]].concat();
    let later = |reason, asked: Option<u64>| (false, Some(reason), asked);
    let refused = (true, Some(Reason::Status), None);
    // An answer; whether that is the end of it; why it failed; how long the collector asks to wait.
    let all = [
        (http("200 OK", "", b""), (true, None, None)),
        (
            http("503 Service Unavailable", "Retry-After: 7\r\n", b"x"),
            later(Reason::Status, Some(7)),
        ),
        (http("429 Too Many Requests", "", b""), later(Reason::Status, None)),
        (http("502 Bad Gateway", "Retry-After: soon\r\n", b""), later(Reason::Status, None)),
        (http("504 Gateway Timeout", "", b""), later(Reason::Status, None)),
        (http("400 Bad Request", "", b""), refused),
        (http("404 Not Found", "", b""), refused),
        (http("301 Moved", "Location: http://127.0.0.1:1/\r\n", b""), refused),
        (http("204 No Content", "", b""), refused),
        (http("200 OK", "", &long), later(Reason::Answer, None)),
        (endless, later(Reason::Answer, None)),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), later(Reason::Answer, None)),
        (b"\0\0\x12\x04\0\0\0\0\0\0\0".to_vec(), later(Reason::Answer, None)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx".to_vec(), later(Reason::Answer, None)),
        (b"HTTP/1.1 200 OK\r\n".to_vec(), later(Reason::Unreachable, None)),
        (Vec::new(), later(Reason::Timeout, None)),
    ];
    let (options, received) = collector(all.iter().map(|(answer, _)| answer.clone()).collect());
    let client = Client::new(&options, SHORT);
    for (given, expect) in &all {
        let given = String::from_utf8_lossy(&given[..given.len().min(60)]).into_owned();
        let began = Instant::now();
        let outcome = block_on(client.post("/v1/logs", b"what is sent"));
        assert!(began.elapsed() < Duration::from_secs(5), "{given}");
        let told = match outcome {
            Outcome::Taken(_) => (true, None, None),
            Outcome::Later(failure, asked) => {
                (false, Some(failure.reason), asked.map(|asked| asked.as_secs()))
            }
            Outcome::Refused(failure) => (true, Some(failure.reason), None),
        };
        assert_eq!(told, *expect, "{given}");
        let (head, body) = received.recv_timeout(Duration::from_secs(20)).expect("a request");
        assert_eq!(&body[..], b"what is sent");
        for part in [
            "post /otlp/v1/logs http/1.1\r\n",
            "content-type: application/x-protobuf\r\n",
            "content-encoding: gzip\r\n",
            "connection: close\r\n",
            "user-agent: tcptrail/",
            "x-token: 1\r\n",
            "host: 127.0.0.1:",
        ] {
            assert!(head.contains(part), "{part}: {head}");
        }
    }
    // Nobody listens there any more, and where nobody is.
    let port = options.endpoint.port;
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while std::net::TcpStream::connect(gone).is_ok() {}
    for host in ["127.0.0.1", "no-such-host.invalid"] {
        let endpoint = Endpoint { host: host.into(), ..options.endpoint.clone() };
        let client = Client::new(&OtlpOptions { endpoint, ..options.clone() }, SHORT);
        match block_on(client.post("/v1/logs", b"")) {
            Outcome::Later(failure, None) => {
                assert!(failure.words.contains("cannot be reached"), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Pushes for as long as `until` holds back, with these answers in turn; returns what was counted, and the bodies.
fn pushed(answers: Vec<Vec<u8>>, findings: usize) -> (String, Vec<ExportLogsServiceRequest>) {
    let requests = answers.len();
    let (options, received) = collector(answers);
    let status = Arc::new(Status::default());
    // Without figures: findings only.
    let shared = Arc::new(Shared::new(origin(), Vec::new()));
    let mut pusher = Pusher::start(&options, shared, Arc::clone(&status)).expect("a thread");
    for number in 0..findings {
        let finding = finding(&format!("number {number}"));
        pusher.queue.push(Event {
            at: MonoNs(1),
            update: Update::Appear,
            finding,
            place: Kept::default(),
        });
    }
    let bodies = (0..requests).map(|_| {
        let (_, body) = received.recv_timeout(Duration::from_secs(20)).expect("a request");
        ExportLogsServiceRequest::decode(body).expect("logs")
    });
    let bodies = bodies.collect();
    // The last answer is under way.
    let deadline = Instant::now() + Duration::from_secs(20);
    while pusher.queue.len() != 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    pusher.end();
    (format!("{status:?}"), bodies)
}

fn sentences(request: &ExportLogsServiceRequest) -> Vec<&str> {
    let scopes = request.resource_logs.iter().flat_map(|logs| &logs.scope_logs);
    scopes.flat_map(|scope| &scope.log_records).map(body).collect()
}

#[test]
fn what_is_refused_for_now_comes_again_and_is_counted() {
    let partial = ExportLogsPartialSuccess {
        rejected_log_records: 1,
        error_message: "too \u{1b}[31mold".into(),
    };
    let partial = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let check = |last: Vec<u8>, expect: &str| {
        let busy = http("503 Service Unavailable", "Retry-After: 0\r\n", b"");
        let (counted, bodies) = pushed(vec![busy, last], 2);
        for body in &bodies {
            assert_eq!(sentences(body), ["number 0", "number 1"]);
        }
        assert_eq!(bodies.len(), 2);
        assert!(counted.ends_with(expect), "{counted}");
    };
    check(
        http("200 OK", "", b""),
        "exports: [0, 1], failures: [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], dropped: [0, 0, 0], queued: 0 }",
    );
    check(
        http("200 OK", "", &partial),
        "exports: [0, 1], failures: [[0, 0, 0, 0, 0], [0, 0, 1, 0, 1]], dropped: [0, 0, 1], queued: 0 }",
    );
    check(
        http("401 Unauthorized", "", b""),
        "exports: [0, 0], failures: [[0, 0, 0, 0, 0], [0, 0, 2, 0, 0]], dropped: [0, 2, 0], queued: 0 }",
    );
    check(
        http("200 OK", "", b"<html>It works!</html>"),
        "exports: [0, 0], failures: [[0, 0, 0, 0, 0], [0, 0, 1, 1, 0]], dropped: [0, 2, 0], queued: 0 }",
    );
}

#[test]
fn a_long_queue_goes_in_several_requests() {
    let fine = http("200 OK", "", b"");
    let (counted, bodies) = pushed(vec![fine; 3], 1200);
    let all: Vec<_> = bodies.iter().flat_map(sentences).map(str::to_owned).collect();
    assert_eq!(all, (0..1200).map(|number| format!("number {number}")).collect::<Vec<_>>());
    assert!(counted.contains("exports: [0, 3]") && counted.contains("queued: 0"), "{counted}");
}

#[test]
fn the_end_waits_for_nobody_for_long() {
    let (options, received) = collector(vec![Vec::new(), Vec::new(), Vec::new()]);
    let status = Arc::new(Status::default());
    let shared = Arc::new(Shared::new(origin(), Vec::new()));
    shared.publish(snapshot());
    let mut pusher = Pusher::start(&options, shared, status).expect("a thread");
    received.recv_timeout(Duration::from_secs(20)).expect("metrics");
    let began = Instant::now();
    pusher.end();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
