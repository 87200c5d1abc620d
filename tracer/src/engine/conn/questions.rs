//! Sockets of which only a look tells what becomes of them: where there are few, the kernel is asked for each, instead
//! of walking all there are.

use tracer_common::TcpState;

use crate::engine::conn::change::Change;
use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::How;
use crate::engine::conn::table::Table;
use crate::event::{Event, Shape, SockId, Tuple};
use crate::time::MonoNs;

/// Of so many times the most questions it is worth finding out whether there is one.
const WORTH: usize = 4;

/// What is asked: what has become of this socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The socket.
    pub id: SockId,
    /// Its network namespace.
    pub netns: u32,
    /// Its ends.
    pub tuple: Tuple,
    /// The interface it is bound to, 0 for none.
    pub interface: u32,
    /// What it is. Of a full one it is asked whether it has been accepted.
    pub shape: Shape,
}

impl Question {
    fn of(conn: &Connection) -> Question {
        Question {
            id: conn.id,
            netns: conn.netns,
            tuple: conn.tuple,
            interface: conn.interface(),
            shape: conn.shape,
        }
    }
}

impl Table {
    /// Whether there may be questions.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.looked_for.is_empty()
            || !self.suspected.is_empty()
            || !self.requests.is_empty()
            || !self.unaccepted.is_empty()
    }

    /// What is to be asked now, at most so many, and whether that is all which only a look tells of. Of suspects there are
    /// so many as there is room for: walks and timers tell of the others. Where even those are too many that matter most,
    /// nothing.
    #[must_use]
    pub fn questions(&self, now: MonoNs, most: usize) -> (Vec<Question>, bool) {
        if self.requests.len() > most || self.looked_for.len() > WORTH * most {
            return (Vec::new(), false);
        }
        let conn = |&index: &u32| self.conns.get(index as usize);
        let minis = self.looked_for.iter().filter_map(conn);
        let minis = minis.filter(|conn| !self.is_told(conn, now));
        let needed = minis.chain(self.requests.iter().filter_map(conn)).map(Question::of);
        let mut questions: Vec<Question> = needed.take(most.saturating_add(1)).collect();
        let Some(room) = most.checked_sub(questions.len()) else { return (Vec::new(), false) };
        let all = self.unaccepted.len() <= room;
        let others = self.unaccepted.iter().chain(&self.suspected);
        questions.extend(others.filter_map(conn).map(Question::of).take(room));
        (questions, all)
    }

    /// Whether what becomes of a FIN_WAIT2 will be told: its timer is known and has not run out, and the other end is on
    /// this machine and has its FIN still to send ([`Table::tell_peer`]).
    fn is_told(&self, conn: &Connection, now: MonoNs) -> bool {
        let timed = conn.expires != MonoNs(0) && conn.expires > now;
        timed
            && conn.state == TcpState::FinWait2
            && conn.missed == 0
            && !conn.is_doubtful()
            && self
                .peer_index(conn)
                .and_then(|peer| self.conns.get(peer as usize))
                .is_some_and(|peer| peer.shape == Shape::Full && peer.state == TcpState::CloseWait)
    }

    /// The kernel was asked for a socket: there is none of it. Of a full one: it has been accepted.
    pub(super) fn answered(&mut self, event: &Event, shape: Shape, changes: &mut Vec<Change>) {
        let ids = if shape == Shape::Mini { &self.minis } else { &self.by_id };
        let Some(index) = ids.get(&self.conns, event.id) else { return };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.shape != shape || conn.last >= event.at {
            return;
        }
        if shape == Shape::Full {
            if event.flags.has_socket && self.unaccepted.contains(&index) {
                self.accepted(index, event.at);
            }
            return;
        }
        if self.refute(index, changes) {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.missed = conn.missed.saturating_add(1);
        // No answer and no walk has ever found it: once more.
        if shape == Shape::Mini && conn.expires == MonoNs(0) && conn.missed == 1 {
            return;
        }
        self.lose(index, event.at, changes);
    }

    /// A look did not find it: it is gone by now. By its timer, if that has run out.
    pub(super) fn lose(&mut self, index: u32, now: MonoNs, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let has_timer = conn.shape != Shape::Full && conn.expires != MonoNs(0);
        let expired = has_timer && conn.expires <= now.after(2 * self.options.jiffy_ns);
        let at = match (conn.shape, conn.state) {
            _ if !expired => now,
            (Shape::Mini, TcpState::TimeWait) => self.ran_out(conn.expires).min(now),
            _ => conn.expires.min(now),
        };
        let how = match (conn.shape, conn.state) {
            // Its timer ran out before the peer's FIN came.
            (Shape::Mini, TcpState::FinWait2) if expired => How::Timeout,
            (Shape::Request, _) if expired => How::Timeout,
            _ => How::Unknown,
        };
        if conn.shape == Shape::Mini && !expired {
            self.miss_mini(index, at, changes);
        } else {
            self.vanish(index, at, how, changes);
        }
    }
}
