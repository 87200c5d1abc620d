//! SYN_RECV: half-open connections that pile up at a listener.

use std::fmt::Write;

use crate::engine::conn::Mark;
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::{
    About, Code, Look, Rule, Said, Severity, Stuck, Surroundings, drops, words,
};

pub(crate) struct SynRecv;

/// A few half-open connections are everyday: clients that went away, scanners.
const LEAST: u64 = 16;

/// The handshakes are complete, and the kernel waits for the first data before it tells anybody.
fn deferred(group: &Group, about: &About<'_>) -> Said {
    let verdict = format!(
        "{} have connected {} of {} and sent nothing yet (TCP_DEFER_ACCEPT): {}",
        words::count(group.count(), "client"),
        words::side(group).replacen("on ", "to ", 1),
        words::process(group.key.process),
        words::so_many(group, ("connection", " in SYN_RECV"), about.now, None),
    );
    Said { verdict, severity: Severity::Note, forecast: None }
}

const DEFERRED: &str = "No flood: the handshakes are complete, and TCP_DEFER_ACCEPT waits for the first data (Apache: \
                        AcceptFilter; nginx: deferred; haproxy: defer-accept). The SYN queue counts them.";

/// What the kernel counts of a full SYN queue. It tells no event of a cookie, nor of a SYN that it drops there, which to
/// it is used up (`tcp_conn_request`); and it counts for all listeners of a network namespace together.
fn queue_full(around: &Surroundings, netns: u32) -> String {
    let cookies = around.grown(netns, |facts| facts.syn_cookies).unwrap_or(0);
    let dropped = around.grown(netns, |facts| facts.listen_drops).unwrap_or(0);
    let mut told = Vec::new();
    if cookies != 0 {
        told.push(format!(
            "{} answered with a cookie (SyncookiesSent)",
            words::count(cookies, "SYN")
        ));
    }
    if dropped != 0 {
        told.push(format!("{} dropped (ListenDrops)", words::count(dropped, "handshake")));
    }
    if told.is_empty() {
        return String::new();
    }
    format!("; in this network namespace {} since tcptrail started", told.join(", "))
}

impl Rule for SynRecv {
    fn check(&self, look: &Look<'_>) -> Option<Stuck> {
        let cause = if look.conn.mark == Mark::Deferred { Cause::Deferred } else { Cause::Plain };
        look.beyond(look.age(), cause)
    }

    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said> {
        if group.count() < LEAST {
            return None;
        }
        if group.key.cause == Cause::Deferred {
            return Some(deferred(group, about));
        }
        let sources = group.remotes(1000).len();
        let from =
            format!(" from {sources}{} addresses", if sources == 1000 { " or more" } else { "" });
        let mut verdict = format!(
            "half-open connections pile up {} of {}: {}",
            words::side(group).replacen("on ", "at ", 1),
            words::who(group),
            words::so_many(group, ("SYN", &from), about.now, about.growth),
        );
        verdict.push_str(&words::sent_again(group, "SYN-ACK"));
        verdict.push_str(&drops::found(group, about));
        let facts = about.around.netns(group.key.netns);
        if let Some(most) = facts.max_syn_backlog {
            let _ = write!(verdict, "; tcp_max_syn_backlog {most}");
        }
        verdict.push_str(&queue_full(about.around, group.key.netns));
        Some(Said { verdict, severity: Severity::Stuck, forecast: None })
    }

    fn code(&self, group: &Group, _about: &About<'_>) -> Code {
        if group.key.cause == Cause::Deferred { Code::SynRecvDeferred } else { Code::SynRecv }
    }

    fn advice(&self, group: &Group, about: &About<'_>) -> String {
        if group.key.cause == Cause::Deferred {
            return DEFERRED.to_owned();
        }
        if let Some(advice) = drops::advice(group, about) {
            return advice;
        }
        let facts = about.around.netns(group.key.netns);
        let mut text = String::from(
            "The last ACK of the handshake does not come: a SYN flood, or the path back loses the SYN-ACKs.",
        );
        match facts.syncookies {
            Some(0) => text.push_str(
                " tcp_syncookies is 0: set it to 1, and the listener still serves when its queue is full.",
            ),
            Some(_) => text
                .push_str(" tcp_syncookies is on: the listener still serves when its queue is full."),
            None => {}
        }
        if let Some(retries) = facts.synack_retries {
            let after = words::age(super::give_up::half_open_ns(retries));
            let _ = write!(text, " Each ends after {after}.");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::{Facts, NetnsFacts};

    /// What is said after these were read one after the other: cookies and drops.
    #[track_caller]
    fn check(read: &[(Option<u64>, Option<u64>)], says: &str) {
        let mut around = Surroundings::default();
        for &(syn_cookies, listen_drops) in read {
            let netns = NetnsFacts { inode: 7, syn_cookies, listen_drops, ..NetnsFacts::default() };
            around.take_in(&Facts { netns: vec![netns], ..Facts::default() });
        }
        assert_eq!(queue_full(&around, 7), says);
        assert_eq!(queue_full(&around, 8), "", "another namespace");
    }

    #[test]
    fn what_was_counted_since_is_said() {
        check(&[], "");
        check(&[(Some(900), Some(900))], "");
        check(&[(None, None), (Some(5), Some(5))], "");
        // Another namespace has its inode by now.
        check(&[(Some(900), Some(900)), (Some(5), Some(5))], "");
        check(
            &[(Some(900), Some(0)), (Some(901), Some(0))],
            "; in this network namespace 1 SYN answered with a cookie (SyncookiesSent) since tcptrail started",
        );
        check(
            &[(Some(0), Some(10)), (Some(0), Some(11)), (Some(120), Some(12))],
            "; in this network namespace 120 SYNs answered with a cookie (SyncookiesSent), 2 handshakes dropped \
             (ListenDrops) since tcptrail started",
        );
    }
}
