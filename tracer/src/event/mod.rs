//! What the kernel told, typed. `decode` makes these from wire records; `conn` takes them.

mod again;
mod dropped;
mod loss;
mod row;
mod socket;
mod task;

use tracer_common::TcpState;

pub use again::{Again, Cause};
pub use dropped::{Drop, Dropped, Place, in_words as drop_in_words};
pub use loss::{Loss, LossCause};
pub use row::{Existing, Holder, Shape};
pub use socket::{Family, SockId, Tuple};
pub use task::{Actor, Comm};

use crate::time::MonoNs;

/// Counters of `struct tcp_sock`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Payload bytes sent, each counted once.
    pub bytes_sent: u64,
    /// Payload bytes received in order, each counted once.
    pub bytes_received: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; `None` without a sample.
    pub srtt_us: Option<u32>,
    /// 1 and how many segments the peer said it got twice; 0: not known.
    pub got_twice: u32,
}

/// How long before an event data last went over the connection, in jiffies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ages {
    /// Since data was last sent, again or for the first time; without any, since it was established.
    pub since_sent: u32,
    /// Since data last came; without any, since it was established.
    pub since_received: u32,
    /// Since an ACK last came; known of received RSTs, else 0.
    pub since_ack: u32,
    /// Keepalive is on.
    pub keepalive: bool,
}

impl Ages {
    /// Since data last went over it, either way, nanoseconds.
    #[must_use]
    pub fn idle_ns(self, jiffy_ns: u64) -> u64 {
        u64::from(self.since_sent.min(self.since_received)).saturating_mul(jiffy_ns)
    }
}

/// What was true of the socket when the record was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketFlags {
    /// `SOCK_DEAD`: the application has closed it.
    pub dead: bool,
    /// `SOCK_DONE`: the peer's FIN was received.
    pub fin_received: bool,
    /// It has a `struct socket`: accepted, or opened by the application.
    pub has_socket: bool,
    /// `close` was called, or both directions were shut down.
    pub shut_down: bool,
    /// Keepalive is on.
    pub keepalive: bool,
    /// It may have been reported once already: see `flags::SECOND` of the wire.
    pub maybe_repeated: bool,
    /// Of a transition that makes a mini-socket: the namespace may have had no room for one.
    pub time_wait_full: bool,
    /// The identity is a kernel address, which a later socket may have again.
    pub id_is_address: bool,
}

/// What kind of segment was sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// A client's SYN.
    Syn,
    /// A server's SYN-ACK.
    SynAck,
    /// Data.
    Data,
    /// A FIN without data.
    Fin,
}

impl Segment {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Segment::Syn => "syn",
            Segment::SynAck => "synack",
            Segment::Data => "data",
            Segment::Fin => "fin",
        }
    }
}

/// Which way a RST went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From us.
    Sent,
    /// From the peer.
    Received,
}

/// One event about one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, in the kernel.
    pub at: MonoNs,
    /// Which socket.
    pub id: SockId,
    /// Address of the kernel's socket, where the record has it, else 0: always before 5.12, and of
    /// the two transitions of a connection that was accepted from a listener.
    pub address: u64,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its ends, as far as known at that moment.
    pub tuple: Tuple,
    /// Its cgroup's id, 0 when the kernel does not say.
    pub cgroup: u64,
    /// Index of the interface it is bound to; 0 for none, and where the record does not say.
    pub interface: u32,
    /// What was true of it.
    pub flags: SocketFlags,
    /// `sk_err` as a positive errno, 0 for none.
    pub error: u16,
    /// Its counters, where the record has them.
    pub counters: Option<Counters>,
    /// How long ago data last went over it, where the record says so: one side closes an established
    /// connection, or a RST comes.
    pub ages: Option<Ages>,
    /// What happened.
    pub what: What,
}

/// What happened to a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// `sk_state` changed.
    Transition {
        /// State left.
        old: TcpState,
        /// State entered.
        new: TcpState,
        /// The task that did it, when a task did.
        actor: Option<Actor>,
    },
    /// A segment was sent again.
    Retransmit {
        /// What it was.
        segment: Segment,
        /// State of the socket.
        state: TcpState,
        /// Times this SYN-ACK was sent again; of other segments 0, the counters tell.
        times: u32,
        /// Why, and how.
        again: Again,
    },
    /// A RST was sent or received.
    Reset {
        /// Which way.
        direction: Direction,
        /// State of the socket.
        state: TcpState,
        /// `enum sk_rst_reason`, 0 for none.
        reason: u32,
    },
    /// An error was put on the socket.
    Error {
        /// State of the socket.
        state: TcpState,
    },
    /// The kernel threw a segment away. The event's socket is the one it knew, if any; its ends are those of the
    /// segment: of one that was sent its source is local, of all others its destination.
    Dropped(Drop),
    /// The socket exists now, says an iterator.
    Socket(Existing),
}
