//! Walks of `iter/tcp`: when one is wanted, and what its end says of the sockets it has not met.

use std::collections::BTreeSet;

use tracer_common::TcpState;

use crate::engine::conn::change::Change;
use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::How;
use crate::engine::conn::mini::TIME_WAIT_NS;
use crate::engine::conn::role::Role;
use crate::engine::conn::spent::Known;
use crate::engine::conn::table::Table;
use crate::event::{Shape, SockId};
use crate::time::MonoNs;

/// What no walk reaches, and whose timer is not known, is given up after this time: neither TIME_WAIT
/// nor an orphan's FIN_WAIT2 is that long, unless somebody set `tcp_fin_timeout` higher.
const OUT_OF_REACH_NS: u64 = 2 * TIME_WAIT_NS;

/// A timer that has run out this long ago has fired.
const OVERDUE_NS: u64 = 1_000_000_000;

/// Most sockets remembered that ended during a walk.
const MOST_GONE: usize = 1 << 18;

/// One walk of `iter/tcp` over some network namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// When the walk began: what is younger may have been missed.
    pub began: MonoNs,
    /// Network namespaces walked, sorted.
    pub netns: Vec<u32>,
    /// What was looked at.
    pub kind: PollKind,
}

/// What a walk reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollKind {
    /// Every socket: what is missing is gone.
    All,
    /// Request sockets and mini-sockets only.
    Minis,
}

impl Table {
    /// Before the rows of a walk.
    pub fn begin_poll(&mut self) {
        self.poll = self.poll.wrapping_add(1);
        self.polling = true;
        self.gone_since.clear();
        self.too_many_gone = false;
    }

    /// Whether looking at mini-sockets, requests and accept queues would tell anything: whether there
    /// are any. A FIN,
    /// a RST or a timeout may have come for each of them, and nothing else says so.
    #[must_use]
    pub fn wants_poll(&self) -> bool {
        !self.minis.is_empty() || !self.requests.is_empty() || !self.unaccepted.is_empty()
    }

    /// The network namespaces of those, sorted.
    #[must_use]
    pub fn poll_netns(&self) -> Vec<u32> {
        let waiting = self.places_of(PollKind::Minis).into_iter();
        let waiting = waiting.filter_map(|at| self.conns.get(at as usize));
        let waiting = waiting.filter(|conn| conn.shape != Shape::Full);
        let unaccepted = self.unaccepted.iter().filter_map(|&at| self.conns.get(at as usize));
        let mut netns = BTreeSet::new();
        let mut last = None;
        for conn in waiting.chain(unaccepted) {
            // Many in a row are of the same.
            if last != Some(conn.netns) {
                last = Some(conn.netns);
                netns.insert(conn.netns);
            }
        }
        netns.into_iter().collect()
    }

    /// Every walk meets what waits to be accepted: what it has not met has been accepted.
    fn end_accepts(&mut self, poll: &Poll, now: MonoNs) {
        let met = |conn: &Connection| {
            conn.seen == self.poll
                || conn.last >= poll.began
                || poll.netns.binary_search(&conn.netns).is_err()
        };
        let accepted: Vec<u32> = self
            .unaccepted
            .iter()
            .copied()
            .filter(|&index| self.conns.get(index as usize).is_some_and(|conn| !met(conn)))
            .collect();
        for index in accepted {
            self.accepted(index, now);
        }
    }

    /// After the rows of a walk, and after every event that was in the ring when it ended: what
    /// the walk should have met and did not is gone.
    ///
    /// Once is chance (a socket may change buckets under the walk), twice is gone.
    pub fn end_poll(&mut self, poll: &Poll, now: MonoNs, changes: &mut Vec<Change>) {
        self.polling = false;
        self.gone_since.clear();
        self.gone_since.shrink_to(1024);
        self.too_many_gone = false;
        self.end_accepts(poll, now);
        let mut gone = Vec::new();
        let mut out_of_reach = Vec::new();
        let mut refuted = Vec::new();
        let mut suspected = Vec::new();
        let number = self.poll;
        for index in self.places_of(poll.kind) {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            if conn.seen == number
                || conn.last >= poll.began
                || conn.state == TcpState::Close
                || (poll.kind == PollKind::Minis && conn.shape == Shape::Full)
            {
                continue;
            }
            if poll.netns.binary_search(&conn.netns).is_err() {
                if conn.shape != Shape::Full && is_over(conn, now) {
                    out_of_reach.push(index);
                }
                continue;
            }
            conn.missed += 1;
            if conn.is_doubtful() {
                // It was made before the walk, or not at all.
                refuted.push(index);
                continue;
            }
            let overdue = conn.expires != MonoNs(0) && conn.expires <= now;
            if conn.missed > 1 || (conn.shape != Shape::Full && overdue) {
                gone.push(index);
            } else if conn.shape == Shape::Request {
                // It went before its timer: a RST, or the listener closed.
                conn.expires = MonoNs(0);
            } else if conn.shape == Shape::Mini {
                suspected.push(index);
            }
        }
        for index in suspected {
            self.suspect(index);
        }
        for index in refuted {
            self.refute(index, changes);
        }
        for index in gone {
            self.lose(index, now, changes);
        }
        self.end_out_of_reach(out_of_reach, now, changes);
        self.assign_roles();
        if poll.kind == PollKind::All {
            self.share_ages();
        }
    }

    /// Their namespace was removed, which ends mini-sockets and requests without a word, or we may
    /// not enter it: their timers are all that tells of them.
    fn end_out_of_reach(&mut self, over: Vec<u32>, now: MonoNs, changes: &mut Vec<Change>) {
        for index in over {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            let at = if conn.expires == MonoNs(0) { now } else { conn.expires };
            if conn.expires == MonoNs(0) {
                conn.entered_known = Known::Not;
            }
            self.vanish(index, at, How::Unknown, changes);
        }
    }

    /// Remembers that a socket ended while a walk is under way.
    pub(crate) fn note_gone(&mut self, id: SockId) {
        if self.polling {
            if self.gone_since.len() < MOST_GONE {
                self.gone_since.insert(id);
            } else {
                self.too_many_gone = true;
            }
        }
    }

    /// Whether the row of a socket that is not in the table may be older than its end. When too many
    /// ended to remember them all, any may; the next walk tells.
    pub(super) fn may_be_gone(&self, id: SockId) -> bool {
        self.too_many_gone || self.gone_since.contains(&id)
    }

    /// Where the connections are that such a walk would have met, in order, and maybe others. There may be
    /// many full sockets beside a few mini-sockets.
    fn places_of(&self, kind: PollKind) -> Vec<u32> {
        let few = self.minis.len() < self.conns.len() / 4;
        if kind == PollKind::All || !few {
            return self.conns.iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        }
        let mut places: Vec<u32> =
            self.minis.places().chain(self.requests.iter().copied()).collect();
        places.sort_unstable();
        places
    }

    /// Connections that were there before: at a listener's port we are the server, and the other end of a server's, when it
    /// is on this machine, is the client's.
    fn assign_roles(&mut self) {
        if !std::mem::take(&mut self.roles_may_show) {
            return;
        }
        let mut unknown: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.role == Role::Unknown)
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        unknown.retain(|&index| !self.is_at_listener(index));
        for index in unknown {
            let conn = self.conns.get(index as usize);
            let peer = conn.and_then(|conn| self.peer_index(conn));
            let peer = peer.and_then(|peer| self.conns.get(peer as usize));
            let serves = peer.is_some_and(|peer| peer.role == Role::Server);
            if let Some(conn) = self.conns.get_mut(index as usize).filter(|_| serves) {
                conn.role = Role::Client;
            }
        }
    }

    /// Whether somebody listens at its port: then it is a server's.
    fn is_at_listener(&mut self, index: u32) -> bool {
        let Some(conn) = self.conns.get(index as usize) else { return false };
        if self.listener_of(conn).is_none() {
            return false;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return false };
        conn.role = Role::Server;
        // Who is to accept it.
        if !conn.accepted && conn.owner.is_none() {
            self.inherit_owner(index);
        }
        true
    }
}

/// Whether a mini-socket or request that no walk reaches is gone by now, as far as can be told.
fn is_over(conn: &Connection, now: MonoNs) -> bool {
    // A timer may be late, and a FIN that comes again sets it anew.
    if conn.expires == MonoNs(0) {
        now.since(conn.last) >= OUT_OF_REACH_NS
    } else {
        now.since(conn.expires) >= OVERDUE_NS
    }
}
