//! What a run says of itself: its origin, its hooks, its last line, its exit code.

use crate::config::Config;
use crate::event::LossCause;
use crate::input::{ITER_TCP, Origin};
use crate::kernel::loader::Programs;
use crate::kernel::poller::Poller;
use crate::kernel::preflight;
use crate::output::Totals;
use crate::output::session::Session;
use crate::time::{Anchor, MonoNs, jiffy_ns};

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

/// The exit code of a run, live or replayed, in which nothing went wrong. Says the reason, where there is one.
pub fn exit_code(session: &Session) -> u8 {
    let Some(verdict) = session.verdict() else { return 0 };
    if let Some(reason) = verdict.reason {
        eprintln!("tcptrail: {reason}");
    }
    verdict.code
}
