//! What the kernel told, typed. `decode` makes these from wire records; `conn` takes them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracer_common::TcpState;

use crate::time::MonoNs;

/// The identity of a socket: its cookie, which `ss -e` prints as `sk:` in hexadecimal. On kernels
/// without cookies in tracing programs (before 5.12) a number that [`crate::engine::conn::Identities`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SockId(pub u64);

/// Family as people see it: v4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4, or IPv6 with v4-mapped addresses.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// `ipv4` or `ipv6`, as in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// Both ends of a connection. Addresses stand as IPv6, those of IPv4 v4-mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Our address.
    pub local_addr: [u8; 16],
    /// The other side's address; unspecified for a listener.
    pub remote_addr: [u8; 16],
    /// Our port; 0 when the kernel has not chosen it.
    pub local_port: u16,
    /// The other side's port; 0 for a listener.
    pub remote_port: u16,
    /// What the addresses are shown as.
    pub family: Family,
}

impl Tuple {
    /// Our end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        socket_addr(self.local_addr, self.local_port, self.family)
    }

    /// The other end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        socket_addr(self.remote_addr, self.remote_port, self.family)
    }

    /// The same connection seen from the other end.
    #[must_use]
    pub fn reversed(&self) -> Tuple {
        Tuple {
            local_addr: self.remote_addr,
            remote_addr: self.local_addr,
            local_port: self.remote_port,
            remote_port: self.local_port,
            family: self.family,
        }
    }

    /// Whether our address is of this host's loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.local().ip().is_loopback()
    }
}

fn socket_addr(addr: [u8; 16], port: u16, family: Family) -> SocketAddr {
    let ip = match family {
        // The unspecified address of a dual-stack socket that turned out to be IPv4 is 0.0.0.0.
        Family::V4 => IpAddr::from([addr[12], addr[13], addr[14], addr[15]]),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(addr)),
    };
    SocketAddr::new(ip, port)
}

/// A process or thread name: bytes a stranger chose, at most 15 and a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(16);
        &self.0[..end]
    }

    /// A name out of the kernel: what stands behind its end is no part of it (see
    /// [`tracer_common::comm::until_nul`]).
    #[must_use]
    pub fn of_kernel(name: [u8; 16]) -> Comm {
        Comm::new(Comm(name).bytes())
    }

    /// From any bytes; what is beyond 15 is cut as the kernel does.
    #[must_use]
    pub fn new(name: &[u8]) -> Comm {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(name) {
            *to = *from;
        }
        Comm(comm)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

/// The task that made a transition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    /// Process (thread group) id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The process's name.
    pub comm: Comm,
    /// The thread's name.
    pub thread: Comm,
}

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
    /// The socket exists now, says an iterator.
    Socket(Existing),
}

/// Which of the kernel's three structs stands for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `struct tcp_sock`.
    Full,
    /// `struct tcp_request_sock`: the SYN came, the third ACK did not.
    Request,
    /// `struct tcp_timewait_sock`: the application has closed it; FIN_WAIT2 or TIME_WAIT.
    Mini,
}

/// A row of `iter/tcp`. Times are jiffies, converted by whoever knows the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Existing {
    /// State now; of a mini-socket what it stands for.
    pub state: TcpState,
    /// What stands for it.
    pub shape: Shape,
    /// Inode of the socket's file, 0 for none.
    pub inode: u64,
    /// Owner of the socket.
    pub uid: u32,
    /// Unread bytes; of a listener, connections not accepted.
    pub recv_queue: u32,
    /// Unacknowledged or unsent bytes; of a listener, the accept queue's limit.
    pub send_queue: u32,
    /// Jiffies since data came in.
    pub since_received: u32,
    /// Jiffies since data went out.
    pub since_sent: u32,
    /// Jiffies since an ACK came in.
    pub since_ack: u32,
    /// Jiffies until the timer of a mini-socket or request.
    pub timer: u32,
    /// Times the head of the queue, or the SYN-ACK, was sent again without an answer.
    pub unanswered: u32,
    /// Window or keepalive probes without an answer.
    pub probes: u8,
    /// Of a request: the third ACK came, and TCP_DEFER_ACCEPT set it aside. Of a listener: it has that
    /// option.
    pub deferred: bool,
}

/// A descriptor that holds a socket, says `iter/task_file`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Which socket.
    pub id: SockId,
    /// Its address, where that is all the row has, else 0.
    pub address: u64,
    /// Process.
    pub pid: u32,
    /// Descriptor.
    pub fd: u32,
    /// The process's name.
    pub comm: Comm,
    /// Start of the process, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// When the row was made.
    pub at: MonoNs,
    /// The socket's state; `None`: not told.
    pub state: Option<TcpState>,
    /// Inode of its network namespace.
    pub netns: u32,
    /// It has a local port.
    pub bound: bool,
    /// It has a remote port: it is connected, or was and has not been disconnected.
    pub connected: bool,
}

/// Where events were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LossCause {
    /// The ring buffer was full.
    Ring,
    /// The kernel skipped a program that was already running on that CPU.
    Recursion,
    /// The connection table was full.
    Table,
    /// A record made no sense.
    Malformed,
}

impl LossCause {
    /// All, in the order of their figures in summaries.
    pub const ALL: [LossCause; 4] =
        [LossCause::Ring, LossCause::Recursion, LossCause::Table, LossCause::Malformed];

    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            LossCause::Ring => "ring",
            LossCause::Recursion => "recursion",
            LossCause::Table => "table",
            LossCause::Malformed => "malformed",
        }
    }
}

/// Events that did not reach us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// How many.
    pub count: u64,
    /// Where.
    pub cause: LossCause,
    /// Not before this.
    pub from: MonoNs,
    /// Not after this.
    pub to: MonoNs,
}
