//! What a run is made of and what it says of itself: view, pen, origin, hooks, the last line.

use crate::config::{Config, Show};
use crate::event::LossCause;
use crate::input::{ITER_TCP, Origin};
use crate::kernel::loader::Programs;
use crate::kernel::poller::Poller;
use crate::kernel::preflight;
use crate::names::Names;
use crate::output::lines::{Pen, View};
use crate::session::Totals;
use crate::text::Terminal;
use crate::time::clock::Clock;
use crate::time::{Anchor, MonoNs, jiffy_ns};

/// The view of a `Show`.
#[must_use]
pub fn view(show: Show) -> View {
    match show {
        Show::Tail => View::Tail,
        Show::Life { with_time_wait } => View::Life { with_time_wait },
        Show::List { .. } => View::List,
        Show::Leaks { report, .. } => View::Leaks { folded: report.folded },
        Show::Stuck { once } => {
            View::Stuck { frames: !once && Terminal::of_stdout(false).width.is_some(), once }
        }
        Show::Nothing => View::Nothing,
    }
}

/// What views write with, for this stdout and time zone.
#[must_use]
pub fn pen(config: &Config, origin: Origin) -> Pen {
    Pen {
        names: Names::default(),
        clock: Clock::new(origin.anchor(), jiff::tz::TimeZone::system()),
        origin,
        json: config.json,
        terminal: Terminal::of_stdout(config.color),
        cell: Vec::new(),
    }
}

pub(super) fn origin(
    config: &Config,
    programs: &Programs,
    poller: &Poller,
    reset_reasons: &[String],
    start: MonoNs,
) -> Origin {
    let (kernel, machine) = preflight::kernel_names();
    let mut hooks: Vec<String> = programs
        .hooks
        .iter()
        .filter(|hook| hook.outcome.is_ok())
        .map(|hook| hook.name.to_owned())
        .collect();
    hooks.extend(poller.sockets.is_ok().then(|| ITER_TCP.to_owned()));
    hooks.extend(poller.holders.is_ok().then(|| "iter/task_file".to_owned()));
    Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        machine,
        hooks,
        filters: config.filter_words.clone(),
        wall_at_zero: Anchor::now().wall_at_zero,
        start_ns: start.0,
        jiffy_ns: jiffy_ns(),
        reset_reasons: reset_reasons.to_vec(),
    }
}

pub(super) fn report_hooks(programs: &Programs, poller: &Poller) {
    for hook in &programs.hooks {
        if let Err(reason) = &hook.outcome {
            eprintln!("tcptrail: without {}: {} ({reason})", hook.name, hook.cost);
        }
    }
    for (name, outcome) in [(ITER_TCP, &poller.sockets), ("iter/task_file", &poller.holders)] {
        if let Err(reason) = outcome {
            eprintln!("tcptrail: without {name}: {reason}");
        }
    }
}

/// The last line of every run.
#[must_use]
pub fn summary(totals: &Totals, duration_ns: u64) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "tcptrail: {} events, {} connections, {} lost",
        totals.events,
        totals.connections,
        totals.all_lost()
    );
    let causes: Vec<String> = LossCause::ALL
        .iter()
        .zip(totals.lost)
        .filter(|(_, count)| *count != 0)
        .map(|(cause, count)| format!("{} {count}", cause.name()))
        .collect();
    if !causes.is_empty() {
        // A write to a String cannot fail.
        let _ = write!(text, " ({})", causes.join(", "));
    }
    let _ = write!(text, " in {}", crate::time::Human(duration_ns));
    text
}
