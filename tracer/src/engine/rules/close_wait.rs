//! CLOSE_WAIT: the peer has closed, the application has not. By cause: never closed, or held open by
//! a process that inherited it; and the fingerprint of a peer's idle timeout.

use std::fmt::Write;

use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::growth::as_f64;
use crate::engine::rules::place::Side;
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, words};
use crate::event::Holder;

pub(crate) struct CloseWait;

const SECOND: u64 = 1_000_000_000;

impl Rule for CloseWait {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        let cause = if heir(look).is_some() { Cause::Inherited } else { Cause::Plain };
        look.beyond(look.age(), cause)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let survival = &group.survival;
        if survival.mostly_leave() {
            return None;
        }
        let leak = survival.is_leak();
        let severity = if leak { Severity::Leak } else { Severity::Stuck };
        let who = words::process(group.key.process);
        let side = words::side(group);
        let many = words::so_many(group, ("socket", ""), about.now, about.growth);
        let mut verdict = match group.key.cause {
            Cause::Inherited => {
                let from = match group.opened_by {
                    Some(opener) => format!("from {}", words::process(Some(opener))),
                    None => "by fork".to_owned(),
                };
                format!("{who} keeps CLOSE_WAIT {side} open, inherited {from}: {many}")
            }
            _ if leak => format!("{who} leaks CLOSE_WAIT {side}: {many}"),
            _ => format!("{who} holds CLOSE_WAIT {side}: {many}"),
        };
        match survival.late_share() {
            Some(share) if share > 0.0 => {
                let _ = write!(verdict, ", {:.0} % closed", share * 100.0);
            }
            _ if group.count() > 1 => verdict.push_str(", none closed"),
            _ => {}
        }
        if let Some(opener) = &group.key.opener {
            let _ = write!(verdict, "; opened by {opener}");
        }
        if let Some(idle) = group.idle_timeout() {
            let _ = write!(verdict, "; the peer closes after {} idle", words::age(idle.ns));
        }
        let forecast = fds(group, about);
        if let Some(forecast) = &forecast {
            verdict.push_str(&fds_words(forecast));
        }
        Some(Said { verdict, severity, forecast })
    }

    fn advice(&self, group: &Group, _about: &About<'_>) -> String {
        let who = words::process(group.key.process);
        let mut text = String::new();
        if group.key.cause == Cause::Inherited {
            let _ = write!(
                text,
                "{who} began after the connection was made, so it has the descriptor from its parent. While it has \
                 it, no close() elsewhere ends the connection. Open sockets with SOCK_CLOEXEC (accept4, O_CLOEXEC), \
                 or close what the child does not need between fork and exec; ending {who} ends these."
            );
        } else {
            let _ = write!(
                text,
                "The peer has closed; close() is missing here, and no timeout of the kernel's makes up for it. Look \
                 for the path that skips it: an exception, an early return, a response or stream that is not \
                 closed (try-with-resources, finally, defer)"
            );
            if matches!(group.key.side, Side::Remote(_) | Side::Remotes) {
                text.push_str(", a client's connection that is not given back to its pool");
            }
            text.push('.');
        }
        if let Some(idle) = group.idle_timeout() {
            let _ = write!(
                text,
                " The peer closed each after the same {} without data: its keep-alive timeout. Let the pool \
                 here drop idle connections sooner than that (evictIdleConnections, keepalive_timeout, \
                 idleTimeout).",
                words::age(idle.ns)
            );
        }
        if group.unread != 0 {
            let _ = write!(
                text,
                " {} wait unread: the application does not even look at them.",
                words::bytes(group.unread)
            );
        } else if group.end_read != 0 && group.end_not_read == 0 {
            text.push_str(" The application has read to the end, so it knows.");
        } else if group.end_not_read != 0 && group.end_read == 0 {
            text.push_str(
                " The application has not read the end: it does not look at them any more.",
            );
        }
        text.push_str(&words::fds(group));
        text
    }
}

/// The process that has the socket only because it was forked, when nobody else has it: one that
/// began after the connection did.
pub(crate) fn heir(look: &Look<'_>) -> Option<Holder> {
    let holders = look.table.holders_of(look.conn.id);
    // Of a connection that was there before, this is the latest it can have been made.
    let born = look.around.boot_time(look.conn.born)?;
    let first = holders.first()?;
    holders.iter().all(|holder| holder.start_ns > born).then_some(*first)
}

/// When the process has no descriptor left, if it goes on like this.
fn fds(group: &Group, about: &About<'_>) -> Option<Forecast> {
    let pid = group.key.process?.pid?;
    let process = about.around.process(pid)?;
    let (limit, in_use) = (process.limit?, process.fds?);
    // What the process as a whole does, once that is seen; before, what these sockets do.
    let per_second = match process.growth() {
        Some(growth) => growth.per_second,
        None => about.growth? / 60.0,
    };
    if per_second <= 0.0 {
        return None;
    }
    Some(Forecast {
        what: What::Fds,
        limit,
        in_use,
        share: None,
        per_second: Some(per_second),
        left_ns: Some(left_ns(limit.saturating_sub(in_use), per_second)),
    })
}

pub(crate) fn left_ns(rest: u64, per_second: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as saturates")]
    let ns = (as_f64(rest) / per_second * 1e9) as u64;
    ns
}

fn fds_words(forecast: &Forecast) -> String {
    match forecast.left_ns {
        Some(0) => format!("; {}-fd limit reached", forecast.limit),
        // Beyond a month nobody knows.
        Some(left) if left < 30 * 86_400 * SECOND => {
            format!("; {}-fd limit reached in about {}", forecast.limit, words::roughly(left))
        }
        _ => String::new(),
    }
}
