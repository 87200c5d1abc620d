//! When the ring is looked at, if no program wakes us before: decisions, without a clock.

use crate::kernel::ring::{BUSY_RECORDS, WAKE_EVERY_NS};
use crate::time::MonoNs;

/// While something is under way the ring is looked at this often; programs wake the reader for the first
/// record after a quiet time and when the ring fills.
pub(super) const TICK_NS: u64 = 50_000_000;
/// Where at least so many records come in [`TICK_NS`], the next look comes after [`BUSY_TICK_NS`]: nobody follows them by eye,
/// and the programs wake us a little earlier.
const BUSY: u64 = 1024;
const BUSY_TICK_NS: u64 = 110_000_000;
/// While stacks come whole: their ring fills sooner, and wakes nobody.
const STACKS_TICK_NS: u64 = 5_000_000;
/// When the programs wake the reader again for one record: after [`WAKE_EVERY_NS`], and a moment for records on their way.
const AWAKE_NS: u64 = WAKE_EVERY_NS as u64 + LATE_NS;
const BUSY_AWAKE_NS: u64 = 2 * WAKE_EVERY_NS as u64 + LATE_NS;
const LATE_NS: u64 = 5_000_000;

/// What decides when the next look is.
#[derive(Debug)]
pub(super) struct Looks {
    /// Until then no program may wake us for one record: the ring is looked at after that.
    awake_until: MonoNs,
    /// When the ring was last found empty, and how many records had been taken by then.
    emptied: (MonoNs, u64),
    /// Much came in little time until the ring was found empty.
    busy: bool,
    /// Stacks came whole, or may come now.
    stacks: bool,
}

impl Looks {
    /// From this time on.
    pub(super) fn from(start: MonoNs) -> Looks {
        Looks { awake_until: start, emptied: (start, 0), busy: false, stacks: false }
    }

    /// A program has woken us.
    pub(super) fn woken(&mut self, now: MonoNs) {
        self.awake_until = self.awake_until.max(now.after(AWAKE_NS));
    }

    /// Stacks came whole, or may come now.
    pub(super) fn expect_stacks(&mut self) {
        self.stacks = true;
    }

    /// The ring was looked at; so many records have been taken in all, and there may be others if it was not `emptied`.
    pub(super) fn looked(&mut self, now: MonoNs, taken: u64, emptied: bool) {
        let (since, before) = self.emptied;
        let came = taken - before;
        if came >= BUSY_RECORDS {
            self.awake_until = self.awake_until.max(now.after(BUSY_AWAKE_NS));
        }
        let much = came.saturating_mul(TICK_NS) >= BUSY.saturating_mul(now.since(since));
        self.busy = emptied && came != 0 && much;
        if emptied {
            self.emptied = (now, taken);
        }
    }

    /// Whether every program will wake us for the next record.
    pub(super) fn may_sleep(&self, now: MonoNs) -> bool {
        now >= self.awake_until && !self.stacks
    }

    /// The next look, where we may not sleep, or something else is under way.
    pub(super) fn next(&mut self, now: MonoNs) -> MonoNs {
        if std::mem::take(&mut self.stacks) {
            return now.after(STACKS_TICK_NS);
        }
        if self.busy {
            return now.after(BUSY_TICK_NS);
        }
        // Where the last look comes soon after the next, once is enough.
        let (tick, last) = (now.after(TICK_NS), self.awake_until);
        if last > now && last <= tick.after(2 * LATE_NS) { last } else { tick }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> MonoNs {
        MonoNs((10_000 + ms) * MS)
    }

    #[test]
    fn one_look_comes_after_a_wake_up() {
        let mut looks = Looks::from(at(0));
        assert!(looks.may_sleep(at(0)));
        looks.woken(at(500));
        looks.looked(at(500), 1, true);
        assert!(!looks.may_sleep(at(500)));
        assert_eq!(looks.next(at(500)), at(555));
        // Others came meanwhile. Whatever comes from 550 on wakes us.
        looks.looked(at(555), 10, true);
        assert!(looks.may_sleep(at(555)));
        // Something else is under way.
        assert_eq!(looks.next(at(555)), at(605));
    }

    #[test]
    fn who_may_have_been_woken_for_much_stays_awake_for_twice_as_long() {
        let check = |came: u64, awake: u64| {
            let mut looks = Looks::from(at(0));
            looks.woken(at(500));
            looks.looked(at(500), came, true);
            assert!(!looks.may_sleep(at(awake - 1)), "{came}");
            assert!(looks.may_sleep(at(awake)), "{came}");
        };
        check(BUSY_RECORDS - 1, 555);
        check(BUSY_RECORDS, 605);
        // The output took them in pieces.
        let mut looks = Looks::from(at(0));
        looks.looked(at(500), 300, false);
        looks.looked(at(510), 500, true);
        assert!(!looks.may_sleep(at(614)));
        assert!(looks.may_sleep(at(615)));
    }

    #[test]
    fn where_much_comes_looks_are_rarer() {
        let next = |came: u64, emptied: bool| {
            let mut looks = Looks::from(at(0));
            looks.looked(at(1_000), 0, true);
            looks.woken(at(1_050));
            looks.looked(at(1_050), came, emptied);
            looks.next(at(1_050))
        };
        assert_eq!(next(0, true), at(1_105));
        assert_eq!(next(BUSY_RECORDS, true), at(1_100));
        assert_eq!(next(BUSY, true), at(1_160));
        // The output has no room: it is asked soon.
        assert_eq!(next(BUSY, false), at(1_100));
    }

    #[test]
    fn stacks_are_looked_for_soon_and_once() {
        let mut looks = Looks::from(at(0));
        looks.expect_stacks();
        assert!(!looks.may_sleep(at(10)));
        assert_eq!(looks.next(at(10)), at(15));
        assert!(looks.may_sleep(at(15)));
    }
}
