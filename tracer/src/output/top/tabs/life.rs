//! One connection's life: the states it was in, for how long, and what went wrong on the way.

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Spent};
use crate::output::top::model::Mark;
use crate::time::MonoNs;

/// The states in their order, with times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    pub(crate) segments: Vec<Segment>,
    /// Marks, by the time since its beginning.
    pub(crate) marks: Vec<(u64, Mark)>,
}

/// Time in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) state: TcpState,
    pub(crate) spent: Spent,
    /// It is in it now.
    pub(crate) present: bool,
}

impl Life {
    /// Of a connection as it is now.
    pub(crate) fn of(conn: &Connection, marks: &[Mark], now: MonoNs) -> Life {
        // Whether a sum of times is exact is known of all of them together only.
        let exact = conn.complete && !conn.approximate;
        let past = |ns: u64| match (exact, conn.complete) {
            (true, _) => Spent::Exactly(ns),
            (false, true) => Spent::About(ns),
            (false, false) => Spent::at_least(ns),
        };
        let mut segments: Vec<Segment> = conn
            .states()
            .filter(|(state, _)| *state != conn.state)
            .map(|(state, ns)| Segment { state, spent: past(ns), present: false })
            .collect();
        segments.push(Segment { state: conn.state, spent: conn.in_state(now), present: true });
        let marks = marks.iter().map(|mark| (mark.at.since(conn.born), *mark)).collect();
        Life { segments, marks }
    }

    /// All of it, nanoseconds.
    pub(crate) fn total_ns(&self) -> u64 {
        self.segments.iter().filter_map(|segment| segment.spent.ns()).sum()
    }

    /// Columns of each segment on a bar of this width: in proportion, and at least one for each.
    pub(crate) fn columns(&self, width: usize) -> Vec<usize> {
        let count = self.segments.len();
        if width < count {
            return (0..count).map(|at| usize::from(at < width)).collect();
        }
        let total = u128::from(self.total_ns().max(1));
        let rest = (width - count) as u128;
        let mut columns: Vec<usize> = self
            .segments
            .iter()
            .map(|segment| {
                let ns = u128::from(segment.spent.ns().unwrap_or(0));
                1 + usize::try_from(ns * rest / total).unwrap_or(0)
            })
            .collect();
        // What rounding left over goes to the longest.
        let left = width - columns.iter().sum::<usize>();
        if let Some(longest) = columns.iter_mut().max() {
            *longest += left;
        }
        columns
    }

    /// The column of a moment, nanoseconds since its beginning, on a bar with these columns.
    pub(crate) fn column_of(&self, at_ns: u64, columns: &[usize]) -> usize {
        let (mut begun, mut column) = (0_u64, 0_usize);
        for (segment, width) in self.segments.iter().zip(columns) {
            let ns = segment.spent.ns().unwrap_or(0);
            let within = at_ns.saturating_sub(begun);
            if within < ns {
                let part = u128::from(within) * (*width as u128) / u128::from(ns.max(1));
                return column + usize::try_from(part).unwrap_or(0);
            }
            begun = begun.saturating_add(ns);
            column += width;
        }
        column.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(times: &[u64]) -> Life {
        let segment = |&ns: &u64| Segment {
            state: TcpState::Established,
            spent: Spent::Exactly(ns),
            present: false,
        };
        Life { segments: times.iter().map(segment).collect(), marks: Vec::new() }
    }

    #[test]
    fn a_bar_is_in_proportion_and_shows_every_state() {
        let check = |times: &[u64], width, expect: &[usize]| {
            let columns = life(times).columns(width);
            assert_eq!(columns, expect, "{times:?}");
        };
        check(&[1, 1], 10, &[5, 5]);
        check(&[1, 1_000_000], 10, &[1, 9]);
        check(&[0, 0, 1_000_000], 10, &[1, 1, 8]);
        check(&[1, 2, 3], 2, &[1, 1, 0]);
        check(&[0], 7, &[7]);
    }

    #[test]
    fn moments_are_where_their_state_is() {
        let life = life(&[10, 1_000_000]);
        let columns = life.columns(10);
        let check = |at_ns, expect| assert_eq!(life.column_of(at_ns, &columns), expect, "{at_ns}");
        check(0, 0);
        check(9, 0);
        check(10, 1);
        check(500_000, 5);
        check(2_000_000, 9);
    }
}
