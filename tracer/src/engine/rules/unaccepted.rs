//! Established, and nobody calls accept(): the acceptor is stalled.

use std::fmt::Write;

use tracer_common::TcpState;

use crate::engine::conn::Role;
use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::place::Side;
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, words};

pub(crate) struct Unaccepted;

impl Rule for Unaccepted {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        // It has waited since the handshake, in ESTABLISHED and then in CLOSE_WAIT.
        let before = match look.conn.state {
            TcpState::CloseWait => look.conn.time_in(TcpState::Established),
            _ => 0,
        };
        let age = look.age().map(|age| age + before).or((before != 0).then_some(before));
        look.beyond(age, Cause::Plain)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let does = words::subject(group, "does", "do");
        let many = words::so_many(group, ("connection", ""), about.now, about.growth);
        let mut verdict = format!("{does} not accept {}: {many}", words::side(group));
        if group.given_up == group.count() {
            verdict.push_str(", all given up by the client (CLOSE_WAIT)");
        } else if group.given_up != 0 {
            let _ = write!(verdict, ", {} given up by the client (CLOSE_WAIT)", group.given_up);
        }
        let queue = queue(group, about);
        if let Some((waiting, most)) = queue {
            let _ = write!(verdict, "; queue {waiting} of {most}");
        }
        let forecast = queue.map(|(in_use, limit)| {
            let per_second = about.growth.map(|growth| growth / 60.0).filter(|&rate| rate > 0.0);
            let rest = limit.saturating_sub(in_use);
            let left = per_second.map(|rate| super::close_wait::left_ns(rest, rate));
            let left_ns = if rest == 0 { Some(0) } else { left };
            Forecast { what: What::AcceptQueue, limit, in_use, share: None, per_second, left_ns }
        });
        match forecast.and_then(|forecast| forecast.left_ns) {
            Some(0) => verdict.push_str(", full: further clients get no answer"),
            Some(left) if left < 86_400_000_000_000 => {
                let _ = write!(verdict, ", full in about {}", words::roughly(left));
            }
            _ => {}
        }
        let full = queue.is_some_and(|(waiting, most)| waiting >= most);
        let severity = if full { Severity::Exhaustion } else { Severity::Stuck };
        Some(Said { verdict, severity, forecast })
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        let who = words::process(group.key.process);
        let mut text = String::new();
        let process = group.key.process.and_then(|process| process.pid);
        let at_limit = process
            .and_then(|pid| about.around.process(pid))
            .is_some_and(|process| matches!((process.fds, process.limit), (Some(fds), Some(limit)) if fds >= limit));
        if at_limit {
            let _ = write!(
                text,
                "{who} is at its limit of open files, so accept() fails with EMFILE (inferred). Find what it leaks, then \
                 raise RLIMIT_NOFILE (LimitNOFILE)."
            );
        } else {
            let _ = write!(
                text,
                "The clients are connected and wait, but no thread calls accept(). See what the acceptor does: jstack, \
                 gdb, /proc/{}/task/*/stack.",
                process.map_or_else(|| "PID".to_owned(), |pid| pid.to_string())
            );
        }
        if group.given_up != 0 {
            text.push_str(" CLOSE_WAIT: the client gave up.");
        }
        text
    }
}

/// Connections waiting at the group's listener, and how many may; as of the last look.
fn queue(group: &Group, about: &About<'_>) -> Option<(u64, u64)> {
    let Side::Local(port) = group.key.side else { return None };
    let mut listeners = about.table.iter().filter(|conn| {
        conn.role == Role::Listener
            && conn.state == TcpState::Listen
            && conn.netns == group.key.netns
            && conn.tuple.local_port == port
    });
    let listener = listeners.next()?;
    // Of several nobody knows which it is.
    if listeners.next().is_some() || listener.send_queue == 0 {
        return None;
    }
    // sk_acceptq_is_full: one more than the backlog.
    Some((u64::from(listener.recv_queue), u64::from(listener.send_queue) + 1))
}
