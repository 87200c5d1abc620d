//! Workers of one service that run out of descriptors together: one finding, not one for each.
//!
//! As [`merge`](super::merge) has it for sockets: processes of one name in one cgroup, three of them or more.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::rules::finding::What;
use crate::engine::rules::{Finding, Forecast, Process, words};
use crate::event::Comm;
use crate::text;

/// From so many processes on.
const MANY: usize = 3;

/// Puts together the findings of each service's workers, where these are many. Each comes with the cgroup of its
/// process, 0 where that is not known.
pub(crate) fn merged(found: Vec<(u64, Finding)>) -> Vec<Finding> {
    let mut services: BTreeMap<(u64, [u8; 16]), Vec<Finding>> = BTreeMap::new();
    let mut out = Vec::new();
    for (cgroup, finding) in found {
        match finding.process {
            Some(process) if cgroup != 0 => {
                services.entry((cgroup, process.comm.0)).or_default().push(finding);
            }
            _ => out.push(finding),
        }
    }
    for ((cgroup, comm), workers) in services {
        if workers.len() < MANY {
            out.extend(workers);
        } else {
            out.extend(one(cgroup, Comm(comm), workers));
        }
    }
    out
}

/// The finding about all of them: what is said of the worst, and how many there are.
fn one(cgroup: u64, comm: Comm, mut workers: Vec<Finding>) -> Option<Finding> {
    let left = |finding: &Finding| finding.forecast.and_then(|forecast| forecast.left_ns);
    workers.sort_by_key(|finding| (left(finding), std::cmp::Reverse(finding.count)));
    let mut pids: Vec<u32> = workers.iter().filter_map(|finding| finding.process?.pid).collect();
    let worst_pid = *pids.first()?;
    pids.sort_unstable();
    let worst = workers.first()?.clone();
    let forecast = worst.forecast?;
    let verdict = verdict(comm, &workers, worst_pid, &forecast);
    Some(Finding {
        id: format!("fds/{}@{cgroup}", name(comm)),
        process: Some(Process { pid: None, comm }),
        workers: pids,
        count: workers.iter().map(|finding| finding.count).sum(),
        in_state: workers.iter().map(|finding| finding.in_state).sum(),
        growth_per_min: None,
        verdict,
        ..worst
    })
}

fn name(comm: Comm) -> String {
    let mut out = Vec::new();
    text::name(comm.bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn verdict(comm: Comm, workers: &[Finding], worst: u32, forecast: &Forecast) -> String {
    const NAMED: usize = 3;
    debug_assert!(forecast.what == What::Fds);
    let empty =
        workers.iter().filter(|one| one.forecast.and_then(|f| f.left_ns) == Some(0)).count();
    let mut named: Vec<u32> =
        workers.iter().filter_map(|finding| finding.process?.pid).take(NAMED).collect();
    named.sort_unstable();
    let named: Vec<String> = named.iter().map(|pid| format!("[{pid}]")).collect();
    let more = if workers.len() > NAMED { ", ..." } else { "" };
    let mut text =
        format!("{} workers of {} ({}{more})", workers.len(), name(comm), named.join(", "));
    let _ = match (empty, forecast.left_ns) {
        (0, left) => write!(
            text,
            " run out of file descriptors, the first in about {}",
            words::roughly(left.unwrap_or(0))
        ),
        (all, _) if all == workers.len() => write!(text, " have no file descriptor left"),
        (some, _) => write!(
            text,
            " run out of file descriptors, and {some} of them {} none left",
            if some == 1 { "has" } else { "have" }
        ),
    };
    let _ = write!(text, ": [{worst}] has {} of {} in use", forecast.in_use, forecast.limit);
    if let Some(sockets) = forecast.share {
        let _ = write!(text, ", {sockets} of them sockets");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::{Code, Opened, RuleId, Severity};

    fn finding(pid: u32, comm: &[u8], in_use: u64, left_s: u64) -> Finding {
        let process = Process { pid: Some(pid), comm: Comm::new(comm) };
        Finding {
            id: format!("fds/{pid}"),
            rule: RuleId::Fds,
            code: Code::Fds,
            severity: Severity::Exhaustion,
            state: None,
            count: in_use,
            in_state: in_use,
            oldest_ns: None,
            growth_per_min: Some(1.0),
            closed_share: None,
            late_closed_share: None,
            netns: None,
            cgroup: 0,
            process: Some(process),
            workers: Vec::new(),
            local_port: None,
            remote: None,
            opener: None,
            opened: Opened::default(),
            conns: Vec::new(),
            verdict: "its own".to_owned(),
            advice: "what to do".to_owned(),
            forecast: Some(Forecast {
                what: What::Fds,
                limit: 100,
                in_use,
                share: Some(in_use),
                per_second: Some(1.0),
                left_ns: Some(left_s * 1_000_000_000),
            }),
            idle_timeout_ns: None,
        }
    }

    #[test]
    fn three_workers_are_one_finding_and_two_are_two() {
        let of = |pids: &[u32], left_s: u64| -> Vec<(u64, Finding)> {
            pids.iter()
                .map(|&pid| (9, finding(pid, b"gunicorn", 60 + u64::from(pid), left_s)))
                .collect()
        };
        let all = merged(of(&[3, 1, 2, 4], 50));
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].workers, [1, 2, 3, 4]);
        assert_eq!(
            all[0].verdict,
            "4 workers of gunicorn ([2], [3], [4], ...) run out of file descriptors, the first in about 50s: [4] has \
             64 of 100 in use, 64 of them sockets"
        );
        assert!(all[0].is_about(2) || all[0].rule == RuleId::Fds);
        assert_eq!(merged(of(&[1, 2], 50)).len(), 2);
        // Others of that name elsewhere, and those of which nobody knows where they are.
        let mut mixed = of(&[1, 2, 3], 0);
        mixed.push((8, finding(7, b"gunicorn", 50, 10)));
        mixed.extend([4, 5, 6].map(|pid| (0, finding(pid, b"gunicorn", 50, 10))));
        let all = merged(mixed);
        assert_eq!(all.len(), 5, "{all:?}");
        let one = all.iter().find(|one| !one.workers.is_empty()).expect("three are one");
        assert!(
            one.verdict.contains(" have no file descriptor left: [3] has 63 of 100"),
            "{}",
            one.verdict
        );
    }
}
