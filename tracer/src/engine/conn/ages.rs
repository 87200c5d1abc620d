//! Lower bounds for how long sockets have been in their state that were there before: from their last
//! segments, and from the other end where that is on this machine.

use tracer_common::TcpState;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::spent::Known;
use crate::engine::conn::table::Table;
use crate::event::Existing;
use crate::time::MonoNs;

/// A row and an event this close are the same moment: the tracepoint comes before the state is
/// stored, and the row's clock is read before its state.
pub(super) const SAME_MOMENT_NS: u64 = 5_000_000;

/// A lower bound for the time a full socket has been in its state, from its last segments.
pub(super) fn at_least(row: &Existing, jiffy_ns: u64) -> u64 {
    // A count of jiffies may be nearly one less in time.
    let ns = |jiffies: u32| u64::from(jiffies.saturating_sub(1)) * jiffy_ns;
    match row.state {
        // Every segment since is younger than the state.
        TcpState::Established => ns(row.since_received.max(row.since_sent).max(row.since_ack)),
        // The segment that brought it here carried an ACK (the peer's FIN, or the ACK of ours), so the last
        // ACK is not older than the state.
        TcpState::CloseWait | TcpState::FinWait2 | TcpState::Closing => ns(row.since_ack),
        // No timeout is shorter than the first, 1 s (TCP_TIMEOUT_INIT). Since 6.5 the first few are no
        // longer either (tcp_syn_linear_timeouts), before that each is twice the last.
        TcpState::SynSent => {
            u64::from(row.unanswered.min(16)).saturating_mul(1_000_000_000).saturating_sub(jiffy_ns)
        }
        _ => 0,
    }
}

impl Table {
    /// After a walk over everything that met sockets which were there before: what the other end gives
    /// away. Both ends enter ESTABLISHED, and CLOSE_WAIT and FIN_WAIT2, with one segment and its answer,
    /// which on one machine are not apart.
    pub(super) fn share_ages(&mut self) {
        if !std::mem::take(&mut self.ages_may_show) {
            return;
        }
        let mut older: Vec<(u32, MonoNs)> = Vec::new();
        for (index, conn) in self.conns.iter() {
            let Some(peer) = other_state(conn.state).filter(|_| is_bound(conn)).and_then(|state| {
                let peer = self.conns.get(self.peer_index(conn)? as usize)?;
                (peer.state == state && peer.entered_known != Known::Not).then_some(peer)
            }) else {
                continue;
            };
            if peer.entered < conn.entered {
                older.push((u32::try_from(index).unwrap_or(u32::MAX), peer.entered));
            }
        }
        for (index, entered) in older {
            if let Some(conn) = self.conns.get_mut(index as usize) {
                conn.entered = entered;
                conn.born = conn.born.min(entered);
            }
        }
    }
}

/// Of its state no more than the latest beginning is known.
fn is_bound(conn: &Connection) -> bool {
    conn.entered_known == Known::AtLatest
}

/// The state in which the other end came there at the same time.
const fn other_state(state: TcpState) -> Option<TcpState> {
    match state {
        TcpState::Established => Some(TcpState::Established),
        TcpState::FinWait2 => Some(TcpState::CloseWait),
        TcpState::CloseWait => Some(TcpState::FinWait2),
        _ => None,
    }
}
