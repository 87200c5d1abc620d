//! Connections that get no TIME_WAIT, because `tcp_max_tw_buckets` is reached.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::growth::as_f64;
use crate::engine::rules::{Code, Facts, Finding, RuleId, Severity, words};
use crate::time::MonoNs;

/// Of one network namespace.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// `TCPTimeWaitOverflow` when it was first read.
    first: u64,
    now: u64,
    most: Option<u32>,
    /// When it was first read, and when it was first and last seen to have grown.
    read: MonoNs,
    began: Option<MonoNs>,
    grew: Option<MonoNs>,
    /// When it was last read.
    at: MonoNs,
}

/// A namespace that was not read for this long has gone, or has no sockets any more.
const STALE_NS: u64 = 60_000_000_000;
/// What happened in it may still be told for so long: that is a threshold, which whoever runs tcptrail chooses.
const TOLD_NS: u64 = 24 * 3_600_000_000_000;

/// Of all of them.
#[derive(Debug, Default)]
pub(crate) struct Overflows {
    by_netns: HashMap<u32, Counted, FixedState>,
}

impl Overflows {
    pub(crate) fn take_in(&mut self, facts: &Facts) {
        let at = MonoNs(facts.at);
        for read in &facts.netns {
            let Some(count) = read.time_wait_overflows else { continue };
            let known = self.by_netns.entry(read.inode).or_insert(Counted {
                first: count,
                now: count,
                most: read.max_tw_buckets,
                read: at,
                began: None,
                grew: None,
                at,
            });
            known.at = at;
            known.most = read.max_tw_buckets.or(known.most);
            if count < known.now {
                // Another namespace has its inode by now.
                (known.first, known.read, known.began, known.grew) = (count, at, None, None);
            } else if count > known.now {
                known.began = known.began.or(Some(known.read));
                known.grew = Some(at);
            } else if known.began.is_none() {
                known.read = at;
            }
            known.now = count;
        }
        self.by_netns.retain(|_, counted| {
            let told = counted.grew.is_some_and(|grew| at.since(grew) < TOLD_NS);
            at.since(counted.at) < STALE_NS || told
        });
    }

    /// Namespaces in which it has happened less than `within_ns` ago.
    pub(crate) fn findings(&self, within_ns: u64, now: MonoNs) -> Vec<Finding> {
        let mut found: Vec<Finding> = self
            .by_netns
            .iter()
            .filter_map(|(&netns, counted)| {
                let grew = counted.grew.filter(|&grew| now.since(grew) < within_ns)?;
                Some(finding(netns, counted, counted.began?, grew))
            })
            .collect();
        found.sort_by_key(|finding| finding.netns);
        found
    }
}

fn finding(netns: u32, counted: &Counted, began: MonoNs, grew: MonoNs) -> Finding {
    let count = counted.now.saturating_sub(counted.first);
    let span = grew.since(began);
    let per_minute = as_f64(count) * 60e9 / as_f64(span.max(1_000_000_000));
    let limit = match counted.most {
        Some(most) => format!("net.ipv4.tcp_max_tw_buckets is {most}"),
        None => "net.ipv4.tcp_max_tw_buckets is reached".to_owned(),
    };
    let verdict = format!(
        "{} closed without TIME_WAIT within {}: the table of this network namespace is full, {limit}",
        words::count(count, "connection"),
        words::age(span)
    );
    let advice =
        "A late segment of such a connection may reach a new one with the same ports. Raise \
                  net.ipv4.tcp_max_tw_buckets (about 250 bytes each), or reuse connections."
            .to_owned();
    Finding {
        workers: Vec::new(),
        id: format!("time_wait_overflow/{netns}"),
        rule: RuleId::TimeWaitOverflow,
        code: Code::TimeWaitOverflow,
        severity: Severity::Stuck,
        state: None,
        count,
        in_state: count,
        oldest_ns: None,
        growth_per_min: Some(per_minute),
        closed_share: None,
        late_closed_share: None,
        netns: Some(netns),
        cgroup: 0,
        process: None,
        local_port: None,
        remote: None,
        opener: None,
        opened: crate::engine::rules::Opened::default(),
        conns: Vec::new(),
        verdict,
        advice,
        forecast: None,
        idle_timeout_ns: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::NetnsFacts;

    const SECOND: u64 = 1_000_000_000;

    /// What is found at the last of these readings (second, count).
    fn found(readings: &[(u64, u64)], now: u64) -> Vec<(u64, String)> {
        let mut overflows = Overflows::default();
        for &(second, count) in readings {
            let netns = NetnsFacts {
                inode: 7,
                time_wait_overflows: Some(count),
                max_tw_buckets: Some(5000),
                ..NetnsFacts::default()
            };
            let facts = Facts { at: second * SECOND, netns: vec![netns], ..Facts::default() };
            overflows.take_in(&facts);
        }
        let found = overflows.findings(60 * SECOND, MonoNs(now * SECOND));
        found.into_iter().map(|finding| (finding.count, finding.verdict)).collect()
    }

    #[test]
    fn an_overflow_is_told_while_it_happens() {
        // What was counted before is of no matter.
        assert_eq!(found(&[(1, 900), (11, 900)], 12), []);
        let told = found(&[(1, 900), (11, 900), (21, 937)], 22);
        assert_eq!(told.len(), 1);
        assert_eq!(
            told[0],
            (
                37,
                "37 connections closed without TIME_WAIT within 10s: the table of this network namespace is full, \
                 net.ipv4.tcp_max_tw_buckets is 5000"
                    .to_owned()
            )
        );
        // It is over.
        assert_eq!(found(&[(1, 900), (11, 937), (61, 937), (71, 937)], 72), []);
        // The inode is another namespace's now.
        assert_eq!(found(&[(1, 900), (11, 3)], 12), []);
    }

    #[test]
    fn namespaces_that_have_gone_are_let_go_of() {
        let mut overflows = Overflows::default();
        for second in 0..5_000_u32 {
            let read = |inode, count| NetnsFacts {
                inode,
                time_wait_overflows: Some(count),
                ..NetnsFacts::default()
            };
            let mut netns = vec![read(0, 1), read(second + 1, 1)];
            if second < 10 {
                netns.push(read(u32::MAX, second.into()));
            }
            let at = u64::from(second) * SECOND;
            overflows.take_in(&Facts { at, netns, ..Facts::default() });
        }
        // Those of the last minute, the one that stays, and one of which there is something to tell.
        assert_eq!(overflows.by_netns.len(), 62);
    }
}
