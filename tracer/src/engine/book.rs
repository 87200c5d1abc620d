//! Which socket has which stack. Pure: no IO, no clock; records come in as bytes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use tracer_common::stack::{
    MEMORY_WORDS, RawFrame, StackHead, StackKind, StackMemory, StackRecord, TOP_WORDS, flags,
    memory_bytes,
};
use zerocopy::FromBytes;

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

/// A thread that connects is seen by two programs of one tracepoint, one after the other: not further
/// apart than that, even where a hypervisor stops the processor in between.
const BETWEEN_PROGRAMS_NS: u64 = 50_000_000;

/// Sightings kept whose socket is known by its address only.
const MOST_WAITING: usize = 100_000;

/// A stack in the book.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StackId(pub u32);

/// A stack as the kernel took it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    /// Process.
    pub pid: u32,
    /// The thread that had it first.
    pub tid: u32,
    /// Bits of `tracer_common::stack::flags`.
    pub flags: u8,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// What stood from the stack pointer up: a few words, or where frame pointers lead nowhere many.
    pub top: Vec<u64>,
    /// Innermost first.
    pub frames: Vec<RawFrame>,
}

/// A stack, and what became of it.
#[derive(Clone, Debug)]
pub struct Stack {
    /// As taken.
    pub raw: Arc<Raw>,
    /// The process's name.
    pub comm: Comm,
    /// The name of the thread that had it first.
    pub thread: Comm,
    /// Sockets opened with it so far.
    pub opened: u64,
    /// Its names, once they are known.
    pub named: Option<Named>,
    /// Its names have been asked for.
    pub asked: bool,
}

/// A thread did something with a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// What it did.
    pub kind: StackKind,
    /// With which stack; `None` when that was lost.
    pub stack: Option<StackId>,
    /// When.
    pub at: MonoNs,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The process's name.
    pub comm: Comm,
    /// The thread's name.
    pub thread: Comm,
}

/// What is known of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Who connected or accepted it.
    pub opened: Option<Sighting>,
    /// Who has read from it last.
    pub read: Option<Sighting>,
}

impl Seen {
    /// Who is to be named for it: who connected; of an accepted socket rather who handles it than who
    /// accepts for all.
    #[must_use]
    pub fn opener(&self) -> Option<&Sighting> {
        match &self.opened {
            Some(opened) if opened.kind == StackKind::Connect => Some(opened),
            opened => self.read.as_ref().or(opened.as_ref()),
        }
    }
}

/// Stacks by socket.
#[derive(Debug, Default)]
pub struct Book {
    stacks: HashMap<StackId, Stack, FixedState>,
    by_hash: HashMap<u64, StackId, FixedState>,
    sockets: HashMap<SockId, Seen, FixedState>,
    /// On kernels without cookies (before 5.12): sightings by the address of the socket, in order.
    waiting: VecDeque<(u64, Sighting)>,
    next: u32,
    /// Stacks whose memory is kept until they have names.
    with_memory: usize,
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
                let set = usize::try_from(memory_bytes(record.sp) / 8).unwrap_or(0);
                let words = memory
                    .as_ref()
                    .map_or(&record.top[..], |memory| &memory.words[..set.min(MEMORY_WORDS)]);
                self.intern(&record, words)
            }
            None => self.by_hash.get(&head.hash).copied(),
        };
        if kind != StackKind::Read
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
        if head.flags & flags::ID_IS_ADDRESS == 0 {
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
            StackKind::Connect => *seen = Seen { opened: Some(sighting), read: None },
            // The reader may be another thread, and faster.
            StackKind::Accept => seen.opened = Some(sighting),
        }
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
        let count = usize::from(head.frames).min(record.frames.len());
        let id = StackId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_hash.insert(head.hash, id);
        let raw = Raw {
            pid: head.pid,
            tid: head.tid,
            flags: head.flags,
            sp: record.sp,
            fp: record.fp,
            top: self.kept(words).to_vec(),
            frames: record.frames[..count].to_vec(),
        };
        self.stacks.insert(
            id,
            Stack {
                raw: Arc::new(raw),
                comm: Comm::of_kernel(head.comm),
                thread: Comm::of_kernel(head.thread),
                opened: 0,
                named: None,
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
        if stack.raw.top.len() > TOP_WORDS {
            self.with_memory -= 1;
            let mut raw = Raw::clone(&stack.raw);
            raw.top.truncate(TOP_WORDS);
            raw.top.shrink_to_fit();
            stack.raw = Arc::new(raw);
        }
    }

    /// Forgets sockets that are gone, and, when there are many, the stacks that no socket has. What was
    /// seen a moment ago may be of a socket that the table has still to meet.
    pub fn forget(&mut self, now: MonoNs, is_there: impl Fn(SockId) -> bool) {
        let is_new = |sighting: Option<Sighting>| {
            sighting.is_some_and(|sighting| now.since(sighting.at) < A_MOMENT_NS)
        };
        self.sockets.retain(|&id, seen| is_there(id) || is_new(seen.opened) || is_new(seen.read));
        if self.stacks.len() < MOST_STACKS / 2 {
            return;
        }
        let used: HashSet<StackId> = self
            .sockets
            .values()
            .flat_map(|seen| [seen.opened, seen.read])
            .filter_map(|sighting| sighting?.stack)
            .collect();
        self.stacks.retain(|id, _| used.contains(id));
        self.with_memory =
            self.stacks.values().filter(|stack| stack.raw.top.len() > TOP_WORDS).count();
        let stacks = &self.stacks;
        self.by_hash.retain(|_, id| stacks.contains_key(id));
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
        StackKind::Accept | StackKind::Read => at >= since,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn record(kind: StackKind, id: u64, hash: u64) -> StackRecord {
        let mut record = StackRecord::new_zeroed();
        record.head = StackHead {
            mono_ns: 1,
            id,
            hash,
            pid: 7,
            tid: 8,
            kind: kind as u8,
            frames: 2,
            ..StackHead::new_zeroed()
        };
        record.frames[0].ip = hash;
        record
    }

    #[test]
    fn a_stack_is_kept_once_and_its_sockets_counted() {
        let mut book = Book::default();
        let whole = record(StackKind::Connect, 1, 0xa);
        assert_eq!(book.take_in(whole.as_bytes()), None);
        let mut known = whole.head;
        known.id = 2;
        book.take_in(known.as_bytes());
        let opener = |id| *book.seen(SockId(id)).expect("seen").opener().expect("an opener");
        assert_eq!(opener(1).stack, opener(2).stack);
        let stack = book.stack(opener(1).stack.expect("kept")).expect("there");
        assert_eq!((stack.opened, stack.raw.frames.len()), (2, 2));
        // A hash whose stack was lost is no stack, but a thread all the same.
        known.hash = 0xb;
        book.take_in(known.as_bytes());
        let opener = *book.seen(SockId(2)).expect("seen").opener().expect("an opener");
        assert_eq!((opener.stack, opener.tid), (None, 8));
    }

    #[test]
    fn who_reads_is_named_rather_than_who_accepts_but_not_than_who_connects() {
        let check = |kinds: &[StackKind], expect: StackKind| {
            let mut book = Book::default();
            for (&kind, hash) in kinds.iter().zip(1..) {
                book.take_in(record(kind, 1, hash).as_bytes());
            }
            let kind = book.seen(SockId(1)).and_then(|seen| Some(seen.opener()?.kind));
            assert_eq!(kind, Some(expect), "{kinds:?}");
        };
        use StackKind::{Accept, Connect, Read};
        check(&[Accept], Accept);
        check(&[Accept, Read], Read);
        check(&[Read, Accept], Read);
        check(&[Connect, Read], Connect);
        // Connected again: who read before does not count.
        check(&[Read, Connect], Connect);
    }

    #[test]
    fn without_cookies_a_stack_is_of_the_socket_that_stood_there_then() {
        const MS: u64 = 1_000_000;
        // A thread at `at` ms, at that address a socket since `since` ms, looked for at `now` ms.
        let check =
            |kind, at: u64, since: Option<(u64, bool)>, now: u64, found: bool, waits: bool| {
                let mut book = Book::default();
                let mut record = record(kind, 0xffff_8880_0000_1000, 0xa);
                record.head.flags = flags::ID_IS_ADDRESS;
                record.head.mono_ns = at * MS;
                book.take_in(record.as_bytes());
                let living = since.map(|(since, connected)| {
                    let since = MonoNs(since * MS);
                    Living { id: SockId(3), since, connected }
                });
                book.settle(MonoNs(now * MS), |_| living);
                let case = format!("{kind:?} at {at}, socket since {since:?}, now {now}");
                assert_eq!(book.seen(SockId(3)).is_some(), found, "{case}");
                assert_eq!(!book.waiting.is_empty(), waits, "{case}");
            };
        use StackKind::{Accept, Connect, Read};
        // One program is before the other, whichever.
        check(Connect, 1_000, Some((1_001, true)), 1_002, true, false);
        check(Connect, 1_001, Some((1_000, true)), 1_002, true, false);
        // Its event has still to come; or never will.
        check(Connect, 1_000, None, 1_002, false, true);
        check(Connect, 1_000, Some((100, true)), 1_002, false, true);
        check(Connect, 1_000, None, 7_000, false, false);
        // The socket is gone, and another is there.
        for kind in [Connect, Accept, Read] {
            check(kind, 1_000, Some((1_100, true)), 1_200, false, false);
        }
        check(Connect, 1_000, Some((1_001, false)), 1_200, false, false);
        check(Read, 1_000, Some((1_001, false)), 1_200, false, false);
        check(Accept, 1_100, Some((1_000, false)), 1_200, true, false);
        check(Read, 9_000, Some((1_000, true)), 9_200, true, false);
    }

    #[test]
    fn memory_is_kept_until_there_are_names() {
        let mut book = Book::default();
        let mut memory = StackMemory::new_zeroed();
        memory.record = record(StackKind::Connect, 1, 0xa);
        memory.words[1000] = 5;
        book.take_in(memory.as_bytes());
        let id = book.seen(SockId(1)).and_then(|seen| seen.opener()?.stack).expect("kept");
        assert_eq!(book.stack(id).expect("there").raw.top.len(), 1001);
        book.name(id, Named::default());
        assert_eq!(book.stack(id).expect("there").raw.top.len(), TOP_WORDS);
        assert_eq!(book.with_memory, 0);
    }

    #[test]
    fn what_is_gone_is_forgotten_but_not_what_has_just_come() {
        let mut book = Book::default();
        book.take_in(record(StackKind::Connect, 1, 0xa).as_bytes());
        book.forget(MonoNs(2), |_| false);
        assert_eq!(book.len(), 1);
        book.forget(MonoNs(A_MOMENT_NS + 2), |_| true);
        assert_eq!(book.len(), 1);
        book.forget(MonoNs(A_MOMENT_NS + 2), |_| false);
        assert!(book.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_counted(bytes in proptest::collection::vec(any::<u8>(), 0..200), fill: u8) {
            let mut book = Book::default();
            book.take_in(&bytes);
            for length in [size_of::<StackHead>(), size_of::<StackRecord>(), size_of::<StackMemory>()] {
                let mut record = vec![fill; length];
                record[..bytes.len().min(length)].copy_from_slice(&bytes[..bytes.len().min(length)]);
                book.take_in(&record);
            }
        }
    }
}
