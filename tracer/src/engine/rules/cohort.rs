//! Survival: of those that outlive the threshold, how many leave after all?
//!
//! A busy service has many short CLOSE_WAITs, and a slow one has some that outlive any threshold: they
//! leave. Those of a leak do not, however many others of the same service come and go. So what counts
//! is not how many there are, nor the share of all that closed, but the fate of the old.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::place::Place;
use crate::time::MonoNs;

/// What left longer ago than one to two of these is forgotten: a fault that has been mended, or a new
/// one, is to be seen.
const SPELL_NS: u64 = 600_000_000_000;
/// Most places kept.
const MOST: usize = 16_384;

/// Of which an old share leaves is no leak.
const LEAVE: f64 = 0.1;

/// Least number of old ones for a leak: one may be an accident, two may be a pair of them.
const LEAST: u64 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    left: u64,
    late: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leavers {
    now: Spell,
    before: Spell,
    began: MonoNs,
}

/// How many left, by place.
#[derive(Debug, Default)]
pub(crate) struct Cohorts {
    by_place: HashMap<Place, Leavers, FixedState>,
}

/// What became of a group's sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Survival {
    /// In the state now.
    pub(crate) present: u64,
    /// Of those, beyond the threshold.
    pub(crate) old: u64,
    /// Left the state, lately.
    pub(crate) left: u64,
    /// Of those, after they had been beyond the threshold.
    pub(crate) late: u64,
}

impl Cohorts {
    /// One left, after this time in the state.
    pub(crate) fn left(&mut self, place: Place, after_ns: u64, threshold: u64, at: MonoNs) {
        if self.by_place.len() >= MOST && !self.by_place.contains_key(&place) {
            self.by_place.retain(|_, leavers| at.since(leavers.began) < SPELL_NS);
            if self.by_place.len() >= MOST {
                return;
            }
        }
        let leavers =
            self.by_place.entry(place).or_insert(Leavers { began: at, ..Leavers::default() });
        turn(leavers, at);
        leavers.now.left += 1;
        leavers.now.late += u64::from(after_ns >= threshold);
    }

    /// How many left, and how many of them late.
    pub(crate) fn leavers(&self, place: &Place, at: MonoNs) -> (u64, u64) {
        let Some(leavers) = self.by_place.get(place) else { return (0, 0) };
        let mut leavers = *leavers;
        turn(&mut leavers, at);
        (leavers.now.left + leavers.before.left, leavers.now.late + leavers.before.late)
    }
}

fn turn(leavers: &mut Leavers, at: MonoNs) {
    let since = at.since(leavers.began);
    if since >= 2 * SPELL_NS {
        *leavers = Leavers { began: at, ..Leavers::default() };
    } else if since >= SPELL_NS {
        leavers.before = std::mem::take(&mut leavers.now);
        leavers.began = leavers.began.after(SPELL_NS);
    }
}

impl Survival {
    /// Whether this is a leak: enough have outlived the threshold, and next to none of those left.
    pub(crate) fn is_leak(&self) -> bool {
        self.old >= LEAST && self.late_share().is_none_or(|share| share < LEAVE)
    }

    /// Whether those that get old mostly leave after all: slow, not stuck.
    pub(crate) fn mostly_leave(&self) -> bool {
        self.late > 0 && self.late >= self.old
    }

    /// Of all that came, the share that left.
    pub(crate) fn closed_share(&self) -> Option<f64> {
        share(self.left, self.present)
    }

    /// Of those that got old, the share that left.
    pub(crate) fn late_share(&self) -> Option<f64> {
        share(self.late, self.old)
    }
}

fn share(left: u64, present: u64) -> Option<f64> {
    let all = left + present;
    let float = crate::engine::rules::growth::as_f64;
    (all != 0).then(|| float(left) / float(all))
}
