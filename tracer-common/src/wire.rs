//! The records the eBPF programs write and user space (and recordings) read.
//!
//! Integers and byte arrays only, native byte order, padding spelled out. Every offset is asserted
//! below. A recording carries [`WIRE_VERSION`], so a change here must raise it. Changes only add, and what
//! is added has a flag: records from [`OLDEST_WIRE_VERSION`] on are still understood.

use core::mem::{align_of, offset_of, size_of};

/// Raised with every change to a struct of this module.
///
/// 2: [`flags::AGES`]. The structs are those of version 1.
///
/// 3: what was padding tells more. [`HolderRow::state`], [`HolderRow::ends`], [`SocketRow::deferred`],
/// [`flags::TIME_WAIT_FULL`]: all of them 0 in older records, which stands for "not told".
///
/// 4: the interface a socket is bound to, in [`Record::pid`] and [`Record::srtt_us`], where those were 0;
/// [`crate::stack::flags::LINK`], of aarch64 only.
///
/// 5: [`RecordKind::Dropped`].
///
/// 6: [`flags::EXITING`].
///
/// 7: why a segment was sent again, see [`again`]; how many segments the peer got twice, in [`Record::detail`] of a
/// transition to CLOSE. Both are 0 in older records, which stands for "not told".
pub const WIRE_VERSION: u16 = 7;

/// The oldest version whose records can still be read.
pub const OLDEST_WIRE_VERSION: u16 = 1;

/// What a [`Record`] tells; also the index of its counter in the `DROPS` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// `inet_sock_set_state`: `old_state` -> `new_state`.
    Transition = 1,
    /// `tcp_retransmit_skb`: a segment of the socket was sent again.
    Retransmit = 2,
    /// `tcp_retransmit_synack`: a SYN-ACK of a request socket was sent again.
    RetransmitSynack = 3,
    /// `tcp_send_reset`: we sent a RST; `detail` is the kernel's reason or 0.
    ResetSent = 4,
    /// `tcp_receive_reset`: the peer's RST was accepted.
    ResetReceived = 5,
    /// `inet_sk_error_report`: `error` was put on the socket.
    Error = 6,
    /// A row of `iter/tcp`: a socket as it is now, state in `new_state`.
    Socket = 7,
    /// `kfree_skb`: the kernel threw a TCP segment away. What it was stands in `detail`, see [`dropped`].
    Dropped = 8,
}

impl RecordKind {
    /// One more than the greatest kind: the size of arrays indexed by kind.
    pub const COUNT: usize = 9;
}

/// Index in [`Drops`], where there is no kind: transitions the kernel skipped the first program
/// for and that the second one saw.
pub const COVERED: usize = 0;

/// Records lost, indexed by [`RecordKind`], and [`COVERED`].
pub type Drops = [u64; RecordKind::COUNT];

impl TryFrom<u8> for RecordKind {
    type Error = u8;

    fn try_from(number: u8) -> Result<Self, u8> {
        Ok(match number {
            1 => RecordKind::Transition,
            2 => RecordKind::Retransmit,
            3 => RecordKind::RetransmitSynack,
            4 => RecordKind::ResetSent,
            5 => RecordKind::ResetReceived,
            6 => RecordKind::Error,
            7 => RecordKind::Socket,
            8 => RecordKind::Dropped,
            other => return Err(other),
        })
    }
}

/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

/// Bits of [`Record::flags`].
pub mod flags {
    /// `id` is the address of the kernel's socket, not its cookie: before 5.12 always, and of
    /// LISTEN->SYN_RECV where the child gets its cookie only afterwards (`inet_csk_clone_lock`).
    pub const ID_IS_ADDRESS: u16 = 1;
    /// `SOCK_DEAD`: the application has closed it, nobody owns it.
    pub const DEAD: u16 = 1 << 1;
    /// `SOCK_DONE`: the peer's FIN was received (`tcp_fin`).
    pub const DONE: u16 = 1 << 2;
    /// `sk_socket` is set: accepted, or opened by the application itself.
    pub const HAS_SOCKET: u16 = 1 << 3;
    /// `RCV_SHUTDOWN` of `sk_shutdown`.
    pub const RCV_SHUTDOWN: u16 = 1 << 4;
    /// `SEND_SHUTDOWN` of `sk_shutdown`.
    pub const SEND_SHUTDOWN: u16 = 1 << 5;
    /// `pid`, `tid` and `comm` are those of the current task, and it is the one that acts.
    pub const OWNER: u16 = 1 << 6;
    /// `bytes_sent`, `bytes_received`, `retransmits` and `srtt_us` were read.
    pub const COUNTERS: u16 = 1 << 7;
    /// A row of a request socket (`struct request_sock`).
    pub const REQUEST: u16 = 1 << 8;
    /// A row of a mini-socket (`struct inet_timewait_sock`).
    pub const MINI: u16 = 1 << 9;
    /// `SOCK_KEEPOPEN`: keepalive is on.
    pub const KEEPALIVE: u16 = 1 << 10;
    /// The record has no socket of its own (a RST for a segment that found none).
    pub const NO_SOCKET: u16 = 1 << 11;
    /// Of a retransmit: the segment ends where everything written ends, so a FIN is in it if one
    /// was sent.
    pub const LAST_SEGMENT: u16 = 1 << 12;
    /// Of a transition with [`OWNER`]: that task is ending (`PF_EXITING`), so nobody closes the socket but the
    /// kernel (`exit_files`), on whichever thread ends last. From version 6 on; the bit of
    /// [`LAST_SEGMENT`].
    pub const EXITING: u16 = 1 << 12;
    /// From the program that covers for the first; it may, rarely, have been reported by both.
    pub const SECOND: u16 = 1 << 13;
    /// `detail` and `detail_more`, and of a received RST `tid`, say how long ago data last went over the
    /// connection. From version 2 on.
    pub const AGES: u16 = 1 << 14;
    /// Of FIN_WAIT2->CLOSE and CLOSING->CLOSE: the namespace had as many mini-sockets as
    /// `tcp_max_tw_buckets` allows, or one less. There may be none for this connection
    /// (`inet_twsk_alloc`).
    pub const TIME_WAIT_FULL: u16 = 1 << 15;
}

/// What [`Record::detail`] has of a [`RecordKind::Dropped`]: the reason (`enum skb_drop_reason`) in its low two
/// bytes, then one byte of where, then the flags of the TCP header. The segment's addresses are turned so that
/// local is this machine's: of one that was sent its source, of all others its destination.
/// [`Record::retransmits`] is how many like it were not told before, because there were too many in that
/// second, and [`Record::srtt_us`] its payload in bytes.
pub mod dropped {
    /// Where: on its way out, before it left.
    pub const OUTPUT: u8 = 1;
    /// Where: received, and not routed yet.
    pub const PREROUTING: u8 = 2;
    /// Where: received, for this namespace.
    pub const INPUT: u8 = 3;
    /// Where: received, on its way to somewhere else.
    pub const FORWARD: u8 = 4;

    /// Flags of the TCP header.
    pub const FIN: u8 = 1;
    /// The same.
    pub const SYN: u8 = 1 << 1;
    /// The same.
    pub const RST: u8 = 1 << 2;
    /// The same.
    pub const ACK: u8 = 1 << 4;
}

/// Why a segment was sent again: of a [`RecordKind::Retransmit`] the low byte of [`Record::detail_more`]. Its high two
/// bytes are how many segments of the path's size were sent at once (`tcp_skb_pcount`). [`Record::tid`] is the timeout
/// that the socket has now (`icsk_rto`, jiffies): of [`again::TIMEOUT`] the one that has just run out.
/// [`Record::error`] is not 0 when the segment was not sent after all (`err` of the tracepoint, 6.17 and later).
pub mod again {
    /// The retransmission timer ran out (`tcp_retransmit_timer`).
    pub const TIMEOUT: u8 = 1;
    /// Later segments were acknowledged and this one was not (`TCP_CA_Recovery`).
    pub const FAST: u8 = 2;
    /// The last segment as a probe, because no ACK came (`tcp_send_loss_probe`).
    pub const PROBE: u8 = 3;
    /// The timer had run out before, and all that was on the way then counts as lost (`TCP_CA_Loss`).
    pub const SLOW_START: u8 = 4;
    /// None of these.
    pub const OTHER: u8 = 5;
}

/// Bits of [`HolderRow::ends`].
pub mod ends {
    /// It has a local port.
    pub const BOUND: u8 = 1;
    /// It has a remote port: it is connected, or was and has not been connected anew
    /// (`tcp_disconnect` clears it).
    pub const CONNECTED: u8 = 1 << 1;
}

/// One event as it comes out of the ring buffer: 144 bytes.
///
/// Addresses stand as the socket has them: four bytes for [`AF_INET`], sixteen for [`AF_INET6`].
/// Ports are in host byte order. `comm` is what `bpf_get_current_comm` wrote, NUL-padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct Record {
    /// `bpf_ktime_get_ns`: CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// The socket cookie, or the socket's address ([`flags::ID_IS_ADDRESS`]).
    pub id: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local port, host order; 0 when not chosen yet.
    pub local_port: u16,
    /// Remote port, host order; 0 for a listener.
    pub remote_port: u16,
    /// A [`RecordKind`].
    pub kind: u8,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u8,
    /// State before (a transition), or the state now (all other kinds of the ring).
    pub old_state: u8,
    /// State after.
    pub new_state: u8,
    /// Bits of [`flags`].
    pub flags: u16,
    /// `sk_err`, a positive errno, or 0.
    pub error: u16,
    /// Local address.
    pub local_addr: [u8; 16],
    /// Remote address.
    pub remote_addr: [u8; 16],
    /// Thread group id of the acting task ([`flags::OWNER`]). Without one, from version 4 on, the index of
    /// the interface that the socket is bound to, 0 for none (`skc_bound_dev_if`): of a link-local address
    /// its zone.
    pub pid: u32,
    /// Thread id of the acting task ([`flags::OWNER`]); of a received RST with [`flags::AGES`], jiffies
    /// since an ACK last came (`rcv_tstamp`); of a retransmit see [`again`].
    pub tid: u32,
    /// Name of the acting process: its first thread's ([`flags::OWNER`]).
    pub comm: [u8; 16],
    /// Id of the socket's cgroup (version 2 hierarchy), 0 when unknown.
    pub cgroup: u64,
    /// Payload bytes sent, retransmissions not counted (`bytes_sent - bytes_retrans`).
    pub bytes_sent: u64,
    /// `tcp_sock.bytes_received`: payload bytes, and 1 for the peer's FIN.
    pub bytes_received: u64,
    /// `tcp_sock.total_retrans`; for a SYN-ACK `request_sock.num_retrans`; for drops see [`dropped`].
    pub retransmits: u32,
    /// Smoothed round-trip time in microseconds; 0 when there was no sample. With [`flags::OWNER`] and
    /// without [`flags::COUNTERS`], from version 4 on, the interface as [`Record::pid`] has it elsewhere.
    pub srtt_us: u32,
    /// A reset's reason (`enum sk_rst_reason`); of a retransmit the segment's length in sequence
    /// numbers, so that a bare FIN or SYN has 1; of a transition out of SYN_RECV, with
    /// `detail_more`, the socket's address, by which LISTEN->SYN_RECV is found
    /// ([`flags::ID_IS_ADDRESS`]); with [`flags::AGES`], jiffies since data was last sent (`lsndtime`); of any
    /// other transition to CLOSE, from version 7 on, 1 and how many segments the peer said it got twice
    /// (`dsack_dups`).
    pub detail: u32,
    /// The second four bytes of that address; with [`flags::AGES`], jiffies since data last came
    /// (`lrcvtime`); of a retransmit see [`again`]; else zero.
    pub detail_more: u32,
    /// Name of the acting thread ([`flags::OWNER`]).
    pub thread: [u8; 16],
}

/// Length of a [`Record`] that ends with its addresses: what follows is zero.
pub const UP_TO_ADDRESSES: usize = 64;
/// Length of a [`Record`] that ends with its cgroup.
pub const UP_TO_CGROUP: usize = 96;
/// Length of a [`Record`] that has everything but the thread.
pub const UP_TO_DETAIL: usize = 128;

/// One row of `iter/tcp`: 192 bytes. The record's `kind` is [`RecordKind::Socket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct SocketRow {
    /// The socket; `old_state` and `new_state` are both its state (of a mini-socket, its substate).
    pub record: Record,
    /// Inode of the socket's file, 0 when it has none.
    pub inode: u64,
    /// Bytes received and not read; of a listener, connections not accepted.
    pub recv_queue: u32,
    /// Bytes sent and not acknowledged, or not sent; of a listener, the accept queue's limit.
    pub send_queue: u32,
    /// Jiffies since data was last received.
    pub since_received: u32,
    /// Jiffies since data was last sent.
    pub since_sent: u32,
    /// Jiffies since an ACK was last received.
    pub since_ack: u32,
    /// Jiffies until the timer of a mini-socket or a request socket fires.
    pub timer: u32,
    /// Owner of the socket.
    pub uid: u32,
    /// `icsk_retransmits`: times the head of the queue was sent again without an answer.
    pub unanswered: u8,
    /// `icsk_probes_out`: window or keepalive probes without an answer.
    pub probes: u8,
    /// Of a request socket 1: the third ACK came, and TCP_DEFER_ACCEPT set it aside
    /// (`inet_rsk(req)->acked`). Of a listener: the option's value, in retransmissions
    /// (`rskq_defer_accept`).
    pub deferred: u8,
    /// Zero.
    pub pad: u8,
    /// Id of the listener of a request socket, 0 otherwise.
    pub listener: u64,
}

/// One row of `iter/task_file`: a descriptor of a process that is a TCP socket. 56 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct HolderRow {
    /// The socket, as in [`Record::id`].
    pub id: u64,
    /// `task_struct.start_boottime`: CLOCK_BOOTTIME, nanoseconds.
    pub start_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// Descriptor number.
    pub fd: u32,
    /// Name of the thread group's leader.
    pub comm: [u8; 16],
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Bits of [`flags`]: [`flags::ID_IS_ADDRESS`].
    pub flags: u16,
    /// State of the socket; 0: not told.
    pub state: u8,
    /// Bits of [`ends`].
    pub ends: u8,
    /// CLOCK_MONOTONIC, nanoseconds, when the row was made.
    pub mono_ns: u64,
}

const _: () = {
    assert!(size_of::<Record>() == 144 && align_of::<Record>() == 8);
    assert!(offset_of!(Record, mono_ns) == 0);
    assert!(offset_of!(Record, id) == 8);
    assert!(offset_of!(Record, netns) == 16);
    assert!(offset_of!(Record, local_port) == 20);
    assert!(offset_of!(Record, remote_port) == 22);
    assert!(offset_of!(Record, kind) == 24);
    assert!(offset_of!(Record, family) == 25);
    assert!(offset_of!(Record, old_state) == 26);
    assert!(offset_of!(Record, new_state) == 27);
    assert!(offset_of!(Record, flags) == 28);
    assert!(offset_of!(Record, error) == 30);
    assert!(offset_of!(Record, local_addr) == 32);
    assert!(offset_of!(Record, remote_addr) == 48);
    assert!(offset_of!(Record, pid) == 64);
    assert!(offset_of!(Record, tid) == 68);
    assert!(offset_of!(Record, comm) == 72);
    assert!(offset_of!(Record, cgroup) == 88);
    assert!(offset_of!(Record, bytes_sent) == 96);
    assert!(offset_of!(Record, bytes_received) == 104);
    assert!(offset_of!(Record, retransmits) == 112);
    assert!(offset_of!(Record, srtt_us) == 116);
    assert!(offset_of!(Record, detail) == 120);
    assert!(offset_of!(Record, detail_more) == 124);
    // Written as one number.
    assert!(offset_of!(Record, detail).is_multiple_of(8));
    assert!(offset_of!(Record, thread) == 128);
    assert!(UP_TO_ADDRESSES == offset_of!(Record, pid));
    assert!(UP_TO_CGROUP == offset_of!(Record, bytes_sent));
    assert!(UP_TO_DETAIL == offset_of!(Record, thread));

    assert!(size_of::<SocketRow>() == 192 && align_of::<SocketRow>() == 8);
    assert!(offset_of!(SocketRow, record) == 0);
    assert!(offset_of!(SocketRow, inode) == 144);
    assert!(offset_of!(SocketRow, recv_queue) == 152);
    assert!(offset_of!(SocketRow, send_queue) == 156);
    assert!(offset_of!(SocketRow, since_received) == 160);
    assert!(offset_of!(SocketRow, since_sent) == 164);
    assert!(offset_of!(SocketRow, since_ack) == 168);
    assert!(offset_of!(SocketRow, timer) == 172);
    assert!(offset_of!(SocketRow, uid) == 176);
    assert!(offset_of!(SocketRow, unanswered) == 180);
    assert!(offset_of!(SocketRow, probes) == 181);
    assert!(offset_of!(SocketRow, deferred) == 182);
    assert!(offset_of!(SocketRow, pad) == 183);
    assert!(offset_of!(SocketRow, listener) == 184);

    assert!(size_of::<HolderRow>() == 56 && align_of::<HolderRow>() == 8);
    assert!(offset_of!(HolderRow, id) == 0);
    assert!(offset_of!(HolderRow, start_ns) == 8);
    assert!(offset_of!(HolderRow, pid) == 16);
    assert!(offset_of!(HolderRow, fd) == 20);
    assert!(offset_of!(HolderRow, comm) == 24);
    assert!(offset_of!(HolderRow, netns) == 40);
    assert!(offset_of!(HolderRow, flags) == 44);
    assert!(offset_of!(HolderRow, state) == 46);
    assert!(offset_of!(HolderRow, ends) == 47);
    assert!(offset_of!(HolderRow, mono_ns) == 48);
};
