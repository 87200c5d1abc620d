//! Growth that goes on, told from the times at which the members of a group came.
//!
//! The model of a leak: **survivors keep coming, over several generations, while those before them
//! stay.** Whether they stay says [`cohort`](super::cohort). Whether they keep coming is decided here,
//! from the arrival times of those that are still there. No pace is assumed: one a minute and fifty a
//! second are judged by the same test, each at its own pace. There must be a time span up to now in which
//!
//! - they came in at least [`GENERATIONS`] separate moments (a sixteenth of the span apart): a burst is
//!   one moment, however many it has;
//! - no pause between two arrivals is longer than a third of the span;
//! - the silence since the last arrival is not longer than twice the longest pause before it. A pool that
//!   has reached its bound, a warm-up that is over and a deploy fall silent, and are no growth from
//!   then on.

use crate::engine::rules::growth::as_f64;
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;

/// Separate moments of arrival that make a leak.
pub(crate) const GENERATIONS: usize = 4;
/// Separate moments of arrival that make a rate.
pub(crate) const RATE: usize = 3;
/// Two arrivals are of one generation when they are less than this part of the span apart.
const APART: u64 = 16;
/// The longest pause is at most this part of the span.
const PAUSE: u64 = 3;
/// Fewer than this are no burst.
const BURST: u64 = 8;
/// Rates are of the last ten minutes, where these have enough arrivals.
const RATE_SPAN_NS: u64 = 600 * SECOND;

/// How sure to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Separate moments of arrival, at least.
    pub(crate) generations: usize,
    /// Shortest time span that counts, nanoseconds.
    pub(crate) span_ns: u64,
    /// It was growing at the last look. Then twice the silence is taken for a pause: a verdict is not to
    /// change with every pause that is a little longer than the last.
    pub(crate) grew: bool,
}

/// Growth that goes on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Pace {
    /// More of them a minute.
    pub(crate) per_minute: f64,
}

/// Whether arrivals go on until `until`, and how fast. `times` are ascending; those after `until` are
/// not counted.
pub(crate) fn goes_on(times: &[MonoNs], until: MonoNs, ask: Ask) -> Option<Pace> {
    let times = &times[..times.partition_point(|&at| at <= until)];
    let (&last, _) = times.split_last()?;
    let silence = until.since(last);
    let (patience, floor) = if ask.grew { (4, 5 * SECOND) } else { (2, SECOND) };
    let mut longest = 0;
    let mut found = None;
    // The next span that is worth the counting: each a quarter longer than the last that was counted.
    let mut next = ask.span_ns.max(1);
    for (index, &first) in times.iter().enumerate().rev() {
        if let Some(&after) = times.get(index + 1) {
            longest = longest.max(after.since(first));
        }
        let span = until.since(first);
        // The first of all may be the last chance.
        if span < next && (index != 0 || span < ask.span_ns.max(1)) {
            continue;
        }
        if found.is_some() && span > RATE_SPAN_NS {
            break;
        }
        let silent =
            silence > floor.max(longest.saturating_mul(patience)) || silence > span / PAUSE;
        if silent || longest > span / PAUSE {
            continue;
        }
        next = span.saturating_add(span / 4);
        let came = &times[index..];
        if moments(came, span / APART) >= ask.generations {
            found = Some(Pace { per_minute: rate(came, first, span) });
        }
    }
    found
}

/// Arrivals that are at least `apart` from the one before that counts.
fn moments(times: &[MonoNs], apart: u64) -> usize {
    let mut count = 0;
    let mut next = MonoNs(0);
    for &at in times {
        if at >= next {
            count += 1;
            next = at.after(apart.max(1));
        }
    }
    count
}

/// Arrivals a minute. Where most came in one quarter of the span that is a burst, and not the pace: then of
/// the two middling quarters.
fn rate(times: &[MonoNs], first: MonoNs, span: u64) -> f64 {
    let mut quarters = [0u64; 4];
    for at in times {
        let part = at.since(first).saturating_mul(4) / span.max(1);
        quarters[usize::try_from(part).unwrap_or(3).min(3)] += 1;
    }
    quarters.sort_unstable();
    let all: u64 = quarters.iter().sum();
    let middling = quarters[1] + quarters[2];
    if quarters[3] > BURST && quarters[3] * 3 > all * 2 && middling != 0 {
        return as_f64(middling) * 2.0 * 60e9 / as_f64(span.max(1));
    }
    // The first begins the span, those after it came within.
    let until = times.last().map_or(span, |last| last.since(first));
    as_f64(all.saturating_sub(1)) * 60e9 / as_f64(until.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: u64 = 60 * SECOND;
    const ASK: Ask = Ask { generations: GENERATIONS, span_ns: T, grew: false };

    /// Arrival times from so many seconds ago.
    fn ago(now: MonoNs, seconds: impl IntoIterator<Item = f64>) -> Vec<MonoNs> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, positive"
        )]
        let mut times: Vec<MonoNs> =
            seconds.into_iter().map(|ago| now.before((ago * 1e9) as u64)).collect();
        times.sort_unstable();
        times
    }

    fn every(step: f64, from: f64, until: f64) -> Vec<f64> {
        let mut out = Vec::new();
        let mut at = from;
        while at >= until {
            out.push(at);
            at -= step;
        }
        out
    }

    #[test]
    fn what_goes_on_is_told_from_what_is_over() {
        let now = MonoNs(1_000_000 * SECOND);
        let check = |what: &str, seconds: Vec<f64>, expect: Option<f64>| {
            let got = goes_on(&ago(now, seconds), now, ASK).map(|pace| pace.per_minute);
            match (got, expect) {
                (Some(got), Some(expect)) => {
                    assert!((got - expect).abs() < expect * 0.3, "{what}: {got}, not {expect}");
                }
                (got, expect) => assert_eq!(got, expect, "{what}"),
            }
        };
        let twenty = |at: f64| (0..20).map(move |index| at - f64::from(index) * 0.01);
        check("one a minute", every(60.0, 250.0, 0.0), Some(1.0));
        check("one a minute for hours", every(60.0, 20_000.0, 0.0), Some(1.0));
        check("fifty a second", every(0.02, 63.0, 0.0), Some(3_000.0));
        check(
            "twenty each five minutes",
            (0..5).flat_map(|b| twenty(300.0 * f64::from(b) + 50.0)).collect(),
            Some(4.0),
        );
        check(
            "old ones, then one a second",
            twenty(90_000.0).chain(every(1.0, 70.0, 0.0)).collect(),
            Some(60.0),
        );
        check("nothing", vec![], None);
        check("one", vec![70.0], None);
        check("three", vec![300.0, 150.0, 30.0], None);
        check("a burst", twenty(70.0).collect(), None);
        check("two bursts", twenty(370.0).chain(twenty(70.0)).collect(), None);
        check("a burst at this moment", twenty(1.0).collect(), None);
        check(
            "an old burst and one at this moment",
            twenty(100.0).chain(twenty(1.0)).collect(),
            None,
        );
        check("ten seconds of many, then none for three", every(0.001, 13.0, 3.0), None);
        check("forty, one a second, then none for a minute", every(1.0, 100.0, 60.0), None);
        check("two hundred, one a second, then none for 3 s", every(1.0, 203.0, 3.0), None);
        check("ten, one a minute, then none for 3 minutes", every(60.0, 720.0, 180.0), None);
        check("it stopped half an hour ago", every(60.0, 9_000.0, 1_800.0), None);
    }

    #[test]
    fn what_grew_may_pause() {
        let now = MonoNs(1_000_000 * SECOND);
        let times = ago(now, every(20.0, 600.0, 70.0));
        assert_eq!(goes_on(&times, now, ASK), None);
        assert!(goes_on(&times, now, Ask { grew: true, ..ASK }).is_some());
        let times = ago(now, every(20.0, 600.0, 100.0));
        assert_eq!(goes_on(&times, now, Ask { grew: true, ..ASK }), None);
    }

    #[test]
    fn a_burst_on_the_way_is_not_the_pace() {
        let now = MonoNs(1_000_000 * SECOND);
        let burst = (0..1_000).map(|_| 300.0);
        let times = ago(now, every(20.0, 590.0, 0.0).into_iter().chain(burst));
        let pace = goes_on(&times, now, ASK).expect("it goes on");
        assert!((pace.per_minute - 3.0).abs() < 1.0, "{pace:?}");
    }

    proptest! {
        /// Whatever the pace and however unsteady, arrivals that go on are found.
        #[test]
        fn arrivals_that_go_on_are_found(
            step in 0.01f64..60.0, wobble in proptest::collection::vec(0.5f64..1.5, 8), span in 300f64..3_000.0,
        ) {
            let now = MonoNs(1_000_000 * SECOND);
            let mut at = span;
            let mut seconds = Vec::new();
            while at > 0.0 {
                seconds.push(at);
                at -= step * wobble[seconds.len() % wobble.len()];
            }
            prop_assert!(goes_on(&ago(now, seconds), now, ASK).is_some());
        }

        /// A pool that fills up to its bound, at whatever pace, and then gets no more: once it has been
        /// silent for half as long as it took, it is no growth any more.
        #[test]
        fn a_pool_at_its_bound_does_not_grow(
            bound in 1usize..300, gaps in proptest::collection::vec(0f64..60.0, 1..40), more in 1f64..1e5,
        ) {
            let mut seconds = vec![0.0];
            for index in 1..bound {
                seconds.push(seconds[index - 1] + gaps[index % gaps.len()]);
            }
            let end = seconds[bound - 1] * 1.5 + more;
            let now = MonoNs(1_000_000_000 * SECOND);
            let times = ago(now, seconds.into_iter().map(|at| end - at));
            for grew in [false, true] {
                // 5 s of silence are a pause to what grew.
                prop_assume!(more > 6.0);
                prop_assert_eq!(goes_on(&times, now, Ask { grew, ..ASK }), None);
            }
        }

        #[test]
        fn times_do_not_panic(times in proptest::collection::vec(any::<u64>(), 0..50), until in any::<u64>(), span_ns in any::<u64>()) {
            let mut times: Vec<MonoNs> = times.into_iter().map(MonoNs).collect();
            times.sort_unstable();
            let _ = goes_on(&times, MonoNs(until), Ask { generations: 3, span_ns, grew: true });
        }
    }
}
