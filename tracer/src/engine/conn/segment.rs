//! What retransmits, RSTs and errors do to a connection.

use tracer_common::TcpState;

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::how::How;
use crate::engine::conn::mini::LEAST_SYNACKS;
use crate::engine::conn::role::Role;
use crate::engine::conn::spent::Known;
use crate::engine::conn::table::Table;
use crate::event::{Again, Direction, Event, Segment, Shape};
use crate::time::MonoNs;

impl Table {
    pub(super) fn retransmit(
        &mut self,
        event: &Event,
        (segment, again): (Segment, Again),
        state: TcpState,
        times: u32,
        changes: &mut Vec<Change>,
    ) {
        let index = match self.find(event, state, changes) {
            Some(index) => index,
            None if segment == Segment::SynAck => {
                let Some(index) = self.request(event, times) else { return };
                index
            }
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.last = event.at;
        let count = match segment {
            Segment::SynAck => {
                conn.retransmits.synack = u8::try_from(times).unwrap_or(u8::MAX);
                if conn.shape == Shape::Request && times >= LEAST_SYNACKS {
                    conn.expires = event.at.after(1_000_000_000 << times.min(16));
                }
                Some(times)
            }
            Segment::Syn => {
                conn.retransmits.syn = conn.retransmits.syn.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
            Segment::Fin => {
                conn.retransmits.fin = conn.retransmits.fin.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
            Segment::Data => {
                conn.retransmits.data = conn.retransmits.data.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
        };
        conn.count(event.counters);
        conn.sent_again(again, &mut self.spare);
        self.fill_in(index, event, changes);
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Retransmit { segment, state, count, again },
        });
    }

    /// A request socket, known since its SYN-ACK is sent again.
    ///
    /// The timer is 1 s and doubles (`reqsk_timer_handler`), so the `times`-th retransmit is
    /// 2^times - 1 s after the first SYN-ACK.
    pub(crate) fn request(&mut self, event: &Event, times: u32) -> Option<u32> {
        let index = self.insert(event, TcpState::SynRecv, Role::Server, Known::About)?;
        let age = ((1u64 << times.min(16)) - 1).saturating_mul(1_000_000_000);
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.shape = Shape::Request;
            self.requests.insert(index);
            conn.entered = event.at.before(age);
            conn.born = conn.entered;
            conn.complete = true;
        }
        self.inherit_owner(index);
        Some(index)
    }

    pub(super) fn reset(
        &mut self,
        event: &Event,
        direction: Direction,
        state: TcpState,
        reason: u32,
        changes: &mut Vec<Change>,
    ) {
        // A RST from a listener answers a segment of no connection of its own.
        if state == TcpState::Listen {
            return;
        }
        let resetting = self
            .by_id
            .get(&self.conns, event.id)
            .filter(|&index| self.conns.get(index as usize).is_some_and(|conn| conn.resetting));
        let known = resetting
            .or_else(|| self.find(event, state, changes))
            .or_else(|| self.minis.get(&self.conns, event.id));
        let index = match known {
            Some(index) => index,
            // After ->CLOSE (tcp_disconnect sets the state before it sends) it is known no more.
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        if direction == Direction::Sent || state != TcpState::Close {
            self.fill_in(index, event, changes);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match direction {
            Direction::Sent => {
                conn.rst_sent = true;
                conn.rst_reason = u8::try_from(reason).unwrap_or(0);
            }
            Direction::Received => conn.rst_received = true,
        }
        if conn.shape != Shape::Mini {
            conn.last = event.at;
            conn.count(event.counters);
        }
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Reset { direction, state, reason, ages: event.ages },
        });
        if direction == Direction::Sent && conn.shape == Shape::Mini {
            // Data came after close(): what looked like the making of a mini-socket was the end
            // (tcp_rcv_state_process, TCPABORTONDATA). Mini-sockets themselves have no such event.
            self.end_mini(index, event.at, How::RstSent, changes);
        } else if conn.resetting && direction == Direction::Sent {
            conn.how = How::RstSent;
            self.reset_told(index, changes);
        }
    }

    pub(super) fn reset_told(&mut self, index: u32, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if !std::mem::take(&mut conn.resetting) {
            return;
        }
        if conn.how == How::Unknown {
            conn.how = How::RstReceived;
        }
        let (at, how) = (conn.entered, conn.how);
        // Few wait at a time, and its place will be another's.
        self.resetting.retain(|&other| other != index);
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        let peer = self.remove(index, at, changes);
        self.tell_peer((index, peer), at, how, changes);
    }

    /// What time alone tells: connections whose RST should have been told by now end without it,
    /// and mini-sockets with their timer where no walk tells of them.
    pub fn tick(&mut self, now: MonoNs, changes: &mut Vec<Change>) {
        self.expire(now, changes);
        for index in std::mem::take(&mut self.resetting) {
            self.reset_told(index, changes);
        }
    }

    pub(super) fn error(&mut self, event: &Event) {
        if let Some(conn) = self
            .by_id
            .get(&self.conns, event.id)
            .and_then(|index| self.conns.get_mut(index as usize))
        {
            conn.error = event.error;
        }
    }
}
