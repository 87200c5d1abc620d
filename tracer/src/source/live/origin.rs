//! What a run says of itself at its start: its origin, its hooks.

use crate::config::Config;
use crate::input::{ITER_TCP, Origin, SOCK_DIAG};
use crate::kernel::jiffies;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::Programs;
use crate::kernel::poller::{self, Poller};
use crate::kernel::preflight;
use crate::time::{Anchor, MonoNs, jiffy_ns};

pub(super) fn origin(
    config: &Config,
    programs: &Programs,
    poller: &Poller,
    resolved: &Resolved,
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
    hooks.extend(poller.questions.is_ok().then(|| SOCK_DIAG.to_owned()));
    Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        machine,
        hooks,
        filters: config.filter_words.clone(),
        wall_at_zero: Anchor::now().wall_at_zero,
        start_ns: start.0,
        jiffy_ns: jiffy_ns(),
        jiffies: jiffies::read(),
        reset_reasons: resolved.reset_reasons.clone(),
        drop_reasons: resolved.drop_reasons.clone(),
        only_netns: config.filter.netns,
        only_cgroup: config.filter.cgroup.is_some(),
        segment: None,
    }
}

pub(super) fn report_hooks(programs: &Programs) {
    for hook in &programs.hooks {
        if let Err(reason) = &hook.outcome {
            eprintln!("tcptrail: without {}: {} ({reason})", hook.name, hook.cost);
        }
    }
}

/// Says what is lost on a kernel without iterators, whether asked for or not: it is much.
pub(super) fn report_walks(poller: &Poller) {
    for (name, outcome, cost) in [
        (ITER_TCP, &poller.sockets, poller::WITHOUT_SOCKETS),
        ("iter/task_file", &poller.holders, poller::WITHOUT_HOLDERS),
    ] {
        if let Err(reason) = outcome {
            eprintln!("tcptrail: this kernel refused {name} ({reason}): {cost}");
        }
    }
}
