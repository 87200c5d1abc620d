//! What was found, as a table.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use tests::tcptrail::{Event, Run};

/// The worst first, as in the JSON contract.
const SEVERITIES: [&str; 4] = ["leak", "exhaustion", "stuck", "note"];

/// One finding from its first line to its last.
struct Found {
    rule: String,
    severity: usize,
    /// Seconds from the start.
    first: f64,
    last: f64,
    lines: usize,
    /// As it was said when it was at its worst, and had most sockets.
    sentence: String,
    count: u64,
}

/// All of them.
pub(crate) struct Table {
    found: Vec<Found>,
}

impl Table {
    pub(crate) fn of(run: &Run) -> Result<Table> {
        let start = run.of_kind("start").next().context("no start")?;
        let start = start.number("mono_ns").context("no time")?;
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for event in run.of_kind("stuck") {
            add(&mut found, event, start);
        }
        let mut found: Vec<Found> = found.into_values().collect();
        found.sort_by(|one, other| {
            one.severity.cmp(&other.severity).then(one.first.total_cmp(&other.first))
        });
        Ok(Table { found })
    }

    /// Findings that said leak at any time.
    pub(crate) fn leaks(&self) -> usize {
        self.found.iter().filter(|found| found.severity == 0).count()
    }
}

fn add(all: &mut BTreeMap<String, Found>, event: &Event, start: u64) {
    let at = event.number("mono_ns").unwrap_or(start);
    // Exact enough for a person.
    let at = std::time::Duration::from_nanos(at.saturating_sub(start)).as_secs_f64();
    let severity = SEVERITIES.iter().position(|name| *name == event.text("severity")).unwrap_or(0);
    let count = event.number("count").unwrap_or(0);
    let found = all.entry(event.text("id").to_owned()).or_insert_with(|| Found {
        rule: event.text("rule").to_owned(),
        severity,
        first: at,
        last: at,
        lines: 0,
        sentence: event.text("verdict").to_owned(),
        count,
    });
    found.last = at;
    found.lines += 1;
    if (severity, std::cmp::Reverse(count)) < (found.severity, std::cmp::Reverse(found.count)) {
        (found.severity, found.count) = (severity, count);
        found.sentence = event.text("verdict").to_owned();
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "rule                severity     first    last  lines  sentence")?;
        for found in &self.found {
            writeln!(
                out,
                "{:<19} {:<10} {:>6.0}s {:>6.0}s {:>6}  {}",
                found.rule,
                SEVERITIES[found.severity],
                found.first,
                found.last,
                found.lines,
                found.sentence
            )?;
        }
        if self.found.is_empty() {
            writeln!(out, "(nothing)")?;
        }
        Ok(())
    }
}
