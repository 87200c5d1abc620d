//! Wall time as text, with the part that changes once a second kept.

use jiff::tz::TimeZone;

use crate::time::{Anchor, MonoNs};

const SECOND: i64 = 1_000_000_000;

/// Renders moments as RFC 3339 in UTC (JSON) and as local time of day (text).
#[derive(Debug)]
pub struct Clock {
    anchor: Anchor,
    zone: TimeZone,
    utc: Stamp,
    local: Stamp,
}

/// The part that is the same for a second.
#[derive(Debug, Default)]
struct Stamp {
    text: Vec<u8>,
    /// When the second begins, Unix time in nanoseconds.
    begins: i64,
}

impl Stamp {
    /// The nanoseconds since the second began. Of another second, `write` makes the text first.
    #[inline]
    fn at(&mut self, wall: i64, write: impl FnOnce(i64) -> Vec<u8>) -> u32 {
        let within = wall.wrapping_sub(self.begins);
        if !(0..SECOND).contains(&within) || self.text.is_empty() {
            let second = wall.div_euclid(SECOND);
            self.begins = second.wrapping_mul(SECOND);
            self.text = write(second);
        }
        // Less than a second.
        wall.wrapping_sub(self.begins) as u32
    }

    /// The text with `DIGITS` behind it. It has `TEXT` bytes, both have `BOTH`, and are copied in one piece; before the
    /// year 0 and after 9999 it is longer.
    #[inline]
    fn write<const TEXT: usize, const DIGITS: usize, const BOTH: usize>(
        &self,
        number: u32,
        out: &mut Vec<u8>,
    ) {
        const { assert!(TEXT + DIGITS == BOTH) };
        let digits = digits::<DIGITS>(number);
        if let Ok(text) = <[u8; TEXT]>::try_from(&*self.text) {
            let mut both = [0; BOTH];
            both[..TEXT].copy_from_slice(&text);
            both[TEXT..].copy_from_slice(&digits);
            out.extend_from_slice(&both);
        } else {
            out.extend_from_slice(&self.text);
            out.extend_from_slice(&digits);
        }
    }
}

impl Clock {
    /// With the anchor of a run and the time zone of the reader.
    #[must_use]
    pub fn new(anchor: Anchor, zone: TimeZone) -> Self {
        Clock { anchor, zone, utc: Stamp::default(), local: Stamp::default() }
    }

    /// The time zone of the reader.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Another run's anchor.
    pub fn set_anchor(&mut self, anchor: Anchor) {
        *self = Clock::new(anchor, self.zone.clone());
    }

    /// `2026-11-20T11:05:47.123456789Z`.
    #[inline]
    pub fn rfc3339(&mut self, at: MonoNs, out: &mut Vec<u8>) {
        let wall = self.anchor.wall_ns(at);
        let write = |second| stamp(second, &TimeZone::UTC, "%Y-%m-%dT%H:%M:%S");
        let ns = self.utc.at(wall, write);
        self.utc.write::<20, 9, 29>(ns, out);
        out.push(b'Z');
    }

    /// `11:05:47.123`, twelve characters.
    pub fn time_of_day(&mut self, at: MonoNs, out: &mut Vec<u8>) {
        let wall = self.anchor.wall_ns(at);
        let ns = self.local.at(wall, |second| stamp(second, &self.zone, "%H:%M:%S"));
        self.local.write::<9, 3, 12>(ns / 1_000_000, out);
    }
}

/// With the point that stands before its parts.
fn stamp(second: i64, zone: &TimeZone, format: &str) -> Vec<u8> {
    let text = match jiff::Timestamp::from_second(second) {
        Ok(time) => time.to_zoned(zone.clone()).strftime(format).to_string(),
        // A recording with a clock beyond the year 9999.
        Err(_) => second.to_string(),
    };
    (text + ".").into_bytes()
}

/// The last `N` digits. Two at a time are half as many steps.
#[inline]
fn digits<const N: usize>(mut rest: u32) -> [u8; N] {
    let mut text = [b'0'; N];
    for pair in text.rchunks_mut(2) {
        let two = PAIRS[(rest % 100) as usize];
        rest /= 100;
        match pair {
            [tens, ones] => [*tens, *ones] = two,
            [ones] => *ones = two[1],
            _ => {}
        }
    }
    text
}

/// Numbers of two digits as text.
static PAIRS: [[u8; 2]; 100] = {
    let mut all = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        all[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rendered_to_their_last_digit() {
        let anchor = Anchor { wall_at_zero: 1_795_172_747_000_000_000 };
        let mut clock = Clock::new(anchor, TimeZone::fixed(jiff::tz::offset(1)));
        let mut check = |ns: u64, utc: &str, local: &str| {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            clock.rfc3339(MonoNs(ns), &mut one);
            clock.time_of_day(MonoNs(ns), &mut other);
            assert_eq!(String::from_utf8_lossy(&one), utc);
            assert_eq!(String::from_utf8_lossy(&other), local);
        };
        check(0, "2026-11-20T11:05:47.000000000Z", "12:05:47.000");
        check(1_999_999_999, "2026-11-20T11:05:48.999999999Z", "12:05:48.999");
        check(5, "2026-11-20T11:05:47.000000005Z", "12:05:47.000");
        check(13_000_000_000, "2026-11-20T11:06:00.000000000Z", "12:06:00.000");
        check(7_203_009_056, "2026-11-20T11:05:54.203009056Z", "12:05:54.203");
    }
}
