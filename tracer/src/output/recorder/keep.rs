//! Which segments go. Pure: the clock and the sizes are arguments.

/// A segment that is complete. Times are Unix time in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) bytes: u64,
}

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Segments that ended longer ago go, unless they are pinned. Nanoseconds.
    pub(super) age: i64,
    /// All segments together have no more bytes, pinned or not.
    pub(super) bytes: u64,
    /// Segments within this time of the appearance of a finding are pinned. Nanoseconds.
    pub(super) pin: i64,
}

/// Whether a segment is within the time of an appearance.
pub(super) fn is_pinned(part: &Part, appeared: &[i64], pin: i64) -> bool {
    appeared
        .iter()
        .any(|at| part.begin <= at.saturating_add(pin) && part.end >= at.saturating_sub(pin))
}

/// Places of the segments that go, in the order they are to go. `parts` have the oldest first; `open` is how many bytes
/// the segment has that is being written.
pub(super) fn to_remove(
    parts: &[Part],
    appeared: &[i64],
    limits: &Limits,
    now: i64,
    open: u64,
) -> Vec<usize> {
    let pinned: Vec<bool> =
        parts.iter().map(|part| is_pinned(part, appeared, limits.pin)).collect();
    let is_old = |part: &Part| part.end < now.saturating_sub(limits.age);
    let (mut gone, left): (Vec<usize>, Vec<usize>) =
        (0..parts.len()).partition(|&at| is_old(&parts[at]) && !pinned[at]);
    let mut bytes = left.iter().map(|&at| parts[at].bytes).fold(open, u64::saturating_add);
    // The oldest that nothing pins; only when there is none left, the oldest that is pinned.
    for with_pin in [false, true] {
        for &at in left.iter().filter(|&&at| pinned[at] == with_pin) {
            if bytes <= limits.bytes {
                return gone;
            }
            bytes -= parts[at].bytes;
            gone.push(at);
        }
    }
    gone
}

/// The segment that goes when the disk is full: the oldest that nothing pins, else the oldest.
pub(super) fn first_to_go(parts: &[Part], appeared: &[i64], pin: i64) -> Option<usize> {
    let free = parts.iter().position(|part| !is_pinned(part, appeared, pin));
    free.or((!parts.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Five segments of ten seconds and ten bytes each, from 0 to 50.
    fn five() -> Vec<Part> {
        (0..5).map(|n| Part { begin: n * 10, end: n * 10 + 10, bytes: 10 }).collect()
    }

    #[test]
    fn the_old_go_and_then_the_oldest_while_there_is_too_much() {
        let check = |appeared: &[i64], (age, bytes, pin), now, open, expect: &[usize]| {
            let limits = Limits { age, bytes, pin };
            assert_eq!(to_remove(&five(), appeared, &limits, now, open), expect, "{limits:?}");
        };
        check(&[], (100, 100, 5), 50, 0, &[]);
        // By age: those that ended before 25.
        check(&[], (25, 100, 5), 50, 0, &[0, 1]);
        // By size, with what is being written.
        check(&[], (100, 50, 5), 50, 0, &[]);
        check(&[], (100, 50, 5), 50, 1, &[0]);
        check(&[], (100, 25, 5), 50, 0, &[0, 1, 2]);
        check(&[], (25, 25, 5), 50, 0, &[0, 1, 2]);
        // A finding that appeared at 4 pins what is within five seconds of it: all of the first, and no other.
        check(&[4], (25, 100, 5), 50, 0, &[1]);
        // One at 5 pins the second, too, which begins at 10.
        check(&[5], (25, 100, 5), 50, 0, &[]);
        // The size bounds what is pinned, too: it goes last.
        check(&[4], (100, 30, 5), 50, 0, &[1, 2]);
        check(&[4], (100, 5, 5), 50, 0, &[1, 2, 3, 4, 0]);
        check(&[4], (100, 30, 5), 50, 1_000, &[1, 2, 3, 4, 0]);
    }

    #[test]
    fn a_full_disk_takes_the_oldest_that_is_not_pinned() {
        let check = |parts: &[Part], appeared: &[i64], expect| {
            assert_eq!(first_to_go(parts, appeared, 5), expect);
        };
        check(&five(), &[], Some(0));
        check(&five(), &[4], Some(1));
        check(&five()[..1], &[4], Some(0));
        check(&[], &[4], None);
    }

    proptest! {
        #[test]
        fn the_size_holds_and_what_is_pinned_and_fits_stays(
            sizes in proptest::collection::vec(0..100u64, 0..30),
            appeared in proptest::collection::vec(0..300i64, 0..4),
            (age, bytes, pin) in (0..300i64, 0..2_000u64, 0..50i64),
            open in 0..100u64,
        ) {
            let parts: Vec<Part> = sizes.iter().zip(0..).map(|(&bytes, n)| {
                Part { begin: n * 10, end: n * 10 + 10, bytes }
            }).collect();
            let limits = Limits { age, bytes, pin };
            let gone = to_remove(&parts, &appeared, &limits, 300, open);
            let mut unique = gone.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), gone.len());
            let stays = |at: &usize| !gone.contains(at);
            let left: u64 = (0..parts.len()).filter(stays).map(|at| parts[at].bytes).sum();
            prop_assert!(left + open <= bytes || left == 0);
            // Something pinned goes only when nothing that is not pinned is left.
            let pinned = |at: &usize| is_pinned(&parts[*at], &appeared, pin);
            if gone.iter().any(pinned) {
                prop_assert!((0..parts.len()).filter(stays).all(|at| pinned(&at)));
            }
            // What is neither old nor too much stays.
            if parts.iter().map(|part| part.bytes).sum::<u64>() + open <= bytes {
                prop_assert!(gone.iter().all(|&at| parts[at].end < 300 - age && !pinned(&at)));
            }
        }
    }
}
