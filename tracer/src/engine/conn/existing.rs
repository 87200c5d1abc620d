//! What the iterators say: sockets that were there before, request sockets, mini-sockets, holders;
//! and, after a loss, the truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracer_common::TcpState;

use crate::engine::conn::ages;
use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::connection::{
    Connection, Ends, Known, Mark, Owner, OwnerSource, Role, Spent,
};
use crate::engine::conn::how::How;
use crate::engine::conn::mini::{LEAST_SYNACKS, TIME_WAIT_NS};
use crate::engine::conn::table::Table;
use crate::event::{Actor, Comm, Event, Existing, Holder, Shape, SockId};
use crate::time::MonoNs;

/// A row and an event this close are the same moment: the tracepoint comes before the state is
/// stored, and the row's clock is read before its state.
const SAME_MOMENT_NS: u64 = 5_000_000;

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
        !self.minis.is_empty() || self.requests > 0 || !self.unaccepted.is_empty()
    }

    /// The network namespaces of those, sorted.
    #[must_use]
    pub fn poll_netns(&self) -> Vec<u32> {
        let waiting = self.places_of(PollKind::Minis).into_iter();
        let waiting = waiting.filter_map(|at| self.conns.get(at));
        let waiting = waiting.filter(|conn| conn.shape != Shape::Full);
        let unaccepted = self.unaccepted.iter().filter_map(|&at| self.conns.get(at as usize));
        let netns: BTreeSet<u32> = waiting.chain(unaccepted).map(|conn| conn.netns).collect();
        netns.into_iter().collect()
    }

    /// A row of `iter/tcp`.
    pub(crate) fn existing(&mut self, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        match row.shape {
            Shape::Mini => self.existing_mini(event, row, changes),
            Shape::Request => self.existing_request(event, row),
            Shape::Full => self.existing_full(event, row, changes),
        }
    }

    fn existing_full(&mut self, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        // A socket that is bound and not connected is nobody's business yet.
        if row.state == TcpState::Close {
            return;
        }
        let known = self.by_id.get(&self.conns, event.id);
        let known = known.and_then(|index| self.conns.get_mut(index as usize));
        if let Some(conn) = known
            && conn.last > event.at
        {
            // Older than what is known.
            conn.seen = self.poll;
            conn.missed = 0;
            return;
        }
        let index = if let Some(index) = self.find(event, row.state, changes) {
            let Some(conn) = self.conns.get(index as usize) else { return };
            if conn.state != row.state {
                if event.at.since(conn.last) < SAME_MOMENT_NS {
                    if let Some(conn) = self.conns.get_mut(index as usize) {
                        conn.seen = self.poll;
                        conn.missed = 0;
                    }
                    return;
                }
                self.repair(index, event, row, changes);
            }
            index
        } else if self.may_be_gone(event.id) {
            return;
        } else {
            let role = if row.state == TcpState::Listen {
                Role::Listener
            } else if row.state == TcpState::SynSent {
                Role::Client
            } else {
                Role::Unknown
            };
            let Some(index) = self.insert(event, row.state, role, Known::AtLatest) else { return };
            self.ages_may_show = true;
            let jiffy = self.options.jiffy_ns;
            if let Some(conn) = self.conns.get_mut(index as usize) {
                conn.entered = event.at.before(ages::at_least(row, jiffy));
                conn.born = conn.entered;
                conn.complete = false;
                conn.first_close = match row.state {
                    TcpState::FinWait1 | TcpState::FinWait2 => Ends::Local,
                    TcpState::CloseWait | TcpState::LastAck => Ends::Remote,
                    _ => Ends::None,
                };
            }
            if role == Role::Listener {
                self.note_listener(index);
            }
            self.own_by_holders(index);
            index
        };
        self.fill_in(index, event, changes);
        let poll = self.poll;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.shape == Shape::Request {
            // The event that made it a full socket was lost.
            conn.shape = Shape::Full;
            conn.expires = MonoNs(0);
            self.requests -= 1;
        }
        conn.last = conn.last.max(event.at);
        conn.seen = poll;
        conn.missed = 0;
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

    /// The table was wrong: a transition was lost.
    fn repair(&mut self, index: u32, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        let jiffy = self.options.jiffy_ns;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let old = conn.state;
        conn.complete = false;
        conn.state = row.state;
        conn.entered = event.at.before(ages::at_least(row, jiffy)).max(conn.last);
        conn.entered_known = Known::AtLatest;
        conn.last = event.at;
        if conn.first_close == Ends::None {
            conn.first_close = match row.state {
                TcpState::FinWait1 | TcpState::FinWait2 | TcpState::TimeWait => Ends::Local,
                TcpState::CloseWait | TcpState::LastAck => Ends::Remote,
                _ => Ends::None,
            };
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
            None if self.may_be_gone(event.id) => return,
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
        conn.seen = poll;
        conn.missed = 0;
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

    fn existing_mini(&mut self, event: &Event, row: &Existing, changes: &mut Vec<Change>) {
        let expires = event.at.after(u64::from(row.timer) * self.options.jiffy_ns);
        let poll = self.poll;
        let Some(index) = self.minis.get(&self.conns, event.id) else {
            if let Some(index) = self.by_id.get(&self.conns, event.id) {
                self.became_mini(index, event, row, expires, changes);
                return;
            }
            if self.may_be_gone(event.id) {
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
            return;
        };
        self.confirm(index, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.seen = poll;
        conn.missed = 0;
        conn.expires = expires;
        if conn.state == TcpState::FinWait2 && row.state == TcpState::TimeWait {
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
        conn.seen = poll;
        conn.missed = 0;
        let last = conn.last;
        if event.at.since(last) < SAME_MOMENT_NS || conn.role == Role::Listener || conn.resetting {
            return;
        }
        self.repair(index, event, row, changes);
        self.make_mini(index, event.at, changes);
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.expires = expires;
        conn.how = How::Fin;
        if row.state == TcpState::TimeWait {
            conn.entered = expires.before(TIME_WAIT_NS).max(last).min(event.at);
            conn.entered_known = Known::About;
            changes.push(Change { at: event.at, conn: ConnRef(index), kind: Kind::Finished });
        }
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
        let number = self.poll;
        let jiffy = self.options.jiffy_ns;
        for index in self.places_of(poll.kind) {
            let Some(conn) = self.conns.get_mut(index) else { continue };
            if conn.seen == number
                || conn.last >= poll.began
                || conn.state == TcpState::Close
                || (poll.kind == PollKind::Minis && conn.shape == Shape::Full)
            {
                continue;
            }
            if poll.netns.binary_search(&conn.netns).is_err() {
                if conn.shape != Shape::Full && is_over(conn, now) {
                    out_of_reach.push(u32::try_from(index).unwrap_or(u32::MAX));
                }
                continue;
            }
            conn.missed += 1;
            if conn.is_doubtful() {
                // It was made before the walk, or not at all.
                refuted.push(u32::try_from(index).unwrap_or(u32::MAX));
                continue;
            }
            let overdue = conn.expires != MonoNs(0) && conn.expires <= now;
            if conn.missed > 1 || (conn.shape != Shape::Full && overdue) {
                gone.push(u32::try_from(index).unwrap_or(u32::MAX));
            } else if conn.shape == Shape::Request {
                // It went before its timer: a RST, or the listener closed.
                conn.expires = MonoNs(0);
            }
        }
        for index in refuted {
            self.refute(index, changes);
        }
        for index in gone {
            let Some(conn) = self.conns.get(index as usize) else { continue };
            let has_timer = conn.shape != Shape::Full && conn.expires != MonoNs(0);
            let expired = has_timer && conn.expires <= now.after(2 * jiffy);
            let at = if expired { conn.expires.min(now) } else { now };
            let how = match (conn.shape, conn.state) {
                // Its timer ran out before the peer's FIN came.
                (Shape::Mini, TcpState::FinWait2) if expired => How::Timeout,
                (Shape::Request, _) if expired => How::Timeout,
                _ => How::Unknown,
            };
            self.vanish(index, at, how, changes);
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
    fn may_be_gone(&self, id: SockId) -> bool {
        self.too_many_gone || self.gone_since.contains(&id)
    }

    /// Where the connections are that such a walk would have met, in order, and maybe others. There may be
    /// many full sockets beside a few mini-sockets.
    fn places_of(&self, kind: PollKind) -> Vec<usize> {
        if kind == PollKind::All || self.requests > 0 {
            return self.conns.iter().map(|(index, _)| index).collect();
        }
        let mut places: Vec<usize> = self.minis.places().map(|index| index as usize).collect();
        places.sort_unstable();
        places
    }

    /// Ends the mini-sockets whose timer has run out, where no walk tells of them.
    pub(crate) fn expire(&mut self, now: MonoNs, changes: &mut Vec<Change>) {
        if self.options.minis_are_seen {
            return;
        }
        let mut over = Vec::new();
        for index in self.minis.places() {
            let expires = self.conns.get(index as usize).map(|conn| conn.expires);
            if let Some(expires) = expires.filter(|&expires| expires <= now) {
                over.push((expires, index));
            }
        }
        over.sort_unstable();
        for (expires, index) in over {
            self.end_mini(index, expires, How::Unknown, changes);
        }
    }

    /// Takes in the holders of all sockets: who owns what nobody was seen to open.
    pub fn set_holders(&mut self, mut holders: Vec<Holder>) {
        holders.sort_unstable_by_key(|holder| (holder.id, holder.pid, holder.fd));
        // Kernels before 5.11 walk every thread of a process.
        holders.dedup_by_key(|holder| (holder.id, holder.pid, holder.fd));
        self.leftovers.met(&holders);
        self.holders = holders;
        for at in 0..self.holders.len() {
            self.own(self.holders[at]);
        }
        // Their listeners' owners may be known only now.
        let nobodys =
            |conn: &Connection| conn.role == Role::Server && !conn.accepted && conn.owner.is_none();
        let waiting: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| nobodys(conn))
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        for index in waiting {
            self.inherit_owner(index);
        }
    }

    /// A socket that came to the table after the walk over descriptors.
    fn own_by_holders(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if let Some(&holder) = self.holders_of(conn.id).first() {
            self.own(holder);
        }
    }

    fn own(&mut self, holder: Holder) {
        let Some(index) = self.by_id.get(&self.conns, holder.id) else { return };
        let Some(conn) = self.conns.get(index as usize) else { return };
        // Who opened it owns it for as long as it has it, whoever else got it by fork.
        let keeps_it = conn.owner.as_ref().is_some_and(|owner| {
            owner.source > OwnerSource::Listener
                && owner.task.pid != holder.pid
                && self.holders_of(holder.id).iter().any(|other| other.pid == owner.task.pid)
        });
        if keeps_it {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match &mut conn.owner {
            Some(owner) if owner.task.pid == holder.pid => {
                let source = owner.source.max(OwnerSource::Files);
                *owner = Owner::new(Arc::clone(&owner.task), Some(holder.fd), source);
            }
            owner => {
                // Which of its threads, nobody tells.
                let thread = Comm::default();
                let task = Actor { pid: holder.pid, tid: 0, comm: holder.comm, thread };
                let task = self.tasks.share(task);
                *owner = Some(Owner::new(task, Some(holder.fd), OwnerSource::Files));
            }
        }
    }

    /// Connections that were there before: at a listener's port we are the server.
    fn assign_roles(&mut self) {
        if !std::mem::take(&mut self.roles_may_show) {
            return;
        }
        let unknown: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.role == Role::Unknown)
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        for index in unknown {
            let Some(conn) = self.conns.get(index as usize) else { continue };
            if self.listener_of(conn).is_none() {
                continue;
            }
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            conn.role = Role::Server;
            // Who is to accept it.
            if !conn.accepted && conn.owner.is_none() {
                self.inherit_owner(index);
            }
        }
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
