//! The rules by name.

/// Which rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RuleId {
    /// A connect without an answer.
    SynSent,
    /// Half-open connections at a listener.
    SynRecv,
    /// Established, and the application does not accept.
    Unaccepted,
    /// Established, and nothing gets through.
    Established,
    /// Closed here, and the FIN is not acknowledged.
    FinWait1,
    /// Closed here, and the peer does not close.
    FinWait2,
    /// Both closed, and the FIN is not acknowledged.
    Closing,
    /// The peer closed, and the application does not.
    CloseWait,
    /// Both closed, and the last FIN is not acknowledged.
    LastAck,
    /// A listener's queue is full.
    AcceptQueue,
    /// A process runs out of descriptors.
    Fds,
    /// Ports towards a destination run out.
    Ports,
    /// Idle connections of which nobody can know whether the peer is there.
    Idle,
    /// A request was sent on a connection that the server had closed.
    StaleReuse,
    /// Idle connections are reset.
    IdleReset,
    /// Established, idle and never used again, and more of them come.
    EstablishedIdle,
    /// Connections that have ended, and whose descriptors were not given back.
    Closed,
    /// Connections that get no TIME_WAIT because there are too many.
    TimeWaitOverflow,
    /// Sockets that only a garbage collector closes.
    Collected,
    /// tcptrail's own flight recorder cannot write. No rule of the engine finds it: `serve` does.
    Recorder,
}

impl RuleId {
    /// All, in the order of their numbers.
    pub const ALL: [RuleId; 20] = [
        RuleId::SynSent,
        RuleId::SynRecv,
        RuleId::Unaccepted,
        RuleId::Established,
        RuleId::FinWait1,
        RuleId::FinWait2,
        RuleId::Closing,
        RuleId::CloseWait,
        RuleId::LastAck,
        RuleId::AcceptQueue,
        RuleId::Fds,
        RuleId::Ports,
        RuleId::Idle,
        RuleId::StaleReuse,
        RuleId::IdleReset,
        RuleId::EstablishedIdle,
        RuleId::Closed,
        RuleId::TimeWaitOverflow,
        RuleId::Collected,
        RuleId::Recorder,
    ];

    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RuleId::SynSent => "syn_sent",
            RuleId::SynRecv => "syn_recv",
            RuleId::Unaccepted => "unaccepted",
            RuleId::Established => "established",
            RuleId::FinWait1 => "fin_wait1",
            RuleId::FinWait2 => "fin_wait2",
            RuleId::Closing => "closing",
            RuleId::CloseWait => "close_wait",
            RuleId::LastAck => "last_ack",
            RuleId::AcceptQueue => "accept_queue",
            RuleId::Fds => "fds",
            RuleId::Ports => "ports",
            RuleId::Idle => "idle",
            RuleId::StaleReuse => "stale_reuse",
            RuleId::IdleReset => "idle_reset",
            RuleId::EstablishedIdle => "established_idle",
            RuleId::Closed => "closed",
            RuleId::TimeWaitOverflow => "time_wait_overflow",
            RuleId::Collected => "collected",
            RuleId::Recorder => "recorder",
        }
    }

    /// As `--threshold` has it.
    #[must_use]
    pub const fn threshold_name(self) -> &'static str {
        match self {
            RuleId::SynSent => "SYN_SENT",
            RuleId::SynRecv => "SYN_RECV",
            RuleId::Unaccepted => "UNACCEPTED",
            RuleId::Established => "ESTABLISHED",
            RuleId::FinWait1 => "FIN_WAIT1",
            RuleId::FinWait2 => "FIN_WAIT2",
            RuleId::Closing => "CLOSING",
            RuleId::CloseWait => "CLOSE_WAIT",
            RuleId::LastAck => "LAST_ACK",
            RuleId::AcceptQueue => "ACCEPT_QUEUE",
            RuleId::Fds => "FDS",
            RuleId::Ports => "PORTS",
            RuleId::Idle => "IDLE",
            RuleId::StaleReuse => "STALE_REUSE",
            RuleId::IdleReset => "IDLE_RESET",
            RuleId::EstablishedIdle => "ESTABLISHED_IDLE",
            RuleId::Closed => "CLOSED",
            RuleId::TimeWaitOverflow => "TIME_WAIT_OVERFLOW",
            RuleId::Collected => "COLLECTED",
            RuleId::Recorder => "RECORDER",
        }
    }
}
