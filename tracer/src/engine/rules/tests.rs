//! Simulated time: what is found in minutes and hours, and what is not.

mod idle;
mod leaks;
mod messages;
mod still;

use proptest::prelude::*;
use tracer_common::TcpState;
use tracer_common::wire::HolderRow;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::engine::conn::{self, Change, Poll, PollKind, Table};
use crate::event::{
    Actor, Comm, Counters, Event, Existing, Family, Shape, SockId, SocketFlags, Tuple,
    What as Happened,
};
use crate::filter::Filter;
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const START: MonoNs = MonoNs(50_000 * SECOND);
const NETNS: u32 = 7;
const JAVA: u32 = 31_467;

fn mapped(last: u8) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
    addr
}

/// A machine: a table, a watch, a clock.
struct Sim {
    table: Table,
    watch: Watch,
    now: MonoNs,
    changes: Vec<Change>,
    told: Vec<(Update, Finding)>,
    next_id: u64,
    facts: Facts,
    holders: Vec<HolderRow>,
}

impl Sim {
    fn new() -> Sim {
        Sim::with(&[])
    }

    fn with(thresholds: &[&str]) -> Sim {
        let mut set = Thresholds::default();
        for text in thresholds {
            set.set(text).expect("sound");
        }
        let table = Table::new(conn::Options {
            start: START,
            jiffy_ns: 4 * MS,
            limit: 1_000_000,
            jiffies: None,
            minis_are_seen: true,
            minis_are_asked_for: true,
            resets_are_seen: true,
        });
        let options = Options { thresholds: set, gates: Vec::new(), jiffy_ns: 4 * MS };
        let mut sim = Sim {
            table,
            watch: Watch::new(options),
            now: START,
            changes: Vec::new(),
            told: Vec::new(),
            next_id: 100,
            facts: Facts {
                netns: vec![NetnsFacts {
                    inode: NETNS,
                    port_range: Some((32_768, 60_999)),
                    orphan_retries: Some(0),
                    retries2: Some(15),
                    syn_retries: Some(6),
                    syn_linear_timeouts: Some(4),
                    synack_retries: Some(5),
                    syncookies: Some(1),
                    ..NetnsFacts::default()
                }],
                ..Facts::default()
            },
            holders: Vec::new(),
        };
        sim.listener(8089, JAVA);
        sim
    }

    fn tuple(id: u64, local: u16, remote: u8, remote_port: u16) -> Tuple {
        let _ = id;
        Tuple {
            local_addr: mapped(1),
            remote_addr: mapped(remote),
            local_port: local,
            remote_port,
            family: Family::V4,
        }
    }

    fn feed(&mut self, id: u64, tuple: Tuple, flags: SocketFlags, what: Happened) {
        self.feed_counted(id, tuple, flags, Counters::default(), what);
    }

    fn feed_counted(
        &mut self,
        id: u64,
        tuple: Tuple,
        flags: SocketFlags,
        counters: Counters,
        what: Happened,
    ) {
        let event = Event {
            at: self.now,
            id: SockId(id),
            address: 0,
            netns: NETNS,
            tuple,
            cgroup: 0,
            interface: 0,
            flags,
            error: 0,
            ages: None,
            counters: Some(counters),
            what,
        };
        self.table.apply(&event, &mut self.changes);
        if let Happened::Socket(row) = &event.what {
            self.watch.row(&event, row);
        }
        self.settle();
    }

    fn settle(&mut self) {
        for change in &self.changes {
            if let Some(conn) = self.table.get(change.conn) {
                self.watch.change(conn, change);
            }
        }
        self.changes.clear();
        self.table.settle();
    }

    fn to(&mut self, id: u64, tuple: Tuple, old: TcpState, new: TcpState, actor: Option<u32>) {
        let actor = actor.map(|pid| Actor {
            pid,
            tid: pid,
            comm: Comm::new(b"java"),
            thread: Comm::new(b"java"),
            exiting: false,
        });
        let flags = SocketFlags { has_socket: true, ..SocketFlags::default() };
        self.feed(id, tuple, flags, Happened::Transition { old, new, actor });
    }

    fn listener(&mut self, port: u16, pid: u32) {
        let tuple = Sim::tuple(1, port, 0, 0);
        self.to(
            1,
            Tuple { remote_addr: [0; 16], local_addr: [0; 16], ..tuple },
            TcpState::Close,
            TcpState::Listen,
            Some(pid),
        );
    }

    /// A connection to the listener, accepted, whose peer has just closed.
    fn half_closed(&mut self) -> (u64, Tuple) {
        self.next_id += 1;
        let id = self.next_id;
        let port = 20_000 + u16::try_from(id % 40_000).expect("small");
        let tuple = Sim::tuple(id, 8089, 2, port);
        self.to(id, tuple, TcpState::Listen, TcpState::SynRecv, None);
        self.to(id, tuple, TcpState::SynRecv, TcpState::Established, None);
        self.to(id, tuple, TcpState::Established, TcpState::CloseWait, None);
        (id, tuple)
    }

    fn close(&mut self, (id, tuple): (u64, Tuple)) {
        self.to(id, tuple, TcpState::CloseWait, TcpState::LastAck, Some(JAVA));
        self.to(id, tuple, TcpState::LastAck, TcpState::Close, None);
    }

    /// A descriptor of the process that has this socket; known once [`Sim::hold`] is called.
    fn own(&mut self, id: u64) {
        let mut row = HolderRow::new_zeroed();
        (row.id, row.pid, row.fd, row.netns) = (id, JAVA, 9, NETNS);
        row.comm[..4].copy_from_slice(b"java");
        row.start_ns = self.now.0 - 3_600 * SECOND;
        row.mono_ns = self.now.0;
        self.holders.push(row);
    }

    fn hold(&mut self) {
        let holders = self.holders.iter();
        let holders =
            holders.map(|row| crate::engine::decode::holder(row.as_bytes()).expect("a row"));
        self.table.set_holders(holders.collect());
    }

    fn fds(&mut self, limit: u64, fds: u64) {
        self.facts.processes = vec![ProcessFacts {
            pid: JAVA,
            fd_limit: Some(limit),
            fds: Some(fds),
            ..ProcessFacts::default()
        }];
    }

    /// Time passes, a second at a time.
    fn pass(&mut self, seconds: u64, mut each: impl FnMut(&mut Sim, u64)) {
        for second in 0..seconds {
            each(self, second);
            self.now = self.now.after(SECOND);
            self.facts.at = self.now.0;
            let facts = self.facts.clone();
            self.watch.facts(&facts);
            self.table.tick(self.now, &mut self.changes);
            self.settle();
            self.watch.look(&self.table, &Filter::default(), self.now, &mut self.told);
        }
    }

    fn quiet(&mut self, seconds: u64) {
        self.pass(seconds, |_, _| ());
    }

    fn of(&self, rule: RuleId) -> Vec<&Finding> {
        self.watch
            .findings()
            .into_iter()
            .map(|(found, _)| found)
            .filter(|f| f.rule == rule)
            .collect()
    }

    fn only(&self, rule: RuleId) -> &Finding {
        let all = self.of(rule);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    fn verdicts(&self) -> Vec<&str> {
        self.told.iter().map(|(_, finding)| finding.verdict.as_str()).collect()
    }
}

#[test]
fn a_leak_of_one_a_minute_is_caught_within_ten_minutes() {
    let mut sim = Sim::new();
    let mut caught = None;
    sim.pass(600, |sim, second| {
        if second % 60 == 0 {
            sim.half_closed();
        }
        let leaks = sim.of(RuleId::CloseWait).iter().any(|f| f.severity == Severity::Leak);
        if leaks && caught.is_none() {
            caught = Some(second);
        }
    });
    assert!(caught.is_some_and(|second| second < 240), "{caught:?}");
    let found = sim.only(RuleId::CloseWait);
    assert!(
        found.verdict.starts_with("java[31467] leaks CLOSE_WAIT on :8089: "),
        "{}",
        found.verdict
    );
    assert!(found.verdict.contains(", +1/min, none closed"), "{}", found.verdict);
    assert_eq!(found.late_closed_share, Some(0.0));
}

/// The same leak behind a hundred connections a second that close as they should: they are not
/// accused, and do not hide it.
#[test]
fn a_busy_service_neither_is_accused_nor_hides_a_leak() {
    for leaks in [false, true] {
        let mut sim = Sim::new();
        let mut open = std::collections::VecDeque::new();
        sim.pass(600, |sim, second| {
            for _ in 0..100 {
                let one = sim.half_closed();
                open.push_back((second, one));
            }
            // Each is closed after five seconds.
            while open.front().is_some_and(|(since, _)| since + 5 <= second) {
                let (_, one) = open.pop_front().expect("one");
                sim.close(one);
            }
            if leaks && second % 60 == 0 {
                sim.half_closed();
            }
        });
        if !leaks {
            assert!(sim.told.is_empty(), "{:?}", sim.verdicts());
            continue;
        }
        let found = sim.only(RuleId::CloseWait);
        assert_eq!(found.severity, Severity::Leak);
        assert_eq!(found.count, 10);
        assert!(found.in_state > 500, "{found:?}");
        assert!(found.closed_share.is_some_and(|share| share > 0.98), "{found:?}");
        assert!(found.verdict.contains("10 sockets"), "{}", found.verdict);
    }
}

/// A service that takes two minutes to close, and then does, is slow and leaks nothing.
#[test]
fn who_closes_late_does_not_leak() {
    let mut sim = Sim::new();
    let mut open = std::collections::VecDeque::new();
    sim.pass(1_200, |sim, second| {
        if second % 5 == 0 {
            open.push_back((second, sim.half_closed()));
        }
        while open.front().is_some_and(|(since, _)| since + 120 <= second) {
            let (_, one) = open.pop_front().expect("one");
            sim.close(one);
        }
    });
    // In its first minutes nobody can know; then it is over.
    assert!(sim.of(RuleId::CloseWait).is_empty(), "{:?}", sim.verdicts());
    let cleared = sim.told.iter().any(|(update, _)| matches!(update, Update::Clear { .. }));
    assert!(cleared, "{:?}", sim.verdicts());
}

#[test]
fn a_leak_that_was_mended_is_over() {
    let mut sim = Sim::new();
    let mut leaked = Vec::new();
    sim.pass(300, |sim, second| {
        if second % 20 == 0 {
            leaked.push(sim.half_closed());
        }
    });
    assert_eq!(sim.only(RuleId::CloseWait).severity, Severity::Leak);
    for one in leaked {
        sim.close(one);
    }
    sim.quiet(3);
    assert!(sim.of(RuleId::CloseWait).is_empty());
    let (update, _) = sim.told.last().expect("told");
    assert!(matches!(update, Update::Clear { .. }), "{update:?}");
}

#[test]
fn one_that_is_old_is_told_and_not_called_a_leak() {
    let mut sim = Sim::new();
    sim.half_closed();
    sim.quiet(59);
    assert!(sim.told.is_empty(), "{:?}", sim.verdicts());
    sim.quiet(3);
    let found = sim.only(RuleId::CloseWait);
    assert_eq!((found.severity, found.count), (Severity::Stuck, 1));
    assert!(
        found.verdict.starts_with("java[31467] holds CLOSE_WAIT on :8089: 1 socket for"),
        "{}",
        found.verdict
    );
}

/// Descriptors: told before they run out, right within a third of the time left; a plateau is none.
#[test]
fn descriptors_are_forecast() {
    let check = |per_second: u64, limit: u64| {
        let mut sim = Sim::with(&["CLOSE_WAIT=5s"]);
        let mut used = 40;
        let mut forecasts = 0;
        let end = (limit - used) / per_second;
        sim.fds(limit, used);
        sim.pass(end + 3, |sim, second| {
            for _ in 0..per_second {
                sim.half_closed();
                used += 1;
            }
            sim.fds(limit, used.min(limit));
            for found in sim.of(RuleId::Fds) {
                let left =
                    found.forecast.and_then(|forecast| forecast.left_ns).expect("left") / SECOND;
                let really = end.saturating_sub(second);
                assert!(
                    left.abs_diff(really) <= really / 3 + 1,
                    "{left} s, really {really}: {}",
                    found.verdict
                );
                forecasts += 1;
            }
        });
        assert!(forecasts > 5, "{forecasts} forecasts: {:?}", sim.verdicts());
        let found = sim.only(RuleId::Fds);
        assert!(found.verdict.contains("has no file descriptor left"), "{}", found.verdict);
    };
    check(2, 128);
    check(3, 1024);
    check(1, 300);

    let mut sim = Sim::new();
    sim.pass(600, |sim, second| sim.fds(1024, 100 + second.min(12) * 20));
    assert!(sim.of(RuleId::Fds).is_empty(), "{:?}", sim.verdicts());
}

/// What a leak means for the limit is said long before the process as a whole shows growth.
#[test]
fn a_leak_says_when_the_limit_is_reached() {
    let mut sim = Sim::new();
    sim.fds(1024, 60);
    sim.pass(400, |sim, second| {
        if second % 20 == 0 {
            sim.half_closed();
        }
        sim.fds(1024, 60 + second / 20);
    });
    let found = sim.only(RuleId::CloseWait);
    assert!(found.verdict.contains("1024-fd limit reached in about 5h"), "{}", found.verdict);
}

/// A child that began after the connection was made has it by inheritance.
#[test]
fn a_child_that_inherited_it_is_named() {
    for inherited in [true, false] {
        let mut sim = Sim::new();
        let (id, _) = sim.half_closed();
        let mut row = HolderRow::new_zeroed();
        (row.id, row.pid, row.fd, row.netns) = (id, 400, 9, NETNS);
        row.comm[..2].copy_from_slice(b"sh");
        row.start_ns = if inherited { sim.now.0 + SECOND } else { sim.now.0 - SECOND };
        let holder = crate::engine::decode::holder(row.as_bytes()).expect("a row");
        sim.quiet(2);
        sim.table.set_holders(vec![holder]);
        sim.quiet(70);
        let found = sim.only(RuleId::CloseWait);
        let says =
            "sh[400] keeps CLOSE_WAIT on :8089 open, inherited from java[31467]: 1 socket for";
        assert_eq!(found.verdict.starts_with(says), inherited, "{}", found.verdict);
    }
}

/// Idle connections in a pool whose peer closes after a fixed time.
#[test]
fn the_peers_idle_timeout_shows_in_the_fins() {
    for (idle, expect) in [([30u64, 30, 30, 30], true), ([5, 30, 61, 12], false)] {
        let mut sim = Sim::new();
        let mut tuples = Vec::new();
        for (index, _) in idle.iter().enumerate() {
            let id = 900 + index as u64;
            let tuple = Sim::tuple(id, 40_000 + index as u16, 9, 443);
            sim.to(id, tuple, TcpState::Close, TcpState::SynSent, Some(JAVA));
            sim.to(id, tuple, TcpState::SynSent, TcpState::Established, None);
            tuples.push((id, tuple));
        }
        sim.quiet(61);
        for &(id, tuple) in &tuples {
            sim.to(id, tuple, TcpState::Established, TcpState::CloseWait, None);
        }
        sim.quiet(10);
        for (&(id, tuple), idle) in tuples.iter().zip(idle) {
            let jiffies = u32::try_from((idle + 10) * SECOND / (4 * MS)).expect("small");
            let row = Existing {
                state: TcpState::CloseWait,
                shape: Shape::Full,
                inode: 1,
                uid: 0,
                recv_queue: 1,
                send_queue: 0,
                since_received: jiffies,
                since_sent: jiffies + 5,
                since_ack: 10,
                timer: 0,
                unanswered: 0,
                probes: 0,
                deferred: false,
            };
            let flags = SocketFlags { has_socket: true, ..SocketFlags::default() };
            sim.feed(id, tuple, flags, Happened::Socket(row));
        }
        sim.quiet(60);
        let found = sim.only(RuleId::CloseWait);
        let says = found.verdict.contains("closed after 30s without data");
        assert_eq!(says, expect, "{}", found.verdict);
    }
}

/// Many remote endpoints are one finding.
#[test]
fn many_endpoints_are_one_finding() {
    let mut sim = Sim::new();
    for index in 0..200u16 {
        let id = 1_000 + u64::from(index);
        let tuple = Sim::tuple(id, 40_000 + index, 3, 1_000 + index);
        sim.to(id, tuple, TcpState::Close, TcpState::SynSent, Some(JAVA));
        sim.to(id, tuple, TcpState::SynSent, TcpState::Established, None);
        sim.to(id, tuple, TcpState::Established, TcpState::CloseWait, None);
    }
    sim.quiet(70);
    let found = sim.only(RuleId::CloseWait);
    assert_eq!((found.count, found.conns.len()), (200, Finding::SAMPLES));
}

/// A walk over nothing clears what was in trouble.
#[test]
fn trouble_ends_with_the_walk_that_does_not_meet_it() {
    let mut sim = Sim::new();
    let tuple = Sim::tuple(5, 40_000, 9, 5432);
    sim.to(5, tuple, TcpState::Close, TcpState::SynSent, Some(JAVA));
    sim.to(5, tuple, TcpState::SynSent, TcpState::Established, None);
    sim.quiet(60);
    let row = Existing {
        state: TcpState::Established,
        shape: Shape::Full,
        inode: 1,
        uid: 0,
        recv_queue: 0,
        send_queue: 4_000,
        since_received: 10_000,
        since_sent: 9_000,
        since_ack: 9_000,
        timer: 0,
        unanswered: 7,
        probes: 0,
        deferred: false,
    };
    let flags = SocketFlags { has_socket: true, ..SocketFlags::default() };
    sim.feed(5, tuple, flags, Happened::Socket(row));
    sim.quiet(1);
    let found = sim.only(RuleId::Established);
    assert!(
        found.verdict.contains("4 kB not acknowledged, the first sent again 7 times"),
        "{}",
        found.verdict
    );
    sim.quiet(1);
    let poll = Poll { began: sim.now, netns: vec![NETNS], kind: PollKind::Minis };
    sim.watch.end_poll(&poll);
    sim.quiet(2);
    assert!(sim.of(RuleId::Established).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a healthy service's CLOSE_WAITs last, as long as they end before the threshold,
    /// nothing is found.
    #[test]
    fn short_ones_are_never_accused(lasts in proptest::collection::vec(0u64..55, 1..40)) {
        let mut sim = Sim::new();
        let mut open: Vec<(u64, (u64, Tuple))> = Vec::new();
        sim.pass(300, |sim, second| {
            let last = lasts[second as usize % lasts.len()];
            let one = sim.half_closed();
            open.push((second + last, one));
            let (over, rest): (Vec<_>, Vec<_>) = open.drain(..).partition(|(until, _)| *until <= second);
            open = rest;
            for (_, one) in over {
                sim.close(one);
            }
        });
        prop_assert!(sim.told.is_empty(), "{:?}", sim.verdicts());
    }

    /// A leak, whatever else goes on beside it, is found within ten minutes.
    #[test]
    fn a_leak_is_always_found(every in 5u64..60, lasts in proptest::collection::vec(0u64..50, 1..20)) {
        let mut sim = Sim::new();
        let mut open: Vec<(u64, (u64, Tuple))> = Vec::new();
        sim.pass(600, |sim, second| {
            if second % every == 0 {
                sim.half_closed();
            }
            let last = lasts[second as usize % lasts.len()];
            let one = sim.half_closed();
            open.push((second + last, one));
            let (over, rest): (Vec<_>, Vec<_>) = open.drain(..).partition(|(until, _)| *until <= second);
            open = rest;
            for (_, one) in over {
                sim.close(one);
            }
        });
        prop_assert_eq!(sim.only(RuleId::CloseWait).severity, Severity::Leak);
    }
}
