//! The words findings have in common.

use std::fmt::Write;

use crate::engine::rules::Process;
use crate::engine::rules::group::Group;
use crate::engine::rules::place::Side;
use crate::text;
use crate::time::{Human, MonoNs};

const SECOND: u64 = 1_000_000_000;

/// `java[31467]`, `nginx[?]`; with nobody known, `an unknown process`.
pub(crate) fn process(process: Option<Process>) -> String {
    let Some(process) = process else { return "an unknown process".to_owned() };
    let mut out = Vec::new();
    text::process(&process.comm, process.pid, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// As [`process`]; of several workers of a service `3 workers of gunicorn ([101], [102], [103])`.
pub(crate) fn who(group: &Group) -> String {
    const NAMED: usize = 3;
    if group.workers.is_empty() {
        return process(group.key.process);
    }
    let mut out = Vec::new();
    if let Some(process) = group.key.process {
        text::name(process.comm.bytes(), &mut out);
    }
    let name = String::from_utf8_lossy(&out).into_owned();
    let pids: Vec<String> =
        group.workers.iter().take(NAMED).map(|pid| format!("[{pid}]")).collect();
    let more = if group.workers.len() > NAMED { ", ..." } else { "" };
    format!("{} workers of {name} ({}{more})", group.workers.len(), pids.join(", "))
}

/// Who does what: `java[77] leaks`, `3 workers of gunicorn ([101], [102], [103]) leak`.
pub(crate) fn subject(group: &Group, one: &str, many: &str) -> String {
    format!("{} {}", who(group), if group.workers.is_empty() { one } else { many })
}

/// `on :8089`, `to 10.0.0.5:443`, `to 312 addresses`.
pub(crate) fn side(group: &Group) -> String {
    match group.key.side {
        Side::Local(port) => format!("on :{port}"),
        Side::Remote(addr) => format!("to {addr}"),
        Side::Remotes => {
            let some = group.remotes(1000).len();
            format!("to {some}{} addresses", if some == 1000 { " or more" } else { "" })
        }
    }
}

/// As [`side`], for what does not come: `on :8089`, `from 10.0.0.9:5432`.
pub(crate) fn source(group: &Group) -> String {
    side(group).replacen("to ", "from ", 1)
}

/// `1 socket`, `9 sockets`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// An age or a span: whole seconds above ten.
pub(crate) fn age(ns: u64) -> String {
    if ns >= 10 * SECOND {
        Human(ns / SECOND * SECOND).to_string().replace(".0s", "s")
    } else {
        Human(ns).to_string()
    }
}

/// How long the kernel goes on after this many retries: `about 2m to 3m`. The first timer is not known here, and each
/// wait is twice the one before.
pub(crate) fn gives_up_after(retries: u32) -> String {
    let (least, most) = super::give_up::bounds_ns(retries);
    format!("about {} to {}", roughly(least), roughly(most))
}

/// A guess, not more exact than it is: `42s`, `7m`, `5h`, `3 days`.
pub(crate) fn roughly(ns: u64) -> String {
    let seconds = (ns + SECOND / 2) / SECOND;
    match seconds {
        0 => "1s".to_owned(),
        1..100 => format!("{seconds}s"),
        100..5_400 => format!("{}m", (seconds + 30) / 60),
        5_400..172_800 => format!("{}h", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

/// `+3/min`, `+2/s`, `+0.5/min`; nothing for next to nothing.
pub(crate) fn rate(per_minute: f64) -> Option<String> {
    if per_minute >= 120.0 {
        Some(format!("+{:.0}/s", per_minute / 60.0))
    } else if per_minute >= 9.5 {
        Some(format!("+{per_minute:.0}/min"))
    } else if per_minute >= 0.95 {
        let text = format!("+{per_minute:.1}/min");
        Some(text.replace(".0/", "/"))
    } else if per_minute * 60.0 >= 0.5 {
        Some(format!("+{:.0}/h", per_minute * 60.0))
    } else {
        None
    }
}

/// `9 sockets in LAST_ACK, oldest 14m02s, +3/min`, or of one `1 socket in LAST_ACK for 14m02s`.
pub(crate) fn so_many(
    group: &Group,
    (thing, where_): (&str, &str),
    now: MonoNs,
    growth: Option<f64>,
) -> String {
    let mut text = count(group.count(), thing) + where_;
    let bound = if group.oldest_is_at_least() { ">=" } else { "" };
    let oldest = format!("{bound}{}", age(group.oldest_ns(now)));
    if group.count() == 1 {
        let _ = write!(text, " for {oldest}");
    } else {
        let _ = write!(text, ", oldest {oldest}");
    }
    if let Some(rate) = growth.and_then(rate) {
        let _ = write!(text, ", {rate}");
    }
    text
}

/// ` Descriptors 41, 45, 47, ... in /proc/31467/fd.`; empty when none is known.
pub(crate) fn fds(group: &Group) -> String {
    const NAMED: usize = 3;
    let mut known: Vec<u32> = group.members.iter().filter_map(|member| member.fd).collect();
    known.sort_unstable();
    known.dedup();
    let named: Vec<String> = known.iter().take(NAMED).map(u32::to_string).collect();
    let Some(pid) = group.key.process.and_then(|process| process.pid).filter(|_| !known.is_empty())
    else {
        return String::new();
    };
    let more = if known.len() > NAMED { ", ..." } else { "" };
    let word = if known.len() == 1 { "Descriptor" } else { "Descriptors" };
    format!(" {word} {}{more} in /proc/{pid}/fd.", named.join(", "))
}

/// `512 bytes`, `12 kB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        2..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{} kB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// ` (sent again up to 6 times)`, or nothing when nothing is known of it.
pub(crate) fn sent_again(group: &Group, what: &str) -> String {
    match group.most_unanswered {
        0 => String::new(),
        1 => format!(", {what} sent again once"),
        times => format!(", {what} sent again {times} times"),
    }
}

/// When the kernel will let go, as far as that is known.
pub(crate) fn give_up(group: &Group, now: MonoNs) -> Option<String> {
    let last = group.last_give_up?;
    let left = last.since(now);
    if left < SECOND {
        return Some("the kernel is about to give up".to_owned());
    }
    Some(if group.count() == 1 {
        format!("the kernel gives up in about {}", roughly(left))
    } else {
        format!("the kernel gives up the last of them in about {}", roughly(left))
    })
}
