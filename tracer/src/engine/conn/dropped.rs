//! Segments that the kernel threw away: of which connection, and those of none.
//!
//! The kernel knows the socket of what is sent, and since 6.11 of what TCP itself drops. Of all else the ends decide:
//! the connection that was to receive it, else the one that sent it, if it is on this machine. A client's port may not
//! be known yet when its SYN is dropped: what is nobody's waits a second for it.

use crate::engine::conn::change::{Change, ConnRef, Kind};
use crate::engine::conn::drops::{
    DropCount, MOST_COUNTED, MOST_KINDS, MOST_WAITING, PATIENCE_NS, Unclaimed,
};
use crate::engine::conn::role::Role;
use crate::engine::conn::table::Table;
use crate::event::{Direction, Drop, Dropped, Event, Place, SockId, Tuple, What};
use crate::time::MonoNs;

impl Table {
    /// Which segments of a connection were dropped, and why; nothing of most.
    #[must_use]
    pub fn drops_of(&self, id: SockId) -> &[DropCount] {
        self.drops.counts.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Drops are traced from the beginning, and reasons have these names.
    pub(crate) fn tell_drops(&mut self, reasons: Vec<String>) {
        let named = |name: &str| reasons.iter().position(|it| it == name);
        self.drops.probes = match (named("TCP_OLD_SEQUENCE"), named("TCP_INVALID_SEQUENCE")) {
            (None, Some(reason)) => u16::try_from(reason).ok(),
            _ => None,
        };
        self.drops.reasons = Some(reasons);
    }

    /// Whether drops are traced.
    #[must_use]
    pub fn drops_are_told(&self) -> bool {
        self.drops.reasons.is_some()
    }

    /// The kernel's name of a reason.
    #[must_use]
    pub fn drop_reason(&self, reason: u16) -> Option<&str> {
        let name = self.drops.reasons.as_ref()?.get(usize::from(reason))?;
        (!name.is_empty()).then_some(name)
    }

    pub(super) fn dropped(&mut self, event: &Event, drop: Drop, changes: &mut Vec<Change>) {
        if self.is_a_probe(drop) {
            return;
        }
        if self.claim(event, drop, changes) {
            return;
        }
        if self.drops.waiting_count >= MOST_WAITING {
            self.drops.crowded.add(event, drop);
            return;
        }
        self.drops.waiting.entry(event.tuple).or_default().push(*event);
        self.drops.waiting_count += 1;
    }

    /// A bare ACK outside the window, as keepalive probes are, which come from before it: nothing in it is lost. Later
    /// kernels tell the two sides of the window apart (TCP_OLD_SEQUENCE, `tcp_sequence`), and the programs leave out what
    /// is old; Linux 6.1 does not.
    fn is_a_probe(&self, drop: Drop) -> bool {
        drop.segment == Dropped::Ack && drop.untold == 0 && self.drops.probes == Some(drop.reason)
    }

    /// A connection is known by all of its ends now: what of it was dropped before is its own.
    pub(super) fn claim_waiting(&mut self, tuple: Tuple, changes: &mut Vec<Change>) {
        if self.drops.waiting_count == 0 {
            return;
        }
        for ends in [tuple, tuple.reversed()] {
            let events = self.drops.waiting.remove(&ends).unwrap_or_default();
            self.drops.waiting_count -= events.len();
            for event in events {
                if let What::Dropped(drop) = event.what {
                    self.dropped(&event, drop, changes);
                }
            }
        }
    }

    /// Tells the connection it belongs to; false when there is none.
    fn claim(&mut self, event: &Event, drop: Drop, changes: &mut Vec<Change>) -> bool {
        let Some((index, direction)) = self.whose(event, drop.place) else { return false };
        let Some(conn) = self.conns.get(index as usize) else { return false };
        let (id, state) = (conn.id, conn.state);
        if event.id == id {
            // A client's port, which it may not be known by yet.
            self.fill_in(index, event, changes);
        }
        // To what a TIME_WAIT sends and nobody has a socket for, a RST is the answer, which ends it
        // (`tcp_timewait_state_process`).
        self.suspect(index);
        self.count_drop(id, direction, drop);
        let kind = Kind::Dropped { direction, state, drop };
        changes.push(Change { at: event.at, conn: ConnRef(index), kind });
        true
    }

    fn whose(&self, event: &Event, place: Place) -> Option<(u32, Direction)> {
        let sent = place == Place::Output;
        let own = if sent { Direction::Sent } else { Direction::Received };
        let is_connection = |&index: &u32| {
            let conn = self.conns.get(index as usize);
            conn.is_some_and(|conn| conn.role != Role::Listener)
        };
        let known =
            (event.id != SockId(0)).then(|| self.by_id.get(&self.conns, event.id)).flatten();
        if let Some(index) = known.filter(is_connection) {
            return Some((index, own));
        }
        let here = |tuple: &Tuple| self.by_tuple.get(&self.conns, tuple, event.netns);
        let anywhere = |tuple: &Tuple| {
            if tuple.is_loopback() { None } else { self.by_tuple.only(&self.conns, tuple) }
        };
        // Forwarded to a namespace of this machine, the receiver is in another.
        let receiver = here(&event.tuple).or_else(|| anywhere(&event.tuple));
        if let Some(index) = receiver.filter(is_connection) {
            return Some((index, own));
        }
        let turned = event.tuple.reversed();
        let sender = here(&turned).or_else(|| anywhere(&turned));
        let other = if sent { Direction::Received } else { Direction::Sent };
        sender.filter(is_connection).map(|index| (index, other))
    }

    fn count_drop(&mut self, id: SockId, direction: Direction, drop: Drop) {
        let counts = &mut self.drops.counts;
        if counts.len() >= MOST_COUNTED && !counts.contains_key(&id) {
            return;
        }
        let counts = counts.entry(id).or_default();
        let same = |it: &&mut DropCount| {
            (it.reason, it.place, it.segment, it.direction)
                == (drop.reason, drop.place, drop.segment, direction)
        };
        if let Some(known) = counts.iter_mut().find(same) {
            known.count = known.count.saturating_add(1);
        } else if counts.len() < MOST_KINDS {
            let Drop { reason, place, segment, .. } = drop;
            counts.push(DropCount { reason, place, segment, direction, count: 1 });
        }
    }

    /// A connection is gone, or its socket begins another.
    pub(super) fn forget_drops(&mut self, id: SockId) {
        if !self.drops.counts.is_empty() {
            self.drops.counts.remove(&id);
        }
    }

    /// What waited for its connection long enough: told to it, or handed out, port by port.
    pub(crate) fn unclaimed(
        &mut self,
        now: MonoNs,
        all: bool,
        changes: &mut Vec<Change>,
    ) -> Vec<Unclaimed> {
        let mut groups = std::mem::take(&mut self.drops.crowded);
        let waiting = std::mem::take(&mut self.drops.waiting);
        self.drops.waiting_count = 0;
        let mut waiting: Vec<Event> = waiting.into_values().flatten().collect();
        waiting.sort_by_key(|event| event.at);
        for event in waiting {
            let What::Dropped(drop) = event.what else { continue };
            if !all && now.since(event.at) < PATIENCE_NS {
                self.dropped(&event, drop, changes);
                continue;
            }
            if !self.claim(&event, drop, changes) {
                groups.add(&event, drop);
            }
        }
        groups.groups
    }
}
