//! Segments that the kernel threw away in a run, by why and where.

use std::collections::BTreeMap;

use crate::engine::conn::Kind;
use crate::engine::{Engine, Update};
use crate::event::{Place, drop_in_words};
use crate::filter::Filter;

/// At most so many reasons: a kernel has about a hundred, a broken recording any number.
const MOST: usize = 256;

/// Dropped segments by reason (`enum skb_drop_reason`) and place.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    counts: BTreeMap<(u16, Place), u64>,
    all: u64,
    /// Of those of connections, the kernel did not tell so many one by one; whose they were is not known.
    untold: u64,
}

impl Drops {
    /// Takes in what an output with this filter is told.
    #[inline]
    pub fn update(&mut self, engine: &Engine, update: &Update<'_>, filter: &Filter) {
        match update {
            Update::Change { change, .. } => {
                if let Kind::Dropped { drop, .. } = change.kind {
                    self.untold = self.untold.saturating_add(drop.untold.into());
                    self.add(drop.reason, drop.place, 1);
                }
            }
            Update::Unclaimed(group) => {
                let listener = engine.table().listener_at(group.netns, &group.tuple);
                let owner = listener.and_then(|listener| listener.owner.as_ref());
                if filter.wants_unclaimed(group, owner) {
                    self.add(group.drop.reason, group.drop.place, group.count);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, reason: u16, place: Place, count: u64) {
        self.all = self.all.saturating_add(count);
        if self.counts.len() < MOST || self.counts.contains_key(&(reason, place)) {
            let sum = self.counts.entry((reason, place)).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// How many segments.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.all
    }

    /// How many more were not told one by one.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// By why and where, the most first.
    #[must_use]
    pub fn by_reason(&self) -> Vec<(u16, Place, u64)> {
        let all = self.counts.iter().map(|(&(reason, place), &count)| (reason, place, count));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|&(reason, place, count)| (std::cmp::Reverse(count), reason, place));
        all
    }

    /// `10 by netfilter (input), 2 nobody listens there`; the names may be a stranger's, in a recording.
    #[must_use]
    pub fn words(&self, engine: &Engine) -> String {
        let all = self.by_reason().into_iter().map(|(reason, place, count)| {
            format!("{count} {}", drop_in_words(engine.origin().drop_reason(reason), place))
        });
        all.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_is_first_and_their_number_is_bounded() {
        let mut drops = Drops::default();
        drops.add(8, Place::Input, 1);
        drops.add(3, Place::Input, 2);
        drops.add(8, Place::Output, 1);
        drops.add(8, Place::Input, 4);
        let expect = [(8, Place::Input, 5), (3, Place::Input, 2), (8, Place::Output, 1)];
        assert_eq!(drops.by_reason(), expect);
        for reason in 100..10_000 {
            drops.add(reason, Place::Input, 1);
        }
        assert_eq!(drops.by_reason().len(), MOST);
        assert_eq!(drops.all(), 8 + 9_900);
    }
}
