//! What a socket says of itself: its ends, its identity, its flags, its cgroup.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use tracer_common::wire::{AF_INET, AF_INET6, flags};

use crate::layout::{Kernel, has, load};
use crate::maps::global;

/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u16 = 6;
/// Bits of `sk_flags` (`enum sock_flags`).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SOCK_KEEPOPEN: u64 = 1 << 3;
/// Bits of `sk_shutdown`.
const RCV_SHUTDOWN: u64 = 1;
const SEND_SHUTDOWN: u64 = 2;

/// Who talks to whom, read from a `struct sock_common`.
pub struct Endpoints {
    pub netns: u32,
    pub family: u16,
    pub local_port: u16,
    pub remote_port: u16,
    /// As stored: of IPv4 the first four bytes.
    pub local: [u64; 2],
    /// As stored: of IPv4 the first four bytes.
    pub remote: [u64; 2],
}

impl Endpoints {
    /// From any of `struct sock`, `request_sock`, `inet_timewait_sock`; `None` when not IP.
    #[inline(always)]
    pub fn read(common: Kernel) -> Option<Self> {
        if is_ip(common) { Some(Self::of_ip(common)) } else { None }
    }

    /// The same, of one that [`is_ip`].
    #[inline(always)]
    pub fn of_ip(common: Kernel) -> Self {
        let family: u16 = load!(common, family);
        let (local, remote) = if family == u16::from(AF_INET6) {
            (
                [load!(common, v6_rcv_saddr), load!(common, v6_rcv_saddr, 8)],
                [load!(common, v6_daddr), load!(common, v6_daddr, 8)],
            )
        } else {
            let local: u32 = load!(common, rcv_saddr);
            let remote: u32 = load!(common, daddr);
            ([u64::from(local), 0], [u64::from(remote), 0])
        };
        let net: Kernel = load!(common, net);
        let dport: u16 = load!(common, dport);
        Self {
            netns: load!(net, net_inum),
            family,
            local_port: load!(common, num),
            remote_port: u16::from_be(dport),
            local,
            remote,
        }
    }
}

/// Whether a `struct sock_common` is of IPv4, or of IPv6 in a kernel that has it.
#[inline(always)]
pub fn is_ip(common: Kernel) -> bool {
    let family: u16 = load!(common, family);
    family == u16::from(AF_INET) || family == u16::from(AF_INET6) && has!(v6_daddr)
}

/// Whether it has the other end's port.
#[inline(always)]
pub fn has_peer(common: Kernel) -> bool {
    let dport: u16 = load!(common, dport);
    dport != 0
}

/// Whether this full socket is TCP; MPTCP, SCTP and DCCP share the tracepoints.
#[inline(always)]
pub fn is_tcp(sk: Kernel) -> bool {
    let protocol: u16 = load!(sk, protocol);
    protocol == IPPROTO_TCP
}

/// The socket's identity, and the flag that says what it is.
#[inline(always)]
pub fn identity(common: Kernel) -> (u64, u16) {
    if global!(SETTINGS.cookie_helper) != 0 {
        let cookie: u64 = load!(common, cookie);
        if cookie != 0 {
            return (cookie, 0);
        }
        // SAFETY: a trusted `sock_common` pointer. The helper makes the cookie.
        return (unsafe { bpf_get_socket_cookie(common.cast_mut()) }, 0);
    }
    (common as u64, flags::ID_IS_ADDRESS)
}

/// Index of the interface that a socket, request or mini-socket is bound to, 0 for none. `tcp_v6_connect`
/// and `inet6_bind` bind those of link-local addresses, `tcp_v6_init_req` what comes from one.
#[inline(always)]
pub fn interface(common: Kernel) -> u32 {
    if !has!(bound_dev_if) {
        return 0;
    }
    load!(common, bound_dev_if)
}

/// What a full socket says of itself, as bits of [`flags`].
#[inline(always)]
pub fn socket_flags(sk: Kernel) -> (u16, u8) {
    let sk_flags: u64 = load!(sk, flags);
    let shutdown: u8 = load!(sk, shutdown);
    let socket: Kernel = load!(sk, socket);
    // Moved, not tested: see `States`.
    let mut bits = moved(sk_flags, SOCK_DEAD, flags::DEAD)
        | moved(sk_flags, SOCK_DONE, flags::DONE)
        | moved(sk_flags, SOCK_KEEPOPEN, flags::KEEPALIVE)
        | moved(u64::from(shutdown), RCV_SHUTDOWN, flags::RCV_SHUTDOWN)
        | moved(u64::from(shutdown), SEND_SHUTDOWN, flags::SEND_SHUTDOWN);
    if !socket.is_null() {
        bits |= flags::HAS_SOCKET;
    }
    (bits, shutdown)
}

/// The bit `from` of `bits`, as the bit `to`.
#[inline(always)]
fn moved(bits: u64, from: u64, to: u16) -> u16 {
    ((bits >> from.trailing_zeros()) as u16 & 1) << to.trailing_zeros()
}

/// Id of the cgroup the socket was made in, 0 when this kernel does not say.
#[inline(always)]
pub fn cgroup_id(sk: Kernel) -> u64 {
    if !has!(cgroup) {
        return 0;
    }
    let cgroup: Kernel = load!(sk, cgroup);
    if cgroup.is_null() {
        return 0;
    }
    let node: Kernel = load!(cgroup, cgroup_kn);
    load!(node, kn_id)
}
