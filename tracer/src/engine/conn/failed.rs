//! Why a connection was never established.

use tracer_common::TcpState;

use crate::engine::conn::connection::{Connection, Mark};
use crate::engine::conn::how::{
    ECONNABORTED, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT, Failed, How,
};
use crate::engine::conn::role::Role;
use crate::event::Shape;

/// Why a socket failed that goes to CLOSE from `old`; `None` when its handshake was over. `by_program`: a system
/// call of its process did it.
pub(super) fn failed(
    conn: &Connection,
    old: TcpState,
    error: u16,
    by_program: bool,
) -> Option<Failed> {
    if !matches!(old, TcpState::SynSent | TcpState::SynRecv) {
        return None;
    }
    Some(match error {
        ECONNREFUSED => Failed::Refused,
        ETIMEDOUT => Failed::Timeout,
        // tcp_reset: in SYN_SENT it is ECONNREFUSED.
        ECONNRESET | EPIPE => Failed::Reset,
        // tcp_abort
        ECONNABORTED => Failed::Aborted,
        0 if conn.rst_received => Failed::Reset,
        // tcp_v4_connect sets SYN_SENT, then looks for a port (inet_hash_connect), then sends the SYN.
        0 if conn.role == Role::Client && conn.tuple.local_port == 0 => Failed::NoPort,
        0 if by_program => Failed::GivenUp,
        0 => Failed::Aborted,
        // What else ICMP and ICMPv6 become (icmp_err_convert, icmpv6_err_convert): EACCES, EHOSTUNREACH, ...
        _ => Failed::Unreachable,
    })
}

/// Why a half-open connection failed that is in no table any more. What is known of it may end at any time without
/// a word; a full socket's end was lost instead, and it may have been established.
pub(super) fn vanished(conn: &Connection, old: TcpState, how: How) -> Option<Failed> {
    let half_open = conn.shape == Shape::Request && old == TcpState::SynRecv;
    // Of a deferred one the third ACK came.
    if !half_open || conn.mark == Mark::Deferred {
        return None;
    }
    Some(if how == How::Timeout { Failed::Timeout } else { Failed::Unknown })
}
