//! Sockets that nobody closed but the garbage collector: a leak, though their number need not grow.

use std::collections::BTreeMap;

use crate::engine::book::{Book, Sighting, StackId};
use crate::engine::conn::{Change, Connection, closed_by_collector};
use crate::filter::Filter;
use crate::time::MonoNs;

/// Stacks that are counted apart.
const MOST: usize = 10_000;

/// How many, by the stack they were opened with.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(super) by_stack: BTreeMap<StackId, Count>,
}

/// Of one stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) sockets: u64,
    /// The last of them was closed then.
    pub(super) last: MonoNs,
    /// Who opened one of them.
    pub(super) opened: Sighting,
}

impl Collected {
    /// Counts the socket when a collector has closed it, and it is wanted, and who opened it is known.
    pub(super) fn count(
        &mut self,
        conn: &Connection,
        change: &Change,
        book: &Book,
        filter: &Filter,
    ) {
        if !closed_by_collector(conn, change) || filter.wants(conn) != Some(true) {
            return;
        }
        let opened = book.seen(conn.id).and_then(|seen| seen.opened);
        let Some((opened, stack)) = opened.and_then(|opened| Some((opened, opened.stack?))) else {
            return;
        };
        if self.by_stack.len() >= MOST && !self.by_stack.contains_key(&stack) {
            return;
        }
        let none = Count { sockets: 0, last: change.at, opened };
        let count = self.by_stack.entry(stack).or_insert(none);
        count.sockets += 1;
        count.last = change.at;
    }
}
