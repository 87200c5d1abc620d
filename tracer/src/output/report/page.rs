//! The HTML of the page.

use std::io;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::data::{Data, Found, wrong};
use crate::text::thousands;

const STYLE: &str = include_str!("page.css");
const CHARTS: &str = include_str!("charts.js");
const TABLES: &str = include_str!("tables.js");

/// Nothing is loaded and nothing runs but what is in this file: styles and scripts by their SHA-256, which
/// the test `the_policy_allows_what_is_in_the_page` computes.
pub(super) const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; \
    style-src 'sha256-BuMQibqsTwwl8dzG/2cWELXhlUzzOFECQKwr3vHSBTc='; script-src 'sha256-qlMLsq9nrAdG3UJGui3AnR6Dy55yYrvwMvO9CpXzrHc=' 'sha256-OotP22fDf35eNwDLQA9r2FnmYnhuaCPj31O2AZEUZvU='";

/// Writes the page.
///
/// # Errors
/// When the data cannot be written as JSON.
pub(super) fn page(data: &Data) -> io::Result<String> {
    // As JSON inside of a script element: no character there can end the element.
    let json = serde_json::to_string(data)?.replace('<', "\\u003c");
    let about = &data.about;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "tcptrail report: " (about.source) ", " (about.from_text) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(data))
                main { (verdict(data)) (body(data)) }
                (footer(data))
                script id="data" type="application/json" { (PreEscaped(json)) }
                script { (PreEscaped(CHARTS)) }
                script { (PreEscaped(TABLES)) }
            }
        }
    };
    Ok(markup.into_string())
}

fn header(data: &Data) -> Markup {
    let about = &data.about;
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let mut tiles = vec![
        ("connections", about.connections),
        ("sockets at the end", about.sockets),
        ("failed connects", sum(&data.timeline.failed)),
        ("retransmits", sum(&data.timeline.retransmits)),
        ("resets", sum(&data.timeline.resets)),
    ];
    if !data.drops.is_empty() {
        tiles.push(("segments dropped", data.drops.iter().map(|drop| drop.count).sum()));
    }
    let some = [(about.listening, "listening"), (about.time_wait, "in TIME_WAIT")];
    let some = some.iter().filter(|(count, _)| *count != 0);
    let some: Vec<String> =
        some.map(|(count, what)| format!("{} {what}", thousands(*count))).collect();
    html! {
        header {
            h1 { "tcptrail report" }
            p.dim {
                (about.source) ": " (about.from_text) " to " (about.to_text)
                " (UTC" (zone(about.zone_minutes)) ")"
                @if !about.filters.is_empty() { ", only " (about.filters.join(" ")) }
            }
            div.tiles {
                @for (name, count) in tiles {
                    div.tile { b { (thousands(count)) } (name) }
                }
                div.tile.bad[about.lost != 0] { b { (thousands(about.lost)) } "events lost" }
            }
            @if !data.again.is_empty() {
                p.dim { (data.again) "." }
            }
            @if !some.is_empty() {
                p.dim { "Among the sockets at the end: " (some.join(", ")) "." }
            }
        }
    }
}

fn zone(minutes: i32) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

fn verdict(data: &Data) -> Markup {
    let wrong: Vec<&Found> = wrong(data).collect();
    let over: Vec<&Found> = data.findings.iter().filter(|found| found.until.is_some()).collect();
    let notes: Vec<&Found> = data
        .findings
        .iter()
        .filter(|found| found.until.is_none() && found.severity == "note")
        .collect();
    html! {
        h2 {
            @match wrong.len() {
                0 => "Nothing is wrong at the end, as far as tcptrail saw",
                1 => "One thing is wrong",
                many => { (many) " things are wrong" }
            }
        }
        @if data.about.lost != 0 {
            p.dim {
                (thousands(data.about.lost)) " events were lost ("
                (data.about.lost_by.iter().map(|(cause, count)| format!("{cause} {}", thousands(*count))).collect::<Vec<_>>().join(", "))
                "): figures may be too small, and some ends were not seen."
            }
        }
        @for found in &wrong { (finding(found)) }
        @if !over.is_empty() {
            h2 { "Over by the end" }
            @for found in &over { (finding(found)) }
        }
        @if !notes.is_empty() {
            h2 { "Also seen" }
            @for found in &notes { (finding(found)) }
        }
    }
}

fn finding(found: &Found) -> Markup {
    html! {
        div class={ "finding " (found.severity) } {
            p.verdict { span class={ "badge " (found.severity) } { (found.severity) } (found.verdict) }
            p.dim {
                "Seen since " (found.since_text)
                @if let Some(until) = &found.until_text { " until " (until) }
                @if let [(_, _), ..] = found.opened_by.as_slice() {
                    "; opened by "
                    (found.opened_by.iter().take(5).map(|(opener, count)| format!("{opener} ({count})")).collect::<Vec<_>>().join(", "))
                }
            }
            p { (found.advice) }
        }
    }
}

fn body(data: &Data) -> Markup {
    let has_fds = data.timeline.fds.iter().any(Option::is_some);
    html! {
        @if let Some(shown) = &data.shown {
            h2 { "What was looked at" }
            p.dim {
                (shown.title)
                @if shown.all > shown.rows.len() {
                    ": the first " (thousands(shown.rows.len() as u64)) " of "
                    (thousands(shown.all as u64)) " rows"
                }
            }
            div #shown {}
        }
        noscript { p { "The charts and tables below need JavaScript; nothing is loaded from anywhere." } }
        div #selection hidden { span {} button #clear type="button" { "Show all times" } }
        h2 { "Over time" }
        p.dim { "Drag over a chart to select a time on all of them; Esc shows everything again." }
        figure #chart-states { figcaption { "Sockets by state" } }
        figure #chart-rates { figcaption { "What happened in each interval" } }
        @if has_fds {
            figure #chart-fds { figcaption { "File descriptors of the process that has used most of its limit" } }
        }
        @if !data.findings.is_empty() {
            figure #chart-findings { figcaption { "Findings" } }
        }
        @if !data.stacks.is_empty() {
            h2 { "Code that opened what is still open" }
            figure #chart-stacks { figcaption { "Sockets by stack; a click on a frame shows it alone" } }
            div #openers {}
        }
        h2 { "Processes" }
        div #processes {}
        h2 { "Listening ports" }
        div #listeners {}
        h2 { "Remote ends" }
        div #remotes {}
        @if !data.drops.is_empty() {
            h2 { "Segments that this machine's kernel dropped" }
            div #drops {}
        }
        h2 { "Slowest handshakes" }
        div #handshakes {}
        h2 { "Longest closings" }
        div #closings {}
        @if !data.in_states.is_empty() {
            h2 { "Time in each state" }
            div.bars #bars {}
        }
        @if !data.cut.is_empty() {
            h2 { "Not shown" }
            ul { @for sentence in &data.cut { li { (sentence) } } }
        }
    }
}

fn footer(data: &Data) -> Markup {
    html! {
        footer {
            p {
                "tcptrail " (data.about.version) ", Linux " (data.about.kernel) "; "
                (thousands(data.about.events)) " events of " (thousands(data.about.connections))
                " connections. This file loads nothing."
            }
        }
    }
}
