//! Mini-sockets that may not be there: where `tcp_max_tw_buckets` is reached, `tcp_time_wait` makes none
//! and the connection is over, but what it reports is the same. The record says that there may have been
//! no room; the next walk tells whether there is one. Until then nothing is said; when the run ends before
//! that walk, what the kernel reported is told.

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::connection::{Connection, Mark};
use crate::engine::conn::how::How;
use crate::engine::conn::spent::Spent;
use crate::engine::conn::table::Table;
use crate::event::Shape;
use tracer_common::TcpState;

impl Connection {
    /// Whether it has yet to be found out that there is a mini-socket of it.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.shape == Shape::Mini && self.doubt().is_some()
    }

    /// Whether its closing handshake is complete, or it was cut off: TIME_WAIT may be to come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.state {
            TcpState::Close => true,
            TcpState::TimeWait => !self.is_doubtful(),
            _ => false,
        }
    }

    /// Time in the state before, as it was added up: it was in that once.
    fn in_old(&self, old: TcpState) -> Spent {
        match self.time_in(old) {
            0 => Spent::Unknown,
            ns if !self.complete => Spent::AtLeast(ns),
            ns if self.approximate => Spent::About(ns),
            ns => Spent::Exactly(ns),
        }
    }
}

impl Table {
    /// There may be no mini-socket of this one.
    pub(super) fn doubt(&mut self, index: u32, old: TcpState) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.set_doubt(old, &mut self.spare);
            self.doubts += 1;
            self.looked_for.insert(index);
        }
    }

    /// There is one: what was held back is told.
    pub(super) fn confirm(&mut self, index: u32, changes: &mut Vec<Change>) {
        // As a rule: then the box with what is doubted is not looked into, for each row of a walk.
        if self.doubts == 0 {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let Some(old) = conn.take_doubt() else { return };
        self.doubts -= 1;
        // FIN_WAIT2 just goes on.
        if conn.state == TcpState::TimeWait {
            self.looked_for.remove(&index);
            let in_old = conn.in_old(old);
            let (at, conn) = (conn.entered, ConnRef(index));
            let kind = Kind::Transition { old, new: TcpState::TimeWait, in_old, ages: None };
            changes.push(Change { at, conn, kind });
            changes.push(Change { at, conn, kind: Kind::Finished });
        }
    }

    /// The run is over, and nobody will look any more: what the kernel reported is told, a TIME_WAIT.
    pub fn confirm_all(&mut self, changes: &mut Vec<Change>) {
        let doubtful = self.places().filter(|(_, conn)| conn.is_doubtful());
        let mut doubtful: Vec<_> = doubtful.map(|(at, conn)| (conn.entered, at)).collect();
        doubtful.sort_unstable_by_key(|&(entered, at)| (entered, at.0));
        for (_, at) in doubtful {
            self.confirm(at.0, changes);
        }
    }

    /// There is none: the connection ended then and there. Returns whether there was a doubt.
    pub(super) fn refute(&mut self, index: u32, changes: &mut Vec<Change>) -> bool {
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        let Some(old) = conn.take_doubt() else { return false };
        self.doubts -= 1;
        let (at, id) = (conn.last, conn.id);
        let waited_for_fin = conn.state == TcpState::FinWait2;
        let in_old = if waited_for_fin { conn.spent_until(at) } else { conn.in_old(old) };
        if waited_for_fin {
            conn.add(old, in_old, &mut self.spare);
        }
        self.by_state.enter(conn, TcpState::Close);
        conn.entered = at;
        conn.mark = Mark::TimeWaitOverflow;
        // The peer's FIN, when it comes, is answered with a RST.
        conn.how = if waited_for_fin { How::Aborted } else { How::Fin };
        // Nothing stands for it.
        conn.shape = Shape::Full;
        self.minis.remove(id, index);
        let conn = ConnRef(index);
        let kind = Kind::Transition { old, new: TcpState::Close, in_old, ages: None };
        changes.push(Change { at, conn, kind });
        changes.push(Change { at, conn, kind: Kind::Finished });
        self.remove(index, at, changes);
        true
    }
}
