//! How a connection ended, from the state it left, the socket's error and its resets.

use tracer_common::TcpState;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::{
    EACCES, ECONNABORTED, ECONNREFUSED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH,
    ENONET, ENOPROTOOPT, EOPNOTSUPP, EPIPE, EPROTO, ETIMEDOUT, How,
};
use crate::event::SocketFlags;

/// How a socket that goes to CLOSE from `old` ends, in the words of the functions that set it.
pub(crate) fn ending(conn: &Connection, old: TcpState, error: u16, flags: SocketFlags) -> How {
    match error {
        ECONNREFUSED => return How::Refused,
        ETIMEDOUT => return How::Timeout,
        EHOSTUNREACH | ENETUNREACH | ENETDOWN | EHOSTDOWN | EPROTO => return How::Unreachable,
        // icmp_err_convert, icmpv6_err_convert
        EACCES | ENONET | ENOPROTOOPT | EOPNOTSUPP => return How::Unreachable,
        // tcp_abort
        ECONNABORTED => return How::Aborted,
        // tcp_reset; which tcp_rcv_state_process also calls when data comes after close, and then
        // it is we who answer with a RST.
        ECONNRESET | EPIPE => {
            return if conn.rst_sent && !conn.rst_received {
                How::RstSent
            } else {
                How::RstReceived
            };
        }
        _ => {}
    }
    if conn.rst_received {
        return How::RstReceived;
    }
    if conn.rst_sent {
        return How::RstSent;
    }
    match old {
        // tcp_rcv_state_process, tcp_time_wait
        TcpState::LastAck | TcpState::FinWait2 | TcpState::Closing | TcpState::TimeWait => How::Fin,
        // __tcp_close with unread data or SO_LINGER 0; inet_child_forget of an unaccepted child;
        // connect to AF_UNSPEC: all of them send a RST, after the state is set.
        TcpState::Established | TcpState::CloseWait => How::RstSent,
        TcpState::SynRecv if flags.shut_down => How::RstSent,
        // __tcp_close of a connect under way, tcp_out_of_resources, a child that was not wanted.
        TcpState::SynSent | TcpState::SynRecv | TcpState::FinWait1 => How::Aborted,
        _ => How::Unknown,
    }
}
