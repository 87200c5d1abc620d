//! The table against what the kernel tells: scripts of events and rows in, lines of what changed out.
//!
//! `check` runs a script and compares; `identities` has kernels without cookies, `lives` has what tracepoints tell, `rows` what iterators tell,
//! `properties` what must hold whatever is told.

mod again;
mod drops;
mod ends;
mod failed;
mod identities;
mod lives;
mod properties;
mod rows;
mod sound;
mod timers;
mod translated;

use std::fmt::Write;

use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, Kind, Options, Poll, PollKind, Role, Spent, Table};
use crate::event::{
    Actor, Again, Comm, Counters, Direction, Event, Existing, Family, Holder, Segment, Shape,
    SockId, SocketFlags, Tuple, What,
};
use crate::time::MonoNs;

/// When the programs were attached. All times in scripts are milliseconds from here.
const START: u64 = 1_000_000_000_000;
const MS: u64 = 1_000_000;
/// CONFIG_HZ=250.
const JIFFY: u64 = 4 * MS;
/// The network namespace of everything that does not say otherwise.
const NETNS: u32 = 1;
/// The server's port in all tuples.
const PORT: u16 = 80;

fn at(ms: u64) -> MonoNs {
    MonoNs(START + ms * MS)
}

/// IPv4 between 10.0.0.`local` and 10.0.0.`remote`.
fn tuple(local: u8, local_port: u16, remote: u8, remote_port: u16) -> Tuple {
    let addr = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
    Tuple {
        local_addr: addr(local),
        remote_addr: addr(remote),
        local_port,
        remote_port,
        family: Family::V4,
    }
}

fn task(pid: u32, comm: &str) -> Actor {
    let comm = Comm::new(comm.as_bytes());
    Actor { pid, tid: pid, comm, thread: comm, exiting: false }
}

fn holder(id: u64, pid: u32, comm: &str, fd: u32) -> Holder {
    let comm = Comm::new(comm.as_bytes());
    Holder {
        id: SockId(id),
        address: 0,
        pid,
        fd,
        comm,
        start_ns: 0,
        at: at(0),
        state: None,
        netns: 0,
        bound: true,
        connected: true,
    }
}

/// What a script is made of.
#[derive(Clone, Debug)]
enum Input {
    Event(Event),
    PollBegin,
    PollEnd(Poll, MonoNs),
    Holders(Vec<Holder>),
    Tick(MonoNs),
}

/// Inputs in the order they reach the table: by the time in front, first come first.
#[derive(Clone, Debug, Default)]
struct Script(Vec<(u64, Input)>);

impl Script {
    /// Everything of both.
    fn and(mut self, other: impl Into<Script>) -> Script {
        self.0.extend(other.into().0);
        self
    }

    fn holders(mut self, ms: u64, holders: &[Holder]) -> Script {
        self.0.push((ms, Input::Holders(holders.to_vec())));
        self
    }

    fn tick(mut self, ms: u64) -> Script {
        self.0.push((ms, Input::Tick(at(ms))));
        self
    }

    fn last_event(&mut self) -> &mut Event {
        match self.0.last_mut() {
            Some((_, Input::Event(event))) => event,
            other => panic!("{other:?} is no event"),
        }
    }
}

/// The events of one socket, written down as it lives.
#[derive(Clone, Debug)]
struct Life {
    id: u64,
    tuple: Tuple,
    flags: SocketFlags,
    state: TcpState,
    script: Script,
}

/// A socket of that id; by default a client's 10.0.0.1:40000+id to 10.0.0.2:80.
fn life(id: u64) -> Life {
    let port = 40_000 + u16::try_from(id).expect("a small id");
    Life {
        id,
        tuple: tuple(1, port, 2, PORT),
        flags: SocketFlags { has_socket: true, ..SocketFlags::default() },
        state: TcpState::Close,
        script: Script::default(),
    }
}

impl From<Life> for Script {
    fn from(life: Life) -> Script {
        life.script
    }
}

impl Life {
    /// 10.0.0.2:80, the other end of the client with that id.
    fn server_of(mut self, client: u64) -> Life {
        let port = 40_000 + u16::try_from(client).expect("a small id");
        self.tuple = tuple(2, PORT, 1, port);
        self.flags.has_socket = false;
        self.state = TcpState::Listen;
        self
    }

    fn with_tuple(mut self, tuple: Tuple) -> Life {
        self.tuple = tuple;
        self
    }

    /// There was no event of it before; it is in this state.
    fn already(mut self, state: TcpState) -> Life {
        self.state = state;
        self
    }

    fn what(mut self, ms: u64, what: What) -> Life {
        self.script.0.push((
            ms,
            Input::Event(Event {
                at: at(ms),
                id: SockId(self.id),
                address: 0,
                netns: NETNS,
                tuple: self.tuple,
                cgroup: 0,
                interface: 0,
                flags: self.flags,
                error: 0,
                ages: None,
                counters: None,
                what,
            }),
        ));
        self
    }

    /// The next transition.
    fn to(mut self, new: TcpState, ms: u64) -> Life {
        let old = std::mem::replace(&mut self.state, new);
        let life = self.what(ms, What::Transition { old, new, actor: None });
        life.counters(Counters::default())
    }

    /// CLOSE->SYN_SENT, before the kernel has chosen the port.
    fn syn(self, ms: u64) -> Life {
        let mut life = self.to(TcpState::SynSent, ms);
        life.script.last_event().tuple.local_port = 0;
        life
    }

    /// CLOSE->LISTEN at 0.0.0.0:80.
    fn listen(mut self, ms: u64) -> Life {
        self.tuple = listener_tuple();
        self.to(TcpState::Listen, ms)
    }

    /// LISTEN->SYN_RECV and, `us` microseconds later, SYN_RECV->ESTABLISHED.
    fn accepted(self, ms: u64, us: u64) -> Life {
        let mut life = self.to(TcpState::SynRecv, ms).established(ms);
        life.script.last_event().at.0 += us * 1_000;
        life
    }

    fn established(self, ms: u64) -> Life {
        self.to(TcpState::Established, ms)
    }

    fn fin_wait1(self, ms: u64) -> Life {
        self.to(TcpState::FinWait1, ms)
    }

    fn fin_wait2(self, ms: u64) -> Life {
        self.to(TcpState::FinWait2, ms)
    }

    fn close_wait(mut self, ms: u64) -> Life {
        self.flags.fin_received = true;
        self.to(TcpState::CloseWait, ms)
    }

    fn last_ack(self, ms: u64) -> Life {
        self.to(TcpState::LastAck, ms)
    }

    fn closing(mut self, ms: u64) -> Life {
        self.flags.fin_received = true;
        self.to(TcpState::Closing, ms)
    }

    fn close(self, ms: u64) -> Life {
        self.to(TcpState::Close, ms)
    }

    fn retransmit(self, segment: Segment, ms: u64, so_far: u32) -> Life {
        let state = self.state;
        let counters = Counters { retransmits: so_far, ..Counters::default() };
        self.what(ms, What::Retransmit { segment, state, times: 0, again: Again::default() })
            .counters(counters)
    }

    /// A SYN-ACK of a request socket, sent again for the `times`th time.
    fn synack(self, ms: u64, times: u32) -> Life {
        let state = TcpState::SynRecv;
        self.what(
            ms,
            What::Retransmit { segment: Segment::SynAck, state, times, again: Again::default() },
        )
    }

    fn reset(self, direction: Direction, ms: u64) -> Life {
        let state = self.state;
        self.what(ms, What::Reset { direction, state, reason: 0 })
    }

    /// `inet_sk_error_report`.
    fn reports(self, errno: u16, ms: u64) -> Life {
        let state = self.state;
        self.what(ms, What::Error { state }).errno(errno)
    }

    /// A row that says that it is as it is by now.
    fn row(self, ms: u64) -> Life {
        let state = self.state;
        self.row_as(ms, state, Shape::Full).counters(Counters::default())
    }

    /// A row of its mini-socket, `left` milliseconds before its timer fires.
    fn mini(self, ms: u64, state: TcpState, left: u64) -> Life {
        let mut life = self.row_as(ms, state, Shape::Mini);
        life.existing().timer = jiffies(left);
        life
    }

    /// A row of its request socket.
    fn request(self, ms: u64, times: u32, left: u64) -> Life {
        let mut life = self.row_as(ms, TcpState::SynRecv, Shape::Request);
        let row = life.existing();
        (row.timer, row.unanswered) = (jiffies(left), times);
        life
    }

    fn row_as(self, ms: u64, state: TcpState, shape: Shape) -> Life {
        self.what(
            ms,
            What::Socket(Existing {
                state,
                shape,
                inode: 0,
                uid: 0,
                recv_queue: 0,
                send_queue: 0,
                since_received: 0,
                since_sent: 0,
                since_ack: 0,
                timer: 0,
                unanswered: 0,
                probes: 0,
                deferred: false,
            }),
        )
    }

    /// The row just made.
    fn existing(&mut self) -> &mut Existing {
        match &mut self.script.last_event().what {
            What::Socket(row) => row,
            other => panic!("{other:?} is no row"),
        }
    }

    /// The row just made: the last segment of any kind came or went that long ago.
    fn idle(mut self, ms: u64) -> Life {
        let row = self.existing();
        row.since_received = jiffies(ms);
        row.since_sent = jiffies(ms);
        row.since_ack = jiffies(ms);
        self
    }

    /// The last input reaches the table only then.
    fn late(mut self, ms: u64) -> Life {
        if let Some((arrives, _)) = self.script.0.last_mut() {
            *arrives = ms;
        }
        self
    }

    /// The last transition was made by this task.
    fn by(mut self, pid: u32, comm: &str) -> Life {
        match &mut self.script.last_event().what {
            What::Transition { actor, .. } => *actor = Some(task(pid, comm)),
            other => panic!("{other:?} is no transition"),
        }
        self
    }

    /// The last event has these counters.
    fn counters(mut self, counters: Counters) -> Life {
        self.script.last_event().counters = Some(counters);
        self
    }

    /// There was a first RTT sample by the last event.
    fn srtt(self, us: u32) -> Life {
        self.counters(Counters { srtt_us: Some(us), ..Counters::default() })
    }

    /// `sk_err` at the last event.
    fn errno(mut self, errno: u16) -> Life {
        self.script.last_event().error = errno;
        self
    }

    /// The application has closed it: SOCK_DEAD and both shutdown bits, from here on.
    fn orphaned(mut self) -> Life {
        self.flags.dead = true;
        self.flags.shut_down = true;
        self.flags.has_socket = false;
        self
    }

    /// The peer's FIN is in, from here on.
    fn fin_is_in(mut self) -> Life {
        self.flags.fin_received = true;
        self
    }

    /// The last event once more, from the covering program.
    fn repeated(mut self) -> Life {
        let (arrives, last) = self.script.0.last().cloned().expect("an event to repeat");
        self.script.0.push((arrives, last));
        self.script.last_event().flags.maybe_repeated = true;
        self
    }

    /// The last event was lost.
    fn lost(mut self) -> Life {
        self.script.0.pop();
        self
    }
}

fn listener_tuple() -> Tuple {
    let mut tuple = tuple(0, PORT, 0, 0);
    tuple.local_addr[12] = 0;
    tuple.remote_addr[12] = 0;
    tuple
}

fn jiffies(ms: u64) -> u32 {
    u32::try_from(ms * MS / JIFFY).expect("a short time")
}

/// A walk over the sockets whose rows are in `rows`.
fn poll(kind: PollKind, began: u64, end: u64, rows: impl Into<Script>) -> Script {
    let poll = Poll { began: at(began), netns: vec![NETNS], kind };
    let mut script = Script(vec![(began, Input::PollBegin)]).and(rows);
    script.0.push((end, Input::PollEnd(poll, at(end))));
    script
}

fn all(began: u64, rows: impl Into<Script>) -> Script {
    poll(PollKind::All, began, began + 10, rows)
}

fn minis(began: u64, rows: impl Into<Script>) -> Script {
    poll(PollKind::Minis, began, began + 10, rows)
}

fn nothing() -> Script {
    Script::default()
}

/// Rows come, and no resets but those of the scripts.
const OPTIONS: Options = Options {
    start: MonoNs(START),
    jiffy_ns: JIFFY,
    limit: 1000,
    jiffies: None,
    minis_are_seen: true,
    minis_are_asked_for: false,
    resets_are_seen: false,
};

fn table() -> Table {
    Table::new(OPTIONS)
}

/// Runs a script against a fresh table, and compares what changed with `expect`, line by line.
fn check(script: impl Into<Script>, expect: &str) -> Table {
    check_in(table(), script, expect)
}

fn check_in(mut table: Table, script: impl Into<Script>, expect: &str) -> Table {
    let mut lines = String::new();
    play(&mut table, script.into(), &mut lines);
    let trim = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    let (lines, expect) = (trim(&lines), trim(expect));
    assert!(lines == expect, "--- came\n{lines}\n--- expected\n{expect}\n");
    table
}

fn play(table: &mut Table, script: Script, lines: &mut String) {
    let mut inputs = script.0;
    inputs.sort_by_key(|(arrives, _)| *arrives);
    let mut changes = Vec::new();
    for (_, input) in inputs {
        feed(table, &input, &mut changes);
        for change in changes.drain(..) {
            let conn = table.get(change.conn).expect("there until it is settled");
            line(conn, &change, lines);
        }
        table.settle();
        table.check();
    }
}

fn feed(table: &mut Table, input: &Input, changes: &mut Vec<Change>) {
    match input {
        Input::Event(event) => table.apply(event, changes),
        Input::PollBegin => table.begin_poll(),
        Input::PollEnd(poll, now) => table.end_poll(poll, *now, changes),
        Input::Holders(holders) => table.set_holders(holders.clone()),
        Input::Tick(now) => table.tick(*now, changes),
    }
}

/// `at id what`, times from the start.
fn line(conn: &Connection, change: &Change, out: &mut String) {
    let when = time(change.at.0 - START);
    let _ = write!(out, "{when} #{} ", conn.id.0);
    let _ = match change.kind {
        Kind::Transition { old, new, in_old, .. } => {
            writeln!(out, "{old} > {new} {}", spent(in_old))
        }
        Kind::Retransmit { segment, state, count: Some(count), .. } => {
            writeln!(out, "{} again in {state}: {count}", segment.name())
        }
        Kind::Retransmit { segment, state, count: None, .. } => {
            writeln!(out, "{} again in {state}", segment.name())
        }
        Kind::Reset { direction, state, .. } => {
            writeln!(out, "RST {direction:?} in {state}")
        }
        Kind::Dropped { direction, state, drop } => {
            let (segment, hook) = (drop.segment.name(), drop.place.name());
            writeln!(out, "{segment} {direction:?} in {state} dropped: {} ({hook})", drop.reason)
        }
        Kind::Finished => {
            let _ = write!(
                out,
                "finished: {}, {}, first {}, {}{}",
                conn.role.name(),
                conn.how.name(),
                conn.first_close.name(),
                if conn.complete { "" } else { ">=" },
                time(conn.lived()),
            );
            if let Some(ns) = conn.handshake_ns() {
                let _ = write!(out, ", handshake {}", time(ns));
            }
            for (state, ns) in conn.states() {
                let _ = write!(out, ", {state} {}", time(ns));
            }
            writeln!(out)
        }
        Kind::Gone => writeln!(out, "gone"),
    };
}

fn spent(spent: Spent) -> String {
    match spent {
        Spent::Exactly(ns) => time(ns),
        Spent::About(ns) => format!("~{}", time(ns)),
        Spent::AtLeast(ns) => format!(">={}", time(ns)),
        Spent::Unknown => "-".to_owned(),
    }
}

/// Nothing rounded, so that nothing hides.
fn time(ns: u64) -> String {
    match ns {
        0 => "0".to_owned(),
        ns if ns.is_multiple_of(1_000 * MS) => format!("{}s", ns / (1_000 * MS)),
        ns if ns.is_multiple_of(MS) => format!("{}ms", ns / MS),
        ns if ns.is_multiple_of(1_000) => format!("{}us", ns / 1_000),
        ns => format!("{ns}ns"),
    }
}

/// The only one with this id.
fn find(table: &Table, id: u64) -> &Connection {
    let mut found = table.iter().filter(|conn| conn.id == SockId(id));
    let conn = found.next().expect("it is in the table");
    assert!(found.next().is_none(), "it is there twice");
    conn
}
