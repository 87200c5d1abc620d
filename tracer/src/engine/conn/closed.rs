//! What follows when `sk_state` becomes CLOSE: the connection is over, a RST is still to come, or a
//! mini-socket goes on with it.

use tracer_common::TcpState;

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::ending::ending;
use crate::engine::conn::failed::failed;
use crate::engine::conn::how::How;
use crate::engine::conn::late::Peer;
use crate::engine::conn::mini::TIME_WAIT_NS;
use crate::engine::conn::role::Ends;
use crate::engine::conn::spent::{Known, Spent};
use crate::engine::conn::table::Table;
use crate::event::{Event, Shape, What};
use crate::time::MonoNs;

impl Table {
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
        let by_application = matches!(event.what, What::Transition { actor: Some(_), .. });
        conn.failed = failed(conn, old, event.error, by_application);
        if conn.first_close == Ends::None {
            conn.first_close = match conn.how {
                How::RstSent | How::Aborted => Ends::Local,
                How::RstReceived | How::Refused => Ends::Remote,
                _ => Ends::None,
            };
        }
        self.leftovers.closed(conn, event, by_application);
        if old == TcpState::Listen {
            self.remove_listener(index);
            changes.push(left(index, event, (old, TcpState::Close), in_old));
            self.remove(index, event.at, changes);
            return;
        }
        // tcp_time_wait makes the mini-socket, then tcp_done says CLOSE.
        let becomes_mini =
            conn.how == How::Fin && matches!(old, TcpState::FinWait2 | TcpState::Closing);
        let fin_is_in = old == TcpState::Closing || event.flags.fin_received;
        if becomes_mini && !fin_is_in && !self.options.minis_are_seen {
            conn.how = How::Unknown;
        }
        if becomes_mini && (fin_is_in || self.options.minis_are_seen) {
            self.goes_on_as_mini(index, event, old, in_old, changes);
        } else {
            changes.push(left(index, event, (old, TcpState::Close), in_old));
            self.is_over(index, event, changes);
        }
    }

    /// Nothing stands for it any more, unless a RST is still to be told.
    fn is_over(&mut self, index: u32, event: &Event, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let (at, how) = (event.at, conn.how);
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
        }
        conn.how = how;
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        let peer = self.remove(index, at, changes);
        self.tell_peer((index, peer), at, how, changes);
    }

    /// Nothing stands for it any more. Returns where its other end is, if that is on this machine.
    pub(super) fn remove(
        &mut self,
        index: u32,
        at: MonoNs,
        changes: &mut Vec<Change>,
    ) -> Option<u32> {
        let conn = self.conns.get(index as usize)?;
        let (id, shape) = (conn.id, conn.shape);
        self.requests.remove(&index);
        self.looked_for.remove(&index);
        self.suspected.remove(&index);
        self.unaccepted.remove(&index);
        let map = if shape == Shape::Mini { &mut self.minis } else { &mut self.by_id };
        map.remove(id, index);
        // Its place among the tuples it keeps until the views have seen it: they name the peer.
        self.dead.push(index);
        let end = Peer::of(conn);
        let peer = self.peer_index(conn);
        if let Some(other) = peer.and_then(|other| self.conns.get_mut(other as usize)) {
            other.set_last_peer(end, &mut self.spare);
        }
        self.note_gone(id);
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Gone });
        peer
    }

    /// A mini-socket stands for it, in TIME_WAIT when the peer's FIN is in, else in FIN_WAIT2.
    fn goes_on_as_mini(
        &mut self,
        index: u32,
        event: &Event,
        old: TcpState,
        in_old: Spent,
        changes: &mut Vec<Change>,
    ) {
        let at = event.at;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        // Then the walks tell; without them it is as if there was room.
        let doubtful = event.flags.time_wait_full && self.options.minis_are_seen;
        if old == TcpState::Closing || event.flags.fin_received {
            self.by_state.enter(conn, TcpState::TimeWait);
            // Without rows its end is taken to come with its timer.
            conn.expires = at.after(TIME_WAIT_NS);
            if !doubtful {
                changes.push(left(index, event, (old, TcpState::TimeWait), in_old));
                changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
            }
        } else {
            // Not the end of FIN_WAIT2: the mini-socket waits for the peer's FIN. What was added
            // to its time is taken back, and its beginning restored.
            self.by_state.enter(conn, TcpState::FinWait2);
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

fn left(index: u32, event: &Event, (old, new): (TcpState, TcpState), in_old: Spent) -> Change {
    let kind = Kind::Transition { old, new, in_old, ages: None };
    Change { at: event.at, conn: ConnRef(index), kind }
}
