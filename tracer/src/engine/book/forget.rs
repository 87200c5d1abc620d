//! What the book lets go of: sockets that are gone, stacks that no socket has, and the room of its maps.

use std::collections::HashSet;

use super::{
    A_MOMENT_NS, BETWEEN_RINGS_NS, Book, MOST_STACKS, MOST_WITH_MEMORY, ONE_REQUEST_NS, Sighting,
    Stack, StackId,
};
use crate::engine::room::give_back;
use crate::event::SockId;
use crate::time::MonoNs;

/// So few are kept even where their processes have ended.
const FEW_STACKS: usize = 256;
/// The same for those whose memory is kept.
const FEW_HEAVY: usize = 64;
/// More of them are not kept for longer than this.
const TIDY_EVERY_NS: u64 = 60_000_000_000;

impl Book {
    /// Forgets sockets that are gone, and of the stacks that no socket has those of processes that have ended; when there
    /// are many, all of them. What was seen a moment ago may be of a socket that the table has still to meet.
    pub fn forget(
        &mut self,
        now: MonoNs,
        is_there: impl Fn(SockId) -> bool + Copy,
        lives: impl Fn(u32) -> bool,
    ) {
        let is_new = |sighting: &Sighting| now.since(sighting.at) < A_MOMENT_NS;
        self.sockets.retain(|&id, seen| is_there(id) || seen.all().any(is_new));
        give_back(&mut self.sockets, FEW_STACKS);
        let sockets = &self.sockets;
        self.handling
            .retain(|_, (id, at)| now.since(*at) < ONE_REQUEST_NS && sockets.contains_key(id));
        let crowded = self.stacks.len() >= MOST_STACKS / 2;
        let heavy = self.with_memory >= MOST_WITH_MEMORY / 2;
        let due = self.is_due(now);
        let ended = if due { self.ended(lives) } else { HashSet::new() };
        if crowded || heavy || due {
            self.let_go_of_unused(now, is_there, |stack| {
                crowded || heavy && stack.is_heavy() || ended.contains(&stack.raw.pid)
            });
        }
        if due {
            self.let_go_of_memory(&ended);
            self.tidied = now;
            self.tidy_at = (2 * self.stacks.len(), 2 * self.with_memory);
            give_back(&mut self.stacks, FEW_STACKS);
            give_back(&mut self.by_hash, FEW_STACKS);
        }
    }

    /// Whether it is time to ask which processes have ended: each time there are twice as many stacks, for a process that
    /// connects once has a stack of its own, which never comes again; and now and then, for the processes of a burst have
    /// ended when it is over.
    fn is_due(&self, now: MonoNs) -> bool {
        let (stacks, heavy) = self.tidy_at;
        let rested = now.since(self.tidied) >= TIDY_EVERY_NS;
        let many = self.stacks.len() >= FEW_STACKS && (rested || self.stacks.len() >= stacks);
        many || self.with_memory >= FEW_HEAVY && (rested || self.with_memory >= heavy)
    }

    /// Without the files of its process, memory of a stack tells nothing.
    fn let_go_of_memory(&mut self, ended: &HashSet<u32>) {
        let stacks = self.stacks.values_mut();
        for stack in stacks.filter(|stack| stack.is_heavy() && ended.contains(&stack.raw.pid)) {
            self.with_memory -= 1;
            stack.shrink();
        }
    }

    /// Processes with stacks that have ended.
    fn ended(&self, lives: impl Fn(u32) -> bool) -> HashSet<u32> {
        let mut pids: HashSet<u32> = self.stacks.values().map(|stack| stack.raw.pid).collect();
        pids.retain(|&pid| !lives(pid));
        pids
    }

    /// Of the stacks that no socket has those that are to go.
    pub(super) fn let_go_of_unused(
        &mut self,
        now: MonoNs,
        is_there: impl Fn(SockId) -> bool + Copy,
        goes: impl Fn(&Stack) -> bool,
    ) {
        let counts = |id: SockId, sighting: &Sighting| {
            is_there(id) || now.since(sighting.at) < BETWEEN_RINGS_NS
        };
        let used: HashSet<StackId> = self
            .sockets
            .iter()
            .flat_map(|(&id, seen)| {
                let own = seen.all().filter(move |sighting| counts(id, sighting));
                own.filter_map(|sighting| sighting.stack).chain(seen.handled.stacks())
            })
            .collect();
        let forgotten = &mut self.forgotten;
        self.stacks.retain(|id, stack| {
            let keep = used.contains(id) || stack.collected || !goes(stack);
            if !keep {
                forgotten.push(stack.hash);
            }
            keep
        });
        self.with_memory = self.stacks.values().filter(|stack| stack.is_heavy()).count();
        let stacks = &self.stacks;
        self.by_hash.retain(|_, id| stacks.contains_key(id));
    }

    /// Hashes of stacks that were let go since: the kernel must write them whole again when it sees them.
    pub fn forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }
}
