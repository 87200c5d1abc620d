//! What walks and retransmissions tell of sockets that get no answer. Few at a time, so kept beside the
//! table.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::Poll;
use crate::engine::rules::give_up::Unanswered;
use crate::event::{Event, Existing, Segment, Shape, SockId};
use crate::time::MonoNs;

/// Most that is kept: more in trouble than this are counted by the table alone.
const MOST: usize = 65_536;

/// One socket's trouble.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) netns: u32,
    /// Retransmissions of the same segment.
    pub(crate) unanswered: Unanswered,
    /// Probes of a closed window, or of keepalive, without an answer.
    pub(crate) probes: u8,
    /// Bytes not acknowledged or not sent.
    pub(crate) send_queue: u32,
    /// When an ACK came last.
    pub(crate) last_ack: Option<MonoNs>,
    /// When data went out last.
    pub(crate) last_sent: Option<MonoNs>,
    /// When this was last told.
    pub(crate) at: MonoNs,
    /// Told by a row, which tells the whole; not only by an event.
    pub(crate) by_row: bool,
}

/// All sockets in trouble.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    by_id: HashMap<SockId, Trouble, FixedState>,
}

impl Troubles {
    pub(crate) fn get(&self, id: SockId) -> Option<&Trouble> {
        if self.by_id.is_empty() { None } else { self.by_id.get(&id) }
    }

    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64) {
        if row.shape != Shape::Full || row.state == TcpState::Listen {
            return;
        }
        let waits = row.send_queue != 0 && u64::from(row.since_sent) * jiffy_ns > 1_000_000_000;
        if row.unanswered == 0 && row.probes == 0 && !waits {
            if !self.by_id.is_empty() {
                self.by_id.remove(&event.id);
            }
            return;
        }
        if self.by_id.len() >= MOST && !self.by_id.contains_key(&event.id) {
            return;
        }
        let since = |jiffies: u32| event.at.before(u64::from(jiffies) * jiffy_ns);
        let known = self.by_id.entry(event.id).or_default();
        if known.unanswered.times > row.unanswered {
            // The first was a tail loss probe, which the kernel does not count; or an ACK came in between,
            // and it is another segment now.
            let probe = row.unanswered != 0 && known.unanswered.times == row.unanswered + 1;
            let Unanswered { second, last, .. } = known.unanswered;
            known.unanswered = if probe {
                Unanswered { first: second, last, ..Unanswered::default() }
            } else {
                Unanswered { last: last.filter(|_| row.unanswered != 0), ..Unanswered::default() }
            };
        }
        known.unanswered.times = row.unanswered;
        known.netns = event.netns;
        known.probes = row.probes;
        known.send_queue = row.send_queue;
        known.last_ack = Some(since(row.since_ack));
        known.last_sent = Some(since(row.since_sent));
        known.at = event.at;
        known.by_row = true;
    }

    pub(crate) fn retransmit(&mut self, id: SockId, netns: u32, at: MonoNs, segment: Segment) {
        if segment == Segment::SynAck || self.by_id.len() >= MOST && !self.by_id.contains_key(&id) {
            return;
        }
        let known = self.by_id.entry(id).or_default();
        known.netns = netns;
        // A gap of more than the longest timer's means that an ACK came in between.
        let another = known.unanswered.last.is_some_and(|last| at.since(last) > 130_000_000_000);
        if another {
            known.unanswered = Unanswered::default();
        }
        known.unanswered.times += 1;
        match (known.unanswered.first, known.unanswered.times) {
            (None, 1) => known.unanswered.first = Some(at),
            (Some(_), 2) => known.unanswered.second = Some(at),
            _ => {}
        }
        known.unanswered.last = Some(at);
        known.at = at;
    }

    pub(crate) fn gone(&mut self, id: SockId) {
        if !self.by_id.is_empty() {
            self.by_id.remove(&id);
        }
    }

    /// A walk meets every socket in trouble: what it has not met is out of it.
    pub(crate) fn end_poll(&mut self, poll: &Poll) {
        if self.by_id.is_empty() {
            return;
        }
        self.by_id.retain(|_, trouble| {
            trouble.at >= poll.began || poll.netns.binary_search(&trouble.netns).is_err()
        });
    }
}
