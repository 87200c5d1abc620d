//! Room of maps whose entries come and go: a map keeps what it once needed, 25 MB after a burst of 15,000 connections a second.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::FixedState;

/// Gives most of a map's room back that it does not need any more, not all, for the next burst. Room for `few` stays.
pub(crate) fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V, FixedState>, few: usize) {
    if map.capacity() / 4 > map.len().max(few) {
        map.shrink_to(2 * map.len());
    }
}

/// Lets go of entries that are not to stay. Returns how many there are to be when it is due again: twice as many as are
/// left, so that it costs little for each that comes, and not before there are `few`.
pub(crate) fn tidy<K: Eq + Hash, V>(
    map: &mut HashMap<K, V, FixedState>,
    few: usize,
    stays: impl FnMut(&K, &mut V) -> bool,
) -> usize {
    map.retain(stays);
    give_back(map, few);
    few.max(2 * map.len())
}
