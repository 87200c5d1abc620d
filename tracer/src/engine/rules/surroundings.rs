//! What the rules need to know of processes and namespaces: read elsewhere, handed in as [`Facts`],
//! and part of a recording.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::engine::rules::descriptors::{Descriptors, Kinds};
use crate::engine::rules::finding::Process;
use crate::engine::rules::growth::{Growth, Series};
use crate::event::Comm;
use crate::time::MonoNs;

/// What was read at one time. Unknown is `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub at: u64,
    /// CLOCK_BOOTTIME minus CLOCK_MONOTONIC, nanoseconds: the time the machine slept.
    #[serde(default)]
    pub slept_ns: u64,
    /// Processes.
    #[serde(default)]
    pub processes: Vec<ProcessFacts>,
    /// Network namespaces.
    #[serde(default)]
    pub netns: Vec<NetnsFacts>,
}

/// Of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Its id.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Soft limit of open files (`/proc/PID/limits`).
    pub fd_limit: Option<u64>,
    /// Open files (`/proc/PID/fd`).
    pub fds: Option<u64>,
    /// What its descriptors are that are no TCP sockets, as of the last walk over descriptors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<Descriptors>,
}

/// Of a network namespace: its sysctls and counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetnsFacts {
    /// Its inode.
    pub inode: u32,
    /// `ip_local_port_range`, both ends in it.
    pub port_range: Option<(u16, u16)>,
    /// `tcp_fin_timeout`, seconds.
    pub fin_timeout: Option<u32>,
    /// `tcp_orphan_retries`; 0 means 8.
    pub orphan_retries: Option<u32>,
    /// `tcp_retries2`.
    pub retries2: Option<u32>,
    /// `tcp_syn_retries`.
    pub syn_retries: Option<u32>,
    /// `tcp_syn_linear_timeouts`; Linux 6.5 and later.
    pub syn_linear_timeouts: Option<u32>,
    /// `tcp_synack_retries`.
    pub synack_retries: Option<u32>,
    /// `tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<u32>,
    /// `tcp_syncookies`.
    pub syncookies: Option<u32>,
    /// `tcp_tw_reuse`.
    pub tw_reuse: Option<u32>,
    /// `TcpExt: ListenOverflows`: SYNs and third ACKs for which a queue had no room.
    pub listen_overflows: Option<u64>,
    /// `TcpExt: ListenDrops`: SYNs and third ACKs that listeners dropped, for whatever reason.
    pub listen_drops: Option<u64>,
    /// `TcpExt: SyncookiesSent`: SYNs answered with a cookie, because the SYN queue was full.
    pub syn_cookies: Option<u64>,
    /// `TcpExt: TCPTimeWaitOverflow`: connections that got no TIME_WAIT.
    pub time_wait_overflows: Option<u64>,
    /// `tcp_max_tw_buckets`.
    pub max_tw_buckets: Option<u32>,
    /// How many ports of `port_range` are in `ip_local_reserved_ports`.
    pub reserved_ports: Option<u32>,
}

impl Facts {
    /// As bytes for [`Input::Facts`](crate::input::Input::Facts).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Integers only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From bytes; `None` when they make no sense.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Facts> {
        serde_json::from_slice(bytes).ok()
    }
}

/// A process as it was read so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessNow {
    comm: Option<Comm>,
    pub(crate) limit: Option<u64>,
    pub(crate) fds: Option<u64>,
    pub(crate) kinds: Kinds,
    series: Series,
    at: MonoNs,
}

impl ProcessNow {
    pub(crate) fn growth(&self) -> Option<Growth> {
        self.series.sustained()
    }
}

/// A network namespace as it was read first and last.
#[derive(Clone, Copy, Debug)]
struct NetnsNow {
    first: NetnsFacts,
    last: NetnsFacts,
    at: MonoNs,
}

/// All that was read so far.
#[derive(Debug, Default)]
pub struct Surroundings {
    processes: HashMap<u32, ProcessNow, FixedState>,
    netns: HashMap<u32, NetnsNow, FixedState>,
    slept_ns: u64,
    known: bool,
}

/// A process or namespace that was not read for this long has gone, or has no sockets any more.
const STALE_NS: u64 = 60_000_000_000;

impl Surroundings {
    /// Takes in what was read.
    pub fn take_in(&mut self, facts: &Facts) {
        let at = MonoNs(facts.at);
        self.known = true;
        self.slept_ns = facts.slept_ns;
        for read in &facts.processes {
            let process = self.processes.entry(read.pid).or_default();
            process.comm =
                read.comm.as_ref().map(|comm| Comm::new(comm.as_bytes())).or(process.comm);
            process.limit = read.fd_limit.or(process.limit);
            process.fds = read.fds;
            if let Some(descriptors) = &read.descriptors {
                process.kinds.take_in(at, descriptors);
            }
            process.at = at;
            if let Some(fds) = read.fds {
                process.series.push(at, fds);
            }
        }
        for read in &facts.netns {
            let first = NetnsNow { first: *read, last: *read, at };
            let netns = self.netns.entry(read.inode).or_insert(first);
            (netns.last, netns.at) = (*read, at);
        }
        self.processes.retain(|_, process| at.since(process.at) < STALE_NS);
        self.netns.retain(|_, netns| at.since(netns.at) < STALE_NS);
    }

    /// Whether anything was read at all.
    #[must_use]
    pub fn known(&self) -> bool {
        self.known
    }

    pub(crate) fn process(&self, pid: u32) -> Option<&ProcessNow> {
        self.processes.get(&pid)
    }

    /// With the name it has now: it may have become another program since its sockets were made (a service that systemd
    /// starts for its first client is systemd's process until then).
    pub(crate) fn named(&self, process: Process) -> Process {
        let now = process.pid.and_then(|pid| self.process(pid)?.comm);
        Process { comm: now.unwrap_or(process.comm), ..process }
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = (u32, &ProcessNow)> {
        self.processes.iter().map(|(&pid, process)| (pid, process))
    }

    /// Every network namespace that was read, as it was read last.
    pub fn namespaces(&self) -> impl Iterator<Item = &NetnsFacts> {
        self.netns.values().map(|netns| &netns.last)
    }

    /// Of a namespace; all unknown when it was not read.
    pub(crate) fn netns(&self, inode: u32) -> NetnsFacts {
        let unknown = NetnsFacts { inode, ..NetnsFacts::default() };
        self.netns.get(&inode).map_or(unknown, |netns| netns.last)
    }

    /// How far a counter of a namespace has come since it was read first; `None` when it is not known.
    pub(crate) fn grown(&self, inode: u32, counter: fn(&NetnsFacts) -> Option<u64>) -> Option<u64> {
        let netns = self.netns.get(&inode)?;
        // Another namespace may have its inode by now.
        counter(&netns.last)?.checked_sub(counter(&netns.first)?)
    }

    /// CLOCK_BOOTTIME of a CLOCK_MONOTONIC moment; `None` when nothing was read.
    pub(crate) fn boot_time(&self, at: MonoNs) -> Option<u64> {
        self.known.then(|| at.0.saturating_add(self.slept_ns))
    }

    /// Where ephemeral ports begin; Linux's default when it was not read.
    pub(crate) fn first_ephemeral(&self, netns: u32) -> u16 {
        self.netns(netns).port_range.map_or(32_768, |range| range.0)
    }
}

impl NetnsFacts {
    /// How many ports connect and bind choose from.
    pub(crate) fn ports(&self) -> Option<u64> {
        let (first, last) = self.port_range?;
        let reserved = u64::from(self.reserved_ports.unwrap_or(0));
        Some((u64::from(last.saturating_sub(first)) + 1).saturating_sub(reserved))
    }

    /// Retransmissions until the kernel gives up; of an orphan less.
    pub(crate) fn retries(&self, orphan: bool) -> Option<u32> {
        if orphan {
            // tcp_orphan_retries(): 0 means 8 while the last wait was shorter than the longest.
            self.orphan_retries.map(|retries| if retries == 0 { 8 } else { retries })
        } else {
            self.retries2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn namespaces_that_have_gone_are_let_go_of() {
        let mut around = Surroundings::default();
        let read =
            |inode, drops| NetnsFacts { inode, listen_drops: Some(drops), ..NetnsFacts::default() };
        for second in 0..1000u32 {
            let netns = vec![read(0, u64::from(second) + 7), read(second + 1, 0)];
            let at = u64::from(second) * SECOND;
            around.take_in(&Facts { at, netns, ..Facts::default() });
        }
        // The last minute's, and the one that stays, whose counter counts from the first reading.
        assert_eq!(around.namespaces().count(), 61);
        assert_eq!(around.grown(0, |facts| facts.listen_drops), Some(999));
        assert_eq!(around.grown(1, |facts| facts.listen_drops), None);
        assert_eq!(around.grown(1000, |facts| facts.listen_drops), Some(0));
    }
}
