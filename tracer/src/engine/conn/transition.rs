//! What a change of `sk_state` does to a connection.

use tracer_common::TcpState;

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::connection::{Connection, Ends, Known, Owner, OwnerSource, Role, Spent};
use crate::engine::conn::ending::ending;
use crate::engine::conn::how::How;
use crate::engine::conn::late::Spare;
use crate::engine::conn::mini::TIME_WAIT_NS;
use crate::engine::conn::table::Table;
use crate::event::{Actor, Event, Shape, SockId, What};
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

        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let half_open = conn.shape == Shape::Request;
        if half_open {
            // Whatever has transitions is a full socket.
            conn.shape = Shape::Full;
            conn.expires = MonoNs(0);
            self.requests -= 1;
        }
        let in_old = if begins {
            Spent::Unknown
        } else {
            if conn.state != old {
                // A transition in between was lost.
                conn.complete = false;
                conn.state = old;
                conn.entered_known = Known::Not;
            }
            leave(conn, event, new, &mut self.spare)
        };
        conn.state = new;
        // A request has been in SYN_RECV all along; the child that takes its place goes on with it.
        if !(begins && half_open) {
            conn.entered = event.at;
            conn.entered_known = Known::Exactly;
        }
        conn.last = event.at;
        conn.count(event.counters);
        conn.orphan = event.flags.dead;
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
        }
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

    pub(super) fn closed(
        &mut self,
        index: u32,
        event: &Event,
        old: TcpState,
        in_old: Spent,
        changes: &mut Vec<Change>,
    ) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.error = event.error;
        conn.how = ending(conn, old, event.error, event.flags);
        if conn.first_close == Ends::None {
            conn.first_close = match conn.how {
                How::RstSent | How::Aborted => Ends::Local,
                How::RstReceived | How::Refused => Ends::Remote,
                _ => Ends::None,
            };
        }
        let by_application = matches!(event.what, What::Transition { actor: Some(_), .. });
        self.leftovers.closed(conn, event, by_application);
        let at = event.at;
        let transition = |new| Change {
            at,
            conn: ConnRef(index),
            kind: Kind::Transition { old, new, in_old, ages: None },
        };
        if old == TcpState::Listen {
            self.remove_listener(index);
            changes.push(transition(TcpState::Close));
            self.remove(index, at, changes);
            return;
        }
        // tcp_time_wait makes the mini-socket, then tcp_done says CLOSE.
        let becomes_mini =
            conn.how == How::Fin && matches!(old, TcpState::FinWait2 | TcpState::Closing);
        let fin_is_in = old == TcpState::Closing || event.flags.fin_received;
        if becomes_mini && !fin_is_in && !self.options.minis_are_seen {
            conn.how = How::Unknown;
        }
        if !becomes_mini || !fin_is_in && !self.options.minis_are_seen {
            changes.push(transition(TcpState::Close));
            let how = conn.how;
            // To data that comes after close() the kernel does as to a RST (tcp_reset), and then
            // sends one.
            let data_after_close = how == How::RstReceived && event.flags.dead;
            if data_after_close {
                conn.how = How::Unknown;
            }
            let may_reset = how == How::RstSent && !conn.rst_sent || data_after_close;
            if may_reset && self.options.resets_are_seen {
                // __tcp_close and tcp_disconnect set the state, then send the RST: its event, with
                // the reason, is right behind this one.
                conn.resetting = true;
                self.resetting.push(index);
                // Whom this is the end of too keeps its place until then: it will be named.
                return;
            } else {
                conn.how = how;
                changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
                self.remove(index, at, changes);
            }
            self.tell_peer(index, at, how, changes);
            return;
        }
        // Then the walks tell; without them it is as if there was room.
        let doubtful = event.flags.time_wait_full && self.options.minis_are_seen;
        if fin_is_in {
            conn.state = TcpState::TimeWait;
            // Without rows its end is taken to come with its timer.
            conn.expires = at.after(TIME_WAIT_NS);
            if !doubtful {
                changes.push(transition(TcpState::TimeWait));
                changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
            }
        } else {
            // Not the end of FIN_WAIT2: the mini-socket waits for the peer's FIN. What was added
            // to its time is taken back, and its beginning restored.
            conn.state = TcpState::FinWait2;
            if let Some(ns) = in_old.ns() {
                conn.take_back(TcpState::FinWait2, ns, &mut self.spare);
                conn.entered = at.before(ns);
            }
            conn.entered_known = match in_old {
                Spent::Exactly(_) => Known::Exactly,
                Spent::About(_) => Known::About,
                Spent::AtLeast(_) => Known::AtLatest,
                Spent::Unknown => Known::Not,
            };
        }
        self.make_mini(index, at, changes);
        if doubtful {
            self.doubt(index, old);
        }
    }
}

/// Accounts for the state left, and for what leaving it tells.
fn leave(conn: &mut Connection, event: &Event, new: TcpState, spare: &mut Spare) -> Spent {
    let old = conn.state;
    let mut in_old = conn.spent_until(event.at);
    if new == TcpState::Established {
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
                    (Spent::About(ns), _) if conn.retransmits.synack != 0 => {
                        conn.set_handshake(ns);
                    }
                    (Spent::Exactly(_) | Spent::About(_), Some(rtt_us)) => {
                        let rtt = u64::from(rtt_us) * 1_000;
                        conn.born = event.at.before(rtt);
                        conn.set_handshake(rtt);
                        in_old = Spent::Exactly(rtt);
                    }
                    (Spent::About(ns), None) => conn.set_handshake(ns),
                    (Spent::Exactly(ns), None) => in_old = Spent::AtLeast(ns),
                    (Spent::AtLeast(_) | Spent::Unknown, _) => {}
                }
            }
            Role::Client | Role::Listener | Role::Unknown => {}
        }
    }
    match (old, new) {
        (TcpState::Established | TcpState::SynRecv, TcpState::FinWait1)
            if conn.first_close == Ends::None =>
        {
            conn.first_close = Ends::Local;
        }
        (_, TcpState::CloseWait) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Remote;
        }
        // Before us one side had closed already.
        (TcpState::FinWait1 | TcpState::FinWait2, _) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Local;
        }
        (TcpState::CloseWait | TcpState::LastAck, _) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Remote;
        }
        _ => {}
    }
    conn.add(old, in_old, spare);
    in_old
}
