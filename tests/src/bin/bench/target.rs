//! A target: what is asked, what was measured, whether it is met.

use serde_json::{Value, json};

use crate::compare::{Row, aligned, ratio};
use crate::figures::Figure;
use crate::subject::Subject;

/// One target.
pub(crate) struct Target {
    /// What is measured.
    pub(crate) what: String,
    /// What is asked, as people read it.
    pub(crate) asked: String,
    /// What was measured, as people read it.
    pub(crate) measured: String,
    /// Whether it is met; none where it could not be measured.
    pub(crate) met: Option<bool>,
}

impl Target {
    /// At most `limit`, by the median.
    pub(crate) fn at_most(
        what: &str,
        limit: f64,
        unit: &str,
        figure: Option<Figure>,
        digits: usize,
    ) -> Target {
        let met = figure.map(|figure| figure.median <= limit);
        Target::of(what, (format!("<= {limit}{unit}"), met), figure, (digits, unit))
    }

    /// At least `limit`, by the median.
    fn at_least(
        what: &str,
        limit: f64,
        unit: &str,
        figure: Option<Figure>,
        digits: usize,
    ) -> Target {
        let met = figure.map(|figure| figure.median >= limit);
        Target::of(what, (format!(">= {limit}{unit}"), met), figure, (digits, unit))
    }

    fn of(
        what: &str,
        (asked, met): (String, Option<bool>),
        figure: Option<Figure>,
        (digits, unit): (usize, &str),
    ) -> Target {
        let measured =
            figure.map_or("not measured".to_owned(), |figure| figure.text(digits) + unit);
        Target { what: what.to_owned(), asked, measured, met }
    }

    /// A number that must be zero.
    pub(crate) fn zero(what: &str, count: Option<u64>, of: u64) -> Target {
        Target {
            what: what.to_owned(),
            asked: "0".to_owned(),
            measured: count.map_or("not told".to_owned(), |count| format!("{count} of {of}")),
            met: count.map(|count| count == 0),
        }
    }
}

/// The targets that the comparison answers.
pub(crate) fn of_comparison(rows: &[Row]) -> Vec<Target> {
    let row = |subject| rows.iter().find(|row| row.subject == subject);
    let mut targets = Vec::new();
    // The programs are the same whatever the command, and their time differs from run to run: all count.
    let ours = [Subject::Life, Subject::Tail, Subject::TailJson, Subject::Record].map(row);
    for (peer, part) in
        [(Subject::Floor, 1.35), (Subject::Tcplife, 1.0 / 8.0), (Subject::Tcpstates, 1.0 / 25.0)]
    {
        if let Some(peer) = row(peer)
            && ours.iter().any(Option::is_some)
        {
            let times = ours.iter().flatten().flat_map(|row| {
                row.samples.iter().zip(&peer.samples).map(|(one, to)| one.kernel_ns / to.kernel_ns)
            });
            targets.push(Target::at_most(
                &format!("kernel time a transition, to that of {}", peer.subject.name()),
                part,
                " x",
                Figure::of(times),
                3,
            ));
        }
    }
    for (subject, percent) in [(Subject::Life, 8.0), (Subject::TailJson, 20.0)] {
        if let Some(row) = row(subject) {
            let slower = row.figure(|one| one.slowdown * 100.0);
            let what = format!("load slowed by `{}`", subject.name());
            targets.push(Target::at_most(&what, percent, " %", slower, 1));
        }
    }
    for subject in [Subject::Life, Subject::TailJson] {
        if let (Some(row), Some(floor)) = (row(subject), row(Subject::Floor)) {
            let kept = ratio(row, floor, |one| one.per_second);
            let what = format!("load beside `{}`, to that beside the floor", subject.name());
            targets.push(Target::at_least(&what, 0.97, " x", kept, 3));
        }
    }
    for (subject, us) in [(Subject::Life, 0.3), (Subject::Tail, 1.0), (Subject::TailJson, 0.6)] {
        if let Some(row) = row(subject) {
            let cpu = row.figure(|one| one.cpu_ns / 1e3);
            let what = format!("processor time a transition, `{}`", subject.name());
            targets.push(Target::at_most(&what, us, " us", cpu, 2));
        }
    }
    targets
}

/// As a text table.
pub(crate) fn text(targets: &[Target]) -> String {
    let head = ["TARGET", "ASKED", "MEASURED", ""].map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(head)
        .chain(targets.iter().map(|target| {
            let met = match target.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "?",
            };
            vec![target.what.clone(), target.asked.clone(), target.measured.clone(), met.to_owned()]
        }))
        .collect();
    aligned(&lines)
}

/// For `--json`.
pub(crate) fn json(targets: &[Target]) -> Value {
    targets
        .iter()
        .map(|target| {
            json!({
                "target": target.what,
                "asked": target.asked,
                "measured": target.measured,
                "met": target.met,
            })
        })
        .collect()
}
