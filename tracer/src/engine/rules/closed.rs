//! Sockets in CLOSE that a descriptor still leads to: their connection has ended, or never began, and
//! the application has not given them back. No walk over sockets shows them; the one over descriptors
//! does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Role, Table};
use crate::engine::rules::causes::{Causes, Socket, Why};
use crate::engine::rules::generations::{Ask, GENERATIONS, Pace, goes_on};
use crate::engine::rules::openers::{Opener, Openers};
use crate::engine::rules::scene::Held;
use crate::engine::rules::{Code, Finding, Process, RuleId, Sample, Severity, words};
use crate::event::{Comm, Family, SockId, Tuple};
use crate::filter::Filter;
use crate::time::MonoNs;

/// Fewer sockets that were never connected are everyday: one kept for later, a port that is reserved.
const LEAST_UNUSED: usize = 3;
/// So many at once are told though it is not known for how long they have been there.
const MANY: usize = 16;
/// Fewer that outlive the threshold are no leak.
const LEAST_OLD: usize = 3;
/// Ends no further apart have one cause, as a peer that restarts.
const A_MOMENT_NS: u64 = 2_000_000_000;

/// What the sockets of one process come to.
#[derive(Debug)]
struct Group {
    comm: Comm,
    sockets: Vec<Socket>,
}

/// What a look is about.
pub(crate) struct Scene<'a> {
    pub(crate) table: &'a Table,
    pub(crate) filter: &'a Filter,
    pub(crate) openers: &'a Openers,
    pub(crate) threshold_ns: u64,
    pub(crate) now: MonoNs,
}

/// All of them, over time.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    /// When a walk first met those whose end was not seen.
    met: HashMap<SockId, (MonoNs, bool), FixedState>,
    /// A walk over descriptors was looked at before.
    walked: bool,
    /// Processes whose sockets were a leak at the last look.
    leaking: HashSet<u32, FixedState>,
    /// By process, as of the last look.
    by_process: HashMap<u32, (Comm, u64), FixedState>,
}

impl Closed {
    /// Such sockets of a process.
    pub(crate) fn of(&self, pid: u32) -> u64 {
        self.by_process.get(&pid).map_or(0, |&(_, count)| count)
    }

    /// A process that has no other sockets than such.
    pub(crate) fn held(&self, pid: u32) -> Option<Held> {
        self.by_process.get(&pid).map(|&(comm, _)| Held { comm, sockets: 0, cgroup: 0 })
    }

    /// Processes that have some.
    pub(crate) fn processes(&self) -> impl Iterator<Item = u32> {
        self.by_process.keys().copied()
    }

    /// Looks over the descriptors of the last walk.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) -> Vec<Finding> {
        let groups = self.groups(scene);
        let count = |group: &Group| (group.comm, group.sockets.len() as u64);
        self.by_process = groups.iter().map(|(&pid, group)| (pid, count(group))).collect();
        let walked = scene.table.holders().iter().map(|holder| holder.at).max();
        let walked = walked.unwrap_or(scene.now);
        let judge = |(&pid, group): (&u32, &Group)| {
            finding(scene, pid, group, (walked, self.leaking.contains(&pid)))
        };
        let found: Vec<Finding> = groups.iter().filter_map(judge).collect();
        let leaking = found.iter().filter(|finding| finding.severity == Severity::Leak);
        self.leaking = leaking.filter_map(|finding| finding.process?.pid).collect();
        found
    }

    fn groups(&mut self, scene: &Scene<'_>) -> BTreeMap<u32, Group> {
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        let mut there = HashSet::with_hasher(FixedState::default());
        let holders = scene.table.holders();
        for of_one in holders.chunk_by(|one, other| one.id == other.id) {
            // The process that had it first: others got it by fork.
            let Some(holder) = of_one.iter().min_by_key(|holder| (holder.start_ns, holder.fd))
            else {
                continue;
            };
            // A socket that is in the table has begun since the walk.
            if holder.state != Some(TcpState::Close) || scene.table.has(holder.id) {
                continue;
            }
            let left = scene.table.leftover(holder.id);
            let last = left.map(|left| (&left.tuple, left.role));
            // A port that is reserved by bind is kept on purpose.
            let reserves = left.is_none() && !holder.connected && holder.bound;
            if reserves || !scene.filter.wants_closed(holder, last) {
                continue;
            }
            let (since, age_unknown) = match left {
                Some(left) => (left.at, false),
                None => {
                    there.insert(holder.id);
                    *self.met.entry(holder.id).or_insert((holder.at, !self.walked))
                }
            };
            let socket = Socket {
                id: holder.id,
                fd: holder.fd,
                why: Why::of(holder, left),
                tuple: left.map(|left| left.tuple),
                role: left.map_or(Role::Unknown, |left| left.role),
                since,
                age_unknown,
            };
            let group = groups
                .entry(holder.pid)
                .or_insert_with(|| Group { comm: holder.comm, sockets: Vec::new() });
            group.sockets.push(socket);
        }
        self.walked |= !holders.is_empty();
        self.met.retain(|id, _| there.contains(id));
        groups
    }
}

/// `walked`: when descriptors were looked at last. `leaked`: it was a leak before.
fn finding(
    scene: &Scene<'_>,
    pid: u32,
    group: &Group,
    (walked, leaked): (MonoNs, bool),
) -> Option<Finding> {
    let old = |socket: &&Socket| scene.now.since(socket.since) >= scene.threshold_ns;
    let mut stay: Vec<Socket> = group.sockets.iter().filter(old).copied().collect();
    if group.sockets.iter().filter(|socket| socket.age_unknown).count() >= MANY {
        stay.extend(group.sockets.iter().filter(|it| it.age_unknown && !old(it)));
    }
    let unused = stay.iter().filter(|socket| socket.why == Why::Unused).count();
    if unused < LEAST_UNUSED {
        stay.retain(|socket| socket.why != Why::Unused);
    }
    if stay.is_empty() {
        return None;
    }
    stay.sort_unstable_by_key(|socket| (socket.since, socket.id));
    let oldest = stay[0];
    let all_known = stay.iter().all(|socket| !socket.age_unknown);
    // The young ones, too, as far as it is known when they came.
    let known = group.sockets.iter().filter(|socket| !socket.age_unknown);
    let known = known.filter(|socket| socket.why != Why::Unused || unused >= LEAST_UNUSED);
    let mut since: Vec<MonoNs> = known.map(|socket| socket.since).collect();
    since.sort_unstable();
    // The first two seconds of a steady leak are no moment.
    let newest = since.last().copied().unwrap_or(oldest.since);
    let at_once = all_known && newest.since(oldest.since) < A_MOMENT_NS;
    let pace = leaks(&since, (scene.threshold_ns, scene.now), walked, leaked);
    let severity = match (pace, at_once) {
        (Some(_), _) => Severity::Leak,
        // One moment took them all: a restart or a failover, which a pool finds out at its next use.
        (None, true) => Severity::Note,
        (None, false) => Severity::Stuck,
    };
    let causes = Causes::of(&stay);
    let openers = by_opener(scene.openers, &stay);
    let growth = pace.map(|pace| pace.per_minute);
    let verdict = sentence(scene, group.comm, (pid, severity, growth), &stay);
    Some(Finding {
        workers: Vec::new(),
        id: format!("closed/{pid}"),
        rule: RuleId::Closed,
        code: Code::Closed,
        severity,
        state: Some(TcpState::Close),
        count: stay.len() as u64,
        in_state: group.sockets.len() as u64,
        oldest_ns: Some(scene.now.since(oldest.since)),
        growth_per_min: growth,
        closed_share: None,
        late_closed_share: None,
        netns: None,
        cgroup: 0,
        process: Some(Process { pid: Some(pid), comm: group.comm }),
        local_port: causes.local_port,
        remote: causes.remote,
        opened: crate::engine::rules::Opened::default(),
        opener: openers.first().map(|(opener, _)| opener.clone()),
        conns: samples(&stay, scene.now),
        advice: advice(&stay, severity, pid),
        verdict,
        forecast: None,
        idle_timeout_ns: None,
    })
}

/// What is said of them; they are in order of age.
fn sentence(
    scene: &Scene<'_>,
    comm: Comm,
    (pid, severity, growth): (u32, Severity, Option<f64>),
    stay: &[Socket],
) -> String {
    let count = stay.len() as u64;
    let all_known = stay.iter().all(|socket| !socket.age_unknown);
    let oldest = stay.first().map_or(scene.now, |socket| socket.since);
    let mut verdict = format!(
        "{} has not closed {} without a connection ({})",
        words::process(Some(Process { pid: Some(pid), comm })),
        words::count(count, "socket"),
        Causes::of(stay).in_words(),
    );
    let age = words::age(scene.now.since(oldest));
    let bound = if all_known { "" } else { ">=" };
    let _ = if count == 1 {
        write!(verdict, ", for {bound}{age}")
    } else {
        write!(verdict, ", the oldest for {bound}{age}")
    };
    if let Some(rate) = growth.and_then(words::rate) {
        let _ = write!(verdict, ", {rate}");
    }
    verdict.push_str(&opened_by(&by_opener(scene.openers, stay), count));
    if severity == Severity::Note && count > 1 {
        verdict.push_str("; all ended within a moment");
    }
    verdict
}

/// Whether sockets keep coming while old ones stay, up to the last walk over descriptors, which is what
/// shows them.
fn leaks(
    since: &[MonoNs],
    (threshold_ns, now): (u64, MonoNs),
    walked: MonoNs,
    leaked: bool,
) -> Option<Pace> {
    let old = since.partition_point(|&at| now.since(at) >= threshold_ns);
    let ask = Ask { generations: GENERATIONS, span_ns: threshold_ns, grew: leaked };
    if old < LEAST_OLD { None } else { goes_on(since, walked, ask) }
}

/// Who opened them, those with the most first.
fn by_opener(openers: &Openers, sockets: &[Socket]) -> Vec<(Opener, u64)> {
    let mut counts: BTreeMap<Opener, u64> = BTreeMap::new();
    for opener in sockets.iter().filter_map(|socket| openers.of(socket.id)) {
        *counts.entry(opener.clone()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(opener, count)| (std::cmp::Reverse(*count), opener.clone()));
    counts
}

fn opened_by(openers: &[(Opener, u64)], all: u64) -> String {
    match openers {
        [] => String::new(),
        [(opener, count)] if *count == all => format!("; opened by {opener}"),
        [(opener, count), ..] => format!("; opened by {opener} ({count} of them)"),
    }
}

fn samples(sockets: &[Socket], now: MonoNs) -> Vec<Sample> {
    let nowhere = Tuple {
        local_addr: [0; 16],
        remote_addr: [0; 16],
        local_port: 0,
        remote_port: 0,
        family: Family::V6,
    };
    sockets
        .iter()
        .take(Finding::SAMPLES)
        .map(|socket| Sample {
            id: socket.id,
            tuple: socket.tuple.unwrap_or(nowhere),
            age_ns: now.since(socket.since),
            fd: Some(socket.fd),
        })
        .collect()
}

fn advice(sockets: &[Socket], severity: Severity, pid: u32) -> String {
    let unused = sockets.iter().all(|socket| socket.why == Why::Unused);
    let mut text = String::from(if unused {
        "The code failed between socket() and connect() (name lookup, bind) and did not call close()."
    } else if severity == Severity::Note {
        "The peer restarted or failed over. A pool closes them at the next use. If nothing does, close() is missing."
    } else {
        "close() is missing after the error: look at the code that handles it."
    });
    let mut fds: Vec<u32> = sockets.iter().map(|socket| socket.fd).collect();
    fds.sort_unstable();
    let named: Vec<String> = fds.iter().take(3).map(u32::to_string).collect();
    let more = if fds.len() > named.len() { ", ..." } else { "" };
    let word = if fds.len() == 1 { "Descriptor" } else { "Descriptors" };
    let _ = write!(text, " {word} {}{more}", named.join(", "));
    let _ = write!(text, " in /proc/{pid}/fd; ss does not show them.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_leak_goes_on_and_a_burst_does_not() {
        let check = |seconds: &[u64], until: u64, expect: bool| {
            let since: Vec<MonoNs> = seconds.iter().map(|s| MonoNs(s * SECOND)).collect();
            let now = MonoNs(until * SECOND);
            // The last walk was a while ago.
            let walked = now.before(8 * SECOND);
            let leaks = leaks(&since, (5 * SECOND, now), walked, false).is_some();
            assert_eq!(leaks, expect, "{seconds:?} {until}");
        };
        let each = |step: u64, count: u64| (0..count).map(|n| n * step).collect::<Vec<_>>();
        check(&each(1, 30), 30, true);
        check(&each(60, 6), 305, true);
        // Two are no leak, nor what came at once.
        check(&each(60, 2), 61, false);
        check(&[5; 30], 60, false);
        // It has ended: nothing came for as long as they came.
        check(&each(1, 10), 30, false);
        // Two bursts: a peer that restarted twice.
        check(&[0, 0, 0, 60, 60, 60], 61, false);
        check(&[], 10, false);
    }
}
