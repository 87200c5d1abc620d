//! What became of sockets that were to be ended.

use crate::destroy::{Outcome, Outcomes, Target};
use crate::output::json::Object;
use crate::output::kill::Chosen;
use crate::output::lines::{called, ends, times};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;
use crate::time::clock::Clock;

const INDENT: usize = 9;

/// A line for each, in the order of `chosen`.
#[must_use]
pub fn outcomes(
    chosen: &[Chosen],
    became: &Outcomes,
    json: Option<&mut Clock>,
    terminal: Terminal,
) -> Vec<u8> {
    let mut out = Vec::new();
    let found = chosen.iter().filter_map(|chosen| {
        let of = |(target, _): &&(Target, Outcome)| target.id == chosen.target.id;
        let (_, outcome) = became.iter().find(of)?;
        Some((chosen, outcome))
    });
    match json {
        Some(clock) => {
            let now = MonoNs::now();
            found.for_each(|(chosen, outcome)| object(chosen, outcome, (clock, now), &mut out));
        }
        None => {
            let length = |end: usize| chosen.iter().map(move |it| text::columns(&it.ends[end]));
            let room = terminal.width.map(|width| [width.saturating_sub(45); 2]);
            let widths = ends::fit(length(0).collect(), length(1).collect(), room);
            found.for_each(|(chosen, outcome)| line(chosen, outcome, widths, terminal, &mut out));
        }
    }
    out
}

fn line(
    chosen: &Chosen,
    outcome: &Outcome,
    widths: ends::Widths,
    terminal: Terminal,
    out: &mut Vec<u8>,
) {
    let [local, remote] = &chosen.ends;
    let paint = if outcome.is_gone() { Paint::Good } else { Paint::Bad };
    let mut row = Row::new(out, terminal, INDENT);
    row.cell(8, paint, outcome.name().as_bytes())
        .cell(11, Paint::Plain, chosen.target.state.name().as_bytes())
        .cell(widths.local, Paint::Plain, local)
        .cell(widths.remote, Paint::Plain, remote)
        .cell(0, Paint::Plain, &chosen.owner);
    let why = match outcome {
        Outcome::Ended => None,
        Outcome::Gone => Some("before its turn".to_owned()),
        Outcome::Changed(state) => {
            Some(format!("it is in {} now, and was left alone", state.name()))
        }
        Outcome::Remains(reason) => Some(reason.to_string()),
    };
    for word in why.iter().flat_map(|why| why.split(' ')) {
        row.cell(0, paint, word.as_bytes());
    }
    row.end();
}

fn object(
    chosen: &Chosen,
    outcome: &Outcome,
    (clock, now): (&mut Clock, MonoNs),
    out: &mut Vec<u8>,
) {
    let target = &chosen.target;
    let mut object = Object::event(out, "killed");
    times(&mut object, clock, now);
    let (state_now, reason) = match outcome {
        Outcome::Changed(state) => (Some(state.name().as_bytes()), None),
        Outcome::Remains(reason) => (None, Some(reason.to_string())),
        Outcome::Ended | Outcome::Gone => (None, None),
    };
    object
        .number_as_string("conn", target.id.0)
        .number("netns", target.netns)
        .plain("family", target.family.name())
        .endpoint("local", target.local)
        .endpoint("remote", target.remote)
        .plain("state", target.state.name());
    called(&mut object, &chosen.place.place());
    object
        .plain("outcome", outcome.name())
        .boolean("gone", outcome.is_gone())
        .string_or_null("state_now", state_now)
        .string_or_null("reason", reason.as_deref().map(str::as_bytes))
        .end();
}

/// What it came to, in a sentence, and whether all are gone.
#[must_use]
pub fn summary(became: &Outcomes) -> (String, bool) {
    let count =
        |wanted: fn(&Outcome) -> bool| became.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let ended = count(|outcome| *outcome == Outcome::Ended);
    let gone = count(|outcome| *outcome == Outcome::Gone);
    let changed = count(|outcome| matches!(outcome, Outcome::Changed(_)));
    let remain = count(|outcome| matches!(outcome, Outcome::Remains(_)));
    let mut parts = vec![format!("{ended} ended")];
    for (count, words) in [
        (gone, "gone before their turn"),
        (changed, "were in another state by then and were left alone"),
        (remain, "REMAIN"),
    ] {
        if count != 0 {
            parts.push(format!("{count} {words}"));
        }
    }
    let all = became.len();
    let sockets = if all == 1 { "socket" } else { "sockets" };
    let text = format!("{all} {sockets}: {}; each was looked for by its cookie", parts.join(", "));
    (text, changed + remain == 0)
}
