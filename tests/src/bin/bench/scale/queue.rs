//! What more processors would do to the ring's lock: a simulation, since there are two here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Processors, and which of them are near each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// How many.
    pub(crate) processors: usize,
    /// So many share a cache.
    pub(crate) group: usize,
    /// So many are in a socket.
    pub(crate) socket: usize,
}

/// How far the lock has come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Distance {
    Own,
    Group,
    Socket,
    Other,
}

impl Machine {
    fn distance(&self, from: usize, to: usize) -> Distance {
        if from == to {
            Distance::Own
        } else if from / self.group == to / self.group {
            Distance::Group
        } else if from / self.socket == to / self.socket {
            Distance::Socket
        } else {
            Distance::Other
        }
    }
}

/// Nanoseconds that a record keeps others from theirs, by where the last one was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// On the same processor.
    pub(crate) own: f64,
    /// On one that shares a cache.
    pub(crate) group: f64,
    /// Elsewhere in the socket.
    pub(crate) socket: f64,
    /// In another socket.
    pub(crate) other: f64,
}

impl Held {
    fn at(&self, distance: Distance) -> f64 {
        match distance {
            Distance::Own => self.own,
            Distance::Group => self.group,
            Distance::Socket => self.socket,
            Distance::Other => self.other,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Records a second that were written: fewer than were asked for when processors wait.
    pub(crate) per_second: f64,
    /// The lock's share of the time.
    pub(crate) busy: f64,
    /// Nanoseconds a record waited, on average.
    pub(crate) mean: f64,
    /// Of a hundred records one waited longer.
    pub(crate) p99: f64,
}

/// Each processor has something to write after a time that is random (exponential), gets the lock in its turn, and goes
/// on when it has written: one that waits makes no more events meanwhile. `per_second` is what all would
/// write if none waited.
pub(crate) fn simulate(machine: Machine, held: Held, per_second: f64, records: usize) -> Outcome {
    let mut random = Random(1);
    let think = machine.processors as f64 * 1e9 / per_second;
    // Nanoseconds, whole ones of a fraction: floats have no order.
    let after = |now: f64| Reverse((now * 1024.0) as u64);
    let mut next: BinaryHeap<(Reverse<u64>, usize)> =
        (0..machine.processors).map(|one| (after(random.exponential(think)), one)).collect();
    let (mut free, mut last, mut busy) = (0.0_f64, 0, 0.0);
    let mut waits = Vec::with_capacity(records);
    while waits.len() < records
        && let Some((Reverse(at), processor)) = next.pop()
    {
        let at = at as f64 / 1024.0;
        let begin = free.max(at);
        let took = held.at(machine.distance(last, processor));
        waits.push(begin - at);
        busy += took;
        (free, last) = (begin + took, processor);
        next.push((after(free + random.exponential(think)), processor));
    }
    waits.sort_by(f64::total_cmp);
    Outcome {
        per_second: records as f64 * 1e9 / free,
        busy: busy / free,
        mean: waits.iter().sum::<f64>() / records as f64,
        p99: waits.get(records * 99 / 100).copied().unwrap_or(0.0),
    }
}

/// The same numbers each time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        // Of 0 there is no logarithm.
        -mean * (((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: usize = 400_000;
    const SAME: Held = Held { own: 100.0, group: 100.0, socket: 100.0, other: 100.0 };

    fn of(processors: usize, held: Held, per_second: f64) -> Outcome {
        simulate(Machine { processors, group: 8, socket: 64 }, held, per_second, RECORDS)
    }

    fn near(is: f64, expect: f64, within: f64) {
        assert!((is - expect).abs() <= within * expect, "{is} is not {expect}");
    }

    #[test]
    fn one_processor_waits_for_nobody() {
        let alone = of(1, SAME, 1e6);
        assert!(alone.p99 < 0.01, "{alone:?}");
        // Each record takes 1,000 ns until the next, and 100 itself.
        near(alone.per_second, 1e9 / 1100.0, 0.01);
        near(alone.busy, 100.0 / 1100.0, 0.01);
    }

    #[test]
    fn many_processors_wait_as_queueing_theory_says() {
        // M/D/1: half of busy / (1 - busy) of the time that one takes.
        let many = of(4096, SAME, 5e6);
        near(many.busy, 0.5, 0.02);
        near(many.mean, 50.0, 0.05);
        assert!(many.p99 > 300.0 && many.p99 < 500.0, "{many:?}");
    }

    #[test]
    fn a_lock_that_is_always_held_bounds_what_all_write() {
        let many = of(128, SAME, 50e6);
        near(many.per_second, 1e7, 0.01);
        assert!(many.busy > 0.999, "{many:?}");
        // All others are before it, but for those that have nothing to write: a fifth.
        near(many.mean, (128.0 - 1.0 - 128.0 * 0.2) * 100.0, 0.05);
    }

    #[test]
    fn what_is_far_takes_longer() {
        let held = Held { own: 10.0, group: 20.0, socket: 40.0, other: 80.0 };
        let mean = |processors| {
            let few = of(processors, held, 1e5);
            few.busy * 1e9 / few.per_second
        };
        near(mean(2), (10.0 + 20.0) / 2.0, 0.02);
        near(mean(64), (10.0 + 7.0 * 20.0 + 56.0 * 40.0) / 64.0, 0.02);
        near(mean(128), (10.0 + 7.0 * 20.0 + 56.0 * 40.0 + 64.0 * 80.0) / 128.0, 0.02);
    }
}
