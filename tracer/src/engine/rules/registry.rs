//! Which rule goes with which state.

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};
use crate::engine::rules::id::RuleId;
use crate::engine::rules::rule::Rule;
use crate::engine::rules::{
    close_wait, closing, established, established_idle, fin_wait1, fin_wait2, last_ack, syn_recv,
    syn_sent, unaccepted,
};

/// The rule of a connection's state, if there is one for it.
pub(crate) fn rule_of(conn: &Connection) -> Option<RuleId> {
    let waits = !conn.accepted && !conn.orphan;
    match conn.state {
        TcpState::Established | TcpState::CloseWait if waits && conn.role != Role::Client => {
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
        RuleId::EstablishedIdle => &established_idle::EstablishedIdle,
        RuleId::FinWait1 => &fin_wait1::FinWait1,
        RuleId::FinWait2 => &fin_wait2::FinWait2,
        RuleId::Closing => &closing::Closing,
        RuleId::CloseWait => &close_wait::CloseWait,
        RuleId::LastAck => &last_ack::LastAck,
        RuleId::AcceptQueue
        | RuleId::Fds
        | RuleId::Ports
        | RuleId::Idle
        | RuleId::StaleReuse
        | RuleId::IdleReset
        | RuleId::Closed
        | RuleId::TimeWaitOverflow
        | RuleId::Collected
        | RuleId::Recorder => return None,
    })
}
