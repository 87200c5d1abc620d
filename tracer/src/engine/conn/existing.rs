//! What the rows of `iter/tcp` say of full sockets and requests: those that were there before, and, after a
//! loss, the truth. Rows of mini-sockets are in `mini`.

use tracer_common::TcpState;

use crate::engine::conn::ages::{self, SAME_MOMENT_NS};
use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::connection::Mark;
use crate::engine::conn::mini::LEAST_SYNACKS;
use crate::engine::conn::role::{Ends, Role};
use crate::engine::conn::spent::{Known, Spent};
use crate::engine::conn::table::Table;
use crate::event::{Event, Existing, Shape};
use crate::time::MonoNs;

impl Table {
    /// A row of `iter/tcp`.
    pub(crate) fn existing(&mut self, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        if row.state == TcpState::Close {
            // Walks show sockets that are only bound and nobody's business yet: they are not in the table.
            self.answered(event, row.shape, changes);
            return;
        }
        match row.shape {
            Shape::Mini => self.existing_mini(event, row, changes),
            Shape::Request => self.existing_request(event, row),
            Shape::Full => self.existing_full(event, row, changes),
        }
    }

    fn existing_full(&mut self, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        let known = self.by_id.get(&self.conns, event.id);
        let known = known.and_then(|index| self.conns.get_mut(index as usize));
        if let Some(conn) = known
            && conn.last > event.at
        {
            // Older than what is known.
            conn.met(self.poll);
            return;
        }
        let index = match self.find(event, row.state, changes) {
            Some(index) if self.agrees(index, event, row, changes) => index,
            Some(_) => return,
            None => {
                let Some(index) = self.existed_before(event, row) else { return };
                index
            }
        };
        self.fill_in(index, event, changes);
        let poll = self.poll;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.shape == Shape::Request {
            // The event that made it a full socket was lost.
            conn.shape = Shape::Full;
            conn.expires = MonoNs(0);
            self.requests.remove(&index);
        }
        conn.last = conn.last.max(event.at);
        conn.met(poll);
        conn.recv_queue = row.recv_queue;
        conn.send_queue = row.send_queue;
        if row.state == TcpState::Listen {
            conn.mark = if row.deferred { Mark::Deferred } else { Mark::None };
        }
        conn.orphan = event.flags.dead;
        if event.flags.has_socket && !conn.accepted {
            self.accepted(index, event.at);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.cgroup = event.cgroup;
        conn.count(event.counters);
    }

    /// Whether the table has this state too, after a repair where it was wrong. A state that changes
    /// while the row is made says nothing.
    fn agrees(
        &mut self,
        index: u32,
        event: &Event,
        row: &Existing,
        changes: &mut Vec<Change>,
    ) -> bool {
        let poll = self.poll;
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        if conn.state == row.state {
            return true;
        }
        if event.at.since(conn.last) < SAME_MOMENT_NS {
            conn.met(poll);
            return false;
        }
        self.repair(index, event, row, changes);
        true
    }

    /// Takes in a socket that was there before, unless it may have ended since the row was made.
    fn existed_before(&mut self, event: &Event, row: &Existing) -> Option<u32> {
        if self.may_be_gone(event.id) {
            return None;
        }
        let role = match row.state {
            TcpState::Listen => Role::Listener,
            TcpState::SynSent => Role::Client,
            _ => Role::Unknown,
        };
        let index = self.insert(event, row.state, role, Known::AtLatest)?;
        self.ages_may_show = true;
        let jiffy = self.options.jiffy_ns;
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.entered = event.at.before(ages::at_least(row, jiffy));
            conn.born = conn.entered;
            conn.complete = false;
            conn.first_close = first_close(row.state);
        }
        if role == Role::Listener {
            self.note_listener(index);
        }
        self.own_by_holders(index);
        Some(index)
    }

    /// The table was wrong: a transition was lost.
    pub(super) fn repair(
        &mut self,
        index: u32,
        event: &Event,
        row: &Existing,
        changes: &mut Vec<Change>,
    ) {
        let jiffy = self.options.jiffy_ns;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let old = conn.state;
        conn.complete = false;
        self.by_state.enter(conn, row.state);
        conn.entered = event.at.before(ages::at_least(row, jiffy)).max(conn.last);
        conn.entered_known = Known::AtLatest;
        conn.last = event.at;
        if conn.first_close == Ends::None {
            conn.first_close = first_close(row.state);
        }
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Transition { old, new: row.state, in_old: Spent::Unknown, ages: None },
        });
    }

    fn existing_request(&mut self, event: &Event, row: &Existing) {
        let index = match self.by_id.get(&self.conns, event.id) {
            Some(index) => index,
            // Whoever is asked for is known, or has ended since.
            None if !self.polling || self.may_be_gone(event.id) => return,
            None => {
                let Some(index) = self.request(event, row.unanswered) else { return };
                let left = u64::from(row.timer) * self.options.jiffy_ns;
                let step = 1_000_000_000u64 << row.unanswered.min(16);
                if let Some(conn) = self.conns.get_mut(index as usize) {
                    // The timer of this step runs `step` from the last SYN-ACK.
                    let age = step.saturating_sub(left);
                    conn.entered = conn.entered.before(age);
                    conn.born = conn.entered;
                }
                index
            }
        };
        let poll = self.poll;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.met(poll);
        conn.mark = if row.deferred { Mark::Deferred } else { Mark::None };
        if conn.shape == Shape::Request {
            conn.last = conn.last.max(event.at);
            conn.retransmits.synack = u8::try_from(row.unanswered).unwrap_or(u8::MAX);
            // Before that it is not given up at its timer, but its SYN-ACK sent again.
            if row.unanswered >= LEAST_SYNACKS {
                conn.expires = event.at.after(u64::from(row.timer) * self.options.jiffy_ns);
            }
        }
    }
}

/// Who closed first, as far as the state tells.
fn first_close(state: TcpState) -> Ends {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::TimeWait => Ends::Local,
        TcpState::CloseWait | TcpState::LastAck => Ends::Remote,
        _ => Ends::None,
    }
}
