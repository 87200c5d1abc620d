//! Which segments of a flight recorder are read. Pure.

use std::ops::Range;

use crate::input::Origin;

/// What decides about a segment: which run it is of, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// The run: its clock, and when it began.
    pub(super) run: (i64, u64),
    pub(super) number: u32,
    /// Nothing is missing before it.
    pub(super) continues: bool,
    /// When it begins, Unix time in nanoseconds.
    pub(super) begin: i64,
}

impl Key {
    /// Of a segment's origin; `None` where it is no segment.
    pub(super) fn of(origin: &Origin) -> Option<Key> {
        let segment = origin.segment.as_ref()?;
        Some(Key {
            run: (origin.wall_at_zero, segment.run_ns),
            number: segment.number,
            continues: segment.continues,
            begin: origin.anchor().wall_ns(origin.start()),
        })
    }

    fn follows(&self, before: &Key) -> bool {
        let next = before.number.checked_add(1) == Some(self.number);
        self.continues && self.run == before.run && next
    }
}

/// Segments that follow each other without a gap, the oldest first. `keys` are in the order of their times.
pub(super) fn stretches(keys: &[Key]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for at in 0..keys.len() {
        match found.last_mut() {
            Some(last) if keys[at].follows(&keys[at - 1]) => last.end = at + 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}

/// The stretch to be read for the time from `from` to `to`: the one with the most of it. A stretch lasts until the next
/// begins, or until `end`.
pub(super) fn stretch(
    keys: &[Key],
    stretches: &[Range<usize>],
    (from, to): (i64, i64),
    end: i64,
) -> Option<usize> {
    let begin = |at: usize| Some(keys.get(stretches.get(at)?.start)?.begin);
    let share = |at: usize| {
        let until = begin(at + 1).unwrap_or(end).min(to);
        begin(at).map(|begin| until.saturating_sub(begin.max(from)))
    };
    // Of two with as much, the later.
    (0..stretches.len()).filter(|&at| share(at) >= Some(0)).max_by_key(|&at| share(at))
}

/// The segments of a stretch that are read: those from `from` to `to`, and those of `lead` before, so that what is
/// known at `from` is nearly what was known live.
pub(super) fn parts(
    keys: &[Key],
    stretch: Range<usize>,
    (from, to): (i64, i64),
    lead: i64,
) -> Range<usize> {
    let of = keys.get(stretch.clone()).unwrap_or_default();
    let early = from.saturating_sub(lead);
    let first = of.partition_point(|key| key.begin <= early).saturating_sub(1);
    let last = of.partition_point(|key| key.begin <= to).max(first + 1).min(of.len());
    stretch.start + first..stretch.start + last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: u64, number: u32, continues: bool, begin: i64) -> Key {
        Key { run: (0, run), number, continues, begin }
    }

    /// A run, a run with a gap, of which one segment is missing.
    fn keys() -> Vec<Key> {
        vec![
            key(1, 0, false, 0),
            key(1, 1, true, 10),
            key(1, 2, true, 20),
            key(2, 0, false, 40),
            key(2, 1, false, 50),
            key(2, 2, true, 60),
            key(2, 4, true, 80),
        ]
    }

    #[test]
    fn what_follows_without_a_gap_is_read_as_one() {
        assert_eq!(stretches(&keys()), [0..3, 3..4, 4..6, 6..7]);
        assert!(stretches(&[]).is_empty());
        // The first of them was removed.
        assert_eq!(stretches(&keys()[1..3]), vec![Range { start: 0, end: 2 }]);
    }

    #[test]
    fn the_stretch_with_the_most_of_the_time_is_taken() {
        let keys = keys();
        let check = |span, expect| {
            let found = stretch(&keys, &stretches(&keys), span, 90);
            assert_eq!(found, expect, "{span:?}");
        };
        check((5, 25), Some(0));
        // Nothing was recorded from some time after 20 to 40, which nobody knows.
        check((30, 35), Some(0));
        check((15, 48), Some(0));
        check((39, 48), Some(1));
        check((55, 90), Some(2));
        check((85, 90), Some(3));
        check((100, 110), None);
    }

    #[test]
    fn segments_before_the_time_are_read_too() {
        let keys = keys();
        let check = |of, span, lead, expect| {
            assert_eq!(parts(&keys, of, span, lead), expect, "{span:?} {lead}");
        };
        check(0..3, (15, 25), 0, 1..3);
        check(0..3, (15, 18), 0, 1..2);
        check(0..3, (15, 18), 5, 1..2);
        check(0..3, (15, 18), 6, 0..2);
        check(0..3, (15, 18), 1_000, 0..2);
        check(4..6, (0, 1), 0, 4..5);
        check(4..6, (85, 90), 0, 5..6);
    }
}
