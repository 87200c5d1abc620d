//! What holds whatever comes in, in whatever order.

use proptest::prelude::*;

use super::*;
use crate::event::Cause;

const IDS: u64 = 5;

/// Any input over a few sockets; `at` is a delta, negative for what comes late.
#[derive(Clone, Debug)]
struct Any {
    id: u64,
    after: i64,
    what: AnyWhat,
}

#[derive(Clone, Debug)]
enum AnyWhat {
    Transition { old: u8, new: u8, pid: u32, flags: u8, error: u16, srtt: u32, no_port: bool },
    Natural { choice: u8, flags: u8, error: u16, srtt: u32, no_port: bool },
    Retransmit { state: u8, times: u32 },
    Reset { state: u8, sent: bool },
    Error { state: u8 },
    Row { state: u8, shape: u8, since: u32, timer: u32, unanswered: u32, no_port: bool },
    PollBegin,
    PollEnd { minis: bool, began: i64 },
    Holders(Vec<(u64, u32, u32)>),
    Tick,
}

/// `wild`: also what no kernel does.
fn any_what(wild: bool) -> impl Strategy<Value = AnyWhat> {
    let state = 1u8..=12;
    prop_oneof![
        u32::from(wild) * 3 => (state.clone(), state.clone(), 0u32..4, any::<u8>(), errors(), 0u32..100_000, any::<bool>())
            .prop_map(|(old, new, pid, flags, error, srtt, no_port)| {
                AnyWhat::Transition { old, new, pid, flags, error, srtt, no_port }
            }),
        8 => (any::<u8>(), any::<u8>(), errors(), 0u32..100_000, any::<bool>())
            .prop_map(|(choice, flags, error, srtt, no_port)| {
                AnyWhat::Natural { choice, flags, error, srtt, no_port }
            }),
        1 => (state.clone(), 0u32..300).prop_map(|(state, times)| AnyWhat::Retransmit { state, times }),
        1 => (state.clone(), any::<bool>()).prop_map(|(state, sent)| AnyWhat::Reset { state, sent }),
        1 => state.clone().prop_map(|state| AnyWhat::Error { state }),
        3 => (state, 0u8..3, 0u32..100_000, 0u32..20_000, 0u32..20, any::<bool>()).prop_map(
            |(state, shape, since, timer, unanswered, no_port)| {
                AnyWhat::Row { state, shape, since, timer, unanswered, no_port }
            }
        ),
        1 => Just(AnyWhat::PollBegin),
        1 => (any::<bool>(), 0i64..3_000)
            .prop_map(|(minis, began)| AnyWhat::PollEnd { minis, began }),
        1 => proptest::collection::vec((0..IDS + 1, 1u32..5, 0u32..4), 0..5).prop_map(AnyWhat::Holders),
        1 => Just(AnyWhat::Tick),
    ]
}

fn errors() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0u16), 1 => Just(104), 1 => Just(110), 1 => Just(111), 1 => any::<u16>()]
}

fn any_inputs(wild: bool) -> impl Strategy<Value = Vec<Any>> {
    let one = (0..IDS, -20i64..2_000, any_what(wild)).prop_map(|(id, after, what)| Any {
        id,
        after,
        what,
    });
    proptest::collection::vec(one, 0..120)
}

fn any_state(number: u8) -> TcpState {
    TcpState::try_from(number).expect("1 to 12")
}

/// Two of the ids are the two ends of one connection, one listens for all, two share their ends.
fn any_tuple(id: u64, no_port: bool) -> Tuple {
    let mut tuple = match id {
        0 => tuple(1, 40_000, 2, PORT),
        1 => tuple(2, PORT, 1, 40_000),
        2 => listener_tuple(),
        _ => tuple(1, 40_003, 2, PORT),
    };
    if no_port {
        tuple.local_port = 0;
    }
    tuple
}

/// Where the kernel goes from a state.
fn natural(state: TcpState, choice: u8) -> TcpState {
    use TcpState::*;
    let next: &[TcpState] = match state {
        Close => &[SynSent, Listen],
        Listen => &[SynRecv, Close],
        SynSent => &[Established, Established, Close, SynRecv],
        SynRecv | NewSynRecv => &[Established, Established, Close, FinWait1],
        Established => &[FinWait1, CloseWait, Close],
        FinWait1 => &[FinWait2, Closing, TimeWait, Close],
        FinWait2 | Closing | LastAck | TimeWait => &[Close],
        CloseWait => &[LastAck, Close],
    };
    next[usize::from(choice) % next.len()]
}

/// What the views would have been told of one entry.
#[derive(Default, Debug)]
struct Told {
    id: u64,
    began: bool,
    listener: bool,
    finished: u32,
    gone: u32,
}

/// A run under test: the table, and what it told by entry.
struct Run {
    table: Table,
    changes: Vec<Change>,
    alive: std::collections::HashMap<u32, Told>,
    now: u64,
    wild: bool,
    latest: u64,
    states: [TcpState; IDS as usize],
}

impl Run {
    fn new((minis_are_seen, resets_are_seen): (bool, bool), wild: bool) -> Run {
        Run {
            table: Table::new(Options { limit: 4, minis_are_seen, resets_are_seen, ..OPTIONS }),
            changes: Vec::new(),
            alive: std::collections::HashMap::new(),
            now: at(100).0,
            wild,
            latest: at(100).0,
            states: [TcpState::Close; IDS as usize],
        }
    }

    fn event(&mut self, any: &Any, at: MonoNs) -> Option<Event> {
        let mut event = Event {
            at,
            id: SockId(any.id),
            address: 0,
            netns: NETNS,
            tuple: any_tuple(any.id, false),
            cgroup: 0,
            interface: 0,
            flags: SocketFlags::default(),
            error: 0,
            ages: None,
            counters: None,
            what: What::Error { state: TcpState::Close },
        };
        let index = usize::try_from(any.id).ok()?;
        let mut transition = |old, new, pid, bits: u8, error, srtt, no_port| {
            event.tuple = any_tuple(any.id, no_port);
            event.error = error;
            event.counters =
                Some(Counters { srtt_us: (srtt != 0).then_some(srtt), ..Counters::default() });
            event.flags = SocketFlags {
                dead: bits & 1 != 0,
                fin_received: bits & 2 != 0,
                has_socket: bits & 4 != 0,
                shut_down: bits & 8 != 0,
                keepalive: false,
                maybe_repeated: bits & 0x70 == 0x70,
                time_wait_full: bits & 0x90 == 0x90,
                id_is_address: false,
            };
            let actor = (pid != 0).then(|| task(pid, "any"));
            event.what = What::Transition { old, new, actor };
        };
        match any.what {
            AnyWhat::Transition { old, new, pid, flags, error, srtt, no_port } => {
                let (old, new) = (any_state(old), any_state(new));
                transition(old, new, pid, flags, error, srtt, no_port);
                self.states[index] = new;
            }
            AnyWhat::Natural { choice, flags, error, srtt, no_port } => {
                let old = self.states[index];
                // A child is cloned from its listener.
                let old = if old == TcpState::Close && choice & 0x80 != 0 && any.id != 2 {
                    TcpState::Listen
                } else {
                    old
                };
                let new = natural(old, choice & 0x7f);
                transition(old, new, u32::from(choice % 3), flags, error, srtt, no_port);
                self.states[index] = new;
            }
            AnyWhat::Retransmit { state, times } => {
                let segment = match times % 4 {
                    0 => Segment::Syn,
                    1 => Segment::SynAck,
                    2 => Segment::Data,
                    _ => Segment::Fin,
                };
                let cause = Cause::of_wire(u8::try_from(times % 6).unwrap_or(0));
                let again = Again { cause, segments: times as u16, ..Again::default() };
                event.what = What::Retransmit { segment, state: any_state(state), times, again };
            }
            AnyWhat::Reset { state, sent } => {
                let direction = if sent { Direction::Sent } else { Direction::Received };
                event.what = What::Reset { direction, state: any_state(state), reason: 3 };
            }
            AnyWhat::Error { state } => event.what = What::Error { state: any_state(state) },
            AnyWhat::Row { state, shape, since, timer, unanswered, no_port } => {
                let (shape, state) = match shape {
                    0 => (Shape::Full, any_state(state)),
                    1 => (Shape::Request, TcpState::SynRecv),
                    _ if state % 2 == 0 => (Shape::Mini, TcpState::FinWait2),
                    _ => (Shape::Mini, TcpState::TimeWait),
                };
                event.tuple = any_tuple(any.id, no_port);
                event.what = What::Socket(Existing {
                    state,
                    shape,
                    inode: 0,
                    uid: 0,
                    recv_queue: 0,
                    send_queue: 0,
                    since_received: since,
                    since_sent: since,
                    since_ack: since,
                    timer,
                    unanswered,
                    probes: 0,
                    deferred: false,
                });
            }
            _ => return None,
        }
        Some(event)
    }

    fn feed(&mut self, any: &Any) {
        self.now = self.now.saturating_add_signed(any.after * MS.cast_signed());
        self.latest = self.latest.max(self.now);
        let now = MonoNs(self.now);
        if let Some(event) = self.event(any, now) {
            self.table.apply(&event, &mut self.changes);
        } else {
            match &any.what {
                AnyWhat::PollBegin => self.table.begin_poll(),
                AnyWhat::PollEnd { minis, began } => {
                    let kind = if *minis { PollKind::Minis } else { PollKind::All };
                    let began = now.before(began.unsigned_abs() * MS);
                    let poll = Poll { began, netns: vec![NETNS], kind };
                    self.table.end_poll(&poll, now, &mut self.changes);
                }
                AnyWhat::Holders(all) => {
                    let one = |&(id, pid, fd): &(u64, u32, u32)| holder(id, pid, "any", fd);
                    self.table.set_holders(all.iter().map(one).collect());
                }
                _ => self.table.tick(now, &mut self.changes),
            }
        }
        self.take_changes();
    }

    fn take_changes(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            let conn = self.table.get(change.conn).expect("there until it is settled");
            let told = self.alive.entry(change.conn.0).or_default();
            (told.id, told.listener) = (conn.id.0, conn.role == Role::Listener);
            match change.kind {
                Kind::Transition { old, new, in_old, .. } => {
                    told.began |= matches!(
                        (old, new),
                        (TcpState::Close, TcpState::SynSent | TcpState::Listen)
                            | (TcpState::Listen, TcpState::SynRecv)
                    );
                    // Nothing here is older than a walk's rows can say: 20000 jiffies, or 2^16 s.
                    assert!(in_old.ns().unwrap_or(0) < 200_000 * 1_000 * MS, "{change:?}");
                }
                Kind::Finished => {
                    told.finished += 1;
                    let sum: u64 = conn.states().map(|(_, ns)| ns).sum();
                    // Events that come late, by 20 ms each at most, are counted from both sides.
                    let slack = 120 * 2 * 20 * MS;
                    let total = conn.lived();
                    assert!(total <= change.at.since(conn.born) + slack, "{conn:?}");
                    if conn.complete && !self.wild {
                        assert!(sum <= total + slack, "{sum} in states of {total}: {conn:?}");
                    }
                }
                Kind::Gone => {
                    told.gone += 1;
                    let told = self.alive.remove(&change.conn.0).expect("entered above");
                    assert_eq!(told.gone, 1);
                    assert!(told.finished <= 1, "{told:?}");
                    if told.began {
                        assert_eq!(told.finished, u32::from(!told.listener), "{told:?} {conn:?}");
                    }
                }
                Kind::Retransmit { .. } | Kind::Reset { .. } | Kind::Dropped { .. } => {}
            }
        }
        self.table.settle();
        self.table.check();
    }

    /// Two walks that meet nothing.
    fn end(&mut self) {
        for step in 1..=2 {
            let began = MonoNs(self.latest).after(step * 1_000 * MS);
            self.table.begin_poll();
            let poll = Poll { began, netns: vec![NETNS], kind: PollKind::All };
            self.table.end_poll(&poll, began.after(MS), &mut self.changes);
            self.take_changes();
        }
        self.table.tick(MonoNs(self.latest).after(3_000 * MS), &mut self.changes);
        self.take_changes();
        assert!(self.table.is_empty(), "left: {:?}", self.table);
        assert!(!self.alive.values().any(|told| told.began), "no end: {:?}", self.alive);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_table(inputs in any_inputs(true), seen in any::<(bool, bool)>()) {
        let mut run = Run::new(seen, true);
        for any in &inputs {
            run.feed(any);
        }
        run.end();
    }

    #[test]
    fn no_time_is_counted_twice(inputs in any_inputs(false), seen in any::<(bool, bool)>()) {
        let mut run = Run::new(seen, false);
        for any in &inputs {
            run.feed(any);
        }
        run.end();
    }
}
