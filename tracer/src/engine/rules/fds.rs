//! File descriptors: when a process will have none left.

use std::fmt::Write;

use crate::engine::rules::close_wait::left_ns;
use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::growth::as_f64;
use crate::engine::rules::scene::{Held, Listener};
use crate::engine::rules::surroundings::ProcessNow;
use crate::engine::rules::{Finding, Process, RuleId, words};

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

/// A process that runs out.
struct Case<'a> {
    pid: u32,
    process: Process,
    limit: u64,
    in_use: u64,
    /// Of those, sockets.
    share: u64,
    /// Time left, nanoseconds.
    left: u64,
    now: &'a ProcessNow,
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
    let share = (held.sockets + closed).min(in_use);
    let case = Case { pid, process, limit, in_use, share, left, now };
    let mut verdict = case.verdict(closed, per_second);
    if left == 0 {
        not_accepted(pid, listeners, &mut verdict);
    }
    let advice = case.advice(told);
    let forecast = Forecast {
        what: What::Fds,
        limit,
        in_use,
        share: Some(share),
        per_second,
        left_ns: Some(left),
    };
    Some(Finding {
        process: Some(process),
        ..Finding::runs_out(format!("fds/{pid}"), RuleId::Fds, verdict, advice, forecast)
    })
}

impl Case<'_> {
    fn verdict(&self, closed: u64, per_second: Option<f64>) -> String {
        let &Case { limit, in_use, share, left, .. } = self;
        let who = words::process(Some(self.process));
        let mut figures = format!("{in_use} of {limit} in use, {share} of them sockets");
        if closed != 0 {
            let _ = write!(figures, " ({} closed and not given back)", closed.min(share));
        }
        let others = self.now.kinds.in_words().filter(|_| share * 2 < in_use);
        if let Some(others) = &others {
            let _ = write!(figures, "; the rest {others}");
        }
        let mut verdict = if left == 0 {
            format!("{who} has no file descriptor left: {figures}")
        } else {
            let time = words::roughly(left);
            format!("{who} runs out of file descriptors in about {time}: {figures}")
        };
        if in_use < limit
            && let Some(rate) = per_second.and_then(|rate| words::rate(rate * 60.0))
        {
            let _ = write!(verdict, ", {rate}");
        }
        verdict
    }

    /// `told`: there are other findings about its sockets.
    fn advice(&self, told: bool) -> String {
        let &Case { pid, in_use, share, left, .. } = self;
        let mut advice = String::new();
        if left == 0 {
            advice.push_str("accept() and open() fail with EMFILE (inferred). ");
        }
        if share * 2 < in_use {
            let growing = match self.now.kinds.growing() {
                Some((kind, rate)) => match words::rate(rate * 60.0) {
                    Some(rate) => format!(" Growing: {kind}, {rate}."),
                    None => String::new(),
                },
                None => String::new(),
            };
            let _ = write!(
                advice,
                "Most are not TCP sockets.{growing} ls -l /proc/{pid}/fd shows what each is."
            );
            return advice;
        }
        let see = if told {
            let who = words::process(Some(self.process));
            format!("see the findings about {who}")
        } else {
            format!("tcptrail leaks --pid {pid} names the code that opened those that stay")
        };
        let _ = write!(
            advice,
            "Most are sockets: {see}. A higher limit only buys time (prlimit --pid {pid} --nofile=N)."
        );
        advice
    }
}

/// Adds the connections that wait at the process's listeners.
fn not_accepted(pid: u32, listeners: &[Listener], verdict: &mut String) {
    let of_process = listeners
        .iter()
        .filter(|listener| listener.waiting != 0)
        .filter(|listener| listener.process.and_then(|process| process.pid) == Some(pid));
    for listener in of_process {
        let waiting = words::count(u64::from(listener.waiting), "connection");
        let _ = write!(verdict, "; {waiting} not accepted on :{}", listener.port);
    }
}
