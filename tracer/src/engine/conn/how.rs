//! How a connection can end, why it was never established, and the names of the errors sockets have.

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
    /// All.
    pub const ALL: [How; 8] = [
        How::Fin,
        How::RstSent,
        How::RstReceived,
        How::Timeout,
        How::Refused,
        How::Unreachable,
        How::Aborted,
        How::Unknown,
    ];

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

/// Why a connect, or on the server's side a handshake, failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failed {
    /// A RST answered the SYN, or ICMP said that nobody listens.
    Refused,
    /// Nothing answered: the SYNs, or SYN-ACKs, ran out, or `TCP_USER_TIMEOUT` did.
    Timeout,
    /// ICMP, or a route, said that there is no way, or that it is not allowed.
    Unreachable,
    /// A RST, not to the SYN but later in the handshake.
    Reset,
    /// The program closed the socket, or exited, while the handshake was under way.
    GivenUp,
    /// No local port was free (EADDRNOTAVAIL); no SYN was sent.
    NoPort,
    /// Ended from outside: `ss -K`, the kernel out of memory.
    Aborted,
    /// A half-open connection that was gone when we looked.
    Unknown,
}

impl Failed {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Failed::Refused => "refused",
            Failed::Timeout => "timeout",
            Failed::Unreachable => "unreachable",
            Failed::Reset => "reset",
            Failed::GivenUp => "given_up",
            Failed::NoPort => "no_port",
            Failed::Aborted => "aborted",
            Failed::Unknown => "unknown",
        }
    }
}

pub(super) const EACCES: u16 = 13;
pub(super) const EPIPE: u16 = 32;
pub(super) const ENONET: u16 = 64;
pub(super) const EPROTO: u16 = 71;
pub(super) const ENOPROTOOPT: u16 = 92;
pub(super) const EOPNOTSUPP: u16 = 95;
pub(super) const ENETDOWN: u16 = 100;
pub(super) const ENETUNREACH: u16 = 101;
pub(super) const ECONNABORTED: u16 = 103;
pub(super) const ECONNRESET: u16 = 104;
pub(super) const ETIMEDOUT: u16 = 110;
pub(super) const ECONNREFUSED: u16 = 111;
pub(super) const EHOSTDOWN: u16 = 112;
pub(super) const EHOSTUNREACH: u16 = 113;

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
        EACCES => "EACCES",
        22 => "EINVAL",
        90 => "EMSGSIZE",
        ENONET => "ENONET",
        ENOPROTOOPT => "ENOPROTOOPT",
        EOPNOTSUPP => "EOPNOTSUPP",
        _ => return None,
    })
}
