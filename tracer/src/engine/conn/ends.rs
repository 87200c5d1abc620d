//! When TIME_WAITs are due to end: four bytes for each, and nothing to sort.

use crate::time::MonoNs;

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds ahead that are told apart: more than a TIME_WAIT lasts, with the grain of its timer.
const SECONDS: usize = 128;

/// Room that a second keeps for the next time.
const KEPT: usize = 4_096;

/// Places of connections by the second they are due in. One that is due later than it was put in comes out too
/// early, and is put in again: so a timer that is set anew costs nothing here.
#[derive(Debug, Default)]
pub(super) struct Ends {
    seconds: Vec<Vec<u32>>,
    /// All before this one are empty.
    next: u64,
}

impl Ends {
    /// The connection at `place` is due then.
    pub(super) fn add(&mut self, place: u32, due: MonoNs) {
        if self.seconds.is_empty() {
            self.seconds.resize_with(SECONDS, Vec::new);
        }
        let ahead = (due.0 / SECOND_NS).saturating_sub(self.next).min(SECONDS as u64 - 1);
        if let Some(second) = self.second(self.next + ahead) {
            second.push(place);
        }
    }

    /// Takes out what is due by now, and some that will be within the second.
    pub(super) fn take(&mut self, now: MonoNs, out: &mut Vec<u32>) {
        let last = now.0 / SECOND_NS;
        let first = self.next.max(last.saturating_sub(SECONDS as u64 - 1));
        for number in first..=last {
            if let Some(second) = self.second(number) {
                out.append(second);
                second.shrink_to(KEPT);
            }
        }
        self.next = self.next.max(last);
    }

    fn second(&mut self, number: u64) -> Option<&mut Vec<u32>> {
        let place = number % SECONDS as u64;
        self.seconds.get_mut(usize::try_from(place).unwrap_or(0))
    }

    /// Everything that is in.
    #[cfg(test)]
    pub(super) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.seconds.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ends: &mut Ends, ms: u64) -> Vec<u32> {
        let mut out = Vec::new();
        ends.take(MonoNs(ms * 1_000_000), &mut out);
        out.sort_unstable();
        out
    }

    #[test]
    fn what_is_due_comes_out_and_nothing_twice() {
        let mut ends = Ends::default();
        assert!(take(&mut ends, 5_000).is_empty());
        let mut add = |place, ms: u64| ends.add(place, MonoNs(ms * 1_000_000));
        add(1, 65_100);
        add(2, 64_900);
        add(3, 66_000);
        // Long past, and too far ahead: each comes out somewhat early or late, and is looked at.
        add(4, 10);
        add(5, 900_000);
        assert_eq!(take(&mut ends, 6_000), [4]);
        assert_eq!(take(&mut ends, 64_950), [2]);
        assert_eq!(take(&mut ends, 65_050), [1]);
        ends.add(1, MonoNs(65_100_000_000));
        assert_eq!(take(&mut ends, 66_050), [1, 3]);
        assert!(take(&mut ends, 66_060).is_empty());
        assert!(take(&mut ends, 60_000).is_empty(), "a clock that goes back");
        assert_eq!(take(&mut ends, 10_000_000), [5]);
    }

    #[test]
    fn room_of_a_rush_is_given_back() {
        let mut ends = Ends::default();
        for place in 0..100_000 {
            ends.add(place, MonoNs(3 * SECOND_NS));
        }
        assert_eq!(take(&mut ends, 3_500).len(), 100_000);
        assert!(ends.seconds.iter().all(|second| second.capacity() <= 2 * KEPT));
    }
}
