//! Findings: what is wrong, the worst first; the pane has evidence and advice.

use crate::engine::rules::{Finding, Severity, What};
use crate::event::Comm;
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, counted, endpoint, ends, figures, harmless, process, text_column,
    thousands,
};
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::row::{Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::table::Table;
use crate::output::top::words::Wanted;
use crate::time::Human;

pub(super) const COLUMNS: &[Column] = &[
    text_column("HOW BAD", 0, 10, Fold::Same, "exhaustion, leak, stuck, or only a note"),
    figures("SOCKETS", 0, Fold::Sum, "sockets it is about"),
    figures("OLDEST", 1, Fold::Most, "how long it has held for the oldest, at least"),
    figures("GROWTH", 2, Fold::Sum, "growth per minute"),
    text_column("PROCESS", 3, 24, Fold::Name, "their process"),
    text_column("WHAT", 0, 0, Fold::Same, "what was found"),
];

pub(super) const fn paint(severity: Severity) -> Paint {
    match severity {
        Severity::Exhaustion | Severity::Leak => Paint::Bad,
        Severity::Stuck => Paint::Warn,
        Severity::Note => Paint::Dim,
    }
}

pub(super) fn table(scene: &Scene<'_>, wanted: &Wanted) -> Table {
    let Some(watch) = scene.engine.watch() else {
        return Table::of(COLUMNS, Vec::new(), "this run does not look for findings");
    };
    let rows = watch
        .findings()
        .into_iter()
        .filter(|(finding, _)| wanted.wants_finding(finding))
        .map(|(finding, _)| Row {
            id: RowId::Finding(finding.id.clone()),
            cells: cells(finding),
            words: words(finding),
        })
        .collect();
    let empty = match wanted.is_all() {
        true => format!("nothing is stuck: {} looked at", counted(watch.sockets(), "socket")),
        false => "no finding matches the filter".to_owned(),
    };
    Table::of(COLUMNS, rows, empty)
}

fn cells(finding: &Finding) -> Vec<Cell> {
    let severity = finding.severity;
    let who = finding.process;
    vec![
        Cell::keyed(severity.name(), severity as u8 as f64).painted(paint(severity)),
        Cell::count(finding.count),
        Cell::time(finding.oldest_ns),
        Cell::per_minute(finding.growth_per_min),
        who.map_or_else(Cell::unknown, |who| Cell::text(process(&who.comm, who.pid))),
        Cell::text(finding.verdict.clone()),
    ]
}

/// A filter for its sockets.
fn words(finding: &Finding) -> String {
    let mut words = Vec::new();
    if let Some(who) = finding.process {
        let pid = who.pid.map(|pid| format!("pid:{pid}"));
        words.extend(pid.or_else(|| name_word(&who.comm)));
    }
    words.extend(finding.state.map(|state| format!("state:{}", state.name())));
    words.extend(finding.local_port.map(|port| format!("lport:{port}")));
    if let Some(remote) = finding.remote {
        words.push(format!("addr:{} rport:{}", remote.ip(), remote.port()));
    }
    words.join(" ")
}

/// Only names that are one word can be one.
pub(super) fn name_word(comm: &Comm) -> Option<String> {
    let name = std::str::from_utf8(comm.bytes()).ok()?;
    let plain = name.chars().all(|c| c.is_ascii_graphic()) && !name.is_empty();
    plain.then(|| format!("comm:{name}"))
}

pub(super) fn pane(scene: &Scene<'_>, id: &str) -> Option<Pane> {
    let findings = scene.engine.watch()?.findings();
    let (finding, since) = findings.into_iter().find(|(finding, _)| finding.id == id)?;
    let mut pane = Pane::new(format!(
        "{} {} ({})",
        finding.code,
        finding.code.name(),
        finding.severity.name()
    ));
    pane.words = words(finding);
    pane.words(paint(finding.severity), finding.verdict.clone());
    pane.heading("What to do");
    pane.words(Paint::Plain, finding.advice.clone());
    pane.heading("Evidence");
    evidence(&mut pane, finding);
    pane.fact("found", format!("{} ago", Human(scene.now.since(since))));
    opened(&mut pane, finding);
    samples(&mut pane, scene, finding);
    Some(pane)
}

fn evidence(pane: &mut Pane, finding: &Finding) {
    let state = finding.state.map_or("in their state", |state| state.name());
    pane.fact(
        "sockets",
        format!(
            "{} stuck, {} {state} with the young ones",
            thousands(finding.count),
            thousands(finding.in_state)
        ),
    );
    pane.maybe("oldest", finding.oldest_ns.map(|ns| Human(ns).to_string()));
    pane.maybe("growth", finding.growth_per_min.map(|rate| format!("{rate:+.1} a minute")));
    let share = |share: f64| format!("{:.0} %", share * 100.0);
    pane.maybe("ever left", finding.closed_share.map(share));
    pane.maybe("left late", finding.late_closed_share.map(share));
    if let Some(forecast) = finding.forecast {
        let what = match forecast.what {
            What::Fds => "descriptors",
            What::Ports => "ports",
            What::AcceptQueue => "accept queue",
            What::GiveUp => "retransmissions",
        };
        let mut text =
            format!("{} of {} {what}", thousands(forecast.in_use), thousands(forecast.limit));
        match forecast.left_ns {
            Some(0) => text.push_str(": none left"),
            Some(ns) => text.push_str(&format!(", gone in about {}", Human(ns))),
            None => {}
        }
        pane.painted("runs out", Paint::Bad, text);
    }
}

fn opened(pane: &mut Pane, finding: &Finding) {
    let opened = &finding.opened;
    if opened.by.is_empty() {
        return;
    }
    pane.heading("Opened by");
    for (opener, count) in opened.by.iter().take(10) {
        pane.line(
            Paint::Plain,
            format!("{}: {}", harmless(opener.as_bytes()), counted(*count, "socket")),
        );
    }
    if opened.before != 0 {
        pane.line(Paint::Dim, format!("{} opened before the run began", thousands(opened.before)));
    }
    if opened.unknown != 0 {
        pane.line(Paint::Dim, format!("{} whose opener was not seen", thousands(opened.unknown)));
    }
}

fn samples(pane: &mut Pane, scene: &Scene<'_>, finding: &Finding) {
    if finding.conns.is_empty() {
        return;
    }
    let shown = finding.conns.len() as u64;
    pane.heading(match finding.count > shown {
        true => format!("The oldest {shown} of its {} sockets", thousands(finding.count)),
        false => "Its sockets".to_owned(),
    });
    for sample in &finding.conns {
        let (local, remote) = match scene.table().find_any(sample.id) {
            Some(conn) => ends(scene.engine, conn),
            None => (endpoint(sample.tuple.local()), endpoint(sample.tuple.remote())),
        };
        let fd = sample.fd.map_or_else(String::new, |fd| format!("  fd {fd}"));
        pane.line(
            Paint::Plain,
            format!("{:>8}  {} -> {}{fd}", Human(sample.age_ns).to_string(), local, remote,),
        );
    }
}
