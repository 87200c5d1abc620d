//! Mini-sockets: how a connection becomes one, gets its FIN, and ends; and sockets that are gone
//! without a word.

use tracer_common::TcpState;

use crate::engine::conn::ages::SAME_MOMENT_NS;
use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::failed::vanished;
use crate::engine::conn::how::How;
use crate::engine::conn::role::{Ends, Role};
use crate::engine::conn::spent::{Known, Spent};
use crate::engine::conn::table::Table;
use crate::event::{Event, Existing, Shape, Tuple};
use crate::time::MonoNs;

/// How long a mini-socket stays in TIME_WAIT (`TCP_TIMEWAIT_LEN`).
pub(crate) const TIME_WAIT_NS: u64 = 60_000_000_000;

/// How often a SYN-ACK is sent again before its request is given up, at least: less than
/// `tcp_synack_retries` where half of a queue is full, but twice (`reqsk_timer_handler`). Where the setting
/// itself is 0 or 1, that a request timed out is not known.
pub(crate) const LEAST_SYNACKS: u32 = 2;

/// Looks that are no further apart than this say when something ended.
const CLOSE_NS: u64 = 3_000_000_000;

impl Table {
    /// From here on a mini-socket stands for it.
    pub(crate) fn make_mini(&mut self, index: u32, at: MonoNs, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        self.requests.remove(&index);
        self.unaccepted.remove(&index);
        conn.shape = Shape::Mini;
        conn.orphan = true;
        let id = conn.id;
        self.note_gone(id);
        self.by_id.remove(id, index);
        if let Some(stale) = self.minis.insert(&self.conns, id, index) {
            self.end_mini(stale, at, How::Unknown, changes);
            self.minis.insert(&self.conns, id, index);
        }
        self.waits(index);
    }

    /// A row of `iter/tcp` about a mini-socket.
    pub(super) fn existing_mini(
        &mut self,
        event: &Event,
        row: &Existing,
        changes: &mut Vec<Change>,
    ) {
        let expires = event.at.after(u64::from(row.timer) * self.options.jiffy_ns);
        let poll = self.poll;
        let Some(index) = self.minis.get(&self.conns, event.id) else {
            if let Some(index) = self.by_id.get(&self.conns, event.id) {
                self.became_mini(index, event, row, expires, changes);
                return;
            }
            // Whoever is asked for is known, or has ended since.
            if !self.polling || self.may_be_gone(event.id) {
                return;
            }
            let Some(index) = self.insert(event, row.state, Role::Unknown, Known::About) else {
                return;
            };
            self.by_id.remove(event.id, index);
            self.minis.insert(&self.conns, event.id, index);
            let Some(conn) = self.conns.get_mut(index as usize) else { return };
            conn.shape = Shape::Mini;
            conn.complete = false;
            conn.orphan = true;
            conn.accepted = true;
            conn.expires = expires;
            conn.seen = poll;
            conn.first_close = Ends::Local;
            conn.how = How::Fin;
            if row.state == TcpState::TimeWait {
                conn.entered = expires.before(TIME_WAIT_NS).min(event.at);
            } else {
                self.ages_may_show = true;
                conn.entered_known = Known::AtLatest;
            }
            conn.born = conn.entered;
            self.waits(index);
            return;
        };
        self.confirm(index, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.met(poll);
        conn.last = conn.last.max(event.at);
        conn.expires = expires;
        if conn.state == TcpState::TimeWait && row.timer != 0 {
            // Its timer tells again.
            self.suspected.remove(&index);
        } else if conn.state == TcpState::FinWait2 && row.state == TcpState::TimeWait {
            // The FIN came when the timer was set to its full length.
            let at = expires.before(TIME_WAIT_NS).max(conn.entered).min(event.at);
            self.fin_received(index, at, Known::About, changes);
            if let Some(conn) = self.conns.get_mut(index as usize) {
                conn.expires = expires;
            }
        }
    }

    /// A mini-socket stands for what we take for a full socket: its last transition was lost, unless
    /// it is only just under way.
    fn became_mini(
        &mut self,
        index: u32,
        event: &Event,
        row: &Existing,
        expires: MonoNs,
        changes: &mut Vec<Change>,
    ) {
        let poll = self.poll;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.met(poll);
        let last = conn.last;
        if event.at.since(last) < SAME_MOMENT_NS || conn.role == Role::Listener || conn.resetting {
            return;
        }
        self.repair(index, event, row, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.expires = expires;
        self.make_mini(index, event.at, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.how = How::Fin;
        if row.state == TcpState::TimeWait {
            conn.entered = expires.before(TIME_WAIT_NS).max(last).min(event.at);
            conn.entered_known = Known::About;
            changes.push(Change { at: event.at, conn: ConnRef(index), kind: Kind::Finished });
        }
    }

    /// What the end of this one says of the other end, where that is a mini-socket of this machine:
    /// the ACK of our FIN means that it got it a moment ago, our RST that it is gone.
    pub(super) fn tell_peer(
        &mut self,
        (index, peer): (u32, Option<u32>),
        at: MonoNs,
        how: How,
        changes: &mut Vec<Change>,
    ) {
        let Some(peer) = peer else { return };
        let Some(other) = self.conns.get(peer as usize) else { return };
        // A FIN sent again: was it lost, or its ACK? Then the peer has had it since.
        let again = self.conns.get(index as usize).is_none_or(|conn| conn.retransmits.fin != 0);
        if other.shape == Shape::Mini && other.state == TcpState::TimeWait {
            if how == How::Fin && again {
                self.lasts_anew(peer, at);
            }
            return;
        }
        if other.shape != Shape::Mini || other.state != TcpState::FinWait2 {
            return;
        }
        // A RST is told a tick after the end that it made.
        let at = at.max(other.entered);
        match how {
            How::Fin => {
                let known = if again { Known::About } else { Known::Exactly };
                self.fin_received(peer, at, known, changes);
            }
            How::RstSent => self.end_mini(peer, at, How::RstReceived, changes),
            // To data that comes after close() a mini-socket answers with a RST, and ends
            // (tcp_timewait_state_process); no tracepoint tells of that at its side.
            How::RstReceived => self.end_mini(peer, at, How::RstSent, changes),
            _ => {}
        }
    }

    /// A FIN that comes again sets the timer anew (`tcp_timewait_state_process`): the ACK that was sent then has
    /// arrived now.
    fn lasts_anew(&mut self, index: u32, at: MonoNs) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.expires = conn.expires.max(at.after(TIME_WAIT_NS));
        }
    }

    /// A mini-socket goes from FIN_WAIT2 to TIME_WAIT.
    pub(crate) fn fin_received(
        &mut self,
        index: u32,
        at: MonoNs,
        known: Known,
        changes: &mut Vec<Change>,
    ) {
        self.confirm(index, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let in_old = match (conn.spent_until(at), known) {
            (Spent::Exactly(ns), Known::About) => Spent::About(ns),
            (other, _) => other,
        };
        conn.add(TcpState::FinWait2, in_old, &mut self.spare);
        self.by_state.enter(conn, TcpState::TimeWait);
        conn.entered = at;
        conn.entered_known = known;
        conn.last = at;
        conn.how = How::Fin;
        conn.expires = at.after(TIME_WAIT_NS);
        self.waits(index);
        changes.push(Change {
            at,
            conn: ConnRef(index),
            kind: Kind::Transition {
                old: TcpState::FinWait2,
                new: TcpState::TimeWait,
                in_old,
                ages: None,
            },
        });
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
    }

    /// A new connection with a mini-socket's ports: the kernel has ended it early (tcp_tw_reuse,
    /// or a SYN to a TIME_WAIT, `tcp_timewait_state_process`).
    pub(super) fn replace_mini(
        &mut self,
        tuple: Tuple,
        netns: u32,
        at: MonoNs,
        changes: &mut Vec<Change>,
    ) {
        if !tuple.is_whole() {
            return;
        }
        let Some(other) = self.by_tuple.get(&self.conns, &tuple, netns) else { return };
        let Some(mini) = self.conns.get(other as usize) else { return };
        let lives = mini.shape == Shape::Mini && mini.state != TcpState::Close;
        if lives && mini.tuple == tuple && mini.netns == netns {
            self.end_mini(other, at, How::Unknown, changes);
        }
    }

    /// A mini-socket is gone before its time, and nothing told of it: a RST, or somebody ended it.
    pub(super) fn miss_mini(&mut self, index: u32, at: MonoNs, changes: &mut Vec<Change>) {
        if self.refute(index, changes) {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        // Some time between two looks: when they are far apart, it lasted until the first at least.
        let met = conn.last;
        if at.since(met) <= CLOSE_NS {
            self.end_mini(index, at, How::Unknown, changes);
            return;
        }
        conn.complete = false;
        let in_old = match conn.spent_until(met) {
            Spent::Exactly(ns) | Spent::About(ns) | Spent::AtLeast(ns) => Spent::at_least(ns),
            Spent::Unknown => Spent::Unknown,
        };
        self.end_mini_after(index, (met, in_old), at, How::Unknown, changes);
    }

    /// A mini-socket is gone.
    pub(crate) fn end_mini(&mut self, index: u32, at: MonoNs, how: How, changes: &mut Vec<Change>) {
        // Nobody has seen one.
        if self.refute(index, changes) {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        // Nobody saw it go, by a timer or between two looks; but for a RST sent on this machine.
        let seen = matches!(how, How::RstSent | How::RstReceived);
        let in_old = match conn.spent_until(at) {
            Spent::Exactly(ns) if !seen => Spent::About(ns),
            other => other,
        };
        self.end_mini_after(index, (at, in_old), at, how, changes);
    }

    /// It has been in its state for so long until `end`; that is told at `at`.
    fn end_mini_after(
        &mut self,
        index: u32,
        (end, in_old): (MonoNs, Spent),
        at: MonoNs,
        how: How,
        changes: &mut Vec<Change>,
    ) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let old = conn.state;
        conn.add(old, in_old, &mut self.spare);
        self.by_state.enter(conn, TcpState::Close);
        conn.entered = end;
        conn.last = at;
        let transition = Kind::Transition { old, new: TcpState::Close, in_old, ages: None };
        changes.push(Change { at, conn: ConnRef(index), kind: transition });
        if old == TcpState::FinWait2 {
            conn.how = how;
            changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        }
        self.remove(index, at, changes);
    }

    /// A socket is gone and its last transition was not seen.
    pub(crate) fn vanish(&mut self, index: u32, at: MonoNs, how: How, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.shape == Shape::Mini {
            self.end_mini(index, at, how, changes);
            return;
        }
        let old = conn.state;
        // A request ends by its timer; of others nobody knows when.
        let timer = conn.shape == Shape::Request && how == How::Timeout;
        let end = if timer { at } else { conn.last };
        let in_old = match conn.spent_until(end) {
            spent if timer => spent,
            Spent::Exactly(ns) | Spent::About(ns) | Spent::AtLeast(ns) => Spent::at_least(ns),
            Spent::Unknown => Spent::Unknown,
        };
        conn.add(old, in_old, &mut self.spare);
        conn.complete = false;
        self.by_state.enter(conn, TcpState::Close);
        // It may have ended any time since.
        conn.entered = end;
        conn.how = how;
        conn.failed = vanished(conn, old, how);
        let is_listener = conn.role == Role::Listener;
        let transition = Kind::Transition { old, new: TcpState::Close, in_old, ages: None };
        changes.push(Change { at, conn: ConnRef(index), kind: transition });
        if is_listener {
            self.remove_listener(index);
        } else {
            changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        }
        self.remove(index, at, changes);
    }
}
