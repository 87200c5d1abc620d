//! Survival: of those that get old, how many leave after all?
//!
//! A busy service has many short CLOSE_WAITs, and a slow one has some that outlive any threshold: they
//! leave. A pool replaces its members from round to round: they leave, too. Those of a leak do not, however
//! many others of the same service come and go. So what counts is not how many there are, nor the share
//! of all that closed, but the fate of the old: [`Ages::settled`] is the age from which on next to none
//! leaves. What is older than that and than the threshold has survived; it leaks when such survivors
//! [keep coming](super::generations).

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::room::tidy;
use crate::engine::rules::generations::{self, Ask, Pace, goes_on};
use crate::engine::rules::place::Place;
use crate::time::MonoNs;

/// What left longer ago than one to two of these is forgotten: a fault that has been mended, or a new
/// one, is to be seen.
const SPELL_NS: u64 = 600_000_000_000;
/// Most places kept.
const MOST: usize = 16_384;
/// So few are kept without asking whether anything left them lately.
const FEW: usize = 256;

/// Least number of survivors for a leak: one may be an accident, two may be a pair of them.
const LEAST: usize = 3;

/// Ages, by powers of two: up to 1/16 s, 1/8 s, ..., 1 s, 2 s, ... 36 hours, and more.
const BUCKETS: usize = 23;
const FIRST_NS: u64 = 62_500_000;

/// How old those were that left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ages {
    left: [u32; BUCKETS],
}

impl Ages {
    fn add(&mut self, age_ns: u64) {
        // The first bucket whose upper bound is not below the age.
        let bucket = (0..BUCKETS - 1).find(|&bucket| age_ns <= FIRST_NS << bucket);
        let count = &mut self.left[bucket.unwrap_or(BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    pub(crate) fn merge(&mut self, other: &Ages) {
        for (count, other) in self.left.iter_mut().zip(other.left) {
            *count = count.saturating_add(other);
        }
    }

    /// The age from which on fewer than one in ten of those that reach it leave. `came` are the arrival
    /// times of those that are there, ascending. `None` when there is no such age.
    pub(crate) fn settled(&self, came: &[MonoNs], now: MonoNs) -> Option<u64> {
        let mut older: u64 = self.left.iter().map(|&count| u64::from(count)).sum();
        let mut age = 0;
        for bucket in 0..=BUCKETS {
            let there = came.partition_point(|&at| now.since(at) >= age) as u64;
            if there == 0 {
                return None;
            }
            if older * 9 < there {
                return Some(age);
            }
            older -= u64::from(*self.left.get(bucket)?);
            age = FIRST_NS << bucket;
        }
        None
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Spell {
    left: u64,
    late: u64,
    ages: Ages,
}

#[derive(Clone, Copy, Debug, Default)]
struct Leavers {
    now: Spell,
    before: Spell,
    began: MonoNs,
}

/// Who left, by place.
#[derive(Debug, Default)]
pub(crate) struct Cohorts {
    by_place: HashMap<Place, Leavers, FixedState>,
    /// When there are so many, those that nothing left lately are let go of.
    tidy_at: usize,
}

/// Who left a place lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// How many.
    pub(crate) all: u64,
    /// Of those, after they had been beyond the threshold.
    pub(crate) late: u64,
    /// How old they were.
    pub(crate) ages: Ages,
}

impl Left {
    pub(crate) fn merge(&mut self, other: &Left) {
        self.all += other.all;
        self.late += other.late;
        self.ages.merge(&other.ages);
    }
}

/// What became of a group's sockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survival {
    /// In the state now.
    pub(crate) present: u64,
    /// Of those, beyond the threshold.
    pub(crate) old: u64,
    /// When they came: those that are there now, the young ones too.
    pub(crate) came: Vec<MonoNs>,
    /// Who left.
    pub(crate) left: Left,
}

impl Cohorts {
    /// One left, after this time in the state.
    pub(crate) fn left(&mut self, place: Place, after_ns: u64, threshold: u64, at: MonoNs) {
        if self.by_place.len() >= self.tidy_at.max(FEW) && !self.by_place.contains_key(&place) {
            self.tidy(at);
            if self.by_place.len() >= MOST {
                return;
            }
        }
        let leavers =
            self.by_place.entry(place).or_insert(Leavers { began: at, ..Leavers::default() });
        turn(leavers, at);
        leavers.now.left += 1;
        leavers.now.late += u64::from(after_ns >= threshold);
        leavers.now.ages.add(after_ns);
    }

    /// Lets go of places that nothing left lately: a process that connects once, or a listener on a port of its own, is a
    /// place that never comes again. Next when there are twice as many, so that it costs little.
    fn tidy(&mut self, at: MonoNs) {
        let lately = if self.by_place.len() >= MOST { SPELL_NS } else { 2 * SPELL_NS };
        let next = tidy(&mut self.by_place, FEW, |_, leavers| at.since(leavers.began) < lately);
        self.tidy_at = MOST.min(next);
    }

    /// Who left a place in the last ten to twenty minutes.
    pub(crate) fn leavers(&self, place: &Place, at: MonoNs) -> Left {
        let Some(leavers) = self.by_place.get(place) else { return Left::default() };
        let mut leavers = *leavers;
        turn(&mut leavers, at);
        let Leavers { now, before, .. } = leavers;
        let mut ages = now.ages;
        ages.merge(&before.ages);
        Left { all: now.left + before.left, late: now.late + before.late, ages }
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
    /// Takes in those of another group.
    pub(crate) fn merge(&mut self, other: Survival) {
        self.present += other.present;
        self.old += other.old;
        self.came.extend(other.came);
        self.came.sort_unstable();
        self.left.merge(&other.left);
    }

    /// Whether this is a leak: enough have survived, and survivors keep coming. `grew`: it was one at
    /// the last look.
    pub(crate) fn leaks(&self, threshold: u64, grew: bool, now: MonoNs) -> Option<Pace> {
        let settled = self.left.ages.settled(&self.came, now)?;
        let age = settled.max(threshold);
        let survivors = self.came.partition_point(|&at| now.since(at) >= age);
        // Of those that are old by their events, rows may still say that data goes over them.
        if survivors < LEAST || self.old < LEAST as u64 {
            return None;
        }
        let ask = Ask { generations: generations::GENERATIONS, span_ns: threshold, grew };
        goes_on(&self.came, now.before(settled), ask)
    }

    /// How many more a minute there are of what stays; `None` when they stopped coming, or came at
    /// once.
    pub(crate) fn growth(&self, grew: bool, now: MonoNs) -> Option<f64> {
        let settled = self.left.ages.settled(&self.came, now)?;
        let ask = Ask { generations: generations::RATE, span_ns: 1_000_000_000, grew };
        goes_on(&self.came, now.before(settled), ask).map(|pace| pace.per_minute)
    }

    /// Whether those that get old mostly leave after all: slow, not stuck.
    pub(crate) fn mostly_leave(&self) -> bool {
        self.left.late > 0 && self.left.late >= self.old
    }

    /// Of all that came, the share that left.
    pub(crate) fn closed_share(&self) -> Option<f64> {
        share(self.left.all, self.present)
    }

    /// Of those that got old, the share that left.
    pub(crate) fn late_share(&self) -> Option<f64> {
        share(self.left.late, self.old)
    }
}

fn share(left: u64, present: u64) -> Option<f64> {
    let all = left + present;
    let float = crate::engine::rules::growth::as_f64;
    (all != 0).then(|| float(left) / float(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::place::Side;

    const SECOND: u64 = 1_000_000_000;

    fn place(number: u32) -> Place {
        Place { netns: number, pid: Some(number), side: Side::Local(80) }
    }

    #[test]
    fn places_that_never_come_again_are_let_go_of() {
        let mut cohorts = Cohorts::default();
        let mut most = 0;
        // One a second for five hours, and one place that comes again.
        for second in 0..5 * 3600 {
            let at = MonoNs(u64::from(second) * SECOND);
            cohorts.left(place(second + 1), SECOND, 60 * SECOND, at);
            cohorts.left(place(0), SECOND, 60 * SECOND, at);
            most = cohorts.by_place.capacity().max(most);
        }
        // Twenty minutes of them, and as many until the next tidying; a map has room for half as many more.
        assert!(most <= 2 * 2 * 1200, "room for {most}");
        let now = MonoNs(5 * 3600 * SECOND);
        assert!((600..=1200).contains(&cohorts.leavers(&place(0), now).all));
        // None that left within the last ten minutes is missing.
        for second in 5 * 3600 - 600..5 * 3600 {
            assert_eq!(cohorts.leavers(&place(second + 1), now).all, 1, "{second}");
        }
    }

    #[test]
    fn of_too_many_at_once_the_first_are_kept() {
        let mut cohorts = Cohorts::default();
        for number in 0..20_000 {
            cohorts.left(place(number), SECOND, 60 * SECOND, MonoNs(SECOND));
        }
        assert_eq!(cohorts.by_place.len(), MOST);
        // Later there is room for others.
        let later = MonoNs(700 * SECOND);
        cohorts.left(place(20_000), SECOND, 60 * SECOND, later);
        assert_eq!(cohorts.leavers(&place(20_000), later).all, 1);
    }
}
