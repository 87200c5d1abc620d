//! The kernel's jiffies, and when its timers really fire.

use serde::{Deserialize, Serialize};

use super::MonoNs;

/// When one jiffy began. All others follow, for the kernel counts them by CLOCK_MONOTONIC
/// (`tick_do_update_jiffies64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Jiffies {
    /// Its number.
    pub number: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub began_ns: u64,
}

impl Jiffies {
    /// Whether it says an earlier beginning of all jiffies than another one.
    #[must_use]
    pub fn is_before(self, other: Jiffies, jiffy_ns: u64) -> bool {
        let zero =
            |it: Jiffies| i128::from(it.began_ns) - i128::from(it.number) * i128::from(jiffy_ns);
        zero(self) < zero(other)
    }

    /// When a timer fires that was set for `expires`, `length_ns` before that. The kernel keeps timers in a wheel, and
    /// rounds them up to its grain (`calc_index` of kernel/time/timer.c): none is early, most are late.
    #[must_use]
    pub fn fires(self, expires: MonoNs, length_ns: u64, jiffy_ns: u64) -> MonoNs {
        let grain = grain(length_ns, jiffy_ns);
        let grain_ns = i128::from(grain) * i128::from(jiffy_ns.max(1));
        let origin = i128::from(self.began_ns)
            - i128::from(self.number % grain) * i128::from(jiffy_ns.max(1));
        // Where a jiffy begins is known less well than this: of two grains the later.
        let slop = i128::from(jiffy_ns / 4);
        let grains = (i128::from(expires.0) + slop - origin).div_euclid(grain_ns) + 1;
        MonoNs(u64::try_from(origin + grains * grain_ns).unwrap_or(expires.0))
    }
}

/// How late a timer of that length may be, nanoseconds.
#[must_use]
pub fn latest_ns(length_ns: u64, jiffy_ns: u64) -> u64 {
    grain(length_ns, jiffy_ns).saturating_mul(jiffy_ns.max(1))
}

/// Jiffies to which timers of that length are rounded up: 8 to the power of their level (`LVL_GRAN`), which begins at
/// 63 of the jiffies of the level before (`LVL_START`).
fn grain(length_ns: u64, jiffy_ns: u64) -> u64 {
    let jiffies = length_ns / jiffy_ns.max(1);
    let mut grain = 1;
    while jiffies >= 63 * grain && grain < 8u64.pow(8) {
        grain *= 8;
    }
    grain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_minute_has_the_grain_of_its_level() {
        let check = |hz: u64, jiffies| assert_eq!(grain(60 * SECOND, SECOND / hz), jiffies, "{hz}");
        check(100, 512);
        check(250, 512);
        check(300, 512);
        check(1000, 4096);
        let short = |jiffies: u64, expect| assert_eq!(grain(jiffies * 4, 4), expect, "{jiffies}");
        short(62, 1);
        short(63, 8);
        short(503, 8);
        short(504, 64);
        assert_eq!(latest_ns(60 * SECOND, 4_000_000), 2_048_000_000);
        assert_eq!(latest_ns(60 * SECOND, 0), latest_ns(60 * SECOND, 1));
    }

    #[test]
    fn a_timer_fires_at_the_next_grain_and_never_early() {
        const MS: u64 = 1_000_000;
        // Jiffy 1024 began at 10 s, so grains of 512 jiffies begin at 10 s and every 2,048 ms.
        let jiffies = Jiffies { number: 1024, began_ns: 10 * SECOND };
        let check = |expires_ms: u64, fires_ms: u64| {
            let fires = jiffies.fires(MonoNs(expires_ms * MS), 60 * SECOND, 4 * MS);
            assert_eq!(fires, MonoNs(fires_ms * MS), "{expires_ms}");
        };
        check(10_000, 12_048);
        check(10_001, 12_048);
        check(12_040, 12_048);
        // At the very grain it waits for the next.
        check(12_048, 14_096);
        // Where it is not known which side it is on, the later.
        assert_eq!(
            jiffies.fires(MonoNs(12_048 * MS - 1_000), 60 * SECOND, 4 * MS),
            MonoNs(14_096 * MS)
        );
        let sooner = Jiffies { number: 1025, began_ns: 10 * SECOND + 4 * MS - 1 };
        assert!(sooner.is_before(jiffies, 4 * MS) && !jiffies.is_before(sooner, 4 * MS));
        check(7_952, 10_000);
        check(70_000, 71_440);
        // The kernel's count begins five minutes before it wraps around 32 bits (INITIAL_JIFFIES).
        let young = Jiffies { number: 4_294_892_296, began_ns: 0 };
        assert_eq!(young.fires(MonoNs(0), 60 * SECOND, 4 * MS), MonoNs(992 * MS));
    }
}
