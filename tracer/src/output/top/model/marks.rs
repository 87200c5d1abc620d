//! Retransmits and resets of connections that are there; and the round-trip time of the one that is looked at.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::conn::{Kind, Table};
use crate::event::{Direction, Segment, SockId};
use crate::time::MonoNs;

/// Connections whose marks are kept.
const MOST_CONNECTIONS: usize = 20_000;
/// Marks of one connection: the first half stays, the second half is the newest.
const MOST_MARKS: usize = 32;
/// Round-trip times kept: an hour of one a second, thinned.
const MOST_RTTS: usize = 600;

/// Something that went wrong on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) at: MonoNs,
    pub(crate) kind: MarkKind,
}

/// What it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MarkKind {
    Retransmit(Segment),
    Reset(Direction),
}

/// Marks by connection.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    by_socket: HashMap<SockId, Vec<Mark>, FixedState>,
    /// Connections that had none kept because there were too many.
    pub(crate) left_out: u64,
    /// The connection that is looked at, and its round-trip times in microseconds.
    watched: Option<(SockId, Vec<(MonoNs, u32)>)>,
}

impl Marks {
    /// A retransmit or a reset.
    pub(super) fn add(&mut self, id: SockId, kind: &Kind, at: MonoNs) {
        let kind = match *kind {
            Kind::Retransmit { segment, .. } => MarkKind::Retransmit(segment),
            Kind::Reset { direction, .. } => MarkKind::Reset(direction),
            _ => return,
        };
        if self.by_socket.len() >= MOST_CONNECTIONS && !self.by_socket.contains_key(&id) {
            self.left_out += 1;
            return;
        }
        let marks = self.by_socket.entry(id).or_default();
        if marks.len() >= MOST_MARKS {
            marks.remove(MOST_MARKS / 2);
        }
        marks.push(Mark { at, kind });
    }

    /// The connection is no more.
    pub(super) fn gone(&mut self, id: SockId) {
        self.by_socket.remove(&id);
    }

    /// Those of a connection, in order.
    pub(crate) fn of(&self, id: SockId) -> &[Mark] {
        self.by_socket.get(&id).map_or(&[], Vec::as_slice)
    }

    /// From now on the round-trip times of this connection are kept, and of no other.
    pub(crate) fn watch(&mut self, id: Option<SockId>) {
        if self.watched.as_ref().map(|(id, _)| *id) != id {
            self.watched = id.map(|id| (id, Vec::new()));
        }
    }

    /// Round-trip times of the connection that is looked at, the oldest first.
    pub(crate) fn rtts(&self, id: SockId) -> &[(MonoNs, u32)] {
        match &self.watched {
            Some((watched, rtts)) if *watched == id => rtts,
            _ => &[],
        }
    }

    /// Takes the round-trip time down.
    pub(super) fn sample(&mut self, table: &Table, now: MonoNs) {
        let Some((id, rtts)) = &mut self.watched else { return };
        let counters = table.find_open(*id).and_then(|conn| conn.counters());
        if let Some(rtt) = counters.and_then(|counters| counters.srtt_us) {
            rtts.push((now, rtt));
            if rtts.len() >= MOST_RTTS {
                let mut keep = false;
                rtts.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::TcpState;

    use crate::event::Again;

    use super::*;

    #[test]
    fn marks_are_bounded_and_keep_the_first_and_the_last() {
        let mut marks = Marks::default();
        let kind = Kind::Retransmit {
            segment: Segment::Data,
            state: TcpState::Established,
            count: None,
            again: Again::default(),
        };
        for at in 0..1000 {
            marks.add(SockId(1), &kind, MonoNs(at));
        }
        let kept = marks.of(SockId(1));
        assert_eq!(kept.len(), MOST_MARKS);
        assert_eq!((kept[0].at, kept[MOST_MARKS - 1].at), (MonoNs(0), MonoNs(999)));
        marks.gone(SockId(1));
        assert!(marks.of(SockId(1)).is_empty());
        for id in 0..MOST_CONNECTIONS as u64 + 5 {
            marks.add(SockId(id), &kind, MonoNs(id));
        }
        assert_eq!((marks.by_socket.len(), marks.left_out), (MOST_CONNECTIONS, 5));
    }
}
