//! Figures for people: a table of quantiles for each group, and with `--histogram` bars.

use std::io::Write;

use tracer_common::TcpState;

use crate::config::StatsOptions;
use crate::engine::Engine;
use crate::engine::stats::{Drops, Figures, Measure, Retransmits, Spread, Stats};
use crate::output::lines::{Pen, human};
use crate::output::stats::labels::Group;
use crate::text::{self, Paint, Row, Terminal};
use crate::time::{Human, MonoNs};

/// Quantiles that are shown, with their names.
pub(super) const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

const NAME: usize = 15;
const COUNT: usize = 9;
const VALUE: usize = 8;
/// The longest bar.
const BAR: usize = 40;

/// What is shown.
pub(super) struct Page<'a> {
    pub(super) now: MonoNs,
    /// Connections that have not finished, once that is known.
    pub(super) open: Option<u64>,
    pub(super) options: &'a StatsOptions,
    pub(super) stats: &'a Stats,
    pub(super) drops: &'a Drops,
    pub(super) again: Retransmits,
}

pub(super) fn page(
    pen: &mut Pen,
    engine: &Engine,
    page: &Page<'_>,
    groups: &[Group<'_>],
    out: &mut Vec<u8>,
) {
    let finished: u64 = groups.iter().map(|group| group.figures.connections).sum();
    let finished = finished + others(page, groups);
    let time = Human(page.now.since(engine.origin().start()));
    // A write to a Vec cannot fail.
    let _ = write!(out, "{} finished in {time}", connections(finished));
    let failed: u64 = groups.iter().map(|group| group.figures.failed).sum();
    let _ = write!(out, "{}", never_established(failed + others_failed(page, groups)));
    if let Some(open) = page.open.filter(|&open| open != 0) {
        let _ = write!(out, "; {open} still open, not counted");
    }
    out.push(b'\n');
    let again = page.again.words();
    if !again.is_empty() {
        sentence(pen.terminal, Paint::Warn, &again, out);
    }
    dropped(pen.terminal, engine, page.drops, out);
    let shown = groups.len().min(page.options.top.unwrap_or(usize::MAX));
    for group in groups.get(..shown).unwrap_or_default() {
        if !page.stats.by().is_empty() {
            heading(pen.terminal, page.stats, group, out);
        }
        table(pen, page, group, out);
    }
    let hidden = groups.len() - shown;
    if hidden != 0 {
        let _ = writeln!(out, "\nand {hidden} more groups that --top leaves out");
    }
    if others(page, groups) != 0 {
        let _ = writeln!(
            out,
            "\n{} more belong to other groups: tcptrail keeps at most 1000. Use a filter, or another --by",
            connections(others(page, groups))
        );
    }
    footnote(pen.terminal, page, groups, out);
}

/// Connections without a group of their own.
fn others(page: &Page<'_>, groups: &[Group<'_>]) -> u64 {
    // Without --by all are in the one group.
    let alone = page.stats.by().is_empty() && !groups.is_empty();
    if alone { 0 } else { page.stats.others().connections }
}

/// Of those, that were never established.
fn others_failed(page: &Page<'_>, groups: &[Group<'_>]) -> u64 {
    if others(page, groups) == 0 { 0 } else { page.stats.others().failed }
}

/// `, 4 of them never established`, or nothing.
fn never_established(failed: u64) -> String {
    if failed == 0 { String::new() } else { format!(", {failed} of them never established") }
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

/// `process nginx[812], remote 10.0.0.9:5432: 33 connections`.
fn heading(terminal: Terminal, stats: &Stats, group: &Group<'_>, out: &mut Vec<u8>) {
    out.push(b'\n');
    let mut row = Row::new(out, terminal, 2);
    let last = group.names.len().saturating_sub(1);
    for (index, (by, name)) in stats.by().iter().zip(&group.names).enumerate() {
        let mut word = Vec::new();
        text::name(name.as_deref().unwrap_or(b"-"), &mut word);
        word.extend_from_slice(if index == last { b":" } else { b"," });
        row.cell(0, Paint::Dim, by.name().as_bytes()).cell(0, Paint::Good, &word);
    }
    let Figures { connections: finished, failed, .. } = *group.figures;
    let count = connections(finished) + &never_established(failed);
    row.cell(0, Paint::Plain, count.as_bytes()).end();
}

fn table(pen: &mut Pen, page: &Page<'_>, group: &Group<'_>, out: &mut Vec<u8>) {
    let terminal = pen.terminal;
    let mut row = Row::new(out, terminal, NAME + 1);
    row.cell(NAME, Paint::Dim, b"").right(COUNT, Paint::Dim, b"COUNT");
    row.right(VALUE, Paint::Dim, b"MIN");
    for (name, _) in QUANTILES {
        row.right(VALUE, Paint::Dim, name.to_ascii_uppercase().as_bytes());
    }
    row.right(VALUE, Paint::Dim, b"MAX").right(COUNT, Paint::Dim, b"LEFT OUT").end();
    for measure in Measure::ALL {
        let Some(spread) = group.figures.spread(measure) else { continue };
        let mut row = Row::new(out, terminal, NAME + 1);
        row.cell(NAME, Paint::Plain, name(measure).as_bytes());
        row.right(COUNT, Paint::Plain, spread.count().to_string().as_bytes());
        let quantiles = QUANTILES.iter().map(|(_, share)| spread.quantile(*share));
        for value in std::iter::once(spread.min()).chain(quantiles).chain([spread.max()]) {
            pen.cell.clear();
            figure(measure, value, &mut pen.cell);
            row.right(VALUE, Paint::Plain, &pen.cell);
        }
        let paint = if spread.left_out == 0 { Paint::Dim } else { Paint::Warn };
        row.right(COUNT, paint, spread.left_out.to_string().as_bytes()).end();
    }
    if page.options.histogram {
        for measure in Measure::ALL {
            if let Some(spread) = group.figures.spread(measure).filter(|it| it.count() != 0) {
                bars(pen, measure, spread, out);
            }
        }
    }
}

/// A line for each doubling between the least and the greatest value.
fn bars(pen: &mut Pen, measure: Measure, spread: &Spread, out: &mut Vec<u8>) {
    let _ = writeln!(out, "\n{}", name(measure));
    let steps = spread.doublings();
    let most = steps.iter().map(|(.., count)| *count).max().unwrap_or(1).max(1);
    for (from, below, count) in steps {
        let mut row = Row::new(out, pen.terminal, NAME + 1);
        for (bound, width) in [(from, VALUE + 2), (below, VALUE)] {
            pen.cell.clear();
            figure(measure, Some(bound), &mut pen.cell);
            row.right(width, Paint::Plain, &pen.cell);
            if width != VALUE {
                row.cell(0, Paint::Dim, b"..");
            }
        }
        row.right(COUNT, Paint::Plain, count.to_string().as_bytes());
        // At least one mark for what is there.
        let marks = usize::try_from(u128::from(count) * BAR as u128 / u128::from(most));
        let marks = marks.unwrap_or(BAR).max(usize::from(count != 0));
        if marks != 0 {
            row.cell(0, Paint::Good, &vec![b'#'; marks]);
        }
        row.end();
    }
}

/// What a measure is called for people.
fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Accept => "time to accept",
        Measure::Waited => "wait, failed",
        Measure::BytesSent => "bytes sent",
        Measure::BytesReceived => "bytes received",
        Measure::TimeIn(TcpState::Established) => "ESTABLISHED",
        other => other.name(),
    }
}

fn figure(measure: Measure, value: Option<u64>, cell: &mut Vec<u8>) {
    match value {
        None => cell.push(b'-'),
        Some(bytes) if measure.is_bytes() => text::bytes(bytes, cell),
        Some(ns) => human(ns, cell),
    }
}

/// What LEFT OUT means, where there is any.
fn footnote(terminal: Terminal, page: &Page<'_>, groups: &[Group<'_>], out: &mut Vec<u8>) {
    let left_out = |group: &Group<'_>| {
        let spreads = Measure::ALL.iter().filter_map(|measure| group.figures.spread(*measure));
        spreads.map(|spread| spread.left_out).sum::<u64>()
    };
    let mut note = |text: &str| sentence(terminal, Paint::Dim, text, out);
    if groups.iter().any(|group| left_out(group) != 0) {
        note(
            "LEFT OUT: connections whose figure is unknown, because they are older than tcptrail or an event was lost. They are in no column.",
        );
    }
    if groups.iter().any(|group| group.figures.connections != 0) {
        let percent = page.stats.precision() * 100.0;
        note(&format!("Quantiles are by nearest rank, and too large by at most {percent} %."));
    }
}

/// Segments that the kernel threw away, where there were any.
fn dropped(terminal: Terminal, engine: &Engine, drops: &Drops, out: &mut Vec<u8>) {
    if drops.all() == 0 {
        return;
    }
    let segments = if drops.all() == 1 { "segment" } else { "segments" };
    let mut words = Vec::new();
    text::name(drops.words(engine).as_bytes(), &mut words);
    let words = String::from_utf8_lossy(&words);
    let untold = match drops.untold() {
        0 => String::new(),
        more => format!("; {more} more are not shown one by one"),
    };
    let text = format!("{} {segments} dropped on this machine: {words}{untold}", drops.all());
    sentence(terminal, Paint::Warn, &text, out);
}

/// Words, in lines as long as there is room for.
fn sentence(terminal: Terminal, paint: Paint, text: &str, out: &mut Vec<u8>) {
    let mut row = Row::new(out, terminal, 0);
    for word in text.split(' ') {
        row.cell(0, paint, word.as_bytes());
    }
    row.end();
}
