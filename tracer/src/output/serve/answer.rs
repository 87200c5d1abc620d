//! What is answered to a request: no sockets here.

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::engine::rules::Update;
use crate::output::lines::{Pen, finding_object};
use crate::output::serve::page;
use crate::output::serve::prometheus::{self, Format};
use crate::output::serve::shared::{Refusal, Shared};
use crate::output::serve::snapshot::Snapshot;
use crate::text::Terminal;
use crate::time::{Human, MonoNs};

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "/ /findings /healthz /metrics /readyz";

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: 200, content_type, body: body.into() }
    }

    fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, content_type: TEXT, body: body.into().into_bytes() }
    }
}

/// Answers. `accept` is that header, empty when there is none.
pub(super) fn answer(shared: &Arc<Shared>, method: &str, path: &str, accept: &str) -> Answer {
    if !matches!(method, "GET" | "HEAD") {
        shared.refuse(Refusal::Method);
        return Answer::text(
            405,
            "tcptrail only answers GET and HEAD: nothing can be changed here\n",
        );
    }
    let now = MonoNs::now();
    match path {
        "/healthz" => health(shared, now),
        "/readyz" if shared.latest().is_some() => Answer::text(200, "ready\n"),
        "/readyz" => {
            Answer::text(503, "not ready: tcptrail has not listed the existing sockets yet\n")
        }
        "/metrics" | "/findings" | "/" => match shared.latest() {
            Some(snapshot) => told(shared, &snapshot, path, accept),
            None => Answer::text(
                503,
                "not ready: tcptrail has not listed the existing sockets yet; ask again in a second\n",
            ),
        },
        _ => Answer::text(404, format!("there is no such page; the pages are {PATHS}\n")),
    }
}

fn told(shared: &Arc<Shared>, snapshot: &Arc<Snapshot>, path: &str, accept: &str) -> Answer {
    match path {
        "/metrics" => {
            let format = format(accept);
            Answer::ok(format.content_type(), prometheus::page(shared, snapshot, format))
        }
        "/findings" => Answer::ok("application/json", findings(shared, snapshot)),
        _ => Answer::ok("text/html; charset=utf-8", page::page(shared, snapshot)),
    }
}

fn health(shared: &Shared, now: MonoNs) -> Answer {
    match shared.stands_still(now) {
        None => Answer::text(200, "ok\n"),
        Some(still) => {
            Answer::text(503, format!("tcptrail has processed no event for {}\n", Human(still)))
        }
    }
}

/// A list of the objects of `stuck --json`, one a line.
fn findings(shared: &Shared, snapshot: &Snapshot) -> Vec<u8> {
    let plain = Terminal { width: None, color: false };
    let mut pen = Pen::new(true, plain, TimeZone::UTC);
    pen.clock.set_anchor(shared.origin.anchor());
    let mut out = b"[".to_vec();
    for (index, (finding, _, known)) in snapshot.findings.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        finding_object(&mut pen, &Update::Appear, finding, known, snapshot.at, &mut out);
        // Each ends its line.
        out.pop_if(|last| *last == b'\n');
    }
    out.extend_from_slice(b"\n]\n");
    out
}

/// What is wanted most of the two formats; of those wanted as much the newer.
fn format(accept: &str) -> Format {
    let wanted = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
            Some((name, quality.parse::<f32>().unwrap_or(0.0)))
        });
        ranges.filter(|(name, _)| name == kind).map(|(_, quality)| quality).fold(0.0, f32::max)
    };
    let open = wanted("application/openmetrics-text");
    let classic = wanted("text/plain");
    if open > 0.0 && open >= classic { Format::OpenMetrics } else { Format::Classic }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_is_wanted_most() {
        let check = |accept: &str, expect| assert_eq!(format(accept), expect, "{accept}");
        check("", Format::Classic);
        check("*/*", Format::Classic);
        check("text/plain", Format::Classic);
        check("text/html,*/*;q=0.8", Format::Classic);
        check("application/openmetrics-text", Format::OpenMetrics);
        // Prometheus 2.42, and one that is told to prefer the classic text.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check(
            "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.2",
            Format::Classic,
        );
        check("application/openmetrics-text;q=0", Format::Classic);
        check("Application/OpenMetrics-Text; q=oops", Format::Classic);
    }
}
