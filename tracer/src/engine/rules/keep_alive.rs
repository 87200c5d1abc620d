//! Idle connections of a pool that the server has closed: its keep-alive is shorter than the pool's. They
//! are bounded, and no leak.

use crate::engine::rules::fingerprint::Timeout;
use crate::engine::rules::group::Group;
use crate::engine::rules::place::Side;
use crate::engine::rules::{pools, words};
use crate::time::MonoNs;

/// The server's idle timeout, when it is what closed most of these connections of ours.
pub(crate) fn timeout(group: &Group) -> Option<Timeout> {
    if matches!(group.key.side, Side::Local(_)) {
        return None;
    }
    group.idle_timeout().filter(|timeout| timeout.followers * 5 >= group.count() * 4)
}

/// For those that do not get more.
pub(crate) fn verdict(group: &Group, timeout: Timeout, now: MonoNs) -> String {
    let keeps = words::subject(group, "keeps", "keep");
    let server = match group.key.side {
        Side::Remote(remote) => remote.to_string(),
        Side::Local(_) | Side::Remotes => "their servers".to_owned(),
    };
    let has = if group.key.side == Side::Remotes { "have" } else { "has" };
    let many = words::count(group.count(), "idle connection");
    let bound = if group.oldest_is_at_least() { ">=" } else { "" };
    format!(
        "{keeps} {many} that {server} {has} closed after {} without data, oldest {bound}{} ago: the server's keep-alive is \
         shorter than the pool's. Their number does not grow: no leak",
        words::age(timeout.ns),
        words::age(group.oldest_ns(now)),
    )
}

pub(crate) fn advice(group: &Group, timeout: Timeout) -> String {
    let port = group.members.first().map_or(0, |member| member.tuple.remote_port);
    let time = words::age(timeout.ns);
    format!(
        "Let the pool drop idle connections sooner than {time}, or raise the server's keep-alive. {}",
        pools::advice(group.key.process, port)
    )
}
