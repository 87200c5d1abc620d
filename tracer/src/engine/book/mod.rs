//! Which socket has which stack. Pure: no IO, no clock; records come in as bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use tracer_common::stack::{
    MEMORY_WORDS, StackHead, StackKind, StackMemory, StackRecord, TOP_WORDS, flags, memory_bytes,
};
use zerocopy::FromBytes;

mod forget;
mod sighting;
mod stack;
#[cfg(test)]
mod tests;

pub use sighting::{Handled, Seen, Sighting};
pub use stack::{Raw, Stack, StackId};

use crate::engine::conn::Living;
use crate::event::{Comm, SockId};
use crate::frame::{Frame, Named};
use crate::time::MonoNs;

/// Distinct stacks kept; a stack takes about 2 KiB.
const MOST_STACKS: usize = 20_000;

/// Of so many the memory is kept: 20 KiB each.
const MOST_WITH_MEMORY: usize = 2_000;
/// Two rings are read one after the other; nothing waits in them for longer.
const A_MOMENT_NS: u64 = 5_000_000_000;

/// As a rule they are read much sooner: so long a stack is kept for a socket that is still to be met.
const BETWEEN_RINGS_NS: u64 = 1_000_000_000;

/// A thread that connects is seen by two programs of one tracepoint, one after the other: not further
/// apart than that, even where a hypervisor stops the processor in between.
const BETWEEN_PROGRAMS_NS: u64 = 50_000_000;

/// What a thread does so much later has nothing to do with the request that it read.
const ONE_REQUEST_NS: u64 = 10_000_000_000;
/// Threads whose requests are followed.
const MOST_THREADS: usize = 10_000;
/// Stacks kept for sockets that a garbage collector closed.
const MOST_COLLECTED: usize = 1_000;

/// Sightings kept whose socket is known by its address only.
const MOST_WAITING: usize = 100_000;

/// Stacks by socket.
#[derive(Debug, Default)]
pub struct Book {
    stacks: HashMap<StackId, Stack, FixedState>,
    by_hash: HashMap<u64, StackId, FixedState>,
    sockets: HashMap<SockId, Seen, FixedState>,
    /// On kernels without cookies (before 5.12): sightings by the address of the socket, in order.
    waiting: VecDeque<(u64, Sighting)>,
    next: u32,
    /// Threads that have read from an accepted socket, and from no other since: which, and when.
    handling: HashMap<u32, (SockId, MonoNs), FixedState>,
    /// Stacks whose sockets a garbage collector closed.
    collected: usize,
    /// Stacks whose memory is kept until they have names.
    with_memory: usize,
    /// When there are so many, or so many with memory, those of processes that have ended are let go of.
    tidy_at: (usize, usize),
    /// When they last were.
    tidied: MonoNs,
    /// Hashes of stacks that were let go, until the kernel knows.
    forgotten: Vec<u64>,
    /// Records that made no sense.
    pub malformed: u64,
    /// Sightings not kept because too many waited for what happened to their sockets.
    pub unsettled: u64,
    /// Stacks not kept because there were too many.
    pub refused: u64,
}

impl Book {
    /// Takes in a record of the ring. Returns the process, when the kernel has still to be told what code
    /// it has, and whether its frame pointers lead nowhere.
    pub fn take_in(&mut self, bytes: &[u8]) -> Option<(u32, bool)> {
        let memory = StackMemory::read_from_bytes(bytes).ok();
        let record = match &memory {
            Some(memory) => Some(memory.record),
            None => StackRecord::read_from_bytes(bytes).ok(),
        };
        let head = match &record {
            Some(record) => record.head,
            None => match StackHead::read_from_bytes(bytes) {
                Ok(head) => head,
                Err(_) => {
                    self.malformed += 1;
                    return None;
                }
            },
        };
        let Ok(kind) = StackKind::try_from(head.kind) else {
            self.malformed += 1;
            return None;
        };
        let stack = match record {
            Some(record) => {
                let begin = record.sp.wrapping_add(u64::from(head.far));
                let set = usize::try_from(memory_bytes(begin) / 8).unwrap_or(0);
                let words = memory
                    .as_ref()
                    .map_or(&record.top[..], |memory| &memory.words[..set.min(MEMORY_WORDS)]);
                self.intern(&record, words)
            }
            None => self.by_hash.get(&head.hash).copied(),
        };
        if matches!(kind, StackKind::Connect | StackKind::Accept)
            && let Some(stack) = stack.and_then(|id| self.stacks.get_mut(&id))
        {
            stack.opened += 1;
        }
        let sighting = Sighting {
            kind,
            stack,
            at: MonoNs(head.mono_ns),
            pid: head.pid,
            tid: head.tid,
            comm: Comm::of_kernel(head.comm),
            thread: Comm::of_kernel(head.thread),
        };
        if kind == StackKind::Handle {
            self.handles(&sighting);
        } else if head.flags & flags::ID_IS_ADDRESS == 0 {
            self.saw(SockId(head.id), sighting);
        } else if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((head.id, sighting));
        } else {
            self.unsettled += 1;
        }
        (head.flags & flags::UNKNOWN_PROCESS != 0)
            .then_some((head.pid, head.flags & flags::BROKEN != 0))
    }

    fn saw(&mut self, id: SockId, sighting: Sighting) {
        let seen = self.sockets.entry(id).or_default();
        match sighting.kind {
            StackKind::Read => seen.read = Some(sighting),
            // A socket that connects again, or whose identity is used again, starts anew.
            StackKind::Connect => *seen = Seen { opened: Some(sighting), ..Seen::default() },
            // The reader may be another thread, and faster.
            StackKind::Accept => seen.opened = Some(sighting),
            StackKind::Handle => {}
        }
        let opened = seen.opened.map(|opened| opened.kind);
        match (sighting.kind, opened) {
            (StackKind::Read, Some(StackKind::Accept)) => {
                if self.handling.len() < MOST_THREADS {
                    self.handling.insert(sighting.tid, (id, sighting.at));
                }
            }
            (StackKind::Connect, _) | (StackKind::Read, Some(StackKind::Connect)) => {
                self.handles(&sighting);
            }
            // It may be the next request.
            (StackKind::Read, _) => drop(self.handling.remove(&sighting.tid)),
            (StackKind::Accept | StackKind::Handle, _) => {}
        }
    }

    /// A thread uses a connection of its own, or does something else: on behalf of the request that it has read before,
    /// if it has.
    fn handles(&mut self, sighting: &Sighting) {
        let Some(&(id, at)) = self.handling.get(&sighting.tid) else { return };
        if sighting.at.since(at) > ONE_REQUEST_NS {
            self.handling.remove(&sighting.tid);
        } else if let Some(seen) = self.sockets.get_mut(&id) {
            seen.handled.add(sighting);
        }
    }

    /// A garbage collector has closed this socket: who opened it is to be named, though it is gone.
    pub fn collected(&mut self, id: SockId) {
        let stack = self.sockets.get(&id).and_then(|seen| seen.opened?.stack);
        let Some(stack) = stack.and_then(|id| self.stacks.get_mut(&id)) else { return };
        if !stack.collected && self.collected < MOST_COLLECTED {
            stack.collected = true;
            self.collected += 1;
        }
    }

    /// Stacks without names whose sockets a garbage collector closed.
    pub fn collected_nameless(&self) -> impl Iterator<Item = StackId> {
        let any = self.collected > 0;
        let all = self.stacks.iter().filter(move |_| any);
        all.filter(|(_, stack)| stack.collected && !stack.asked).map(|(&id, _)| id)
    }

    /// Finds the sockets that were seen by their address; `living` says whose it is now. Called after the
    /// events up to now were taken.
    pub fn settle(&mut self, now: MonoNs, living: impl Fn(u64) -> Option<Living>) {
        for _ in 0..self.waiting.len() {
            let Some((address, sighting)) = self.waiting.pop_front() else { return };
            match (living(address), sighting.at) {
                (Some(socket), _) if is_of(&sighting, &socket) => self.saw(socket.id, sighting),
                // Another socket's, which is gone.
                (Some(socket), at) if at < socket.since => {}
                // What happened to the socket may still be on its way.
                (_, at) if now.since(at) < A_MOMENT_NS => {
                    self.waiting.push_back((address, sighting));
                }
                _ => {}
            }
        }
    }

    fn intern(&mut self, record: &StackRecord, words: &[u64]) -> Option<StackId> {
        let head = &record.head;
        if let Some(&id) = self.by_hash.get(&head.hash) {
            return Some(id);
        }
        if self.stacks.len() >= MOST_STACKS {
            self.refused += 1;
            return None;
        }
        let id = StackId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_hash.insert(head.hash, id);
        let raw = Raw::of(record, self.kept(words));
        self.stacks.insert(
            id,
            Stack {
                hash: head.hash,
                raw: Arc::new(raw),
                comm: Comm::of_kernel(head.comm),
                thread: Comm::of_kernel(head.thread),
                opened: 0,
                named: None,
                collected: false,
                asked: false,
            },
        );
        Some(id)
    }

    /// Of much memory only as much as there is room for.
    fn kept<'a>(&mut self, words: &'a [u64]) -> &'a [u64] {
        if words.len() <= TOP_WORDS {
            return words;
        }
        if self.with_memory >= MOST_WITH_MEMORY {
            return &words[..TOP_WORDS];
        }
        self.with_memory += 1;
        // Behind the outermost frame there is nothing.
        let end = words.iter().rposition(|&word| word != 0).map_or(TOP_WORDS, |last| last + 1);
        &words[..end.max(TOP_WORDS + 1)]
    }

    /// What is known of a socket.
    #[must_use]
    pub fn seen(&self, id: SockId) -> Option<&Seen> {
        self.sockets.get(&id)
    }

    /// Every socket something is known of.
    pub fn sockets(&self) -> impl Iterator<Item = (SockId, &Seen)> {
        self.sockets.iter().map(|(&id, seen)| (id, seen))
    }

    /// The frames of a sighting's stack, once they have names.
    #[must_use]
    pub fn frames(&self, sighting: &Sighting) -> Option<&[Frame]> {
        Some(&self.stack(sighting.stack?)?.named.as_ref()?.frames)
    }

    /// A stack.
    #[must_use]
    pub fn stack(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(&id)
    }

    /// Whether its names are still to be asked for.
    #[must_use]
    pub fn is_nameless(&self, id: StackId) -> bool {
        self.stacks.get(&id).is_some_and(|stack| !stack.asked)
    }

    /// Whether there is any stack whose names are still to be asked for.
    #[must_use]
    pub fn any_nameless(&self) -> bool {
        self.stacks.values().any(|stack| !stack.asked)
    }

    /// The stack whose names are still to be asked for; counts as asked from now on.
    pub fn ask(&mut self, id: StackId) -> Option<Arc<Raw>> {
        let stack = self.stacks.get_mut(&id).filter(|stack| !stack.asked)?;
        stack.asked = true;
        Some(Arc::clone(&stack.raw))
    }

    /// A stack has names; its memory is not needed any more.
    pub fn name(&mut self, id: StackId, named: Named) {
        let Some(stack) = self.stacks.get_mut(&id) else { return };
        stack.named = Some(named);
        if stack.is_heavy() {
            self.with_memory -= 1;
            stack.shrink();
        }
    }

    /// Sockets something is known of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

/// Whether what a thread did was done with this socket, which has the address now.
fn is_of(sighting: &Sighting, socket: &Living) -> bool {
    let (at, since) = (sighting.at, socket.since);
    match sighting.kind {
        StackKind::Connect => {
            let apart = at.since(since).max(since.since(at));
            socket.connected && apart <= BETWEEN_PROGRAMS_NS
        }
        StackKind::Accept | StackKind::Read | StackKind::Handle => at >= since,
    }
}
