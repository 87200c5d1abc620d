//! The comparison: a row for each subject.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::figures::Figure;
use crate::measure::{Program, Sample};
use crate::subject::Subject;

/// A row.
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    /// One figure of all samples.
    pub(crate) fn figure(&self, of: impl Fn(&Sample) -> f64) -> Option<Figure> {
        Figure::of(self.samples.iter().map(of))
    }

    fn sum(&self, of: impl Fn(&Sample) -> Option<u64>) -> Option<u64> {
        self.samples.iter().map(of).sum()
    }

    /// What was neither shown nor said to be lost. What is shown beyond them (the listener, the
    /// end of a TIME_WAIT) does not count against others.
    pub(crate) fn unseen(&self) -> Option<u64> {
        self.sum(|one| Some(one.expected.saturating_sub(one.seen? + one.lost.unwrap_or(0))))
    }

    /// Each program's share of the kernel time for a transition: name, nanoseconds, runs.
    fn programs(&self) -> Vec<(String, Option<Figure>, Option<Figure>)> {
        let mut names: Vec<&String> =
            self.samples.iter().flat_map(|one| &one.programs).map(|one| &one.name).collect();
        names.sort();
        names.dedup();
        let find = |name: &str, of: fn(&Program) -> f64| {
            let programs = self.samples.iter().flat_map(|sample| &sample.programs);
            Figure::of(programs.filter(|one| one.name == name).map(of))
        };
        names
            .into_iter()
            .map(|name| (name.clone(), find(name, |one| one.ns), find(name, |one| one.runs)))
            .collect()
    }

    /// What it says it lost.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.sum(|one| one.lost)
    }
}

/// A figure of a row as a multiple of another row's: in each round, not of the medians.
pub(crate) fn ratio(row: &Row, to: &Row, of: impl Fn(&Sample) -> f64) -> Option<Figure> {
    let pairs = row.samples.iter().zip(&to.samples);
    Figure::of(pairs.map(|(one, other)| of(one) / of(other)))
}

const HEAD: [&str; 10] = [
    "TRACER",
    "KERNEL ns/RUN",
    "KERNEL ns/TRANSITION",
    "x FLOOR",
    "CONNECTIONS/s",
    "SLOWER %",
    "SEEN",
    "LOST",
    "UNSEEN",
    "CPU us/TRANSITION",
];

/// As a text table, medians with least and greatest.
pub(crate) fn text(rows: &[Row]) -> String {
    let floor = rows.iter().find(|row| row.subject == Subject::Floor);
    let mut lines =
        vec![HEAD.iter().map(|&name| name.to_owned()).chain(["PEAK MB".to_owned()]).collect()];
    for row in rows {
        let traces = row.subject != Subject::None;
        let show = |figure: Option<Figure>, digits| match figure {
            Some(figure) if traces => figure.text(digits),
            _ => "-".to_owned(),
        };
        let count = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        lines.push(vec![
            row.subject.name().to_owned(),
            show(row.figure(|one| one.kernel_ns / one.runs), 0),
            show(row.figure(|one| one.kernel_ns), 0),
            show(floor.and_then(|floor| ratio(row, floor, |one| one.kernel_ns)), 2),
            row.figure(|one| one.per_second).map_or("-".to_owned(), |figure| figure.text(0)),
            row.figure(|one| one.slowdown * 100.0).map_or("-".to_owned(), |figure| figure.text(1)),
            count(row.sum(|one| one.seen)),
            count(row.lost()),
            count(row.unseen()),
            show(row.figure(|one| one.cpu_ns / 1e3), 2),
            show(row.figure(|one| one.peak as f64 / 1e6), 0),
        ]);
    }
    aligned(&lines)
}

/// Columns as wide as their widest cell; all but the first right-aligned.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

/// For `--json`.
pub(crate) fn json(rows: &[Row]) -> Value {
    let floor = rows.iter().find(|row| row.subject == Subject::Floor);
    let figure = |figure: Option<Figure>| figure.map(|figure| figure.json());
    rows.iter()
        .map(|row| {
            json!({
                "tracer": row.subject.name(),
                "kernel_ns_per_run": figure(row.figure(|one| one.kernel_ns / one.runs)),
                "kernel_ns_per_transition": figure(row.figure(|one| one.kernel_ns)),
                "times_floor": figure(floor.and_then(|floor| ratio(row, floor, |one| one.kernel_ns))),
                "connections_per_second": figure(row.figure(|one| one.per_second)),
                "slowdown": figure(row.figure(|one| one.slowdown)),
                "transitions": row.sum(|one| Some(one.expected)),
                "seen": row.sum(|one| one.seen),
                "lost": row.lost(),
                "unseen": row.unseen(),
                "cpu_ns_per_transition": figure(row.figure(|one| one.cpu_ns)),
                "peak_bytes": figure(row.figure(|one| one.peak as f64)),
                "programs": row.programs().into_iter().map(|(name, ns, runs)| json!({
                    "name": name,
                    "ns_per_transition": figure(ns),
                    "runs_per_transition": figure(runs),
                })).collect::<Value>(),
                "start_seconds": figure(row.figure(|one| one.started_in)),
            })
        })
        .collect()
}
