//! ESTABLISHED, idle, never used again, and more of them come: connections that somebody opens and
//! forgets, while the peer keeps its end.
//!
//! Idle connections alone are no fault: a pool at its bound has them, and so has a chat server. What they are
//! told by stands in `quiet`; that they are no leak is no finding.

use std::fmt::Write;

use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::place::Side;
use crate::engine::rules::{About, Look, Rule, Said, Severity, Stuck, close_wait, words};

/// Of a server's clients each must have left so many idle on average: users that come and stay are no leak.
const FOR_EACH_CLIENT: u64 = 4;

pub(crate) struct EstablishedIdle;

impl Rule for EstablishedIdle {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        let still = look.still?;
        // Only the row knows: data may have gone over it since.
        let idle = still.at.since(still.last_data);
        (idle >= look.threshold)
            .then(|| Stuck { age: look.now.since(still.last_data), cause: Cause::Plain })
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        if group.count() == 0 {
            return None;
        }
        // What was a leak and does not get more is still there.
        let held = about.told && !group.survival.mostly_leave();
        if !about.leaks && !held {
            return None;
        }
        let severity = if about.leaks { Severity::Leak } else { Severity::Stuck };
        let mut verdict = match group.key.side {
            Side::Local(port) => {
                let (clients, many) = clients(group)?;
                let leave = if many { "leave" } else { "leaves" };
                format!("{clients} {leave} connections to :{port} of {} idle", words::who(group))
            }
            Side::Remote(_) | Side::Remotes => {
                let leaks = if about.leaks { ("leaks", "leak") } else { ("holds", "hold") };
                let subject = words::subject(group, leaks.0, leaks.1);
                format!("{subject} ESTABLISHED {}", words::side(group))
            }
        };
        let many = words::so_many(group, ("idle connection", ""), about.now, about.growth);
        let _ = write!(verdict, ": {many}");
        match group.survival.late_share() {
            Some(share) if share >= 0.005 => {
                let _ = write!(verdict, ", {:.0} % used again or closed", share * 100.0);
            }
            _ => verdict.push_str(", none used again or closed"),
        }
        verdict.push_str(&group.opened.words());
        let forecast = close_wait::fds(group, about);
        if let Some(forecast) = &forecast {
            verdict.push_str(&close_wait::fds_words(forecast));
        }
        Some(Said { verdict, severity, forecast })
    }

    fn advice(&self, group: &Group, _about: &About<'_>) -> String {
        let mut text = match group.key.side {
            Side::Remote(_) | Side::Remotes => "Nobody uses or closes them. Look for a pool, client or channel \
                 that is made for each request: share one, or close it on every path."
                .to_owned(),
            Side::Local(_) => "The clients neither use nor close them: look there. An idle timeout here limits it \
                 (keepalive_timeout, idleTimeout)."
                .to_owned(),
        };
        let asked = group.stillness.asked;
        if matches!(group.key.side, Side::Local(_)) && asked * 2 > group.count() {
            let _ = write!(
                text,
                " On {asked} the last data was a request without an answer (jstack, gdb)."
            );
        } else {
            text.push_str(&words::fds(group));
        }
        text
    }
}

/// Whose connections a server has; `None` when they are of many that have few each.
fn clients(group: &Group) -> Option<(String, bool)> {
    let most = usize::try_from(group.count() / FOR_EACH_CLIENT).unwrap_or(usize::MAX);
    let clients = group.remotes(most.saturating_add(1));
    if clients.len() > most {
        return None;
    }
    Some(match clients.as_slice() {
        [one] => (one.to_string(), false),
        more => (format!("{} clients", more.len()), true),
    })
}
