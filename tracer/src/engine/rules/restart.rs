//! A restart of the server, seen from its clients: the FINs of all connections come within one moment.
//!
//! | how they ended | for how long they had been idle | what is said |
//! |---|---|---|
//! | at one moment | for different times | a restart or failover |
//! | at one moment | all for about the same time | a restart or failover, or the idle timeout |
//! | at one moment | all for the same whole number of seconds, to the jiffy, without last words | the idle timeout |
//! | at several moments | all for about the same time | the idle timeout |

use std::fmt::Write;

use crate::engine::rules::fingerprint::same_within;
use crate::engine::rules::group::Group;
use crate::engine::rules::place::Side;
use crate::engine::rules::{About, words};

const SECOND: u64 = 1_000_000_000;
/// What ends all connections takes no longer than this.
const MOMENT_NS: u64 = 2 * SECOND;
/// Least connections: two may end together by chance.
const LEAST: u64 = 3;
/// Who asked more recently than this before the FIN got an answer that ends with it; unless all had been idle for about as
/// long, for a second at least, as short idle timeouts make it.
const QUIET_NS: u64 = 5 * SECOND;

/// Whether the peer has ended all of these at one moment. An idle timeout also ends those together that
/// were used together. But then each ends after the same time without data.
pub(crate) fn is_restart(group: &Group) -> bool {
    if group.count() < LEAST || matches!(group.key.side, Side::Local(_)) {
        return false;
    }
    if group.remotes(2).len() != 1 {
        return false;
    }
    let ended = || group.members.iter().map(|member| member.since);
    let (Some(first), Some(last)) = (ended().min(), ended().max()) else { return false };
    let at_once = last.since(first) <= MOMENT_NS;
    let quiet = group.quiet.iter().filter(|&&ns| ns >= QUIET_NS).count() as u64;
    let quiet =
        quiet * 2 > group.count() || alike_idle(group).is_some_and(|(least, _)| least >= SECOND);
    at_once && quiet && group.idle_timeout().is_none()
}

/// For how long they had been idle, least and most, where that was about the same time. They were used together then, and
/// a server's idle timeout would have ended them together, too: Redis counts whole seconds and looks at all in one pass,
/// so it ends at one moment what was used within a second. From outside both look the same.
fn alike_idle(group: &Group) -> Option<(u64, u64)> {
    let ends = || group.ends.iter().map(|end| end.idle_ns);
    let (least, most) = (ends().min()?, ends().max()?);
    let all = group.ends.len() as u64 == group.count();
    (all && most - least <= same_within(least)).then_some((least, most))
}

/// ` of 20s`, where it is the same whole number of seconds, as timeouts are; else what is known.
fn its_timeout((least, most): (u64, u64)) -> String {
    let beyond = most % SECOND;
    let off = beyond.min(SECOND - beyond);
    if most - least <= SECOND / 10 && off <= SECOND / 10 {
        return format!(" of {}", words::age(most));
    }
    match [least, most].map(words::age) {
        [least, most] if least == most => format!(": all had been idle for {most}"),
        [least, most] => format!(": all had been idle for {least} to {most}"),
    }
}

pub(crate) fn verdict(group: &Group, about: &About<'_>) -> String {
    let who = words::who(group);
    let peer = match group.key.side {
        Side::Remote(addr) => addr.to_string(),
        _ => group.remotes(1).first().map_or_else(String::new, ToString::to_string),
    };
    let ago = words::age(group.oldest_ns(about.now));
    let many = words::count(group.count(), "connection");
    let mut text = format!("{peer} ended {many} of {who} at one moment, {ago} ago");
    if group.unread != 0 {
        let _ = write!(text, "; {} of its last data are unread", words::bytes(group.unread));
    }
    text.push_str(": a restart or failover there");
    if let Some(idle) = alike_idle(group) {
        let _ = write!(text, ", or its idle timeout{}", its_timeout(idle));
    }
    text
}

pub(crate) fn advice(group: &Group) -> String {
    let who = words::who(group);
    let mut text = format!(
        "This is no leak of {who}: a pool notices it at the next use. Let the pool test each connection before use."
    );
    if let Some((least, _)) = alike_idle(group) {
        let _ = write!(
            text,
            " If it was an idle timeout, drop idle connections sooner than {}.",
            words::age(least)
        );
    }
    text
}
