//! Progress of sockets that wait for the other side: a half-closed connection over which data goes is at
//! work, whatever its state has lasted.
//!
//! Rows of walks tell. Bytes sent (each counted once, so retransmissions are none), bytes received, and a
//! send queue that gets shorter are progress. The first row of a socket has no other to compare with, but
//! the age of the last data either way.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Poll};
use crate::event::{Event, Existing, Shape, SockId};
use crate::time::MonoNs;

/// Most sockets kept: the others are judged by their events alone.
const MOST: usize = 262_144;
/// Rows count in jiffies, events in nanoseconds: what is so close together is the same moment.
const MOMENT_NS: u64 = 50_000_000;
/// A walk is due every two seconds: rows that are this late do not come.
const LATE_NS: u64 = 6_000_000_000;

/// What rows told of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    sent: u64,
    received: u64,
    send_queue: u32,
    /// When we last sent data.
    sent_at: MonoNs,
    /// When data last went over it, as far as told.
    moved: MonoNs,
    /// When the last row was made.
    at: MonoNs,
}

/// All sockets that wait for the other side.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    by_id: HashMap<SockId, Seen, FixedState>,
    /// When the last walk began.
    walked: Option<MonoNs>,
}

/// States that wait for something that data puts off.
pub(crate) const fn waits(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::CloseWait
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::Closing
            | TcpState::LastAck
    )
}

impl Progress {
    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64) {
        if row.shape != Shape::Full || !waits(row.state) {
            return;
        }
        let Some(counters) = event.counters else { return };
        // What is sent again counts as sent to the kernel.
        let since_sent = if row.unanswered == 0 { row.since_sent } else { u32::MAX };
        let since = u64::from(row.since_received.min(since_sent)).saturating_mul(jiffy_ns);
        let last_data = event.at.before(since);
        let now = Seen {
            sent: counters.bytes_sent,
            received: counters.bytes_received,
            send_queue: row.send_queue,
            sent_at: event.at.before(u64::from(row.since_sent).saturating_mul(jiffy_ns)),
            moved: last_data,
            at: event.at,
        };
        let room = self.by_id.len() < MOST;
        match self.by_id.entry(event.id) {
            std::collections::hash_map::Entry::Occupied(mut known) => {
                let before = *known.get();
                let moves = now.sent > before.sent
                    || now.received > before.received
                    || now.send_queue < before.send_queue;
                // Not before the last row, or that would have had it.
                let moved = if moves { last_data.max(before.at) } else { before.moved };
                known.insert(Seen { moved, ..now });
            }
            std::collections::hash_map::Entry::Vacant(free) if room => {
                free.insert(now);
            }
            std::collections::hash_map::Entry::Vacant(_) => {}
        }
    }

    pub(crate) fn gone(&mut self, id: SockId) {
        if !self.by_id.is_empty() {
            self.by_id.remove(&id);
        }
    }

    pub(crate) fn end_poll(&mut self, poll: &Poll) {
        self.walked = Some(poll.began);
    }

    /// When data last went over it, where that was after it entered its state.
    pub(crate) fn moved(&self, conn: &Connection) -> Option<MonoNs> {
        let seen = self.by_id.get(&conn.id)?;
        (seen.moved > conn.entered.after(MOMENT_NS)).then_some(seen.moved)
    }

    /// When we last sent data over it.
    pub(crate) fn sent_at(&self, id: SockId) -> Option<MonoNs> {
        self.by_id.get(&id).map(|seen| seen.sent_at)
    }

    /// For how long nothing had gone over it, as far as rows told; of a socket without rows for ever.
    pub(crate) fn still(&self, id: SockId, at: MonoNs) -> u64 {
        self.by_id.get(&id).map_or(u64::MAX, |seen| at.since(seen.moved))
    }

    /// Whether a row says that nothing went over it until `since` plus `threshold`; or no row will.
    pub(crate) fn confirms(&self, id: SockId, since: MonoNs, threshold: u64, now: MonoNs) -> bool {
        let due = since.after(threshold);
        let told = self.by_id.get(&id).is_some_and(|seen| seen.at >= due);
        let rows_come = self.walked.is_some_and(|at| now.since(at) < LATE_NS);
        told || !rows_come || now.since(due) >= LATE_NS
    }
}
