//! CLOSE_WAIT: the peer has closed, the application has not. By cause: a leak; held by a process that
//! inherited it; a restart of the peer; the fingerprint of a peer's idle timeout; or just there.

use std::fmt::Write;

use crate::engine::rules::finding::{Forecast, What};
use crate::engine::rules::fingerprint::Timeout;
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::growth::as_f64;
use crate::engine::rules::place::Side;
use crate::engine::rules::{
    About, Code, Look, Rule, Said, Severity, Stuck, keep_alive, restart, words,
};
use crate::event::Holder;

pub(crate) struct CloseWait;

const SECOND: u64 = 1_000_000_000;

impl Rule for CloseWait {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        let cause = if heir(look).is_some() { Cause::Inherited } else { Cause::Plain };
        look.beyond(look.age(), cause)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        let severity = if about.leaks { Severity::Leak } else { Severity::Stuck };
        let mut verdict = match why(group, about)? {
            Why::Inherited => inherited(group, about),
            Why::Leak => format!(
                "{} CLOSE_WAIT {}",
                words::subject(group, "leaks", "leak"),
                many(group, about)
            ),
            Why::Restart => restart::verdict(group, about),
            Why::KeepAlive(timeout) => {
                let mut verdict = keep_alive::verdict(group, timeout, about.now);
                verdict.push_str(&group.opened.words());
                return Some(Said { verdict, severity, forecast: None });
            }
            Why::Held => held(group, about),
        };
        verdict.push_str(&group.opened.words());
        if let Some(idle) = group.idle_timeout() {
            let _ = write!(verdict, "; the peer closes after {} idle", words::age(idle.ns));
        } else if let Some(ends) = few_ends(group) {
            verdict.push_str(&ends);
        }
        let forecast = fds(group, about);
        if let Some(forecast) = &forecast {
            verdict.push_str(&fds_words(forecast));
        }
        Some(Said { verdict, severity, forecast })
    }

    fn code(&self, group: &Group, about: &About<'_>) -> Code {
        match why(group, about) {
            Some(Why::Inherited) => Code::CloseWaitInherited,
            Some(Why::Restart) => Code::CloseWaitRestart,
            Some(Why::KeepAlive(_)) => Code::CloseWaitKeepAlive,
            Some(Why::Leak | Why::Held) | None => Code::CloseWait,
        }
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        let mut text = match why(group, about) {
            Some(Why::Inherited) => {
                let who = words::who(group);
                format!(
                    "{who} inherited these descriptors: close() in the parent does not end them. Use SOCK_CLOEXEC. \
                     Ending {who} ends them."
                )
            }
            Some(Why::Restart) => return restart::advice(group),
            Some(Why::KeepAlive(timeout)) => {
                return keep_alive::advice(group, timeout) + &words::fds(group);
            }
            Some(Why::Leak) => close_is_missing(group),
            Some(Why::Held) | None => holding(group, about),
        };
        // Of a leak it is not the cause.
        if let Some(idle) = group.idle_timeout().filter(|_| !about.leaks) {
            let _ =
                write!(text, " Also drop idle connections sooner than {}.", words::age(idle.ns));
        }
        text.push_str(&what_was_read(group));
        text.push_str(&words::fds(group));
        text
    }
}

/// What the sockets of a group are in CLOSE_WAIT for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// Nobody closes them, and more come.
    Leak,
    /// A child has them from its parent.
    Inherited,
    /// The peer ended them all at one moment.
    Restart,
    /// The server closes idle connections sooner than the pool here.
    KeepAlive(Timeout),
    /// They are there, and do not get more.
    Held,
}

/// `None` when they mostly leave by themselves: slow, not stuck.
fn why(group: &Group, about: &About<'_>) -> Option<Why> {
    let inherited = group.key.cause == Cause::Inherited;
    match (inherited, about.leaks) {
        (true, true) => Some(Why::Inherited),
        (false, true) => Some(Why::Leak),
        _ if group.survival.mostly_leave() => None,
        (true, false) => Some(Why::Inherited),
        _ if restart::is_restart(group) => Some(Why::Restart),
        _ => Some(keep_alive::timeout(group).map_or(Why::Held, Why::KeepAlive)),
    }
}

/// `on :8089: 9 sockets, oldest 14m02s, +3/min, none closed`.
fn many(group: &Group, about: &About<'_>) -> String {
    let many = words::so_many(group, ("socket", ""), about.now, about.growth);
    let mut text = format!("{}: {many}", words::side(group));
    match group.survival.late_share() {
        Some(share) if share > 0.0 => {
            let _ = write!(text, ", {:.0} % closed", share * 100.0);
        }
        _ if group.count() > 1 => text.push_str(", none closed"),
        _ => {}
    }
    text
}

fn inherited(group: &Group, about: &About<'_>) -> String {
    let keeps = words::subject(group, "keeps", "keep");
    let from = match group.opened_by {
        Some(opener) => format!("from {}", words::process(Some(opener))),
        None => "by fork".to_owned(),
    };
    let side = words::side(group);
    let many = many(group, about);
    let many = many.strip_prefix(&side).unwrap_or(&many);
    format!("{keeps} CLOSE_WAIT {side} open, inherited {from}{many}")
}

/// With how they came, as far as that says that they do not get more.
fn held(group: &Group, about: &About<'_>) -> String {
    let mut text =
        format!("{} CLOSE_WAIT {}", words::subject(group, "holds", "hold"), many(group, about));
    let came = || group.members.iter().map(|member| member.since);
    if let (Some(first), Some(last)) = (came().min(), came().max())
        && group.count() > 1
        && about.growth.is_none()
    {
        let silent = about.now.since(last);
        if last.since(first) <= 2 * SECOND {
            text.push_str(&all_came(last.since(first)));
        } else if silent > 10 * SECOND {
            let _ = write!(text, ", no more for {}", words::age(silent));
        }
    }
    text
}

/// `, all came at once`, or within which time.
fn all_came(within_ns: u64) -> String {
    match within_ns {
        0..100_000_000 => ", all came at once".to_owned(),
        within => format!(", all came within {}", words::age(within)),
    }
}

/// Of one or two connections of ours, too few to show a timeout: how long they had been idle when the peer closed.
fn few_ends(group: &Group) -> Option<String> {
    let idle = group.ends.iter().all(|end| end.idle_ns >= SECOND);
    let known = group.ends.len() as u64 == group.count() && idle;
    if !known || matches!(group.key.side, Side::Local(_)) {
        return None;
    }
    match group.ends.as_slice() {
        [one] => {
            Some(format!("; the peer closed it after {} without data", words::age(one.idle_ns)))
        }
        [one, other] => Some(format!(
            "; the peer closed them after {} and {} without data",
            words::age(one.idle_ns),
            words::age(other.idle_ns)
        )),
        _ => None,
    }
}

fn close_is_missing(group: &Group) -> String {
    let pool = match group.key.side {
        Side::Local(_) => "an unclosed response",
        Side::Remote(_) | Side::Remotes => "no return to the pool",
    };
    format!(
        "This process has not called close(): find the code path that skips it (an exception, {pool})."
    )
}

fn holding(group: &Group, about: &About<'_>) -> String {
    let rest = match group.key.side {
        Side::Local(_) => {
            "threads may still work on them (jstack, gdb), or a code path skips close()."
        }
        Side::Remote(_) | Side::Remotes => {
            "a pool drops them at the next use. If they stay, a code path skips close()."
        }
    };
    let grows = about.growth.and_then(words::rate).is_some();
    let first = if grows {
        "It is too early to call this a leak"
    } else {
        "tcptrail has not seen their number grow"
    };
    format!("{first}: {rest}")
}

/// Whether the application looks at them, from what waits to be read.
fn what_was_read(group: &Group) -> String {
    if group.unread != 0 {
        let unread = words::bytes(group.unread);
        format!(" Unread: {unread}.")
    } else if group.end_read != 0 && group.end_not_read == 0 {
        " It has read the end of the stream.".to_owned()
    } else if group.end_not_read != 0 && group.end_read == 0 {
        " It no longer reads from them.".to_owned()
    } else {
        String::new()
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
pub(crate) fn fds(group: &Group, about: &About<'_>) -> Option<Forecast> {
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

pub(crate) fn fds_words(forecast: &Forecast) -> String {
    match forecast.left_ns {
        Some(0) => format!("; {}-fd limit reached", forecast.limit),
        // Beyond a month nobody knows.
        Some(left) if left < 30 * 86_400 * SECOND => {
            format!("; {}-fd limit reached in about {}", forecast.limit, words::roughly(left))
        }
        _ => String::new(),
    }
}
