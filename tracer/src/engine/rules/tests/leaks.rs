//! Leak or not: pools, bursts, deploys and restarts against leaks of every pace.

use std::collections::VecDeque;

use super::*;

const BACKEND: (u8, u16) = (9, 443);

/// One of a client's connections.
type Conn = (u64, Tuple);

impl Sim {
    /// A client's connection to the backend.
    fn connected(&mut self) -> Conn {
        self.next_id += 1;
        let id = self.next_id;
        let port = 20_000 + u16::try_from(id % 40_000).expect("small");
        let tuple = Sim::tuple(id, port, BACKEND.0, BACKEND.1);
        self.to(id, tuple, TcpState::Close, TcpState::SynSent, Some(JAVA));
        self.to(id, tuple, TcpState::SynSent, TcpState::Established, None);
        (id, tuple)
    }

    /// Its peer closes.
    fn ended(&mut self, (id, tuple): Conn) {
        self.to(id, tuple, TcpState::Established, TcpState::CloseWait, None);
    }

    /// A row of a walk. Ages of the last data in nanoseconds.
    fn row(&mut self, (id, tuple): Conn, state: TcpState, row: Row) {
        let jiffies = |ns: u64| u32::try_from(ns / (4 * MS)).expect("small");
        let existing = Existing {
            state,
            shape: Shape::Full,
            inode: 1,
            uid: 0,
            recv_queue: row.recv_queue,
            send_queue: row.send_queue,
            since_received: jiffies(row.received_ago),
            since_sent: jiffies(row.sent_ago),
            since_ack: jiffies(row.ack_ago.unwrap_or(row.received_ago.min(row.sent_ago))),
            timer: 0,
            unanswered: row.unanswered,
            probes: 0,
            deferred: false,
        };
        let flags = SocketFlags { has_socket: true, ..SocketFlags::default() };
        let counters =
            Counters { bytes_sent: row.sent, bytes_received: row.received, ..Counters::default() };
        self.feed_counted(id, tuple, flags, counters, Happened::Socket(existing));
    }

    fn walked(&mut self) {
        let poll = Poll { began: self.now, netns: vec![NETNS], kind: PollKind::Minis };
        self.watch.end_poll(&poll);
    }

    fn leaks(&self) -> bool {
        self.watch.findings().iter().any(|(found, _)| found.severity == Severity::Leak)
    }
}

#[derive(Clone, Copy, Default)]
struct Row {
    recv_queue: u32,
    send_queue: u32,
    received_ago: u64,
    sent_ago: u64,
    /// Of the last ACK; `None` when data carried it.
    ack_ago: Option<u64>,
    sent: u64,
    received: u64,
    unanswered: u32,
}

/// A pool as HTTP clients have it: last in, first out; what its peer has closed is noticed when it is to be
/// used, and replaced.
struct Pool {
    idle: Vec<(Conn, u64)>,
    closed: Vec<Conn>,
    bound: usize,
    keep_alive: u64,
}

impl Pool {
    fn new(bound: usize, keep_alive: u64) -> Pool {
        Pool { idle: Vec::new(), closed: Vec::new(), bound, keep_alive }
    }

    /// So many requests at one time, each with a connection of its own; all are given back.
    fn requests(&mut self, sim: &mut Sim, count: usize, second: u64) {
        let mut used = Vec::new();
        for _ in 0..count.min(self.bound) {
            let conn = match self.idle.pop() {
                Some((conn, _)) => conn,
                None => match self.closed.pop() {
                    Some(stale) => {
                        sim.close(stale);
                        sim.connected()
                    }
                    None => sim.connected(),
                },
            };
            used.push((conn, second));
        }
        self.idle.extend(used);
    }

    /// The server closes what was idle for its time.
    fn serve(&mut self, sim: &mut Sim, second: u64) {
        let (over, rest): (Vec<_>, Vec<_>) =
            self.idle.drain(..).partition(|(_, used)| used + self.keep_alive <= second);
        self.idle = rest;
        for (conn, _) in over {
            sim.ended(conn);
            self.closed.push(conn);
        }
    }
}

/// Item 1 of the issue: 40 at most, 20 threads ask once, then nothing for 25 s, three rounds; the server
/// closes after 4 s.
#[test]
fn a_bounded_pool_is_no_leak() {
    let mut sim = Sim::with(&["CLOSE_WAIT=10s"]);
    let mut pool = Pool::new(40, 4);
    let mut held = false;
    sim.pass(90, |sim, second| {
        if second % 25 == 0 && second < 75 {
            pool.requests(sim, 20, second);
        }
        pool.serve(sim, second);
        assert!(!sim.leaks(), "{:?}", sim.verdicts());
        held |= !sim.of(RuleId::CloseWait).is_empty();
    });
    assert!(held, "in its first round nobody can know that they will be replaced");
    let held = &sim.told[0].1;
    assert_eq!(held.severity, Severity::Stuck);
    assert!(!held.advice.contains("has not called close()"), "{}", held.advice);
    assert_eq!(held.growth_per_min, None, "{}", held.verdict);
}

/// What was taken for a leak keeps its name while it grows, and loses it when it stops.
#[test]
fn a_leak_that_stops_growing_is_held() {
    let mut sim = Sim::new();
    sim.pass(300, |sim, second| {
        if second % 10 == 0 {
            sim.half_closed();
        }
    });
    let id = sim.only(RuleId::CloseWait).id.clone();
    assert!(sim.leaks(), "{:?}", sim.verdicts());
    sim.quiet(200);
    let found = sim.only(RuleId::CloseWait);
    assert_eq!((found.severity, &found.id), (Severity::Stuck, &id), "{}", found.verdict);
    assert!(found.verdict.contains("holds CLOSE_WAIT on :8089: 30 sockets"), "{}", found.verdict);
    assert!(found.verdict.contains(", no more for 3m"), "{}", found.verdict);
    assert_eq!((found.growth_per_min, found.forecast), (None, None));
}

/// Paces of leaks, with when they are called at the latest.
#[test]
fn leaks_of_every_pace_are_called() {
    let check = |what: &str, latest: u64, each: &mut dyn FnMut(&mut Sim, u64)| {
        let mut sim = Sim::new();
        let mut called = None;
        sim.pass(latest + 60, |sim, second| {
            each(sim, second);
            if called.is_none() && sim.leaks() {
                called = Some(second);
            }
        });
        assert!(called.is_some_and(|at| at <= latest), "{what}: {called:?}, {:?}", sim.verdicts());
        assert!(sim.leaks(), "{what}: it is not called a leak any more: {:?}", sim.verdicts());
        assert_eq!(sim.of(RuleId::CloseWait).len(), 1, "{what}: {:?}", sim.verdicts());
    };
    let leak = |sim: &mut Sim, count: u64| {
        for _ in 0..count {
            sim.half_closed();
        }
    };
    check("one a minute", 300, &mut |sim, second| leak(sim, u64::from(second % 60 == 0)));
    check("five a second", 66, &mut |sim, _| leak(sim, 5));
    check("twenty each five minutes", 1_000, &mut |sim, second| {
        leak(sim, if second % 300 == 0 { 20 } else { 0 });
    });
    let mut open = VecDeque::new();
    check("one in ten", 130, &mut |sim, second| {
        for index in 0..10 {
            let conn = sim.half_closed();
            if index != 0 {
                open.push_back((second, conn));
            }
        }
        while open.front().is_some_and(|(since, _)| since + 3 <= second) {
            let (_, conn) = open.pop_front().expect("one");
            sim.close(conn);
        }
    });
    let mut open = VecDeque::new();
    check("of the old one in fifteen leaves", 400, &mut |sim, second| {
        let conn = sim.half_closed();
        if second % 15 == 0 {
            open.push_back((second, conn));
        }
        while open.front().is_some_and(|(since, _)| since + 150 <= second) {
            let (_, conn) = open.pop_front().expect("one");
            sim.close(conn);
        }
    });
}

/// A leak of one a minute in a service whose pool to the same backend replaces twenty connections from
/// round to round, long after the threshold: the pool neither is the leak nor hides it.
#[test]
fn a_pool_does_not_hide_a_leak() {
    for leaks in [false, true] {
        let mut sim = Sim::with(&["CLOSE_WAIT=10s"]);
        let mut pool = Pool::new(40, 4);
        let mut called = false;
        sim.pass(900, |sim, second| {
            if second % 25 == 0 {
                pool.requests(sim, 20, second);
            }
            pool.serve(sim, second);
            if leaks && second % 60 == 30 {
                let conn = sim.connected();
                sim.ended(conn);
            }
            called |= sim.leaks();
        });
        assert_eq!(called, leaks, "{:?}", sim.verdicts());
    }
}

/// A backend that drains for half a minute before its deploy: the clients' connections end one by one, and
/// most of them stay in the pool for the rest of the night.
#[test]
fn a_drain_is_no_leak() {
    for (count, seconds) in [(100u64, 30u64), (40, 10), (10, 30), (200, 5)] {
        let mut sim = Sim::new();
        let mut conns: Vec<Conn> = (0..count).map(|_| sim.connected()).collect();
        sim.quiet(100);
        sim.pass(1_200, |sim, second| {
            let left = count.saturating_sub(count * second / seconds);
            while conns.len() as u64 > left {
                let conn = conns.pop().expect("one");
                sim.ended(conn);
            }
            assert!(!sim.leaks(), "{count} in {seconds} s, after {second} s: {:?}", sim.verdicts());
        });
        let found = sim.only(RuleId::CloseWait);
        assert_eq!(found.severity, Severity::Stuck);
        assert_eq!(found.growth_per_min, None);
    }
}

/// Item 16: all FINs at one moment.
#[test]
fn a_restart_of_the_server_is_told_as_one() {
    let check = |idle: [u64; 5], unread: u32, lives: u64, expect: bool| {
        let mut sim = Sim::new();
        let conns: Vec<Conn> = idle.iter().map(|_| sim.connected()).collect();
        sim.quiet(lives);
        for &conn in &conns {
            sim.ended(conn);
        }
        sim.quiet(2);
        for (&conn, idle) in conns.iter().zip(idle) {
            let received_ago = if unread == 0 { idle + 2 } else { 2 } * SECOND;
            let sent_ago = (idle + 2) * SECOND;
            // The FIN carried an ACK.
            let ack_ago = Some(2 * SECOND);
            let recv_queue = unread + 1;
            let row = Row { recv_queue, received_ago, sent_ago, ack_ago, ..Row::default() };
            sim.row(conn, TcpState::CloseWait, row);
        }
        sim.quiet(62);
        let found = sim.only(RuleId::CloseWait);
        let says = found
            .verdict
            .starts_with("10.0.0.9:443 ended 5 connections of java[31467] at one moment, 1m0");
        // Where all were idle for about as long, a timeout may have ended them.
        let alike = idle.iter().max() <= idle.iter().min().map(|least| least + 1).as_ref();
        assert_eq!(found.verdict.contains("or its idle timeout"), expect && alike);
        assert_eq!(says, expect, "{idle:?} {unread} {lives}: {}", found.verdict);
        assert_eq!(found.severity, Severity::Stuck);
        let last_words = found.verdict.contains("; 580 bytes of its last data are unread");
        assert_eq!(last_words, expect && unread != 0, "{}", found.verdict);
        assert_eq!(found.advice.starts_with("This is no leak of java[31467]"), expect);
    };
    check([30, 7, 61, 12, 45], 0, 80, true);
    // One that counts whole seconds, in one pass.
    check([30, 31, 31, 30, 31], 0, 80, true);
    check([40, 40, 40, 40, 40], 116, 80, true);
    // A short idle timeout of one that counts whole seconds.
    check([2, 3, 3, 2, 3], 0, 80, true);
    // All were used together, and then closed after the same time: an idle timeout does the same.
    check([30, 30, 30, 30, 30], 0, 80, false);
    // Each is an answer that ends with a FIN.
    check([1, 1, 0, 1, 0], 300, 1, false);
}

/// A steady leak: when the first of it are beyond the threshold, more have come long since.
#[test]
fn the_first_seconds_of_a_leak_are_no_restart() {
    let mut sim = Sim::new();
    let mut conns: Vec<Conn> = (0..240).map(|_| sim.connected()).collect();
    sim.quiet(80);
    sim.pass(100, |sim, second| {
        for n in 0..2 {
            let conn = conns.pop().expect("one");
            sim.ended(conn);
            let sent_ago = (20 + (second * 7 + n) % 40) * SECOND;
            let row = Row { recv_queue: 1, received_ago: sent_ago, sent_ago, ..Row::default() };
            sim.row(conn, TcpState::CloseWait, row);
        }
        let restart = sim.verdicts().iter().any(|verdict| verdict.contains("at one moment"));
        assert!(!restart, "after {second} s: {:?}", sim.verdicts());
    });
    assert!(sim.leaks(), "{:?}", sim.verdicts());
}

/// systemd's process becomes the service after the first client has connected.
#[test]
fn a_process_has_the_name_that_it_has_now() {
    let mut sim = Sim::new();
    let conns: Vec<Conn> = (0..3).map(|_| sim.connected()).collect();
    for &conn in &conns {
        sim.ended(conn);
    }
    sim.fds(20_000, 30);
    sim.quiet(62);
    assert!(sim.only(RuleId::CloseWait).verdict.contains("java[31467]"));
    sim.facts.processes[0].comm = Some("service".to_owned());
    sim.quiet(2);
    let found = sim.only(RuleId::CloseWait);
    assert!(found.verdict.contains("service[31467]"), "{}", found.verdict);
}

/// PostgreSQL says why before it ends an idle session. Connections that were used one after the other end one after
/// the other, each as long after its last use: no restart.
#[test]
fn last_words_do_not_hide_an_idle_timeout() {
    let check = |apart_ms: u64, expect: &str| {
        let mut sim = Sim::new();
        let conns: Vec<Conn> = (0..8).map(|_| sim.connected()).collect();
        sim.quiet(80);
        for &conn in &conns {
            sim.ended(conn);
            sim.now = sim.now.after(apart_ms * MS);
        }
        sim.quiet(2);
        for (index, &conn) in conns.iter().enumerate() {
            let ago = (conns.len() - index) as u64 * apart_ms * MS + 2 * SECOND;
            let row = Row {
                recv_queue: 117,
                received_ago: ago,
                sent_ago: ago + 20 * SECOND,
                ack_ago: Some(ago),
                ..Row::default()
            };
            sim.row(conn, TcpState::CloseWait, row);
        }
        sim.quiet(62);
        let found = sim.only(RuleId::CloseWait);
        assert!(found.verdict.contains(expect), "{apart_ms} ms apart: {}", found.verdict);
        assert_eq!(found.severity, Severity::Stuck);
        let timeout = found.idle_timeout_ns.map(|ns| ns.abs_diff(20 * SECOND) < SECOND / 10);
        assert_eq!(timeout, (apart_ms != 0).then_some(true), "{found:?}");
    };
    check(150, "keeps 8 idle connections that 10.0.0.9:443 has closed after ");
    // Used together: a server that was stopped just then would do the same.
    check(0, ": a restart or failover there, or its idle timeout of 20s");
}

/// Item 1: 18,000 sockets made in ten seconds, none for the last three, seen by one look.
#[test]
fn one_look_forecasts_nothing_of_what_has_stopped() {
    for (silent, expect) in [(3, false), (0, true)] {
        let mut sim = Sim::with(&["CLOSE_WAIT=1s"]);
        for number in 0..4_500u64 {
            let ago = silent * SECOND + number * 10 * SECOND / 4_500;
            let tuple = Sim::tuple(number, 20_000 + u16::try_from(number).expect("small"), 9, 443);
            let row = Row { recv_queue: 1, received_ago: ago, sent_ago: ago, ..Row::default() };
            sim.own(5_000 + number);
            sim.row((5_000 + number, tuple), TcpState::CloseWait, row);
        }
        sim.hold();
        sim.fds(20_000, 18_100);
        sim.quiet(1);
        let found = sim.only(RuleId::CloseWait);
        let grows = found.growth_per_min.is_some();
        assert_eq!((grows, found.forecast.is_some()), (expect, expect), "{}", found.verdict);
        assert_eq!(found.verdict.contains("limit reached"), expect, "{}", found.verdict);
    }
}

/// Item 5: sockets that were there before, and sockets whose opener is known late, are one finding.
#[test]
fn one_leak_is_one_finding_whoever_opened_it() {
    let mut sim = Sim::with(&["CLOSE_WAIT=5s"]);
    for number in 0..55u64 {
        let ago = 60 * SECOND + number * SECOND;
        let tuple = Sim::tuple(number, 20_000 + u16::try_from(number).expect("small"), 9, 443);
        let row = Row { recv_queue: 1, received_ago: ago, sent_ago: ago, ..Row::default() };
        sim.own(5_000 + number);
        sim.row((5_000 + number, tuple), TcpState::CloseWait, row);
    }
    sim.hold();
    let mut late = VecDeque::new();
    sim.pass(60, |sim, second| {
        for _ in 0..4 {
            let conn = sim.connected();
            sim.ended(conn);
            late.push_back((second, conn.0));
        }
        // Names come two seconds after the threshold.
        while late.front().is_some_and(|(since, _)| since + 7 <= second) {
            let (_, id) = late.pop_front().expect("one");
            sim.watch.openers.learn(SockId(id), "com.acme.VLeak.fetchPrice".into());
        }
    });
    let found = sim.only(RuleId::CloseWait);
    assert_eq!(found.severity, Severity::Leak);
    assert_eq!(found.opener.as_deref(), Some("com.acme.VLeak.fetchPrice"));
    assert_eq!((found.opened.before, found.opened.by.len()), (55, 1));
    assert_eq!(found.opened.by[0].1 + found.opened.unknown + 55, found.count);
    let says = format!(
        "; opened by com.acme.VLeak.fetchPrice ({} of them; 55 opened before tcptrail started",
        found.opened.by[0].1
    );
    assert!(found.verdict.contains(&says), "{}", found.verdict);
    let over = sim.told.iter().any(|(update, _)| matches!(update, Update::Clear { .. }));
    assert!(!over, "{:?}", sim.verdicts());
    assert_eq!(sim.told.iter().filter(|(update, _)| *update == Update::Appear).count(), 1);
    // That it has a name now is told at once.
    let named = sim.told.iter().find(|(_, finding)| finding.opener.is_some());
    assert!(named.is_some_and(|(update, _)| *update == Update::Change), "{:?}", sim.verdicts());
}

/// Item 15: half-closed connections over which data goes are at work.
#[test]
fn half_closed_and_busy_is_not_stuck() {
    for (busy, state, rule) in [
        (true, TcpState::CloseWait, RuleId::CloseWait),
        (false, TcpState::CloseWait, RuleId::CloseWait),
        (true, TcpState::FinWait2, RuleId::FinWait2),
        (false, TcpState::FinWait2, RuleId::FinWait2),
        (true, TcpState::FinWait1, RuleId::FinWait1),
        (false, TcpState::FinWait1, RuleId::FinWait1),
    ] {
        let mut sim = Sim::new();
        let conns: Vec<Conn> = (0..4).map(|_| sim.connected()).collect();
        for &(id, tuple) in &conns {
            if state == TcpState::CloseWait {
                sim.ended((id, tuple));
                continue;
            }
            sim.to(id, tuple, TcpState::Established, TcpState::FinWait1, Some(JAVA));
            if state == TcpState::FinWait2 {
                sim.to(id, tuple, TcpState::FinWait1, TcpState::FinWait2, None);
            }
        }
        sim.pass(300, |sim, second| {
            if second % 2 != 0 {
                return;
            }
            for &conn in &conns {
                let still = if busy { 0 } else { second };
                let stuck = u32::from(state == TcpState::FinWait1 && !busy);
                let row = Row {
                    received_ago: still * SECOND,
                    // What is sent again counts for the kernel as sent, and is no progress.
                    sent_ago: if stuck == 0 { still * SECOND } else { 0 },
                    sent: if busy { second * 1_000 } else { 1_000 },
                    send_queue: 10_000 * stuck,
                    unanswered: 7 * stuck,
                    ..Row::default()
                };
                sim.row(conn, state, row);
            }
            sim.walked();
        });
        assert_eq!(sim.of(rule).is_empty(), busy, "{state:?}: {:?}", sim.verdicts());
        if busy {
            assert!(sim.told.is_empty(), "{:?}", sim.verdicts());
        }
    }
}

/// A stream that stops is stuck from then on.
#[test]
fn a_stream_that_stops_is_stuck_from_then_on() {
    let mut sim = Sim::new();
    let conn = sim.connected();
    sim.ended(conn);
    sim.pass(300, |sim, second| {
        if second % 2 == 0 {
            let moved = second.min(100);
            let ago = (second - moved) * SECOND;
            sim.row(
                conn,
                TcpState::CloseWait,
                Row { sent_ago: ago, received_ago: second * SECOND, sent: moved, ..Row::default() },
            );
            sim.walked();
        }
        let told = !sim.of(RuleId::CloseWait).is_empty();
        // Looked at once a second, and rows are made every two.
        assert!(!told || second > 160, "{second}: {:?}", sim.verdicts());
        assert!(told || second < 165, "{second}");
    });
    let oldest = sim.only(RuleId::CloseWait).oldest_ns.expect("an age") / SECOND;
    assert!((198..=202).contains(&oldest), "{oldest}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However the load of a pool rises and falls, and whatever its server's patience: it never leaks. With at
    /// most three heights, that is: a load that reaches new heights in four waves or more, minutes apart, and
    /// never uses again what it opened before, cannot be told from a leak until it stops.
    #[test]
    fn a_pool_never_leaks(
        bound in 1usize..60,
        keep_alive in 1u64..40,
        load in proptest::collection::vec((0usize..60, 1u64..90), 1..4),
        threshold in 5u64..60,
    ) {
        let mut sim = Sim::with(&[&format!("CLOSE_WAIT={threshold}s")]);
        let mut pool = Pool::new(bound, keep_alive);
        let mut next = 0;
        let mut steps = load.iter().cycle();
        sim.pass(600, |sim, second| {
            if second == next {
                let &(count, pause) = steps.next().expect("endless");
                pool.requests(sim, count, second);
                next = second + pause;
            }
            pool.serve(sim, second);
            assert!(!sim.leaks(), "{second}: {:?}", sim.verdicts());
        });
    }

    /// A load that rises slowly to a bound, connection by connection, each kept busy, and then falls
    /// silent at once.
    #[test]
    fn a_slow_warm_up_is_no_leak(bound in 2usize..80, every in 1u64..20, keep_alive in 1u64..60) {
        let mut sim = Sim::new();
        let mut pool = Pool::new(bound, keep_alive);
        let full = bound as u64 * every;
        sim.pass(full + 300, |sim, second| {
            if second < full {
                let count = usize::try_from(second / every).expect("small") + 1;
                pool.requests(sim, count, second);
            }
            pool.serve(sim, second);
            assert!(!sim.leaks(), "{second} of {full}: {:?}", sim.verdicts());
        });
    }

    /// Bursts that come and stay for a while, and then leave, as a job does that runs every so often.
    #[test]
    fn bursts_that_leave_are_no_leak(size in 1u64..20, period in 30u64..400, stays in 1u64..3) {
        let mut sim = Sim::new();
        let mut open = VecDeque::new();
        sim.pass(period * 6, |sim, second| {
            if second % period == 0 {
                open.push_back((second, (0..size).map(|_| sim.half_closed()).collect::<Vec<_>>()));
            }
            while open.front().is_some_and(|(since, _)| since + period * stays <= second) {
                let (_, conns) = open.pop_front().expect("one");
                for conn in conns {
                    sim.close(conn);
                }
            }
            assert!(!sim.leaks(), "{second}: {:?}", sim.verdicts());
        });
    }

    /// A leak at any pace and of any unevenness, whatever a pool to the same place does.
    #[test]
    fn a_leak_beside_a_pool_is_found(
        every in 2u64..60,
        wobble in proptest::collection::vec(0u64..2, 5),
        load in proptest::collection::vec((0usize..20, 5u64..60), 1..6),
    ) {
        let mut sim = Sim::with(&["CLOSE_WAIT=30s"]);
        let mut pool = Pool::new(20, 5);
        let (mut next, mut next_leak, mut count) = (0, 0, 0);
        let mut steps = load.iter().cycle();
        let mut called = false;
        sim.pass(900, |sim, second| {
            if second == next {
                let &(requests, pause) = steps.next().expect("endless");
                pool.requests(sim, requests, second);
                next = second + pause;
            }
            pool.serve(sim, second);
            if second >= next_leak {
                let conn = sim.connected();
                sim.ended(conn);
                next_leak = second + every + wobble[count % wobble.len()] * every / 2;
                count += 1;
            }
            called |= sim.leaks();
        });
        prop_assert!(called, "{:?}", sim.verdicts());
    }
}

/// A short connection of known code may be gone by the time its opener has a name.
#[test]
fn openers_of_sockets_that_are_gone_are_let_go_of() {
    let mut sim = Sim::new();
    let kept = sim.connected();
    sim.watch.openers.learn(SockId(kept.0), "Main.keep".into());
    let mut most = 0;
    sim.pass(600, |sim, second| {
        for number in 0..10 {
            let id = 1_000_000 + second * 10 + number;
            sim.watch.openers.learn(SockId(id), "Main.run".into());
        }
        most = sim.watch.openers.iter().count().max(most);
    });
    assert!(most <= 1_100, "{most}");
    assert_eq!(sim.watch.openers.of(SockId(kept.0)).map(|it| &**it), Some("Main.keep"));
}
