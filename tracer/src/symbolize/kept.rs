//! When what was read of files is let go of: the symbols of one library may take 50 MB.
//!
//! Without a new stack for a while, or once it takes much, even while stacks keep coming. It has to be read again then:
//! the more that costs, the longer it is kept.

use std::time::{Duration, Instant};

/// Without a stack for so long nothing is kept.
const QUIET: Duration = Duration::from_secs(10);
/// Less than this is kept as long as stacks come, bytes.
const LITTLE: u64 = 16 << 20;
/// Much is kept for so many times what it took to read: that is 0.2 % of a processor.
const TIMES_ITS_COST: u32 = 500;

/// What is kept, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// The first stack that was named since, and the last.
    named: Option<(Instant, Instant)>,
    /// Processor time that took.
    took: Duration,
    /// Memory by which the process has grown meanwhile, bytes.
    bytes: u64,
}

impl Kept {
    /// A stack was named; this took so long, and made the process so much larger.
    pub(super) fn add(&mut self, now: Instant, took: Duration, bytes: u64) {
        let first = self.named.map_or(now, |(first, _)| first);
        self.named = Some((first, now));
        self.took += took;
        self.bytes += bytes;
    }

    /// When it is to be let go of, if no stack comes before.
    pub(super) fn until(&self) -> Option<Instant> {
        let (first, last) = self.named?;
        let quiet = last + QUIET;
        if self.bytes < LITTLE {
            return Some(quiet);
        }
        Some(quiet.min(first + QUIET.max(self.took * TIMES_ITS_COST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_let_go_of_though_stacks_come_but_not_to_be_read_again_at_once() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        // A stack each second, each with this cost: seconds until it is let go of, at most 1,000.
        let kept_for = |took_ms: u64, bytes: u64| {
            let mut kept = Kept::default();
            (0..1_000).find(|&at| {
                let now = start + second * at;
                kept.add(now, Duration::from_millis(took_ms), bytes);
                kept.until().is_some_and(|until| until <= now)
            })
        };
        assert_eq!(kept_for(1, 10), None);
        // With the sixteenth stack it is 16 MB, which took 16 ms: kept for 8 s at least.
        assert_eq!(kept_for(1, 1 << 20), Some(15));
        assert_eq!(kept_for(0, 8 << 20), Some(10));
        assert_eq!(kept_for(10, 8 << 20), None);
        let mut kept = Kept::default();
        assert_eq!(kept.until(), None);
        kept.add(start, second, 1 << 30);
        assert_eq!(kept.until(), Some(start + QUIET));
    }
}
