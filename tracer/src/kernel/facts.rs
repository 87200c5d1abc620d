//! What the rules need to know of processes and network namespaces, read from /proc.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::netns;
use super::netns::Way;
use crate::engine::rules::{Descriptors, Facts, Needs, NetnsFacts, ProcessFacts};
use crate::time::MonoNs;

/// Limits and sysctls change seldom: they are read again after this time.
const KEPT: Duration = Duration::from_secs(10);

/// Reads facts; keeps what changes seldom.
#[derive(Debug, Default)]
pub(super) struct Reader {
    limits: HashMap<u32, (Instant, Option<u64>)>,
    netns: HashMap<u32, (Instant, NetnsFacts)>,
    /// As of the last walk over descriptors.
    pub(super) descriptors: HashMap<u32, Descriptors>,
}

impl Reader {
    /// Reads what is needed, and may be read: the rest is unknown. The calling thread enters the
    /// namespaces.
    pub(super) fn read(&mut self, needs: &Needs, known: &BTreeMap<u32, Way>) -> Facts {
        let now = Instant::now();
        self.limits.retain(|_, (read, _)| now - *read < KEPT);
        self.netns.retain(|_, (read, _)| now - *read < KEPT);
        let processes = needs.pids.iter().map(|&pid| self.process(pid, now)).collect();
        let netns = needs
            .netns
            .iter()
            .filter_map(|inode| {
                let way = known.get(inode)?;
                if let Some((_, facts)) = self.netns.get(inode) {
                    return Some(*facts);
                }
                let facts = namespace(*inode, way)?;
                self.netns.insert(*inode, (now, facts));
                Some(facts)
            })
            .collect();
        let at = MonoNs::now();
        let boot = clock_gettime(ClockId::Boottime);
        let boot = u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(boot.tv_nsec).unwrap_or(0);
        // Two readings of the same clock differ by what lies between them; sleeps are longer.
        let slept_ns = Some(boot.saturating_sub(at.0)).filter(|&ns| ns > 1_000_000).unwrap_or(0);
        Facts { at: at.0, slept_ns, processes, netns }
    }

    fn process(&mut self, pid: u32, now: Instant) -> ProcessFacts {
        let limit = self.limits.entry(pid).or_insert_with(|| (now, fd_limit(pid))).1;
        ProcessFacts {
            pid,
            comm: name(pid),
            fd_limit: limit,
            fds: open_files(pid),
            descriptors: self.descriptors.get(&pid).cloned(),
        }
    }
}

/// `None` where it has ended, or its name is no text.
fn name(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Soft limit of `Max open files`; `None` when unlimited, or not to be read.
fn fd_limit(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Since 6.2 the directory's size (`proc_fd_getattr`), which needs no walk; before, its entries.
fn open_files(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    let size = fs::metadata(&path).ok()?.len();
    if size != 0 {
        return Some(size);
    }
    Some(fs::read_dir(path).ok()?.count() as u64)
}

/// Whether the kernel tells how many descriptors a process has.
pub(super) fn are_counted() -> bool {
    fs::metadata("/proc/self/fd").is_ok_and(|meta| meta.len() != 0)
}

fn namespace(inode: u32, way: &Way) -> Option<NetnsFacts> {
    if way.enter().is_err() && netns::inode("/proc/thread-self/ns/net".as_ref()).ok() != Some(inode)
    {
        return None;
    }
    let counters =
        counters(["ListenOverflows", "TCPTimeWaitOverflow", "ListenDrops", "SyncookiesSent"]);
    Some(NetnsFacts {
        inode,
        port_range: port_range(),
        fin_timeout: sysctl("tcp_fin_timeout"),
        orphan_retries: sysctl("tcp_orphan_retries"),
        retries2: sysctl("tcp_retries2"),
        syn_retries: sysctl("tcp_syn_retries"),
        syn_linear_timeouts: sysctl("tcp_syn_linear_timeouts"),
        synack_retries: sysctl("tcp_synack_retries"),
        max_syn_backlog: sysctl("tcp_max_syn_backlog"),
        syncookies: sysctl("tcp_syncookies"),
        tw_reuse: sysctl("tcp_tw_reuse"),
        listen_overflows: counters[0],
        listen_drops: counters[2],
        syn_cookies: counters[3],
        time_wait_overflows: counters[1],
        max_tw_buckets: sysctl("tcp_max_tw_buckets"),
        reserved_ports: port_range().and_then(reserved_ports),
    })
}

/// `/proc/sys/net` shows the namespace of whoever opens it.
fn sysctl<T: FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok()
}

fn port_range() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_ascii_whitespace();
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Those of `TcpExt`.
fn counters<const N: usize>(wanted: [&str; N]) -> [Option<u64>; N] {
    // Not /proc/net: that is the first thread's namespace.
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    wanted.map(|wanted| {
        let at = names.split_ascii_whitespace().position(|name| name == wanted)?;
        values.split_ascii_whitespace().nth(at)?.parse().ok()
    })
}

/// Ports of the range that connect and bind do not choose (`ip_local_reserved_ports`).
fn reserved_ports(range: (u16, u16)) -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").ok()?;
    Some(ports_within(&text, range))
}

/// Of `8080,9148-9150` those in the range; the kernel writes them in order, without overlaps.
fn ports_within(text: &str, (first, last): (u16, u16)) -> u32 {
    let ports = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        let (from, to) = (from.max(first), to.min(last));
        (from <= to).then(|| u32::from(to - from) + 1)
    };
    text.trim().split(',').filter_map(ports).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_count_within_the_range() {
        let check = |text: &str, expect: u32| {
            assert_eq!(ports_within(text, (41_000, 41_099)), expect, "{text}");
        };
        check("\n", 0);
        check("8080,9148\n", 0);
        check("41000\n", 1);
        check("41020-41099\n", 80);
        check("40990-41009,41090-42000\n", 20);
        check("1-65535\n", 100);
        check("41000-,x\n", 0);
    }

    #[test]
    fn our_own_process_is_read() {
        let needs = Needs { pids: vec![std::process::id(), u32::MAX], netns: Vec::new() };
        let facts = Reader::default().read(&needs, &BTreeMap::new());
        let [ours, nobody] = facts.processes.as_slice() else { panic!("{facts:?}") };
        assert!(ours.fds.is_some_and(|fds| fds >= 3), "{ours:?}");
        assert!(ours.fd_limit.is_some_and(|limit| limit >= 20), "{ours:?}");
        assert_eq!((nobody.fd_limit, nobody.fds), (None, None));
        assert_eq!(Facts::decode(&facts.encode()), Some(facts));
    }
}
