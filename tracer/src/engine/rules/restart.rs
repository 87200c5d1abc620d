//! A restart of the server, seen from its clients: the FINs of all connections come within one moment.

use std::fmt::Write;

use crate::engine::rules::group::Group;
use crate::engine::rules::place::Side;
use crate::engine::rules::{About, words};

const SECOND: u64 = 1_000_000_000;
/// What ends all connections takes no longer than this.
const MOMENT_NS: u64 = 2 * SECOND;
/// Least connections: two may end together by chance.
const LEAST: u64 = 3;
/// Who asked more recently than this before the FIN got an answer that ends with it.
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
    at_once && quiet * 2 > group.count() && group.idle_timeout().is_none()
}

/// How long all of them had been idle, where that was the same time and a whole number of seconds: a server's
/// idle timeout would end connections that were used together just so.
fn same_idle(group: &Group) -> Option<u64> {
    let ends = || group.ends.iter().map(|end| end.idle_ns);
    let (least, most) = (ends().min()?, ends().max()?);
    let beyond = most % SECOND;
    let off = beyond.min(SECOND - beyond);
    let all = group.ends.len() as u64 == group.count();
    (all && most - least <= SECOND / 10 && off <= SECOND / 10).then_some(most)
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
        let _ = write!(text, "; {} of its last words are unread", words::bytes(group.unread));
    }
    text.push_str(": a restart or failover there");
    if let Some(idle) = same_idle(group) {
        let _ = write!(text, ", or its idle timeout of {}", words::age(idle));
    }
    text
}

pub(crate) fn advice(group: &Group) -> String {
    let who = words::who(group);
    format!(
        "This is no leak of {who}: the peer has closed them all, and the application has not looked at them since. A \
         pool notices at the next use, drops them and connects again. It can answer the first requests with errors \
         unless it tests a connection before it hands it out (HikariCP does, others have testOnBorrow or \
         validationQuery). When the application has worked again and they are still here, close() is missing."
    )
}
