//! How the directory of the flight recorder is laid out, for who writes it and who reads it.
//!
//! | file | holds |
//! |---|---|
//! | `20261128T031000.123456789Z.tcpt` | a segment: a recording, named after the time (UTC) it begins |
//! | `findings.ndjson` | findings that appeared and ended, a [`Noted`] a line |
//! | `lock` | nothing; whoever records here has it locked |
//!
//! A segment's header says which run it is of, and its number there. All but the first of a run begin with the
//! sockets there were, as rows of a walk, up to the first `TICK`: whoever has replayed the segment before skips
//! that.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The file of findings.
pub const FINDINGS: &str = "findings.ndjson";

/// The file that is locked.
pub const LOCK: &str = "lock";

/// Most bytes of the file of findings that are read.
pub const MOST_FINDINGS: u64 = 16 << 20;

const EXTENSION: &str = ".tcpt";
const FORMAT: &str = "%Y%m%dT%H%M%S";

/// The name of a segment that begins at this Unix time in nanoseconds; `None` beyond the year 9999.
#[must_use]
pub fn name(begin: i64) -> Option<String> {
    let time = Timestamp::from_nanosecond(begin.into()).ok()?.to_zoned(TimeZone::UTC);
    let ns = begin.rem_euclid(1_000_000_000);
    Some(format!("{}.{ns:09}Z{EXTENSION}", time.strftime(FORMAT)))
}

/// When the segment of this name begins, Unix time in nanoseconds; `None` where it is not a segment's name.
#[must_use]
pub fn begin(name: &str) -> Option<i64> {
    let (second, ns) = name.strip_suffix(EXTENSION)?.strip_suffix('Z')?.split_once('.')?;
    let ns: i64 = ns.parse().ok().filter(|_| ns.len() == 9)?;
    let second = DateTime::strptime(FORMAT, second).ok()?.to_zoned(TimeZone::UTC).ok()?;
    let begin = second.timestamp().as_second().checked_mul(1_000_000_000)?.checked_add(ns)?;
    // Nothing but what `name` makes: a sign, a space, another number of digits.
    (self::name(begin)? == name).then_some(begin)
}

/// A finding that appeared or ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Noted {
    /// When, RFC 3339: for who reads the file.
    pub time: String,
    /// When, Unix time in nanoseconds.
    pub wall_ns: i64,
    /// It has ended; else it appeared.
    pub ended: bool,
    /// Of one that has ended, when it was last found; else as `wall_ns`.
    pub found_ns: i64,
    /// Segments around its appearance are kept longer.
    pub pins: bool,
    /// Its id, as `stuck --json` has it.
    pub id: String,
    /// Its code, such as TT101.
    pub code: String,
    /// What was the case, in a sentence.
    pub verdict: String,
}

/// The findings in the text of [`FINDINGS`], in their order. Lines that make no sense, such as a last one that was
/// cut, are left out.
#[must_use]
pub fn noted(text: &str) -> Vec<Noted> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_of_segments_are_taken_for_them() {
        let check = |name: &str, expect: Option<i64>| assert_eq!(begin(name), expect, "{name}");
        check("20261128T031000.123456789Z.tcpt", Some(1_795_835_400_123_456_789));
        check("20261128T031000.12345678Z.tcpt", None);
        check("20261128T031000.+12345678Z.tcpt", None);
        check("20261128T031000.123456789.tcpt", None);
        check("20261138T031000.123456789Z.tcpt", None);
        check("20261128T031000.123456789Z.tcpt.bak", None);
        check("incident.tcpt", None);
        check("findings.ndjson", None);
        check(".tcpt", None);
    }

    #[test]
    fn a_line_that_was_cut_hides_no_other() {
        let one = Noted {
            time: "2026-11-28T03:10:00Z".into(),
            wall_ns: 7,
            ended: false,
            found_ns: 7,
            pins: true,
            id: "close_wait:java".into(),
            code: "TT101".into(),
            verdict: "a \"b\"".into(),
        };
        let line = serde_json::to_string(&one).unwrap_or_default();
        let text = format!("{line}\nnonsense\n{line}\n{}", &line[..line.len() - 3]);
        assert_eq!(noted(&text), [one.clone(), one]);
    }

    proptest! {
        #[test]
        fn names_come_back_and_are_in_the_order_of_time(
            one in 0..4_000_000_000_000_000_000i64,
            other in 0..4_000_000_000_000_000_000i64,
        ) {
            let names = [one, other].map(|time| name(time).expect("before the year 9999"));
            prop_assert_eq!(begin(&names[0]), Some(one));
            prop_assert_eq!(one.cmp(&other), names[0].cmp(&names[1]));
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,60}") {
            let _ = (begin(&text), noted(&text));
        }
    }
}
