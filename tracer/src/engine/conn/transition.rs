//! What a change of `sk_state` does to a connection.

use tracer_common::TcpState;

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::How;
use crate::engine::conn::late::Spare;
use crate::engine::conn::owner::{Owner, OwnerSource};
use crate::engine::conn::role::{Ends, Role};
use crate::engine::conn::spent::{Known, Spent};
use crate::engine::conn::table::Table;
use crate::event::{Actor, Event, Shape, SockId};
use crate::time::MonoNs;

impl Table {
    pub(super) fn transition(
        &mut self,
        event: &Event,
        old: TcpState,
        new: TcpState,
        actor: Option<Actor>,
        changes: &mut Vec<Change>,
    ) {
        let begins = matches!(
            (old, new),
            (TcpState::Close, TcpState::SynSent)
                | (_, TcpState::Listen)
                | (TcpState::Listen, TcpState::SynRecv)
        );
        if event.flags.maybe_repeated && self.is_known(event.id, new) {
            return;
        }
        if old == new {
            self.closed_again(event, old, actor, changes);
            return;
        }
        let Some(index) = (if begins {
            self.begin(event, new, changes)
        } else {
            self.find_or_take_in(event, old, changes)
        }) else {
            return;
        };
        let from = if begins { None } else { Some(old) };
        let Some(in_old) = self.enter(index, event, from, new) else { return };
        self.note_user(index, event, new, actor);
        self.fill_in(index, event, changes);
        match new {
            TcpState::Listen => self.add_listener(index),
            TcpState::SynRecv if begins => self.inherit_owner(index),
            TcpState::Close => {
                self.closed(index, event, old, in_old, changes);
                return;
            }
            _ => {}
        }
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Transition { old, new, in_old, ages: event.ages },
        });
    }

    /// Puts a connection into its new state, and says how long it was in the old one. `from` is the
    /// state that the kernel says it left; `None`: it begins.
    fn enter(
        &mut self,
        index: u32,
        event: &Event,
        from: Option<TcpState>,
        new: TcpState,
    ) -> Option<Spent> {
        let conn = self.conns.get_mut(index as usize)?;
        let half_open = conn.shape == Shape::Request;
        if half_open {
            // Whatever has transitions is a full socket.
            conn.shape = Shape::Full;
            conn.expires = MonoNs(0);
            self.requests.remove(&index);
        }
        let in_old = match from {
            None => Spent::Unknown,
            Some(old) => {
                if conn.state != old {
                    // A transition in between was lost.
                    conn.complete = false;
                    self.by_state.enter(conn, old);
                    conn.entered_known = Known::Not;
                }
                leave(conn, event, new, &mut self.spare)
            }
        };
        self.by_state.enter(conn, new);
        // A request has been in SYN_RECV all along; the child that takes its place goes on with it.
        if !(from.is_none() && half_open) {
            conn.entered = event.at;
            conn.entered_known = Known::Exactly;
        }
        conn.last = event.at;
        conn.count(event.counters);
        if let Some(counters) = event.counters {
            conn.got_twice(counters.got_twice, &mut self.spare);
        }
        conn.orphan = event.flags.dead;
        Some(in_old)
    }

    /// Notes what a transition says of the application: whether it has accepted the connection, and
    /// which task acted.
    fn note_user(&mut self, index: u32, event: &Event, new: TcpState, actor: Option<Actor>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if new == TcpState::Established && conn.role == Role::Server && !conn.accepted {
            conn.waits_since(event.at);
            self.unaccepted.insert(index);
        }
        if event.flags.has_socket && !conn.accepted {
            self.accepted(index, event.at);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if let Some(task) = actor {
            let source = match new {
                TcpState::SynSent => OwnerSource::Connect,
                TcpState::Listen => OwnerSource::Listen,
                _ => OwnerSource::Close,
            };
            conn.learn_owner(Owner::new(self.tasks.share(task), None, source));
            self.learned.note(index);
        }
    }

    /// The application has it; since when, is not told.
    pub(crate) fn accepted(&mut self, index: u32, at: MonoNs) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.accepted_at(at, self.unaccepted.remove(&index));
        }
    }

    /// close() of a socket that was shut down before sets the state it has (`tcp_close_state`): no
    /// transition, but the application has let go of it.
    pub(super) fn closed_again(
        &mut self,
        event: &Event,
        state: TcpState,
        actor: Option<Actor>,
        changes: &mut Vec<Change>,
    ) {
        let index = match self.find(event, state, changes) {
            Some(index) => index,
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.last = event.at;
        if let Some(task) = actor {
            conn.learn_owner(Owner::new(self.tasks.share(task), None, OwnerSource::Close));
            self.learned.note(index);
        }
    }

    /// Whether a transition to this state has been taken in already. Of a socket that is not in the
    /// table only CLOSE can have been.
    pub(super) fn is_known(&self, id: SockId, new: TcpState) -> bool {
        match self.by_id.get(&self.conns, id).and_then(|index| self.conns.get(index as usize)) {
            Some(conn) => conn.state == new && conn.shape != Shape::Request,
            None => new == TcpState::Close,
        }
    }

    /// A socket starts a life: CLOSE->SYN_SENT, CLOSE->LISTEN or LISTEN->SYN_RECV.
    pub(super) fn begin(
        &mut self,
        event: &Event,
        new: TcpState,
        changes: &mut Vec<Change>,
    ) -> Option<u32> {
        if let Some(index) = self.by_id.get(&self.conns, event.id) {
            let conn = self.conns.get_mut(index as usize)?;
            if new == TcpState::SynRecv && conn.shape == Shape::Request {
                // The request's third ACK came: the child has its cookie.
                return Some(index);
            }
            if conn.resetting {
                self.reset_told(index, changes);
            } else {
                // Its end was lost.
                self.vanish(index, event.at, How::Unknown, changes);
            }
        }
        let role = match new {
            TcpState::SynSent => Role::Client,
            TcpState::Listen => Role::Listener,
            _ => Role::Server,
        };
        self.leftovers.forget(event.id);
        self.replace_mini(event.tuple, event.netns, event.at, changes);
        self.insert(event, new, role, Known::Exactly)
    }
}

/// Accounts for the state left, and for what leaving it tells.
fn leave(conn: &mut Connection, event: &Event, new: TcpState, spare: &mut Spare) -> Spent {
    let old = conn.state;
    let mut in_old = conn.spent_until(event.at);
    if new == TcpState::Established {
        in_old = shake_hands(conn, event, in_old);
    }
    if conn.first_close == Ends::None {
        conn.first_close = match (old, new) {
            (TcpState::Established | TcpState::SynRecv, TcpState::FinWait1) => Ends::Local,
            (_, TcpState::CloseWait) => Ends::Remote,
            // Before us one side had closed already.
            (TcpState::FinWait1 | TcpState::FinWait2, _) => Ends::Local,
            (TcpState::CloseWait | TcpState::LastAck, _) => Ends::Remote,
            _ => Ends::None,
        };
    }
    conn.add(old, in_old, spare);
    in_old
}

/// Learns how long the handshake took, and says how long the connection was in the state it leaves.
fn shake_hands(conn: &mut Connection, event: &Event, in_old: Spent) -> Spent {
    match conn.role {
        // From the first SYN on, also when both sides opened at once (SYN_SENT->SYN_RECV).
        Role::Client if conn.complete => conn.set_handshake(event.at.since(conn.born)),
        // The child socket is made when the third ACK comes: its microseconds in SYN_RECV are
        // no handshake. The first RTT sample is (tcp_synack_rtt_meas); without timestamps there
        // is none when the SYN-ACK was sent again or with a SYN cookie.
        Role::Server => {
            let sample = event.counters.and_then(|counters| counters.srtt_us);
            match (in_old, sample) {
                // With timestamps there is a sample even then, of the last SYN-ACK. The
                // request's age is known to a jiffy.
                (Spent::About(ns), _) if conn.retransmits.synack != 0 => conn.set_handshake(ns),
                (Spent::Exactly(_) | Spent::About(_), Some(rtt_us)) => {
                    let rtt = u64::from(rtt_us) * 1_000;
                    conn.born = event.at.before(rtt);
                    conn.set_handshake(rtt);
                    return Spent::Exactly(rtt);
                }
                (Spent::About(ns), None) => conn.set_handshake(ns),
                (Spent::Exactly(ns), None) => return Spent::AtLeast(ns),
                (Spent::AtLeast(_) | Spent::Unknown, _) => {}
            }
        }
        Role::Client | Role::Listener | Role::Unknown => {}
    }
    in_old
}
