//! A finding as an object of the JSON contract.

use std::io::Write;

use crate::engine::rules::{self, Finding, Forecast, Opened, Sample};
use crate::names::Place;
use crate::output::json::{self, Object};
use crate::output::lines::beyond::Beyond;
use crate::output::lines::{Known, Pen, called, times};
use crate::text;
use crate::time::MonoNs;

pub(crate) fn object(
    pen: &mut Pen,
    update: &rules::Update,
    finding: &Finding,
    known: &Known,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let mut object = Object::event(out, "stuck");
    times(&mut object, &mut pen.clock, now);
    object
        .plain("change", update.name())
        .string("id", finding.id.as_bytes())
        .plain("severity", finding.severity.name())
        .plain("rule", finding.rule.name())
        .string("code", finding.code.to_string().as_bytes());
    match finding.state {
        Some(state) => object.plain("state", state.name()),
        None => object.null("state"),
    };
    object
        .number("count", finding.count)
        .number("in_state", finding.in_state)
        .number_or_null("oldest_ns", finding.oldest_ns);
    decimal(&mut object, "growth_per_min", finding.growth_per_min);
    decimal(&mut object, "closed_share", finding.closed_share);
    decimal(&mut object, "late_closed_share", finding.late_closed_share);
    object.number_or_null("netns", finding.netns);
    whose(&mut object, finding, &known.place());
    object.with("pids", |out| pids(finding, out));
    object.number_or_null("local_port", finding.local_port);
    match finding.remote {
        Some(remote) => object.endpoint("remote", remote),
        None => object.null("remote"),
    };
    known.beyond.fields(&mut object);
    object
        .string_or_null("opener", finding.opener.as_deref().map(str::as_bytes))
        .with("openers", |out| openers(&finding.opened, out))
        .number("opened_before", finding.opened.before)
        .with("conns", |out| {
            out.push(b'[');
            for (index, sample) in finding.conns.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(out, "{comma}\"{}\"", sample.id.0);
            }
            out.push(b']');
        })
        .with("sockets", |out| samples(&finding.conns, &known.beyond, out))
        .string("verdict", finding.verdict.as_bytes())
        .string("advice", finding.advice.as_bytes());
    match &finding.forecast {
        Some(known) => object.with("forecast", |out| forecast(known, out)),
        None => object.null("forecast"),
    };
    object.number_or_null("idle_timeout_ns", finding.idle_timeout_ns);
    match update {
        rules::Update::Clear { since } => object.number("lasted_ns", now.since(*since)),
        rules::Update::Appear | rules::Update::Change => object.null("lasted_ns"),
    };
    object.end();
}

/// Its process, and where that runs.
fn whose(object: &mut Object<'_>, finding: &Finding, place: &Place<'_>) {
    match finding.process {
        Some(process) => {
            object.number_or_null("pid", process.pid).string("comm", process.comm.bytes())
        }
        None => object.null("pid").null("comm"),
    };
    object.string_or_null("cgroup", place.path).string_or_null("container", place.container);
    called(object, place);
}

fn decimal(object: &mut Object<'_>, key: &str, value: Option<f64>) {
    match value.filter(|value| value.is_finite()) {
        Some(value) => object.with(key, |out| {
            // A write to a Vec cannot fail.
            let _ = write!(out, "{value:.3}");
        }),
        None => object.null(key),
    };
}

/// Of all workers, where it is about several; else of the one process, where that is known.
fn pids(finding: &Finding, out: &mut Vec<u8>) {
    let one = finding.process.and_then(|process| process.pid);
    let all = finding.workers.iter().copied().chain(one);
    out.push(b'[');
    for (index, pid) in all.enumerate() {
        let _ = write!(out, "{}{pid}", if index == 0 { "" } else { "," });
    }
    out.push(b']');
}

fn openers(opened: &Opened, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, (opener, count)) in opened.by.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{{\"opener\":");
        json::string(opener.as_bytes(), out);
        let _ = write!(out, ",\"count\":{count}}}");
    }
    out.push(b']');
}

fn samples(samples: &[Sample], beyond: &Beyond, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, sample) in samples.iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        let _ = write!(out, "{{\"conn\":\"{}\",\"local\":\"", sample.id.0);
        text::endpoint(sample.tuple.local(), out);
        out.extend_from_slice(b"\",\"remote\":\"");
        text::endpoint(sample.tuple.remote(), out);
        let _ = write!(out, "\",\"stuck_ns\":{},\"fd\":", sample.age_ns);
        let _ = match sample.fd {
            Some(fd) => write!(out, "{fd}"),
            None => write!(out, "null"),
        };
        if let Some(real) = beyond.real_of(index) {
            out.extend_from_slice(b",\"remote_real\":\"");
            text::endpoint(real, out);
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn forecast(forecast: &Forecast, out: &mut Vec<u8>) {
    let or_null =
        |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    let rate = forecast.per_second.filter(|rate| rate.is_finite());
    let rate = rate.map_or_else(|| "null".to_owned(), |rate| format!("{rate:.4}"));
    let _ = write!(
        out,
        "{{\"what\":\"{}\",\"limit\":{},\"in_use\":{},\"share\":{},\"per_second\":{rate},\"left_ns\":{}}}",
        forecast.what.name(),
        forecast.limit,
        forecast.in_use,
        or_null(forecast.share),
        or_null(forecast.left_ns),
    );
}
