//! Established connections over which no data goes, and what becomes of them.
//!
//! Rows of walks tell when data last went. A connection that has been still for a quarter of the threshold is
//! remembered, until data goes over it again or it ends. How long it had been still by then is what a
//! healthy place shows: users of a chat come back, pools use their connections again. Forgotten connections
//! never are.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Poll, PollKind};
use crate::engine::rules::cohort::Left;
use crate::engine::rules::generations::{Ask, GENERATIONS, Pace, goes_on};
use crate::event::{Event, Existing, Shape, SockId};
use crate::time::MonoNs;

/// Most connections remembered.
const MOST: usize = 262_144;
/// Most that came back between two looks.
const MOST_RESUMED: usize = 16_384;
/// Rows count in jiffies: times that differ by less are the same.
const MOMENT_NS: u64 = 50_000_000;
/// Least number of survivors for a leak.
const LEAST: usize = 3;

/// From when on a connection is remembered.
pub(crate) const fn remembered_from(threshold: u64) -> u64 {
    threshold / 4
}

/// One still connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Still {
    /// When data last went over it.
    pub(crate) last_data: MonoNs,
    /// When the row was made that says so.
    pub(crate) at: MonoNs,
    /// What went last came from the peer: it may wait for an answer.
    pub(crate) asked: bool,
}

/// A connection over which data went again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Resumed {
    pub(crate) id: SockId,
    /// How long it had been still, nanoseconds.
    pub(crate) still_ns: u64,
    /// When that was found out.
    pub(crate) at: MonoNs,
}

/// All still connections.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    by_id: HashMap<SockId, Still, FixedState>,
    resumed: Vec<Resumed>,
    /// When the last walk over everything began.
    walked: MonoNs,
}

impl Quiet {
    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64, threshold: u64) {
        if row.shape != Shape::Full || row.state != TcpState::Established || !event.flags.has_socket
        {
            return;
        }
        let since = |jiffies: u32| event.at.before(u64::from(jiffies).saturating_mul(jiffy_ns));
        let now = Still {
            last_data: since(row.since_received.min(row.since_sent)),
            at: event.at,
            asked: row.since_received < row.since_sent,
        };
        let is_still = now.at.since(now.last_data) >= remembered_from(threshold);
        if let Some(known) = self.by_id.get_mut(&event.id) {
            let still_ns = now.last_data.since(known.last_data);
            let resumed = still_ns > MOMENT_NS;
            *known = now;
            if resumed && self.resumed.len() < MOST_RESUMED {
                self.resumed.push(Resumed { id: event.id, still_ns, at: now.at });
            }
            if !is_still {
                self.by_id.remove(&event.id);
            }
        } else if is_still && self.by_id.len() < MOST {
            self.by_id.insert(event.id, now);
        }
    }

    /// It is not established any more. How long it had been still, as far as rows told.
    pub(crate) fn ended(&mut self, id: SockId, at: MonoNs) -> Option<u64> {
        if self.by_id.is_empty() {
            return None;
        }
        self.by_id.remove(&id).map(|still| at.since(still.last_data))
    }

    pub(crate) fn get(&self, id: SockId) -> Option<&Still> {
        if self.by_id.is_empty() { None } else { self.by_id.get(&id) }
    }

    pub(crate) fn end_poll(&mut self, poll: &Poll) {
        if poll.kind == PollKind::All {
            self.walked = poll.began;
        }
    }

    pub(crate) fn walked(&self) -> MonoNs {
        self.walked
    }

    /// Over which data went again since this was last asked.
    pub(crate) fn take_resumed(&mut self) -> Vec<Resumed> {
        std::mem::take(&mut self.resumed)
    }
}

/// The still connections of one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stillness {
    /// When data last went over each.
    pub(crate) last_data: Vec<MonoNs>,
    /// When each was opened, where that was seen, and when data last went over it.
    pub(crate) opened: Vec<(MonoNs, MonoNs)>,
    /// How many wait for an answer, as it seems.
    pub(crate) asked: u64,
    /// Over which data went again, or that ended.
    pub(crate) left: Left,
    /// When the walk began that told all this.
    pub(crate) walked: MonoNs,
}

impl Stillness {
    pub(crate) fn add(&mut self, still: &Still, opened: Option<MonoNs>) {
        self.last_data.push(still.last_data);
        self.opened.extend(opened.map(|at| (at, still.last_data)));
        self.asked += u64::from(still.asked);
    }

    pub(crate) fn merge(&mut self, other: Stillness) {
        self.last_data.extend(other.last_data);
        self.opened.extend(other.opened);
        self.asked += other.asked;
        self.left.merge(&other.left);
        self.walked = self.walked.max(other.walked);
    }

    /// Whether this is a leak: connections that are never used again, of which more are opened all the time.
    /// That a pool's connections fall idle one after the other is none: their opening counts, and of what was
    /// there before nobody knows when that was.
    pub(crate) fn leaks(&self, threshold: u64, leaked: bool, now: MonoNs) -> Option<Pace> {
        let mut last_data = self.last_data.clone();
        last_data.sort_unstable();
        let settled = self.left.ages.settled(&last_data, now)?.max(remembered_from(threshold));
        let age = settled.max(threshold);
        if last_data.partition_point(|&at| now.since(at) >= age) < LEAST {
            return None;
        }
        // As of the walk: what was opened since is not told yet.
        let until = self.walked.before(settled);
        let still = self.opened.iter().filter(|(_, last_data)| *last_data <= until);
        let mut opened: Vec<MonoNs> = still.map(|&(opened, _)| opened).collect();
        opened.sort_unstable();
        let span_ns = threshold - remembered_from(threshold);
        goes_on(&opened, until, Ask { generations: GENERATIONS, span_ns, grew: leaked })
    }
}
