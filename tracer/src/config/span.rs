//! Which part of a recording is replayed.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::cli;
use crate::config::error::UsageError;

const EXAMPLES: &str = "03:00, '2026-11-28 03:00', 2026-11-28T03:00:00Z, or -20m (before the end)";

/// A moment, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// A moment.
    At(Timestamp),
    /// A date and time where the reader is.
    Local(DateTime),
    /// A time of day where the reader is.
    TimeOfDay(Time),
    /// So long before the recording's end.
    BeforeEnd(Duration),
}

/// Which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// From one moment to another; what is not given is the recording's beginning or end.
    Times {
        /// The first moment.
        from: Option<When>,
        /// The last moment.
        to: Option<When>,
    },
    /// Around the appearance of a finding: its id, or a code such as TT101 for the newest that has it.
    Around(String),
}

/// The span that is asked for, if one is.
pub(super) fn span(
    from: Option<&String>,
    to: Option<&String>,
    around: Option<&String>,
) -> Result<Option<Span>, UsageError> {
    if let Some(around) = around {
        return Ok(Some(Span::Around(around.clone())));
    }
    let when = |name: &str, text: &String| {
        let wrong = || UsageError(format!("--{name} {text}: not a time; give one like {EXAMPLES}"));
        When::parse(text.trim()).ok_or_else(wrong)
    };
    let from = from.map(|text| when("from", text)).transpose()?;
    let to = to.map(|text| when("to", text)).transpose()?;
    Ok((from.is_some() || to.is_some()).then_some(Span::Times { from, to }))
}

impl When {
    fn parse(text: &str) -> Option<When> {
        if let Some(time) = text.strip_prefix('-') {
            return cli::duration(time).map(When::BeforeEnd);
        }
        let at = || text.parse().ok().map(When::At);
        let local = || text.parse().ok().map(When::Local);
        let time = || text.parse().ok().map(When::TimeOfDay);
        at().or_else(local).or_else(time)
    }

    /// As Unix time in nanoseconds. Of the days that have such a time of day, the last up to `limit`, or with `after`
    /// the first that is later.
    fn resolve(&self, limit: i64, after: Option<i64>, zone: &TimeZone) -> Option<i64> {
        let local = |time: DateTime| ns(zone.to_timestamp(time).ok()?);
        match self {
            When::At(time) => ns(*time),
            When::Local(time) => local(*time),
            When::BeforeEnd(time) => {
                Some(limit.saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
            }
            When::TimeOfDay(time) => {
                let near = Timestamp::from_nanosecond(after.unwrap_or(limit).into()).ok()?;
                let day = near.to_zoned(zone.clone()).date();
                let on = |days: i64| -> Option<i64> {
                    let day: Date = day.checked_add(days.days()).ok()?;
                    local(day.to_datetime(*time))
                };
                match after {
                    Some(after) => (0..=2).filter_map(on).find(|at| *at > after),
                    None => (-2..=0).rev().filter_map(on).find(|at| *at <= limit),
                }
            }
        }
    }
}

fn ns(time: Timestamp) -> Option<i64> {
    i64::try_from(time.as_nanosecond()).ok()
}

/// From one moment to another of a recording that has these two, all as Unix time in nanoseconds.
///
/// # Errors
/// When nothing of it lies between them; says what there is.
pub fn between(
    (from, to): (Option<&When>, Option<&When>),
    (begin, end): (i64, i64),
    zone: &TimeZone,
) -> Result<(i64, i64), String> {
    let beyond = || "such a time cannot be".to_owned();
    let open = (from.is_none(), to.is_none());
    let from = match from {
        Some(from) => Some(from.resolve(end, None, zone).ok_or_else(beyond)?),
        None => None,
    };
    let to = match to {
        // The time of day after the one it begins at; of one that goes back, the end does not matter.
        Some(to @ When::TimeOfDay(_)) => to.resolve(end, from, zone),
        Some(to) => to.resolve(end, None, zone),
        None => Some(end),
    };
    let (from, to) = (from.unwrap_or(begin), to.ok_or_else(beyond)?);
    let said = |at| moment(at, zone);
    let there_is = || format!("the recording has {} to {}", said(begin), said(end));
    match open {
        (true, false) if to < begin => {
            return Err(format!("nothing was recorded before {}: {}", said(to), there_is()));
        }
        (false, true) if from > end => {
            return Err(format!("nothing was recorded after {}: {}", said(from), there_is()));
        }
        _ => {}
    }
    if from >= to {
        return Err(format!(
            "the time begins at {} and ends at {}: give a --to that is later than --from",
            said(from),
            said(to)
        ));
    }
    if from > end || to < begin {
        return Err(format!(
            "nothing was recorded from {} to {}: {}",
            said(from),
            said(to),
            there_is()
        ));
    }
    Ok((from.max(begin), to.min(end)))
}

/// `2026-11-28 03:10:00`, where the reader is.
#[must_use]
pub fn moment(at: i64, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(at.into()) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> i64 {
        ns(text.parse().expect("a time")).expect("in this age")
    }

    fn check(from: &str, to: &str, there: (&str, &str), expect: Result<(&str, &str), &str>) {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let [from, to] = [from, to].map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let what = format!("{from:?} {to:?} {there:?}");
        let span = span(from.as_ref(), to.as_ref(), None).map_err(|error| error.to_string());
        let told = span.and_then(|span| {
            let Some(Span::Times { from, to }) = span else { panic!("{what}") };
            between((from.as_ref(), to.as_ref()), (at(there.0), at(there.1)), &zone)
        });
        match (told, expect) {
            (Err(told), Err(part)) => assert!(told.contains(part), "{what}: {told}"),
            (told, expect) => {
                assert_eq!(told.ok(), expect.ok().map(|(from, to)| (at(from), at(to))), "{what}");
            }
        }
    }

    #[test]
    fn times_are_of_the_last_day_that_has_them_where_the_reader_is() {
        // From 10:00 to 10:30 on the day after, an hour ahead of UTC.
        let day = ("2026-11-27T09:00:00Z", "2026-11-28T09:30:00Z");
        check("03:00", "03:20", day, Ok(("2026-11-28T02:00:00Z", "2026-11-28T02:20:00Z")));
        check("10:10", "", day, Ok(("2026-11-28T09:10:00Z", day.1)));
        // Beyond the end: it was yesterday.
        check("11:00", "12:00", day, Ok(("2026-11-27T10:00:00Z", "2026-11-27T11:00:00Z")));
        // Over midnight.
        check("23:50", "00:10", day, Ok(("2026-11-27T22:50:00Z", "2026-11-27T23:10:00Z")));
        check("", "03:00", day, Ok((day.0, "2026-11-28T02:00:00Z")));
        check("-20m", "", day, Ok(("2026-11-28T09:10:00Z", day.1)));
        check("-1h", "-20m", day, Ok(("2026-11-28T08:30:00Z", "2026-11-28T09:10:00Z")));
        let both = Ok(("2026-11-28T03:00:00Z", "2026-11-28T03:20:00Z"));
        check("2026-11-28T03:00:00Z", "2026-11-28T04:20:00+01:00", day, both);
        check("2026-11-28 04:00", "2026-11-28T04:20", day, both);
        // As far as there is any of it.
        check("-3d", "", day, Ok(day));
    }

    #[test]
    fn what_cannot_be_is_told_with_what_there_is() {
        let day = ("2026-11-28T09:00:00Z", "2026-11-28T09:30:00Z");
        let there = "the recording has 2026-11-28 10:00:00 to 2026-11-28 10:30:00";
        check("03:00", "03:20", day, Err(there));
        check("2026-11-29 03:00", "2026-11-29 04:00", day, Err(there));
        check(
            "",
            "2001-01-01",
            day,
            Err("nothing was recorded before 2001-01-01 00:00:00: the recording has"),
        );
        check(
            "2099-01-01",
            "",
            day,
            Err("nothing was recorded after 2099-01-01 00:00:00: the recording has"),
        );
        check("-10m", "-20m", day, Err("later than --from"));
        check("25:00", "", day, Err("--from 25:00: not a time"));
        check("", "soon", day, Err("--to soon: not a time"));
        check("-", "", day, Err("not a time"));
    }

    proptest! {
        #[test]
        fn what_is_found_lies_in_the_recording(
            (from, to) in ("[-0-9:TZ +mhd.]{0,20}", "[-0-9:TZ +mhd.]{0,20}"),
            begin in 0..4_000_000_000_000_000_000i64,
            length in 0..400_000_000_000_000_000i64,
        ) {
            let end = begin + length;
            if let Ok(Some(Span::Times { from, to })) = span(Some(&from), Some(&to), None)
                && let Ok(found) =
                    between((from.as_ref(), to.as_ref()), (begin, end), &TimeZone::UTC)
            {
                prop_assert!(begin <= found.0 && found.0 <= found.1 && found.1 <= end);
            }
        }
    }
}
