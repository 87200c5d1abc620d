//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);
/// A collector may ask for more than `MOST`, but not for ever.
const MOST_ASKED: Duration = Duration::from_secs(300);

/// Waits longer after each failure, and not as long as others do: many machines have the same collector.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    random: RandomState,
    tries: u64,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST, random: RandomState::new(), tries: 0 }
    }

    /// The last try succeeded.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Time to wait after a failure; at least what the collector asked for.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        self.tries += 1;
        let whole = self.next;
        self.next = (self.next * 2).min(MOST);
        // Three quarters up to five quarters of it.
        let share = self.random.hash_one(self.tries) % 1000;
        let share = u32::try_from(share).unwrap_or(0);
        let pause = whole * 3 / 4 + whole * share / 2000;
        pause.max(asked.unwrap_or_default().min(MOST_ASKED))
    }
}

/// The header `Retry-After`: seconds, or a date.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(value).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let pauses: Vec<_> = (0..8).map(|_| one.pause(None)).collect();
        for (pause, around) in pauses.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            let around = Duration::from_secs(around);
            assert!(*pause >= around * 3 / 4 && *pause < around * 5 / 4, "{pauses:?}");
        }
        assert_ne!(pauses, (0..8).map(|_| other.pause(None)).collect::<Vec<_>>());
        one.reset();
        assert!(one.pause(None) < Duration::from_secs(2));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(one.pause(asked(100)), Duration::from_secs(100));
        assert_eq!(one.pause(asked(u64::MAX)), MOST_ASKED);
        assert!(one.pause(asked(0)) >= Duration::from_secs(3));
    }

    #[test]
    fn what_the_collector_asks_for_is_read() {
        let now: Timestamp = "2026-11-29T01:00:00Z".parse().expect("a time");
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(retry_after(text, now), expect.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check(" 0 ", Some(0));
        check("Sun, 29 Nov 2026 01:00:09 GMT", Some(9));
        check("Sun, 29 Nov 2026 00:00:00 GMT", None);
        check("soon", None);
        check("-1", None);
        check("", None);
        check("99999999999999999999999", None);
    }
}
