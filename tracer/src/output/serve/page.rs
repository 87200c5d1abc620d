//! The page for a person: what is found now, and what to do. It has no scripts and loads nothing.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::engine::rules::{Finding, Severity};
use crate::names::Place;
use crate::output::lines::whereabouts;
use crate::output::serve::shared::Shared;
use crate::output::serve::snapshot::Snapshot;
use crate::time::Human;

/// What the page may do, for the header of that name: nothing but to have a style.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
h1{font-size:1.4rem}article{border-left:4px solid #999;padding:.2rem 1rem;margin:1.2rem 0}\
.exhaustion{border-color:#b00020}.leak{border-color:#d2691e}.stuck{border-color:#c9a400}\
p{margin:.3rem 0;overflow-wrap:anywhere}.verdict{font-weight:600}.small{color:#555;font-size:.9rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}.small{color:#aaa}a{color:#8ab4f8}}";

/// Makes it.
pub(super) fn page(shared: &Shared, snapshot: &Snapshot) -> String {
    let origin = &shared.origin;
    let count = snapshot.findings.iter().filter(|(one, ..)| one.severity != Severity::Note).count();
    let title = match count {
        0 => "nothing is stuck".to_owned(),
        1 => "1 finding".to_owned(),
        _ => format!("{count} findings"),
    };
    let sockets: u64 = snapshot.gauges.open.values().sum();
    let lost: u64 = snapshot.lost.iter().sum();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="10";
                title { "tcptrail: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "tcptrail: " (title) }
                p.small {
                    (sockets) " sockets, watched for " (time(snapshot.at.since(origin.start())))
                    @if lost != 0 { ", " (lost) " events lost" }
                    ". This page reloads every 10 seconds."
                }
                @for (finding, since, place) in &snapshot.findings {
                    (article(finding, &place.place(), snapshot.at.since(*since)))
                }
                p.small {
                    a href="/findings" { "findings as JSON" } " · " a href="/metrics" { "metrics" } " · "
                    "tcptrail " (origin.version) ", Linux " (origin.kernel)
                }
            }
        }
    };
    markup.into_string()
}

fn article(finding: &Finding, place: &Place<'_>, lasted: u64) -> Markup {
    let mut runs_in = Vec::new();
    whereabouts(place, &mut runs_in);
    html! {
        article class=(finding.severity.name()) {
            p.verdict { (finding.verdict) }
            p { (finding.advice) }
            p.small {
                (finding.severity.name()) ", rule " (finding.rule.name()) ", " (finding.code) ", found " (time(lasted)) " ago"
                @if !runs_in.is_empty() { ", " (String::from_utf8_lossy(&runs_in)) }
            }
        }
    }
}

/// To the second.
fn time(ns: u64) -> String {
    if ns < 1_000_000_000 {
        return "a moment".to_owned();
    }
    let text = Human(ns / 1_000_000_000 * 1_000_000_000).to_string();
    text.replace(".00s", "s").replace(".0s", "s")
}
