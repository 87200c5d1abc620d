//! One connection (or listener) as far as it is known.

use tracer_common::TcpState;

use crate::conn::ending::How;
use crate::event::{Actor, Comm, Counters, Shape, SockId, Tuple};
use crate::time::MonoNs;

/// Which side of the handshake we were on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We sent the SYN.
    Client,
    /// We received the SYN.
    Server,
    /// It listens.
    Listener,
    /// It was there before us and nothing tells.
    Unknown,
}

impl Role {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
            Role::Listener => "listener",
            Role::Unknown => "unknown",
        }
    }
}

/// How the owner is known; later in this list is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OwnerSource {
    /// The owner of the listener it came from: right but for servers that hand sockets to others.
    Listener,
    /// The task that called connect.
    Connect,
    /// The task that called listen.
    Listen,
    /// A descriptor of the process, from `iter/task_file`.
    Files,
    /// The task that closed it.
    Close,
}

impl OwnerSource {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OwnerSource::Listener => "listener",
            OwnerSource::Connect => "connect",
            OwnerSource::Listen => "listen",
            OwnerSource::Files => "files",
            OwnerSource::Close => "close",
        }
    }
}

/// Who has the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Process, thread, names; see [`Owner::pid`].
    pub task: Actor,
    /// Descriptor, when `iter/task_file` has seen it.
    pub fd: Option<u32>,
    /// How this is known.
    pub source: OwnerSource,
}

impl Owner {
    /// The process; `None` while it can be any of several that share the listener.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        (self.task.pid != 0).then_some(self.task.pid)
    }
}

/// Time spent, and how well it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spent {
    /// Between two events of the kernel.
    Exactly(u64),
    /// From a kernel timer: right to a jiffy or, where one was in between, a tick of ours.
    About(u64),
    /// The beginning was not seen.
    AtLeast(u64),
    /// Nothing is known.
    Unknown,
}

impl Spent {
    /// A lower bound; of 0 it says nothing.
    #[must_use]
    pub const fn at_least(ns: u64) -> Spent {
        if ns == 0 { Spent::Unknown } else { Spent::AtLeast(ns) }
    }

    /// The figure, whatever it is worth.
    #[must_use]
    pub const fn ns(self) -> Option<u64> {
        match self {
            Spent::Exactly(ns) | Spent::About(ns) | Spent::AtLeast(ns) => Some(ns),
            Spent::Unknown => None,
        }
    }

    /// Whether it is between two events.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self, Spent::Exactly(_))
    }
}

/// How well a moment is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Known {
    /// An event of the kernel.
    Exactly,
    /// Derived from a timer.
    About,
    /// It was then at the latest.
    AtLatest,
    /// Not at all: a transition was missed.
    Not,
}

/// Which side closed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// We did.
    Local,
    /// The peer did.
    Remote,
    /// Nobody, or not yet, or not seen.
    None,
}

impl Ends {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Ends::Local => "local",
            Ends::Remote => "remote",
            Ends::None => "none",
        }
    }
}

/// Segments seen sent again, by kind; counting stops at the type's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retransmits {
    /// SYNs.
    pub syn: u8,
    /// SYN-ACKs.
    pub synack: u8,
    /// FINs without data.
    pub fin: u8,
    /// Data segments.
    pub data: u32,
}

/// States a connection spends time in, in the order of the JSON contract's `states`.
pub(crate) const TIMED: [TcpState; 10] = [
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
];

pub(crate) const fn timed_index(state: TcpState) -> Option<usize> {
    match state {
        TcpState::Listen => Some(0),
        TcpState::SynSent => Some(1),
        TcpState::SynRecv | TcpState::NewSynRecv => Some(2),
        TcpState::Established => Some(3),
        TcpState::FinWait1 => Some(4),
        TcpState::FinWait2 => Some(5),
        TcpState::Closing => Some(6),
        TcpState::TimeWait => Some(7),
        TcpState::CloseWait => Some(8),
        TcpState::LastAck => Some(9),
        TcpState::Close => None,
    }
}

/// What is to be told of the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: SockId,
    /// Who has it.
    pub pid: Option<u32>,
    /// The process's name; `None` where nobody is known.
    pub comm: Option<Comm>,
}

impl Peer {
    pub(crate) fn of(conn: &Connection) -> Peer {
        let owner = conn.owner.as_ref();
        Peer {
            id: conn.id,
            pid: owner.and_then(Owner::pid),
            comm: owner.map(|owner| owner.task.comm),
        }
    }
}

/// A connection or listener.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its identity.
    pub id: SockId,
    /// Its ends.
    pub tuple: Tuple,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Id of its cgroup, 0 when unknown.
    pub cgroup: u64,
    /// Its state; of a mini-socket what it stands for.
    pub state: TcpState,
    /// Which side we are.
    pub role: Role,
    /// What stands for it in the kernel.
    pub shape: Shape,
    /// Who has it.
    pub owner: Option<Owner>,
    /// The first thing known of it.
    pub born: MonoNs,
    /// Whether `born` is its beginning and nothing since was missed.
    pub complete: bool,
    /// Which side closed first.
    pub first_close: Ends,
    /// Counters, as of the last event that had them.
    pub counters: Option<Counters>,
    /// Duration of the three-way handshake, where it is known.
    pub handshake_ns: Option<u64>,
    /// Segments seen sent again.
    pub retransmits: Retransmits,
    /// How it ended; of a mini-socket how it came there.
    pub how: How,
    /// `sk_err` at the end.
    pub error: u16,
    /// The application has closed it; nobody owns it.
    pub orphan: bool,
    /// It has been accepted, or was opened by the application.
    pub accepted: bool,
    /// Time from ESTABLISHED to accept(), at most: to the first event or look that found it accepted.
    pub accept_ns: Option<u64>,
    /// When a server's connection became ESTABLISHED.
    pub(crate) established: MonoNs,
    /// Rows: what waits to be read; of a listener to be accepted.
    pub recv_queue: u32,
    /// Rows: what waits to be sent or acknowledged; of a listener the accept queue's limit.
    pub send_queue: u32,
    /// A RST was sent for it.
    pub(crate) rst_sent: bool,
    /// A RST was received for it.
    pub(crate) rst_received: bool,
    /// `enum sk_rst_reason` of the RST we sent, 0 for none.
    pub rst_reason: u16,
    /// When the present state was entered, known as well as `entered_known` says.
    pub(crate) entered: MonoNs,
    pub(crate) entered_known: Known,
    /// Time of the last event, or of a row that agreed.
    pub(crate) last: MonoNs,
    /// When the kernel's timer ends a mini-socket, or a request's fires next; 0 unknown.
    pub(crate) expires: MonoNs,
    /// Number of the last poll that saw it.
    pub(crate) seen: u32,
    /// Polls that missed it in a row.
    pub(crate) missed: u8,
    /// The other end, when it was on this machine and has ended.
    pub(crate) last_peer: Option<Peer>,
    /// Free for the view: whether its first line is held back until the port is known.
    pub held: bool,
    /// Free for the session: counted among those that something happened to.
    pub counted: bool,
    /// Some of its times are from timers, or lower bounds.
    pub approximate: bool,
    /// In CLOSE, but the RST that closed it is still to be told.
    pub(crate) resetting: bool,
    pub(crate) spent: [u64; TIMED.len()],
}

impl Connection {
    /// How long it has been in its state.
    #[must_use]
    pub fn in_state(&self, now: MonoNs) -> Spent {
        self.spent_until(now)
    }

    /// How long it lived, once it is finished; at least this when it is not complete.
    #[must_use]
    pub fn lived(&self) -> u64 {
        self.entered.since(self.born)
    }

    pub(crate) fn spent_until(&self, at: MonoNs) -> Spent {
        let ns = at.since(self.entered);
        match self.entered_known {
            Known::Exactly => Spent::Exactly(ns),
            Known::About => Spent::About(ns),
            Known::AtLatest => Spent::at_least(ns),
            Known::Not => Spent::Unknown,
        }
    }

    /// Time in each state it has been in, in the order of a life.
    pub fn states(&self) -> impl Iterator<Item = (TcpState, u64)> + '_ {
        TIMED.iter().zip(self.spent).filter(|&(_, ns)| ns != 0).map(|(&state, ns)| (state, ns))
    }

    /// Time in one state so far.
    #[must_use]
    pub fn time_in(&self, state: TcpState) -> u64 {
        timed_index(state).map_or(0, |index| self.spent[index])
    }

    /// Better knowledge of the owner replaces worse; a descriptor once seen is kept.
    pub(crate) fn learn_owner(&mut self, owner: Owner) {
        match &mut self.owner {
            Some(known) if known.source > owner.source => {}
            Some(known) => {
                let fd =
                    owner.fd.or(if known.task.pid == owner.task.pid { known.fd } else { None });
                *known = Owner { fd, ..owner };
            }
            none => *none = Some(owner),
        }
    }
}
