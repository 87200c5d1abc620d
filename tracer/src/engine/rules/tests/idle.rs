//! Idle connections that the other side ends: its timeout, requests that meet it, resets out of idleness.

use super::*;
use crate::event::{Ages, Direction};

const FAR: u8 = 9;

impl Sim {
    /// An event of a connection we made to port 443 of the host `FAR`, or one made to us on 8089.
    fn at(
        &mut self,
        id: u64,
        server: bool,
        counters: Counters,
        ages: Option<Ages>,
        what: Happened,
    ) {
        let port = 40_000 + u16::try_from(id).expect("small");
        let tuple =
            if server { Sim::tuple(id, 8089, FAR, port) } else { Sim::tuple(id, port, FAR, 443) };
        let event = Event {
            at: self.now,
            id: SockId(id),
            address: 0,
            netns: NETNS,
            tuple,
            cgroup: 0,
            interface: 0,
            flags: SocketFlags { has_socket: true, ..SocketFlags::default() },
            error: 0,
            counters: Some(counters),
            ages,
            what,
        };
        self.table.apply(&event, &mut self.changes);
        self.settle();
    }

    fn step(&mut self, id: u64, server: bool, old: TcpState, new: TcpState, ages: Option<Ages>) {
        let comm = Comm::new(b"java");
        let actor = (new == TcpState::SynSent).then_some(Actor {
            pid: JAVA,
            tid: JAVA,
            comm,
            thread: comm,
            exiting: false,
        });
        let counters = Counters { bytes_sent: 1_000, bytes_received: 5_000, ..Counters::default() };
        self.at(id, server, counters, ages, Happened::Transition { old, new, actor });
    }

    pub(super) fn open(&mut self, id: u64, server: bool) {
        use TcpState::{Close, Established, Listen, SynRecv, SynSent};
        let (from, middle) = if server { (Listen, SynRecv) } else { (Close, SynSent) };
        self.step(id, server, from, middle, None);
        self.step(id, server, middle, Established, None);
    }

    fn fin(&mut self, id: u64, server: bool, ages: Ages) {
        self.step(id, server, TcpState::Established, TcpState::CloseWait, Some(ages));
    }

    /// A RST comes in `state`, after so many bytes more than [`Sim::step`] has had sent.
    pub(super) fn rst(&mut self, id: u64, server: bool, state: TcpState, ages: Ages, more: u64) {
        let sent = 1_000 + more;
        let counters = Counters { bytes_sent: sent, bytes_received: 5_000, ..Counters::default() };
        let what = Happened::Reset { direction: Direction::Received, state, reason: 0 };
        self.at(id, server, counters, Some(ages), what);
        self.at(
            id,
            server,
            counters,
            None,
            Happened::Transition { old: state, new: TcpState::Close, actor: None },
        );
    }

    /// A row of a walk: so many bytes that the peer sent before its FIN are unread.
    fn unread(&mut self, id: u64, unread: u32) {
        let tuple = Sim::tuple(id, 40_000 + u16::try_from(id).expect("small"), FAR, 443);
        let row = Existing {
            state: TcpState::CloseWait,
            shape: Shape::Full,
            inode: 1,
            uid: 0,
            recv_queue: unread + 1,
            send_queue: 0,
            since_received: 500,
            since_sent: 5_500,
            since_ack: 500,
            timer: 0,
            unanswered: 0,
            probes: 0,
            deferred: false,
        };
        let flags = SocketFlags { has_socket: true, ..SocketFlags::default() };
        let counters = Counters { bytes_sent: 1_000, bytes_received: 5_000, ..Counters::default() };
        self.feed_counted(id, tuple, flags, counters, Happened::Socket(row));
    }

    fn ms(&mut self, ms: u64) {
        self.now = self.now.after(ms * MS);
    }
}

/// In milliseconds; the jiffy is 4 ms long.
pub(super) fn ages(sent: u32, received: u32, ack: u32) -> Ages {
    Ages {
        since_sent: sent / 4,
        since_received: received / 4,
        since_ack: ack / 4,
        keepalive: false,
    }
}

/// Every one of twenty connections is closed by the server four seconds after its last answer. What the FINs
/// say is known before any walk has looked at them.
#[test]
fn the_servers_keep_alive_is_known_at_the_fin() {
    let mut sim = Sim::with(&["CLOSE_WAIT=2s"]);
    for id in 900..920 {
        sim.open(id, false);
        sim.ms(7);
    }
    sim.quiet(4);
    for id in 900..920 {
        sim.fin(id, false, ages(4_004, 4_000, 4_000));
        sim.ms(7);
    }
    sim.quiet(4);
    let found = sim.only(RuleId::CloseWait);
    let says = "java[31467] keeps 20 idle connections that 10.0.0.9:443 has closed after 4.00s without data";
    assert!(found.verdict.starts_with(says), "{}", found.verdict);
    assert!(found.verdict.ends_with("no leak"), "{}", found.verdict);
    assert_eq!(found.severity, Severity::Stuck);
    assert!(found.advice.contains("sooner than 4.00s"), "{}", found.advice);
}

/// One request of a pool that meets a connection the peer has closed, in all its forms.
#[test]
fn requests_on_connections_that_were_closed_are_told() {
    struct Case {
        what: &'static str,
        server: bool,
        /// At the FIN.
        fin: Ages,
        /// From the FIN to the RST, milliseconds.
        later: u64,
        state: TcpState,
        /// At the RST.
        rst: Ages,
        /// Bytes sent since the FIN.
        more: u64,
        expect: Option<&'static str>,
    }
    use TcpState::{CloseWait, LastAck};
    let idle = ages(4_004, 4_000, 4_000);
    let used = ages(4, 7_204, 3_200);
    let case = Case {
        what: "a request 3.2 s after the FIN",
        server: false,
        fin: idle,
        later: 3_204,
        state: CloseWait,
        rst: used,
        more: 180,
        expect: Some(", 3.20s after the FIN"),
    };
    let check = |case: Case| {
        let mut sim = Sim::new();
        sim.open(900, case.server);
        sim.quiet(5);
        sim.fin(900, case.server, case.fin);
        sim.ms(case.later);
        if case.state == LastAck {
            sim.step(900, case.server, CloseWait, LastAck, None);
        }
        sim.rst(900, case.server, case.state, case.rst, case.more);
        sim.quiet(2);
        let found = sim.of(RuleId::StaleReuse);
        match case.expect {
            Some(words) => {
                assert_eq!(found.len(), 1, "{}: nothing", case.what);
                assert!(found[0].verdict.contains(words), "{}: {}", case.what, found[0].verdict);
            }
            None => assert!(found.is_empty(), "{}: {}", case.what, found[0].verdict),
        }
    };
    let with = |what, change: &dyn Fn(&mut Case)| {
        let mut other = Case { what, ..case };
        change(&mut other);
        check(other);
    };
    with("as it is", &|_| ());
    with("the application was quick to close", &|case| case.state = LastAck);
    with("2 ms after the FIN of an idle connection", &|case| {
        (case.later, case.rst) = (8, ages(4, 4_008, 8));
        case.expect = Some("after the FIN");
    });
    with("nothing was sent since: the RST has another cause", &|case| {
        (case.more, case.rst, case.expect) = (0, ages(7_204, 7_200, 3_200), None);
    });
    with("a close_notify", &|case| (case.more, case.expect) = (24, None));
    with("a farewell of PostgreSQL", &|case| (case.more, case.expect) = (5, None));
    with("the client went away while we answered", &|case| {
        (case.server, case.expect) = (true, None);
    });
    with("the server closed while the request was being sent", &|case| {
        (case.fin, case.later, case.rst) = (ages(0, 4, 0), 8, ages(4, 12, 8));
        (case.more, case.expect) = (90_000, None);
    });
    with("closed after each answer, used seconds later all the same", &|case| {
        case.fin = ages(8, 0, 0);
    });
    with("request and FIN crossed on the way", &|case| {
        (case.fin, case.later, case.more) = (ages(8, 4_000, 4_000), 20, 0);
        case.rst = ages(28, 4_020, 4_020);
        case.expect = Some("crossed on the way");
    });
    with("the server closed instead of answering", &|case| {
        (case.fin, case.later, case.more) = (ages(2_000, 6_000, 2_000), 20, 0);
        (case.rst, case.expect) = (ages(2_020, 6_020, 2_020), None);
    });
}

/// Many are one finding, with the server's keep-alive; ten minutes after the last it is over.
#[test]
fn stale_requests_are_one_finding_that_ends() {
    let mut sim = stale();
    let found = sim.only(RuleId::StaleReuse);
    assert_eq!((found.count, found.severity), (20, Severity::Stuck));
    for words in
        ["20 were reset", "10.0.0.9:443 closes after 4.00s idle", "opened by com.acme.Pool.ask"]
    {
        assert!(found.verdict.contains(words), "{}", found.verdict);
    }
    assert!(found.advice.contains("setValidateAfterInactivity"), "{}", found.advice);
    sim.quiet(600);
    assert!(sim.of(RuleId::StaleReuse).is_empty());
}

/// Twenty requests on connections that the server had closed.
pub(super) fn stale() -> Sim {
    let mut sim = Sim::new();
    for id in 900..920 {
        sim.open(id, false);
        sim.ms(40);
    }
    sim.quiet(4);
    for id in 900..920 {
        sim.fin(id, false, ages(4_004, 4_000, 4_000));
        sim.ms(40);
    }
    sim.quiet(3);
    for id in 900..920 {
        sim.watch.openers.learn(SockId(id), "com.acme.Pool.ask".into());
        sim.rst(id, false, TcpState::CloseWait, ages(4, 7_500, 3_400), 200);
    }
    sim.quiet(2);
    sim
}

/// A pool that tests a database's connections before it gives them out loses nothing. PostgreSQL says why it ends a
/// session, and nobody reads that.
#[test]
fn tests_of_a_databases_connections_are_a_note() {
    let check = |sent: &[u64], unread: u32, expect: Severity| {
        let sim = tested(sent, unread);
        let found = sim.only(RuleId::StaleReuse);
        assert_eq!(found.severity, expect, "{sent:?} {unread}: {}", found.verdict);
        let note = found.verdict.contains(" bytes: perhaps a pool's test, which loses nothing");
        assert_eq!(note, expect == Severity::Note, "{}", found.verdict);
    };
    check(&[60, 60, 60, 60], 116, Severity::Note);
    check(&[60, 71, 60, 60], 116, Severity::Note);
    // Queries differ, or are longer; an HTTP server says nothing before it closes.
    check(&[60, 61, 62, 60], 116, Severity::Stuck);
    check(&[180, 180, 180, 180], 116, Severity::Stuck);
    check(&[60, 60, 60, 60], 0, Severity::Stuck);
}

/// Connections that the server had closed, each used with so many bytes after `unread` that nobody read.
pub(super) fn tested(sent: &[u64], unread: u32) -> Sim {
    let mut sim = Sim::new();
    let ids = || 900..900 + sent.len() as u64;
    for id in ids() {
        sim.open(id, false);
    }
    sim.quiet(20);
    for id in ids() {
        sim.fin(id, false, ages(20_004, if unread == 0 { 20_000 } else { 0 }, 0));
        sim.ms(40);
    }
    sim.quiet(2);
    for id in ids() {
        sim.unread(id, unread);
    }
    sim.quiet(3);
    for (id, &more) in ids().zip(sent) {
        sim.rst(id, false, TcpState::CloseWait, ages(4, 25_000, 5_000), more);
    }
    sim.quiet(2);
    sim
}

/// Of what a user's filter leaves out nothing is said.
#[test]
fn other_processes_resets_are_not_told() {
    let mut sim = Sim::new();
    sim.watch.set_filter(Filter { pids: vec![1], ..Filter::default() });
    sim.open(900, false);
    sim.quiet(5);
    sim.fin(900, false, ages(4_000, 4_000, 4_000));
    sim.ms(3_000);
    sim.rst(900, false, TcpState::CloseWait, ages(4, 7_000, 3_000), 200);
    sim.quiet(2);
    assert!(sim.of(RuleId::StaleReuse).is_empty(), "{:?}", sim.verdicts());
}

/// Connections that are reset, one every three seconds, each with these ages.
pub(super) fn resets(server: bool, of: &[Ages]) -> Sim {
    let mut sim = Sim::new();
    for (index, &ages) in of.iter().enumerate() {
        let id = 900 + index as u64;
        sim.open(id, server);
        sim.quiet(3);
        sim.rst(id, server, TcpState::Established, ages, 0);
    }
    sim.quiet(2);
    sim
}

#[test]
fn resets_of_idle_connections_are_told_from_others() {
    let check = |what: &str, server: bool, of: &[Ages], expect: Option<&str>| {
        let sim = resets(server, of);
        let found = sim.of(RuleId::IdleReset);
        match expect {
            Some(words) => {
                assert_eq!(found.len(), 1, "{what}: nothing");
                assert!(found[0].verdict.contains(words), "{what}: {}", found[0].verdict);
            }
            None => assert!(found.is_empty(), "{what}: {}", found[0].verdict),
        }
    };
    // The last data was an answer: nothing is awaited.
    let idle = |ms| ages(ms + 20, ms, ms);
    check(
        "each after 60 s",
        false,
        &[idle(60_000), idle(60_004), idle(60_000)],
        Some("each after 1m00s without data"),
    );
    check(
        "with jitter",
        false,
        &[idle(60_000), idle(61_900), idle(60_700), idle(63_000)],
        Some("4 were reset"),
    );
    check("two", false, &[idle(60_000), idle(60_000)], None);
    check("for less than 10 s", false, &[idle(3_000); 4], None);
    check(
        "after whatever time",
        false,
        &[idle(20_000), idle(45_000), idle(90_000), idle(31_000)],
        None,
    );
    check(
        "some only",
        false,
        &[idle(60_000), idle(60_000), idle(14_000), idle(60_004), idle(25_000)],
        Some("3 were reset, each after 1m00s"),
    );
    // A request was sent, acknowledged, and not answered.
    let waits = ages(30_000, 95_000, 30_000);
    check("while an answer is awaited", false, &[waits; 4], None);
    check("a crash among clients that wait", false, &[ages(40, 20_000, 40); 4], None);
    // The first data after the silence is not acknowledged: the RST is the answer.
    let used = |ms| ages(4, ms, ms);
    check(
        "when they are used again",
        false,
        &[used(75_000), used(300_000), used(62_000), used(101_000)],
        None,
    );
    // Servers: the last data was our answer.
    check(
        "clients' idle connections",
        true,
        &[ages(350_000, 350_040, 349_900); 3],
        Some("on :8089"),
    );
    check("clients that give up waiting", true, &[ages(60_000, 30_000, 30_000); 3], None);
}

/// The same time from the last answer to the use, at moments that no one restart explains: some were heard of
/// after others had died.
#[test]
fn what_dies_when_it_is_used_again_is_told_when_no_restart_explains_it() {
    for (gap, expect) in [(20u64, true), (1, false)] {
        let sim = used_again(gap);
        let found = sim.of(RuleId::IdleReset);
        assert_eq!(!found.is_empty(), expect, "{gap}: {:?}", sim.verdicts());
        if expect {
            let says =
                "6 were reset, each after 45s or more without data, when they were used again";
            assert!(found[0].verdict.contains(says), "{}", found[0].verdict);
            assert!(found[0].advice.contains("TCP_KEEPIDLE below 45s"), "{}", found[0].advice);
        }
    }
}

/// Six connections, used again 45 s after they were heard of last, `gap` seconds one after the other.
pub(super) fn used_again(gap: u64) -> Sim {
    let mut sim = Sim::new();
    for id in 900..906 {
        sim.open(id, false);
    }
    // Each was heard of `gap` seconds after the one before, and is used again 45 s later.
    for second in 0..(45 + 6 * gap) {
        for index in 0..6 {
            if second == 45 + index * gap {
                sim.rst(900 + index, false, TcpState::Established, ages(4, 45_004, 45_004), 80);
            }
        }
        sim.quiet(1);
    }
    sim.quiet(2);
    sim
}

/// A server that dies resets all at one moment.
#[test]
fn a_crash_is_no_idle_timeout() {
    let mut sim = Sim::new();
    for id in 900..910 {
        sim.open(id, false);
        sim.ms(777);
    }
    sim.quiet(60);
    for index in 0..10u64 {
        let idle = 60_000 + 777 * u32::try_from(10 - index).expect("small");
        sim.rst(900 + index, false, TcpState::Established, ages(idle, idle, idle), 0);
    }
    sim.quiet(3);
    assert!(sim.of(RuleId::IdleReset).is_empty(), "{:?}", sim.verdicts());
}

/// Of idle connections without keepalive each owner and place has a note; of those that stay on this machine,
/// are kept alive or at work, there is none.
#[test]
fn idle_connections_without_keepalive_are_noted_by_owner_and_place() {
    let sim = noted();
    let found = sim.of(RuleId::Idle);
    let verdicts: Vec<&str> = found.iter().map(|found| found.verdict.as_str()).collect();
    assert_eq!(found.len(), 2, "{verdicts:?}");
    let to = "java[31467] has 8 idle connections to 10.0.0.9:443 without keepalive";
    assert!(verdicts.iter().any(|verdict| verdict.starts_with(to)), "{verdicts:?}");
    assert!(
        verdicts.iter().any(|verdict| verdict.contains("10 idle connections on :8089")),
        "{verdicts:?}"
    );
    assert!(found.iter().all(|found| found.severity == Severity::Note));
}

/// Silent connections of both roles, one with keepalive and one that was heard of.
pub(super) fn noted() -> Sim {
    let mut sim = Sim::new();
    for id in 900..920 {
        sim.open(id, id >= 910);
    }
    sim.quiet(400);
    for id in 900..920u16 {
        let silent = if id == 901 { 10 } else { 90_000 };
        let keepalive = id == 902;
        let tuple = if id >= 910 {
            Sim::tuple(0, 8089, FAR, 40_000 + id)
        } else {
            Sim::tuple(0, 40_000 + id, FAR, 443)
        };
        let row = Existing {
            state: TcpState::Established,
            shape: Shape::Full,
            inode: 1,
            uid: 0,
            recv_queue: 0,
            send_queue: 0,
            since_received: silent,
            since_sent: silent,
            since_ack: silent,
            timer: 0,
            unanswered: 0,
            probes: 0,
            deferred: false,
        };
        let flags = SocketFlags { has_socket: true, keepalive, ..SocketFlags::default() };
        sim.feed(id.into(), tuple, flags, Happened::Socket(row));
    }
    sim.quiet(2);
    sim
}
