//! How a connection ended, from the state it left, the socket's error and its resets.

use tracer_common::TcpState;

use crate::engine::conn::connection::Connection;
use crate::event::SocketFlags;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Both FINs were exchanged.
    Fin,
    /// We sent a RST.
    RstSent,
    /// The peer sent a RST.
    RstReceived,
    /// Retransmissions, keepalive or a FIN_WAIT2 ran out.
    Timeout,
    /// The peer answered the SYN with a RST, or ICMP said that nobody listens.
    Refused,
    /// ICMP or routing said that there is no way.
    Unreachable,
    /// We gave it up: `ss -K`, a connect that was given up, an unaccepted child.
    Aborted,
    /// It was gone when we looked.
    Unknown,
}

impl How {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            How::Fin => "fin",
            How::RstSent => "rst_sent",
            How::RstReceived => "rst_received",
            How::Timeout => "timeout",
            How::Refused => "refused",
            How::Unreachable => "unreachable",
            How::Aborted => "aborted",
            How::Unknown => "unknown",
        }
    }
}

const EPIPE: u16 = 32;
const EPROTO: u16 = 71;
const ENETDOWN: u16 = 100;
const ENETUNREACH: u16 = 101;
const ECONNABORTED: u16 = 103;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;
const EHOSTDOWN: u16 = 112;
const EHOSTUNREACH: u16 = 113;

/// How a socket that goes to CLOSE from `old` ends, in the words of the functions that set it.
pub(crate) fn ending(conn: &Connection, old: TcpState, error: u16, flags: SocketFlags) -> How {
    match error {
        ECONNREFUSED => return How::Refused,
        ETIMEDOUT => return How::Timeout,
        EHOSTUNREACH | ENETUNREACH | ENETDOWN | EHOSTDOWN | EPROTO => return How::Unreachable,
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

/// The name of an errno that sockets have.
#[must_use]
pub const fn errno_name(errno: u16) -> Option<&'static str> {
    Some(match errno {
        EPIPE => "EPIPE",
        EPROTO => "EPROTO",
        ENETDOWN => "ENETDOWN",
        ENETUNREACH => "ENETUNREACH",
        ECONNABORTED => "ECONNABORTED",
        ECONNRESET => "ECONNRESET",
        ETIMEDOUT => "ETIMEDOUT",
        ECONNREFUSED => "ECONNREFUSED",
        EHOSTDOWN => "EHOSTDOWN",
        EHOSTUNREACH => "EHOSTUNREACH",
        1 => "EPERM",
        13 => "EACCES",
        22 => "EINVAL",
        90 => "EMSGSIZE",
        92 => "ENOPROTOOPT",
        95 => "EOPNOTSUPP",
        _ => return None,
    })
}
