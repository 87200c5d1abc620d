//! What recording costs: bytes and processor time a transition, of the mixed load.

use std::path::Path;

use anyhow::Result;

use crate::Tools;
use crate::compare::Row;
use crate::figures::Figure;
use crate::measure::rounds;
use crate::subject::Subject;
use crate::target::Target;

/// `serve` with and without a flight recorder, in turn: the difference is what it costs.
pub(crate) fn targets(
    tools: &Tools,
    dir: &Path,
    count: usize,
    seconds: f64,
) -> Result<Vec<Target>> {
    let subjects = [Subject::Serve, Subject::ServeRecorder];
    let rows: Vec<Row> = rounds(&subjects, tools, dir, count, seconds)?
        .into_iter()
        .map(|(subject, samples)| Row { subject, samples })
        .collect();
    let [without, with] = &rows[..] else { return Ok(Vec::new()) };
    let us = |row: &Row| row.figure(|one| one.cpu_ns / 1e3).map(|figure| figure.text(2));
    for row in [without, with] {
        let us = us(row).unwrap_or_default();
        eprintln!("bench: processor time a transition, `{}`: {us} us", row.subject.name());
    }
    let pairs = with.samples.iter().zip(&without.samples);
    let more = Figure::of(pairs.map(|(one, other)| (one.cpu_ns - other.cpu_ns) / 1e3));
    let bytes = with.figure(|one| one.recorded);
    let lost = Target::zero(
        "lost by `serve --recorder`",
        with.lost(),
        with.samples.iter().map(|one| one.expected).sum(),
    );
    Ok(vec![
        Target::at_most("bytes a transition on disk", 12.0, "", bytes, 1),
        Target::at_most("processor time a transition for recording", 0.3, " us", more, 2),
        lost,
    ])
}
