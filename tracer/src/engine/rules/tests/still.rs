//! Connections that are opened and forgotten while the peer keeps them; and workers that say the same.

use std::collections::VecDeque;

use super::*;

/// When data last went over each connection that is open.
#[derive(Default)]
struct Open {
    conns: VecDeque<(u64, Tuple, MonoNs)>,
}

impl Sim {
    /// A walk over everything, every thirty seconds as `stuck` has it.
    fn walk(&mut self, open: &Open) {
        for &(id, tuple, last_data) in &open.conns {
            let ago = u32::try_from(self.now.since(last_data) / (4 * MS)).expect("small");
            let row = Existing {
                deferred: false,
                state: TcpState::Established,
                shape: Shape::Full,
                inode: 1,
                uid: 0,
                recv_queue: 0,
                send_queue: 0,
                since_received: ago,
                since_sent: ago,
                since_ack: ago,
                timer: 0,
                unanswered: 0,
                probes: 0,
            };
            let flags = SocketFlags { has_socket: true, keepalive: true, ..SocketFlags::default() };
            self.feed(id, tuple, flags, Happened::Socket(row));
        }
        let poll = Poll { began: self.now, netns: vec![NETNS], kind: PollKind::All };
        self.watch.end_poll(&poll);
    }

    /// A client's connection, or one that came from `remote` to our listener.
    fn opened(&mut self, open: &mut Open, from: Option<u8>) {
        self.next_id += 1;
        let id = self.next_id;
        let port = 20_000 + u16::try_from(id % 40_000).expect("small");
        let tuple = match from {
            None => Sim::tuple(id, port, 9, 5432),
            Some(remote) => Sim::tuple(id, 8089, remote, port),
        };
        if from.is_none() {
            self.to(id, tuple, TcpState::Close, TcpState::SynSent, Some(JAVA));
            self.to(id, tuple, TcpState::SynSent, TcpState::Established, None);
        } else {
            self.to(id, tuple, TcpState::Listen, TcpState::SynRecv, None);
            self.to(id, tuple, TcpState::SynRecv, TcpState::Established, None);
        }
        open.conns.push_back((id, tuple, self.now));
    }

    fn shut(&mut self, open: &mut Open, index: usize) {
        let (id, tuple, _) = open.conns.remove(index).expect("one");
        self.to(id, tuple, TcpState::Established, TcpState::FinWait1, Some(JAVA));
    }

    /// Runs `each` every second, with a walk every thirty; when it was first called a leak.
    fn still(
        &mut self,
        seconds: u64,
        mut each: impl FnMut(&mut Sim, &mut Open, u64),
    ) -> Option<u64> {
        let mut open = Open::default();
        let mut called = None;
        self.pass(seconds, |sim, second| {
            each(sim, &mut open, second);
            if second % 30 == 0 {
                sim.walk(&open);
            }
            let leaks = sim
                .of(RuleId::EstablishedIdle)
                .iter()
                .any(|found| found.severity == Severity::Leak);
            if leaks && called.is_none() {
                called = Some(second);
            }
        });
        called
    }
}

/// Item 4: opened and forgotten, while the server keeps them.
#[test]
fn connections_that_are_opened_and_forgotten_leak() {
    let check = |every: u64, latest: u64| {
        let mut sim = Sim::new();
        sim.fds(4_096, 100);
        let called = sim.still(latest + 60, |sim, open, second| {
            if second % every == 0 {
                sim.opened(open, None);
            }
        });
        assert!(called.is_some_and(|at| at <= latest), "{every}: {called:?}, {:?}", sim.verdicts());
        let found = sim.only(RuleId::EstablishedIdle);
        assert_eq!(found.severity, Severity::Leak);
        let says = "java[31467] leaks ESTABLISHED to 10.0.0.9:5432: ";
        assert!(found.verdict.starts_with(says), "{}", found.verdict);
        assert!(found.verdict.contains(", none used again or closed"), "{}", found.verdict);
        assert!(found.verdict.contains("; 4096-fd limit reached in about "), "{}", found.verdict);
    };
    // The threshold is five minutes, rows come every thirty seconds.
    check(2, 340);
    check(60, 600);
}

/// Most are closed as they should be; some are not.
#[test]
fn a_leak_among_connections_that_are_closed_is_found() {
    let mut sim = Sim::new();
    let called = sim.still(700, |sim, open, second| {
        for _ in 0..2 {
            sim.opened(open, None);
            if second % 10 != 0 {
                let last = open.conns.len() - 1;
                sim.shut(open, last);
            }
        }
    });
    assert!(called.is_some(), "{:?}", sim.verdicts());
}

/// The server's side, whose client is elsewhere: one client that never closes, and users of a chat.
#[test]
fn a_client_that_forgets_is_named_by_the_server_and_users_are_not() {
    let mut sim = Sim::new();
    let called = sim.still(400, |sim, open, second| {
        if second % 2 == 0 {
            sim.opened(open, Some(77));
        }
    });
    assert!(called.is_some(), "{:?}", sim.verdicts());
    let found = sim.only(RuleId::EstablishedIdle);
    let says = "10.0.0.77 leaves connections to :8089 of java[31467] idle: ";
    assert!(found.verdict.starts_with(says), "{}", found.verdict);

    // In the morning more and more users come, each from an address of its own, and listen.
    let mut sim = Sim::new();
    let called = sim.still(1_500, |sim, open, second| {
        if second % 8 == 0 {
            sim.opened(open, Some(10 + (second / 8) as u8));
        }
    });
    assert_eq!(called, None, "{:?}", sim.verdicts());
    assert!(sim.told.is_empty(), "{:?}", sim.verdicts());

    // All come through one proxy; each says something every few minutes.
    let mut sim = Sim::new();
    let called = sim.still(1_500, |sim, open, second| {
        if second % 8 == 0 {
            sim.opened(open, Some(10));
        }
        let now = sim.now;
        for (index, (id, _, last_data)) in open.conns.iter_mut().enumerate() {
            let pause = 60 + (*id * 37 + index as u64 * 11) % 500;
            if now.since(*last_data) / SECOND >= pause {
                *last_data = now;
            }
        }
    });
    assert_eq!(called, None, "{:?}", sim.verdicts());
}

/// What was a leak and has stopped growing is still there, and no leak any more.
#[test]
fn a_leak_that_has_stopped_is_held() {
    let mut sim = Sim::new();
    let called = sim.still(1_500, |sim, open, second| {
        if second % 2 == 0 && second < 500 {
            sim.opened(open, None);
        }
    });
    assert!(called.is_some(), "{:?}", sim.verdicts());
    let found = sim.only(RuleId::EstablishedIdle);
    assert_eq!((found.severity, found.count), (Severity::Stuck, 250), "{}", found.verdict);
    assert_eq!(found.growth_per_min, None, "{}", found.verdict);
}

/// Three workers of one listener say the same.
#[test]
fn workers_of_one_service_are_one_finding() {
    for workers in [2u32, 3, 64] {
        let mut sim = Sim::new();
        for worker in 0..workers {
            for _ in 0..2 {
                let (id, _) = sim.half_closed();
                let mut row = HolderRow::new_zeroed();
                (row.id, row.pid, row.fd, row.netns) = (id, 100 + worker, 9, NETNS);
                row.comm[..8].copy_from_slice(b"gunicorn");
                row.start_ns = sim.now.0 - 3_600 * SECOND;
                row.mono_ns = sim.now.0;
                sim.holders.push(row);
            }
        }
        sim.hold();
        sim.quiet(65);
        let found = sim.of(RuleId::CloseWait);
        if workers < 3 {
            assert_eq!(found.len(), 2, "{:?}", sim.verdicts());
            continue;
        }
        let found = sim.only(RuleId::CloseWait);
        let more = if workers > 3 { ", ..." } else { "" };
        let says = format!(
            "{workers} workers of gunicorn ([100], [101], [102]{more}) hold CLOSE_WAIT on :8089: {} sockets",
            workers * 2
        );
        assert!(found.verdict.starts_with(&says), "{}", found.verdict);
        assert_eq!(found.workers.len(), workers as usize);
        assert_eq!(found.count, u64::from(workers) * 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A pool that is bounded, however its load rises and falls: whoever wants a connection gets one that is
    /// idle, if there is one (the last or the first that was given back), and never is it a leak.
    #[test]
    fn a_pool_of_open_connections_never_leaks(
        bound in 1usize..60,
        last_first in any::<bool>(),
        load in proptest::collection::vec((0usize..60, 1u64..900), 1..12),
    ) {
        let mut sim = Sim::new();
        let (mut next, mut count) = (0, 0);
        let mut steps = load.iter().cycle();
        let called = sim.still(2_400, |sim, open, second| {
            if second == next {
                let &(requests, pause) = steps.next().expect("endless");
                (count, next) = (requests.min(bound), second + pause);
            }
            if second % 20 != 0 {
                return;
            }
            while open.conns.len() < count {
                sim.opened(open, None);
            }
            let now = sim.now;
            for _ in 0..count {
                let used = if last_first { open.conns.pop_back() } else { open.conns.pop_front() };
                let Some((id, tuple, _)) = used else { break };
                if last_first {
                    open.conns.push_front((id, tuple, now));
                } else {
                    open.conns.push_back((id, tuple, now));
                }
            }
            if last_first {
                // Those that were used are the last again.
                open.conns.rotate_left(count.min(open.conns.len()));
            }
        });
        prop_assert_eq!(called, None, "{:?}", sim.verdicts());
    }

    /// A pool that fills up to its bound before the first of its connections is old, and is then idle.
    #[test]
    fn a_warm_up_is_no_leak(bound in 1u64..100, seconds in 1u64..200) {
        let mut sim = Sim::new();
        let called = sim.still(1_500, |sim, open, second| {
            let full = (bound * (second + 1)).div_ceil(seconds).min(bound);
            while (open.conns.len() as u64) < full {
                sim.opened(open, None);
            }
        });
        prop_assert_eq!(called, None, "{:?}", sim.verdicts());
    }
}
