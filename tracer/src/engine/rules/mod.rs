//! What is stuck, whose it is, and what to do: a rule per state, and forecasts.
//!
//! Pure: no IO, no clock. [`Watch`] is fed what the table is fed, and asked with the time; it answers
//! with [`Finding`]s that appear, change and clear. What it needs to know of processes and namespaces
//! comes as [`Surroundings`].
//!
//! A socket is stuck when it is in its state for longer than the rule's threshold. Stuck sockets are
//! grouped by process, state, local port or remote endpoint, and opener. A group leaks when those that
//! outlive the threshold do not leave either (`cohort`), however many others come and go.

mod accept_queue;
mod close_wait;
mod closing;
mod cohort;
mod established;
mod fds;
mod fin_wait1;
mod fin_wait2;
mod finding;
pub mod gate;
mod give_up;
mod group;
mod growth;
mod idle;
mod last_ack;
mod ports;
mod scan;
mod surroundings;
mod syn_recv;
mod syn_sent;
mod thresholds;
mod trouble;
mod unaccepted;
mod watch;
mod words;

#[cfg(test)]
mod tests;

use tracer_common::TcpState;

pub use finding::{Finding, Forecast, Process, Sample, Severity, Update, What};
pub use gate::Gate;
pub use group::{Key, Opener, Openers, Side};
pub use surroundings::{Facts, NetnsFacts, ProcessFacts, Surroundings};
pub use thresholds::Thresholds;
pub use watch::{Needs, Options, Watch};

use crate::engine::conn::{Connection, Table};
use crate::time::MonoNs;
use group::{Cause, Group};
use trouble::Trouble;

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
}

impl RuleId {
    /// All, in the order of their numbers.
    pub const ALL: [RuleId; 13] = [
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
        }
    }
}

/// What a rule sees of one socket.
pub(crate) struct Look<'a> {
    pub(crate) table: &'a Table,
    pub(crate) conn: &'a Connection,
    /// What walks and retransmissions told of it, when it is in trouble.
    pub(crate) trouble: Option<&'a Trouble>,
    pub(crate) around: &'a Surroundings,
    pub(crate) now: MonoNs,
    /// The rule's threshold, nanoseconds.
    pub(crate) threshold: u64,
}

impl Look<'_> {
    /// Time in the state, as far as known: at least this.
    pub(crate) fn age(&self) -> Option<u64> {
        self.conn.in_state(self.now).ns()
    }

    /// For states whose last segment nobody answers: what its retransmissions took, where that is more
    /// than was seen of the state.
    pub(crate) fn age_by_backoff(&self) -> Option<u64> {
        let waited =
            self.trouble.map_or(0, |trouble| give_up::backoff_ns(trouble.unanswered.times));
        match self.age() {
            Some(age) => Some(age.max(waited)),
            None => (waited != 0).then_some(waited),
        }
    }

    /// `age` when it is beyond the threshold.
    pub(crate) fn beyond(&self, age: Option<u64>, cause: Cause) -> Option<Stuck> {
        age.filter(|&age| age >= self.threshold).map(|age| Stuck { age, cause })
    }
}

/// A socket that is stuck by a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// For how long, nanoseconds; at least.
    pub(crate) age: u64,
    pub(crate) cause: Cause,
}

/// One state's rule.
pub(crate) trait Rule: Sync {
    /// Whether this socket is stuck. Called for sockets of the rule's state only.
    fn check(&self, look: &Look<'_>) -> Option<Stuck>;
    /// What is said of a group of them; `None` when all in all it is no matter.
    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said>;
    /// What to do.
    fn advice(&self, group: &Group, about: &About<'_>) -> String;
}

/// What is known around a group.
pub(crate) struct About<'a> {
    pub(crate) table: &'a Table,
    pub(crate) around: &'a Surroundings,
    pub(crate) now: MonoNs,
    /// More of them a minute.
    pub(crate) growth: Option<f64>,
}

/// The verdict on a group.
pub(crate) struct Said {
    pub(crate) verdict: String,
    pub(crate) severity: Severity,
    pub(crate) forecast: Option<Forecast>,
}

/// The rule of a connection's state, if there is one for it.
pub(crate) fn rule_of(conn: &Connection) -> Option<RuleId> {
    let waits = !conn.accepted && !conn.orphan;
    match conn.state {
        TcpState::Established | TcpState::CloseWait
            if waits && conn.role != crate::engine::conn::Role::Client =>
        {
            Some(RuleId::Unaccepted)
        }
        TcpState::SynSent => Some(RuleId::SynSent),
        TcpState::SynRecv | TcpState::NewSynRecv => Some(RuleId::SynRecv),
        TcpState::Established => Some(RuleId::Established),
        TcpState::FinWait1 => Some(RuleId::FinWait1),
        TcpState::FinWait2 => Some(RuleId::FinWait2),
        TcpState::Closing => Some(RuleId::Closing),
        TcpState::CloseWait => Some(RuleId::CloseWait),
        TcpState::LastAck => Some(RuleId::LastAck),
        TcpState::Listen | TcpState::TimeWait | TcpState::Close => None,
    }
}

/// The rule behind an id; forecasts are no rules of a socket.
pub(crate) fn rule(id: RuleId) -> Option<&'static dyn Rule> {
    Some(match id {
        RuleId::SynSent => &syn_sent::SynSent,
        RuleId::SynRecv => &syn_recv::SynRecv,
        RuleId::Unaccepted => &unaccepted::Unaccepted,
        RuleId::Established => &established::Established,
        RuleId::FinWait1 => &fin_wait1::FinWait1,
        RuleId::FinWait2 => &fin_wait2::FinWait2,
        RuleId::Closing => &closing::Closing,
        RuleId::CloseWait => &close_wait::CloseWait,
        RuleId::LastAck => &last_ack::LastAck,
        RuleId::AcceptQueue | RuleId::Fds | RuleId::Ports | RuleId::Idle => return None,
    })
}
