//! Times as newtypes: monotonic nanoseconds from the kernel, wall time from one anchor.

pub mod clock;
mod jiffies;

pub use jiffies::{Jiffies, latest_ns};

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A time as people type it: `500ms`, `30s`, `1h 30m`; a number alone is seconds, as `sleep` and `watch` have it.
///
/// # Errors
/// When it is none of these.
pub fn parse(text: &str) -> Result<Duration, humantime::DurationError> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    }
}

/// CLOCK_MONOTONIC in nanoseconds, what `bpf_ktime_get_ns` returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is later, as two CPUs' clocks can
    /// make it by a few nanoseconds.
    #[must_use]
    pub const fn since(self, earlier: MonoNs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` minus `ns` nanoseconds, not before the start of the clock.
    #[must_use]
    pub const fn before(self, ns: u64) -> MonoNs {
        MonoNs(self.0.saturating_sub(ns))
    }

    /// `self` plus `ns` nanoseconds.
    #[must_use]
    pub const fn after(self, ns: u64) -> MonoNs {
        MonoNs(self.0.saturating_add(ns))
    }

    /// The clock now.
    #[must_use]
    pub fn now() -> MonoNs {
        MonoNs(clock_ns(ClockId::Monotonic))
    }
}

/// One pair of clock readings: what turns monotonic into wall time, once for a whole run, so that
/// differences between printed times are the kernel's differences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Unix time in nanoseconds at monotonic time 0.
    pub wall_at_zero: i64,
}

impl Anchor {
    /// Reads both clocks; of several tries the one with the least time between the readings.
    #[must_use]
    pub fn now() -> Anchor {
        let mut best = (u64::MAX, 0);
        for _ in 0..16 {
            let before = clock_ns(ClockId::Monotonic);
            let wall = clock_ns(ClockId::Realtime);
            let after = clock_ns(ClockId::Monotonic);
            let width = after.saturating_sub(before);
            if width < best.0 {
                let middle = before + width / 2;
                best = (width, wall.cast_signed().wrapping_sub(middle.cast_signed()));
            }
        }
        Anchor { wall_at_zero: best.1 }
    }

    /// Unix time in nanoseconds of a monotonic time.
    #[must_use]
    pub const fn wall_ns(self, at: MonoNs) -> i64 {
        self.wall_at_zero.saturating_add_unsigned(at.0)
    }
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The length of a jiffy in nanoseconds, 1 s / CONFIG_HZ: the resolution of the coarse clock
/// (`KTIME_LOW_RES`).
#[must_use]
pub fn jiffy_ns() -> u64 {
    let resolution = rustix::time::clock_getres(ClockId::MonotonicCoarse);
    u64::try_from(resolution.tv_nsec).ok().filter(|&ns| ns != 0).unwrap_or(4_000_000)
}

/// A duration as a person reads it, at most seven characters: `850ns`, `12.3us`, `1.20ms`, `59.9s`, `2m05s`,
/// `3h07m`, `4d02h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Human(pub u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 16];
        let length = self.write(&mut text);
        f.pad(std::str::from_utf8(&text[..length]).unwrap_or("?"))
    }
}

impl Human {
    /// Writes the text without the formatting machinery, for rows; returns its length.
    #[must_use]
    pub fn write(self, text: &mut [u8; 16]) -> usize {
        let mut out = Cursor { text, length: 0 };
        match self.0 {
            ns if ns < US => out.number(ns).str("ns"),
            ns if ns < MS => out.three_digits::<US>(ns).str("us"),
            ns if ns < S => out.three_digits::<MS>(ns).str("ms"),
            ns if ns < 60 * S => out.three_digits::<S>(ns).str("s"),
            ns if ns < 3600 * S => out.pair(ns / (60 * S), "m", ns / S % 60, "s"),
            ns if ns < 86_400 * S => out.pair(ns / (3600 * S), "h", ns / (60 * S) % 60, "m"),
            ns => out.pair(ns / (86_400 * S), "d", ns / (3600 * S) % 24, "h"),
        };
        out.length
    }
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

struct Cursor<'a> {
    text: &'a mut [u8; 16],
    length: usize,
}

impl Cursor<'_> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.length + bytes.len();
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
        self
    }

    #[inline]
    fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.str(itoa::Buffer::new().format(number))
    }

    /// `value` in `UNIT`s, of which it has less than a thousand, with three significant digits: cut, never rounded up
    /// into the next unit. Of one that is known when it is compiled: no division is one then.
    fn three_digits<const UNIT: u64>(&mut self, value: u64) -> &mut Self {
        let digit = |number: u64| b'0' + (number % 10) as u8;
        let whole = value / UNIT;
        let hundredths = value % UNIT * 100 / UNIT;
        if whole < 10 {
            self.bytes(&[digit(whole), b'.', digit(hundredths / 10), digit(hundredths)])
        } else if whole < 100 {
            self.bytes(&[digit(whole / 10), digit(whole), b'.', digit(hundredths / 10)])
        } else {
            self.bytes(&[digit(whole / 100), digit(whole / 10), digit(whole)])
        }
    }

    fn two(&mut self, number: u64) -> &mut Self {
        if number < 10 {
            self.str("0");
        }
        self.number(number)
    }

    fn pair(&mut self, large: u64, large_unit: &str, small: u64, small_unit: &str) -> &mut Self {
        self.number(large).str(large_unit).two(small).str(small_unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let check = |ns: u64, text: &str| assert_eq!(Human(ns).to_string(), text);
        check(0, "0ns");
        check(999, "999ns");
        check(1_000, "1.00us");
        check(12_345, "12.3us");
        check(999_999, "999us");
        check(1_204_000, "1.20ms");
        check(59_990_000_000, "59.9s");
        check(59_999_999_999, "59.9s");
        check(60_000_000_000, "1m00s");
        check(125_000_000_000, "2m05s");
        check(3_599_999_999_999, "59m59s");
        check(3_600_000_000_000, "1h00m");
        check(356_400_000_000_000, "4d03h");
        check(u64::MAX, "213503d23h");
    }

    #[test]
    fn a_number_alone_is_seconds() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(parse(text).ok(), ms.map(Duration::from_millis), "{text}");
        };
        check("5", Some(5_000));
        check(" 5s ", Some(5_000));
        check("0", Some(0));
        check("500ms", Some(500));
        check("1m 30s", Some(90_000));
        check("5 apples", None);
        check("-5", None);
        check("", None);
        check("99999999999999999999", None);
    }

    #[test]
    fn the_anchor_agrees_with_the_system_clock() {
        let anchor = Anchor::now();
        let ours = anchor.wall_ns(MonoNs::now());
        let theirs = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos();
        assert!(i128::from(ours).abs_diff(theirs.cast_signed()) < 1_000_000_000);
    }
}
