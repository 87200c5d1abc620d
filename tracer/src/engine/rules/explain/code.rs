//! The codes of findings.

use std::fmt;

use crate::engine::rules::RuleId;

/// What a finding is, in short: `TT101`. A rule has a code, and one more for each cause that asks for other steps. A
/// code never changes its meaning; a finding may change its code, as more becomes known of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// The peer has closed, the application has not.
    CloseWait = 101,
    /// The same, and only a child of the application has the socket.
    CloseWaitInherited = 102,
    /// The peer has closed all at one moment.
    CloseWaitRestart = 103,
    /// The peer's idle timeout has closed a pool's connections.
    CloseWaitKeepAlive = 104,
    /// Opened, idle and never used again, and more of them come.
    EstablishedIdle = 105,
    /// The connection has ended, and the descriptor was not given back.
    Closed = 106,
    /// Only the garbage collector closes.
    Collected = 107,
    /// A connect without an answer.
    SynSent = 201,
    /// Half-open connections pile up.
    SynRecv = 202,
    /// TCP_DEFER_ACCEPT waits for data.
    SynRecvDeferred = 203,
    /// Data that nobody acknowledges.
    Established = 204,
    /// The peer does not read.
    EstablishedWindow = 205,
    /// Closed here, and the FIN is not acknowledged.
    FinWait1 = 206,
    /// Closed here, and the peer does not read what was sent before.
    FinWait1Window = 207,
    /// Closed here, and the peer does not close.
    FinWait2 = 208,
    /// Both closed, and the FIN is not acknowledged.
    Closing = 209,
    /// Both closed, and the last FIN is not acknowledged.
    LastAck = 210,
    /// Nobody calls accept().
    Unaccepted = 301,
    /// The accept queue is full.
    AcceptQueue = 302,
    /// File descriptors run out.
    Fds = 303,
    /// Local ports run out.
    Ports = 304,
    /// There is no room for more TIME_WAIT sockets.
    TimeWaitOverflow = 305,
    /// Idle without keepalive.
    Idle = 401,
    /// Idle connections are reset.
    IdleReset = 402,
    /// Requests on connections that the server had closed.
    StaleReuse = 403,
    /// The flight recorder cannot write.
    Recorder = 501,
}

impl Code {
    /// All, in the order of their numbers.
    pub const ALL: [Code; 26] = [
        Code::CloseWait,
        Code::CloseWaitInherited,
        Code::CloseWaitRestart,
        Code::CloseWaitKeepAlive,
        Code::EstablishedIdle,
        Code::Closed,
        Code::Collected,
        Code::SynSent,
        Code::SynRecv,
        Code::SynRecvDeferred,
        Code::Established,
        Code::EstablishedWindow,
        Code::FinWait1,
        Code::FinWait1Window,
        Code::FinWait2,
        Code::Closing,
        Code::LastAck,
        Code::Unaccepted,
        Code::AcceptQueue,
        Code::Fds,
        Code::Ports,
        Code::TimeWaitOverflow,
        Code::Idle,
        Code::IdleReset,
        Code::StaleReuse,
        Code::Recorder,
    ];

    /// A rule's own: of its cause that is the most frequent.
    #[must_use]
    pub const fn of(rule: RuleId) -> Code {
        match rule {
            RuleId::SynSent => Code::SynSent,
            RuleId::SynRecv => Code::SynRecv,
            RuleId::Unaccepted => Code::Unaccepted,
            RuleId::Established => Code::Established,
            RuleId::FinWait1 => Code::FinWait1,
            RuleId::FinWait2 => Code::FinWait2,
            RuleId::Closing => Code::Closing,
            RuleId::CloseWait => Code::CloseWait,
            RuleId::LastAck => Code::LastAck,
            RuleId::AcceptQueue => Code::AcceptQueue,
            RuleId::Fds => Code::Fds,
            RuleId::Ports => Code::Ports,
            RuleId::Idle => Code::Idle,
            RuleId::StaleReuse => Code::StaleReuse,
            RuleId::IdleReset => Code::IdleReset,
            RuleId::EstablishedIdle => Code::EstablishedIdle,
            RuleId::Closed => Code::Closed,
            RuleId::TimeWaitOverflow => Code::TimeWaitOverflow,
            RuleId::Collected => Code::Collected,
            RuleId::Recorder => Code::Recorder,
        }
    }

    /// Its rule.
    #[must_use]
    pub const fn rule(self) -> RuleId {
        match self {
            Code::CloseWait
            | Code::CloseWaitInherited
            | Code::CloseWaitRestart
            | Code::CloseWaitKeepAlive => RuleId::CloseWait,
            Code::EstablishedIdle => RuleId::EstablishedIdle,
            Code::Closed => RuleId::Closed,
            Code::Collected => RuleId::Collected,
            Code::SynSent => RuleId::SynSent,
            Code::SynRecv | Code::SynRecvDeferred => RuleId::SynRecv,
            Code::Established | Code::EstablishedWindow => RuleId::Established,
            Code::FinWait1 | Code::FinWait1Window => RuleId::FinWait1,
            Code::FinWait2 => RuleId::FinWait2,
            Code::Closing => RuleId::Closing,
            Code::LastAck => RuleId::LastAck,
            Code::Unaccepted => RuleId::Unaccepted,
            Code::AcceptQueue => RuleId::AcceptQueue,
            Code::Fds => RuleId::Fds,
            Code::Ports => RuleId::Ports,
            Code::TimeWaitOverflow => RuleId::TimeWaitOverflow,
            Code::Idle => RuleId::Idle,
            Code::IdleReset => RuleId::IdleReset,
            Code::StaleReuse => RuleId::StaleReuse,
            Code::Recorder => RuleId::Recorder,
        }
    }

    /// Its name: that of its rule, or with the cause behind it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Code::CloseWaitInherited => "close_wait/inherited",
            Code::CloseWaitRestart => "close_wait/restart",
            Code::CloseWaitKeepAlive => "close_wait/keep_alive",
            Code::SynRecvDeferred => "syn_recv/deferred",
            Code::EstablishedWindow => "established/zero_window",
            Code::FinWait1Window => "fin_wait1/zero_window",
            other => other.rule().name(),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TT{}", *self as u16)
    }
}
