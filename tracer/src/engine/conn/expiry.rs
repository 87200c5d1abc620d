//! The ends of mini-sockets that need no look. A TIME_WAIT lasts TCP_TIMEWAIT_LEN, whatever becomes of the peer,
//! unless something else ends it, which events or a look tell.

use tracer_common::TcpState;

use crate::engine::conn::change::Change;
use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::How;
use crate::engine::conn::mini::TIME_WAIT_NS;
use crate::engine::conn::table::Table;
use crate::event::Shape;
use crate::time::{MonoNs, latest_ns};

/// How late the kernel may be with timers that fire: a softirq has thousands of them to do at once.
const LATE_NS: u64 = 500_000_000;

/// A socket that is asked for and of which nothing is heard for so long is not waited for.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Most ends of TIME_WAIT that are asked for after one tick: some microseconds each. The others end by their timer
/// alone.
const MOST_ASKED: usize = 500;

impl Table {
    /// A mini-socket has come to be in this state: who will tell of its end.
    pub(super) fn waits(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if conn.state == TcpState::TimeWait {
            let due = self.over_by(conn.expires);
            self.ends.add(index, due);
            if !conn.is_doubtful() {
                self.looked_for.remove(&index);
            }
        } else {
            self.looked_for.insert(index);
        }
    }

    /// When the kernel ends a TIME_WAIT whose timer is set for then: to a jiffy or two where it is known when jiffies
    /// begin, else the earliest that it may be.
    pub(super) fn ran_out(&self, expires: MonoNs) -> MonoNs {
        match self.options.jiffies {
            Some(jiffies) => jiffies.fires(expires, TIME_WAIT_NS, self.options.jiffy_ns),
            None => expires,
        }
    }

    /// When it is gone for sure.
    fn over_by(&self, expires: MonoNs) -> MonoNs {
        match self.options.jiffies {
            Some(_) => self.ran_out(expires).after(LATE_NS),
            None if self.options.minis_are_seen => {
                expires.after(latest_ns(TIME_WAIT_NS, self.options.jiffy_ns)).after(LATE_NS)
            }
            // Nobody ever sees it.
            None => expires,
        }
    }

    /// Something says that this one may be gone, or may have come to last longer: it is asked for.
    pub(super) fn suspect(&mut self, index: u32) {
        let conn = self.conns.get(index as usize);
        let waits = |conn: &Connection| {
            conn.shape == Shape::Mini && conn.state == TcpState::TimeWait && !conn.is_doubtful()
        };
        if self.options.minis_are_asked_for && conn.is_some_and(waits) {
            self.suspected.insert(index);
        }
    }

    /// Whether its timer may have been set anew without a word: a FIN that comes again does that
    /// (`tcp_timewait_state_process`), and the other end was not seen to end on this machine.
    fn may_last_longer(&self, index: u32) -> bool {
        let Some(conn) = self.conns.get(index as usize) else { return false };
        conn.last_peer().is_none() || self.peer_index(conn).is_some()
    }

    /// Ends the TIME_WAITs whose timer has run out, the earliest first. Where it may have been set anew, and there are
    /// not too many of them, the kernel is asked first.
    pub(super) fn expire(&mut self, now: MonoNs, changes: &mut Vec<Change>) {
        let mut due = std::mem::take(&mut self.due);
        self.ends.take(now, &mut due);
        let mut over = Vec::new();
        let mut asked = 0;
        for index in due.drain(..) {
            let Some(conn) = self.conns.get(index as usize) else { continue };
            if conn.shape != Shape::Mini || conn.state != TcpState::TimeWait {
                continue;
            }
            let by = self.over_by(conn.expires);
            let doubtful = conn.is_doubtful() && now < by.after(TIME_WAIT_NS);
            if now < by || doubtful {
                self.ends.add(index, by.max(now));
                continue;
            }
            let ends = self.ran_out(conn.expires);
            let patient = self.options.minis_are_asked_for && now < by.after(PATIENCE_NS);
            if patient
                && self.may_last_longer(index)
                && (asked < MOST_ASKED || self.suspected.contains(&index))
            {
                asked += usize::from(self.suspected.insert(index));
                self.ends.add(index, now);
                continue;
            }
            over.push((ends, index));
        }
        self.due = due;
        over.sort_unstable();
        over.dedup();
        for (at, index) in over {
            self.end_mini(index, at, How::Unknown, changes);
        }
    }
}
