//! One connection (or listener) as far as it is known.
//!
//! There may be a million of them, so what is wide and shared is behind a pointer (`Owner::task`), what
//! only few have is in a box ([`Late`]), and `tests/memory.rs` counts the bytes.

use std::num::NonZeroU64;

use tracer_common::TcpState;

use crate::engine::conn::how::{Failed, How};
use crate::engine::conn::late::{EARLY, Late, Peer, Spare, TIMED, timed_index};
use crate::engine::conn::owner::Owner;
use crate::engine::conn::role::{Ends, Role};
use crate::engine::conn::spent::{Known, Spent};
use crate::event::{Counters, Event, Shape, SockId, Tuple};
use crate::time::MonoNs;

/// Segments seen sent again, by kind; counting stops at the type's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retransmits {
    /// SYNs.
    pub syn: u8,
    /// SYN-ACKs.
    pub synack: u8,
    /// FINs without data.
    pub fin: u8,
    /// Data segments.
    pub data: u32,
}

impl Peer {
    pub(crate) fn of(conn: &Connection) -> Peer {
        let owner = conn.owner.as_ref();
        Peer {
            id: conn.id,
            pid: owner.and_then(Owner::pid),
            comm: owner.map(|owner| owner.task.comm),
            cgroup: conn.cgroup,
        }
    }
}

/// What is special about a connection or listener: at most one thing at a time, so that it takes a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// Nothing.
    None,
    /// Of a request: its third ACK came, and TCP_DEFER_ACCEPT set it aside. Of a listener: it has that
    /// option.
    Deferred,
    /// A client's port was chosen by bind, before it connected.
    BoundFirst,
    /// It is over, and the kernel made no mini-socket of it: `tcp_max_tw_buckets` was reached.
    TimeWaitOverflow,
}

/// A connect without bind chooses its port after this transition (`inet_hash_connect`).
fn begins_bound(event: &Event, state: TcpState, role: Role, known: Known) -> bool {
    let connects = state == TcpState::SynSent && role == Role::Client;
    connects && known == Known::Exactly && event.tuple.local_port != 0
}

/// A connection or listener.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its identity.
    pub id: SockId,
    /// Its ends.
    pub tuple: Tuple,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Id of its cgroup, 0 when unknown.
    pub cgroup: u64,
    /// Its state; of a mini-socket what it stands for.
    pub state: TcpState,
    /// Which side we are.
    pub role: Role,
    /// What stands for it in the kernel.
    pub shape: Shape,
    /// Who has it.
    pub owner: Option<Owner>,
    /// The first thing known of it.
    pub born: MonoNs,
    /// Whether `born` is its beginning and nothing since was missed.
    pub complete: bool,
    /// Which side closed first.
    pub first_close: Ends,
    /// See [`Connection::counters`].
    bytes_sent: u64,
    bytes_received: u64,
    segments_again: u32,
    /// 0 for no sample.
    srtt_us: u32,
    counters_known: bool,
    /// See [`Connection::handshake_ns`].
    handshake: Option<NonZeroU64>,
    /// Segments seen sent again.
    pub retransmits: Retransmits,
    /// How it ended; of a mini-socket how it came there.
    pub how: How,
    /// Why it was never established; `None` where it was, or its handshake is not over, or that is not known.
    pub failed: Option<Failed>,
    /// `sk_err` at the end.
    pub error: u16,
    /// The application has closed it; nobody owns it.
    pub orphan: bool,
    /// It has been accepted, or was opened by the application.
    pub accepted: bool,
    /// Until it is accepted, when it became ESTABLISHED; then [`Connection::accept_ns`] and 1. 0: unknown.
    accept: u64,
    /// Rows: what waits to be read; of a listener to be accepted.
    pub recv_queue: u32,
    /// Rows: what waits to be sent or acknowledged; of a listener the accept queue's limit.
    pub send_queue: u32,
    /// A RST was sent for it.
    pub(crate) rst_sent: bool,
    /// A RST was received for it.
    pub(crate) rst_received: bool,
    /// `enum sk_rst_reason` of the RST we sent, 0 for none.
    pub rst_reason: u8,
    /// When the present state was entered, known as well as `entered_known` says.
    pub(crate) entered: MonoNs,
    pub(crate) entered_known: Known,
    /// Time of the last event, or of a row that agreed.
    pub(crate) last: MonoNs,
    /// When the kernel's timer ends a mini-socket, or a request's fires next; 0 unknown.
    pub(crate) expires: MonoNs,
    /// Number of the last poll that saw it.
    pub(crate) seen: u16,
    /// Polls that missed it in a row.
    pub(crate) missed: u8,
    /// Some of its times are from timers, or lower bounds.
    pub approximate: bool,
    /// What is special about it.
    pub mark: Mark,
    /// In CLOSE, but the RST that closed it is still to be told.
    pub(crate) resetting: bool,
    /// Times in the states of [`EARLY`].
    early: [u64; EARLY.end - EARLY.start],
    pub(super) late: Option<Box<Late>>,
}

impl Connection {
    /// A connection of which only this is known.
    pub(crate) fn new(event: &Event, state: TcpState, role: Role, known: Known, seen: u16) -> Self {
        Connection {
            id: event.id,
            tuple: event.tuple,
            netns: event.netns,
            cgroup: event.cgroup,
            state,
            role,
            shape: Shape::Full,
            owner: None,
            born: event.at,
            complete: known == Known::Exactly,
            first_close: Ends::None,
            bytes_sent: 0,
            bytes_received: 0,
            segments_again: 0,
            srtt_us: 0,
            counters_known: false,
            handshake: None,
            retransmits: Retransmits::default(),
            how: How::Unknown,
            failed: None,
            error: 0,
            orphan: false,
            accepted: false,
            accept: 0,
            recv_queue: 0,
            send_queue: 0,
            rst_sent: false,
            rst_received: false,
            rst_reason: 0,
            entered: event.at,
            entered_known: known,
            last: event.at,
            expires: MonoNs(0),
            seen,
            missed: 0,
            resetting: false,
            mark: if begins_bound(event, state, role, known) {
                Mark::BoundFirst
            } else {
                Mark::None
            },
            approximate: false,
            early: [0; EARLY.end - EARLY.start],
            late: None,
        }
    }

    /// Counters, as of the last event that had them.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.counters_known.then_some(Counters {
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            retransmits: self.segments_again,
            srtt_us: (self.srtt_us != 0).then_some(self.srtt_us),
            got_twice: 0,
        })
    }

    /// Takes over the counters of an event that has them.
    pub(crate) fn count(&mut self, counters: Option<Counters>) {
        if let Some(counters) = counters {
            self.bytes_sent = counters.bytes_sent;
            self.bytes_received = counters.bytes_received;
            self.segments_again = counters.retransmits;
            self.srtt_us = counters.srtt_us.unwrap_or(0);
            self.counters_known = true;
        }
    }

    /// Duration of the three-way handshake, where it is known.
    #[must_use]
    pub fn handshake_ns(&self) -> Option<u64> {
        self.handshake.map(NonZeroU64::get)
    }

    pub(crate) fn set_handshake(&mut self, ns: u64) {
        self.handshake = NonZeroU64::new(ns);
    }

    /// Time from ESTABLISHED to accept(), at most: to the first event or look that found it accepted.
    #[must_use]
    pub fn accept_ns(&self) -> Option<u64> {
        if self.accepted { self.accept.checked_sub(1) } else { None }
    }

    /// It waits to be accepted from now on.
    pub(crate) fn waits_since(&mut self, at: MonoNs) {
        self.accept = at.0;
    }

    /// It has been accepted by now; `waited` when it was seen to wait.
    pub(crate) fn accepted_at(&mut self, at: MonoNs, waited: bool) {
        let since = MonoNs(self.accept);
        self.accepted = true;
        self.accept = if waited { at.since(since).saturating_add(1) } else { 0 };
    }

    /// How long it has been in its state.
    #[must_use]
    pub fn in_state(&self, now: MonoNs) -> Spent {
        self.spent_until(now)
    }

    /// The state it ended in: TIME_WAIT when it got there, however long ago.
    #[must_use]
    pub fn ended_in(&self) -> TcpState {
        let waits = self.shape == Shape::Mini && self.how == How::Fin;
        if waits { TcpState::TimeWait } else { TcpState::Close }
    }

    /// How long it lived, once it is finished; at least this when it is not complete.
    #[must_use]
    pub fn lived(&self) -> u64 {
        self.entered.since(self.born)
    }

    pub(crate) fn spent_until(&self, at: MonoNs) -> Spent {
        let ns = at.since(self.entered);
        match self.entered_known {
            Known::Exactly => Spent::Exactly(ns),
            Known::About => Spent::About(ns),
            Known::AtLatest => Spent::at_least(ns),
            Known::Not => Spent::Unknown,
        }
    }

    /// Time in each state it has been in, in the order of a life.
    pub fn states(&self) -> impl Iterator<Item = (TcpState, u64)> + '_ {
        let spent = (0..TIMED.len()).map(|slot| (TIMED[slot], self.spent(slot)));
        spent.filter(|&(_, ns)| ns != 0)
    }

    /// Time in one state so far.
    #[must_use]
    pub fn time_in(&self, state: TcpState) -> u64 {
        timed_index(state).map_or(0, |slot| self.spent(slot))
    }

    fn spent(&self, slot: usize) -> u64 {
        match slot.checked_sub(EARLY.start).and_then(|early| self.early.get(early)) {
            Some(&ns) => ns,
            None => self.late.as_ref().map_or(0, |late| late.spent[slot]),
        }
    }

    fn spent_mut(&mut self, slot: usize, spare: &mut Spare) -> &mut u64 {
        match slot.checked_sub(EARLY.start).and_then(|early| self.early.get_mut(early)) {
            Some(ns) => ns,
            None => &mut self.late.get_or_insert_with(|| spare.get()).spent[slot],
        }
    }

    /// Adds to the time in a state.
    pub(crate) fn add(&mut self, state: TcpState, spent: Spent, spare: &mut Spare) {
        self.approximate |= !spent.is_exact();
        if let (Some(slot), Some(ns)) = (timed_index(state), spent.ns())
            && ns != 0
        {
            let sum = self.spent_mut(slot, spare);
            *sum = sum.saturating_add(ns);
        }
    }

    /// Takes back what was added.
    pub(crate) fn take_back(&mut self, state: TcpState, ns: u64, spare: &mut Spare) {
        if let Some(slot) = timed_index(state) {
            let sum = self.spent_mut(slot, spare);
            *sum = sum.saturating_sub(ns);
        }
    }

    /// The other end, when it was on this machine and has ended.
    pub(crate) fn last_peer(&self) -> Option<Peer> {
        self.late.as_ref()?.last_peer
    }

    pub(crate) fn set_last_peer(&mut self, peer: Peer, spare: &mut Spare) {
        self.late.get_or_insert_with(|| spare.get()).last_peer = Some(peer);
    }

    /// See [`Late::doubt`].
    pub(super) fn doubt(&self) -> Option<TcpState> {
        self.late.as_ref()?.doubt
    }

    pub(super) fn set_doubt(&mut self, old: TcpState, spare: &mut Spare) {
        self.late.get_or_insert_with(|| spare.get()).doubt = Some(old);
    }

    pub(super) fn take_doubt(&mut self) -> Option<TcpState> {
        self.late.as_mut()?.doubt.take()
    }

    /// It is gone: what it had in a box is for others.
    pub(crate) fn recycle(self, spare: &mut Spare) {
        if let Some(late) = self.late {
            spare.put(late);
        }
    }

    /// The walk of this number has met it.
    pub(crate) fn met(&mut self, poll: u16) {
        self.seen = poll;
        self.missed = 0;
    }

    /// Better knowledge of the owner replaces worse; a descriptor once seen is kept.
    pub(crate) fn learn_owner(&mut self, owner: Owner) {
        match &mut self.owner {
            Some(known) => known.learn(owner),
            none => *none = Some(owner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_no_larger_than_it_was_made() {
        assert!(size_of::<Connection>() <= 216, "{}", size_of::<Connection>());
        assert_eq!(size_of::<Option<Owner>>(), 16);
    }
}
