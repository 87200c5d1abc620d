//! File descriptors: when a process will have none left.

use std::fmt::Write;

use crate::engine::rules::close_wait::left_ns;
use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::growth::as_f64;
use crate::engine::rules::scene::{Held, Listener};
use crate::engine::rules::surroundings::ProcessNow;
use crate::engine::rules::{Finding, Process, RuleId, Severity, words};

/// What is known of the sockets of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sockets {
    /// Those with a connection.
    pub(crate) held: Held,
    /// Those whose connection has ended, and whose descriptors were not given back.
    pub(crate) closed: u64,
    /// There are other findings about them.
    pub(crate) told: bool,
}

/// Whether this process has run out, or will within `within_ns`.
pub(crate) fn check(
    pid: u32,
    sockets: Sockets,
    now: &ProcessNow,
    listeners: &[Listener],
    within_ns: u64,
) -> Option<Finding> {
    let Sockets { held, closed, told } = sockets;
    let (limit, in_use) = (now.limit?, now.fds?);
    let rest = limit.saturating_sub(in_use);
    let growth = now.growth().filter(|growth| {
        // What has grown by little says little about a time far off.
        let grown = growth.per_second * as_f64(growth.span_ns) / 1e9;
        grown >= 8.0 && grown * 60.0 >= as_f64(rest)
    });
    let per_second = growth.map(|growth| growth.per_second);
    let left = if rest == 0 { Some(0) } else { per_second.map(|rate| left_ns(rest, rate)) };
    let left = left.filter(|&left| left <= within_ns)?;
    let process = Process { pid: Some(pid), comm: held.comm };
    let who = words::process(Some(process));
    let share = (held.sockets + closed).min(in_use);
    let mut figures = format!("{in_use} of {limit} in use, {share} of them sockets");
    if closed != 0 {
        let _ = write!(figures, " ({} closed and not given back)", closed.min(share));
    }
    let others = now.kinds.in_words().filter(|_| share * 2 < in_use);
    if let Some(others) = &others {
        let _ = write!(figures, "; the rest {others}");
    }
    let mut verdict = if left == 0 {
        format!("{who} has no file descriptor left: {figures}")
    } else {
        format!("{who} runs out of file descriptors in about {}: {figures}", words::roughly(left))
    };
    if rest != 0
        && let Some(rate) = per_second.and_then(|rate| words::rate(rate * 60.0))
    {
        let _ = write!(verdict, ", {rate}");
    }
    let waiting: Vec<&Listener> = listeners
        .iter()
        .filter(|listener| listener.waiting != 0)
        .filter(|listener| listener.process.and_then(|process| process.pid) == Some(pid))
        .collect();
    if left == 0 {
        for listener in &waiting {
            let _ = write!(
                verdict,
                "; {} not accepted on :{}",
                words::count(u64::from(listener.waiting), "connection"),
                listener.port
            );
        }
    }
    let mut advice = String::new();
    if left == 0 {
        advice.push_str(
            "accept, connect, socket and open fail with EMFILE (inferred from limit and use). ",
        );
    }
    let _ = if share * 2 >= in_use {
        let see = if told {
            format!("see the findings about {who}, or tcptrail list --pid {pid}")
        } else {
            format!(
                "tcptrail list --pid {pid} shows where to, tcptrail leaks --pid {pid} which code opened those that stay"
            )
        };
        write!(
            advice,
            "Most are sockets: {see}. A higher limit (LimitNOFILE, prlimit --pid {pid} --nofile=...) buys time; closing \
             them mends it."
        )
    } else {
        let growing = match now.kinds.growing() {
            Some((kind, rate)) => match words::rate(rate * 60.0) {
                Some(rate) => format!(" What grows: {kind}, {rate}."),
                None => String::new(),
            },
            None => String::new(),
        };
        write!(
            advice,
            "Most are no TCP sockets.{growing} ls -l /proc/{pid}/fd says what each is; whoever opens them does not \
             close them."
        )
    };
    Some(Finding {
        id: format!("fds/{pid}"),
        rule: RuleId::Fds,
        severity: Severity::Exhaustion,
        state: None,
        count: in_use,
        in_state: share,
        oldest_ns: None,
        growth_per_min: per_second.map(|rate| rate * 60.0),
        closed_share: None,
        late_closed_share: None,
        netns: None,
        process: Some(process),
        local_port: None,
        remote: None,
        opener: None,
        opened: crate::engine::rules::Opened::default(),
        workers: Vec::new(),
        conns: Vec::new(),
        verdict,
        advice,
        forecast: Some(Forecast {
            what: What::Fds,
            limit,
            in_use,
            share: Some(share),
            per_second,
            left_ns: Some(left),
        }),
    })
}
