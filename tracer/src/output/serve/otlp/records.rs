//! Findings as log records of OTLP.
//!
//! Their resource is what the finding is about, not tcptrail: whoever looks at the logs of a service sees what is wrong
//! with its connections between the lines it writes itself. That tcptrail says so is in the scope. What belongs to
//! nobody is tcptrail's own.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::engine::rules::{Finding, Severity, Update};
use crate::names::{self, Place};
use crate::output::serve::fingerprint;
use crate::output::serve::histogram::seconds;
use crate::output::serve::look::safe;
use crate::output::serve::otlp::naming;
use crate::output::serve::otlp::points::unix_ns;
use crate::output::serve::otlp::queue::Event;
use crate::output::serve::otlp::resource::{Machine, attribute, number, text};
use crate::time::{Anchor, Human};

/// What marks these records as events of one kind.
pub(super) const EVENT: &str = "tcptrail.finding";

/// All of these, by what they are about.
pub(super) fn request(
    machine: &Machine,
    anchor: Anchor,
    events: &[Arc<Event>],
) -> ExportLogsServiceRequest {
    let mut all: Vec<ResourceLogs> = Vec::new();
    for event in events {
        let resource = Some(resource(machine, event));
        let record = record(event, anchor);
        let known = all.iter_mut().find(|logs| logs.resource == resource);
        match known.and_then(|logs| logs.scope_logs.first_mut()) {
            Some(scope) => scope.log_records.push(record),
            None => all.push(ResourceLogs {
                resource,
                scope_logs: vec![ScopeLogs {
                    scope: Some(machine.scope()),
                    log_records: vec![record],
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }),
        }
    }
    ExportLogsServiceRequest { resource_logs: all }
}

/// Whose sockets it is about.
fn resource(machine: &Machine, event: &Event) -> Resource {
    let place = event.place.place();
    let Some(workload) = workload(&event.finding, &place) else { return machine.ourselves() };
    let namespace = place.namespace.map(safe);
    // A pod's is `namespace/owner`.
    let pods = namespace.as_ref().filter(|_| place.pod.is_some());
    let name = pods.and_then(|namespace| workload.strip_prefix(namespace.as_str()));
    let name = name.and_then(|name| name.strip_prefix('/')).unwrap_or(&workload);
    let mut own = vec![text("service.name", name)];
    let mut add = |key: &str, value: Option<&[u8]>| {
        own.extend(value.map(|value| text(key, safe(value))));
    };
    if pods.is_some() {
        add("service.namespace", place.namespace);
        add("k8s.namespace.name", place.namespace);
        add("k8s.pod.name", place.pod);
        add("k8s.container.name", place.container_name);
    } else {
        add("container.name", place.container_name);
    }
    add("container.id", place.container);
    machine.of(own)
}

/// As in the label of metrics, but for what found no room there.
fn workload(finding: &Finding, place: &Place<'_>) -> Option<String> {
    let comm = finding.process.map(|process| process.comm);
    match names::workload(place) {
        Some(name) => Some(safe(&name)),
        None => comm.filter(|comm| !comm.bytes().is_empty()).map(|comm| safe(comm.bytes())),
    }
}

fn record(event: &Event, anchor: Anchor) -> LogRecord {
    let Event { at, update, finding, .. } = event;
    let time = unix_ns(anchor, *at);
    let (severity, name) = severity(finding.severity);
    let severity = match update {
        // That something is over wakes nobody up.
        Update::Clear { .. } => SeverityNumber::Info,
        Update::Appear | Update::Change => severity,
    };
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: name.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(sentence(event))) }),
        attributes: attributes(event),
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}

/// A leak is worse than what is stuck, and both are what somebody should look at. What runs out makes calls fail.
fn severity(severity: Severity) -> (SeverityNumber, &'static str) {
    let number = match severity {
        Severity::Exhaustion => SeverityNumber::Error,
        Severity::Leak => SeverityNumber::Warn2,
        Severity::Stuck => SeverityNumber::Warn,
        Severity::Note => SeverityNumber::Info,
    };
    (number, severity.name())
}

/// The sentence of `/findings`; of one that is over as `stuck` has it.
fn sentence(event: &Event) -> String {
    let Event { at, update, finding, .. } = event;
    let verdict = safe(finding.verdict.as_bytes());
    match update {
        Update::Appear | Update::Change => verdict,
        Update::Clear { since } => {
            let over = Human(at.since(*since));
            // What would have come of it is of no interest any more.
            format!("over after {over}: {}", verdict.split("; ").next().unwrap_or_default())
        }
    }
}

fn attributes(event: &Event) -> Vec<KeyValue> {
    let Event { at, update, finding, place } = event;
    let state = match update {
        Update::Appear => "appeared",
        Update::Change => "changed",
        Update::Clear { .. } => "ended",
    };
    let mut all = vec![
        text("tcptrail.finding.id", safe(finding.id.as_bytes())),
        text("tcptrail.finding.state", state),
        text("tcptrail.finding.rule", finding.rule.name()),
        text("tcptrail.finding.code", finding.code.to_string()),
        text("tcptrail.finding.severity", finding.severity.name()),
        number("tcptrail.finding.sockets", finding.count),
        text("tcptrail.finding.fingerprint", fingerprint::of(finding)),
        text("tcptrail.finding.advice", safe(finding.advice_and_more().as_bytes())),
        text("network.transport", "tcp"),
    ];
    let time = |key: &str, ns: u64| attribute(key, Value::DoubleValue(seconds(u128::from(ns))));
    all.extend(finding.oldest_ns.map(|ns| time("tcptrail.finding.oldest_seconds", ns)));
    if let Update::Clear { since } = update {
        all.push(time("tcptrail.finding.lasted_seconds", at.since(*since)));
    }
    let left = finding.forecast.and_then(|forecast| forecast.left_ns);
    all.extend(left.map(|ns| time("tcptrail.finding.exhaustion_seconds", ns)));
    let opener = finding.opener.as_deref();
    all.extend(opener.map(|it| text("tcptrail.finding.opener", safe(it.as_bytes()))));
    all.extend(workload(finding, &place.place()).map(|name| text("tcptrail.workload", name)));
    network(finding, &mut all);
    process(finding, &mut all);
    all
}

fn network(finding: &Finding, all: &mut Vec<KeyValue>) {
    all.extend(
        finding.state.map(|state| text("network.connection.state", naming::state(state.name()))),
    );
    all.extend(finding.local_port.map(|port| number("network.local.port", port.into())));
    if let Some(remote) = finding.remote {
        all.push(text("network.peer.address", remote.ip().to_canonical().to_string()));
        all.push(number("network.peer.port", remote.port().into()));
    }
}

fn process(finding: &Finding, all: &mut Vec<KeyValue>) {
    if let Some(process) = finding.process {
        all.extend(process.pid.map(|pid| number("process.pid", pid.into())));
        if !process.comm.bytes().is_empty() {
            all.push(text("process.executable.name", safe(process.comm.bytes())));
        }
    }
    if !finding.workers.is_empty() {
        let pid = |pid: &u32| AnyValue { value: Some(Value::IntValue(i64::from(*pid))) };
        let values = finding.workers.iter().map(pid).collect();
        all.push(attribute("tcptrail.finding.pids", Value::ArrayValue(ArrayValue { values })));
    }
}
