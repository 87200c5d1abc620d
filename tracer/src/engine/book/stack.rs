//! A stack in the book.

use std::sync::Arc;

use tracer_common::stack::{RawFrame, StackRecord, TOP_WORDS};

use crate::event::Comm;
use crate::frame::Named;

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
    /// The many, where they begin behind a large frame, and the address of the first; else none.
    pub behind: (u64, Vec<u64>),
    /// Innermost first.
    pub frames: Vec<RawFrame>,
}

impl Raw {
    /// `kept` is as much of the memory that was taken as there is room for.
    pub(super) fn of(record: &StackRecord, kept: &[u64]) -> Raw {
        let head = &record.head;
        let count = usize::from(head.frames).min(record.frames.len());
        let (top, behind) = match head.far {
            0 => (kept, None),
            _ if kept.len() <= TOP_WORDS => (&record.top[..], None),
            far => (&record.top[..], Some((record.sp.wrapping_add(u64::from(far)), kept.to_vec()))),
        };
        Raw {
            pid: head.pid,
            tid: head.tid,
            flags: head.flags,
            sp: record.sp,
            fp: record.fp,
            top: top.to_vec(),
            behind: behind.unwrap_or_default(),
            frames: record.frames[..count].to_vec(),
        }
    }

    /// It can be followed without frame pointers.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.top.len() > TOP_WORDS || !self.behind.1.is_empty()
    }

    /// The word at this address of the stack, where it was taken.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let of = |begin: u64, words: &[u64]| {
            let at = address.checked_sub(begin).filter(|at| at.is_multiple_of(8))? / 8;
            words.get(usize::try_from(at).ok()?).copied()
        };
        of(self.sp, &self.top).or_else(|| of(self.behind.0, &self.behind.1))
    }

    /// The few words at its top are enough from now on.
    fn shrink(&mut self) {
        self.top.truncate(TOP_WORDS);
        self.top.shrink_to_fit();
        self.behind = (0, Vec::new());
    }
}

/// A stack, and what became of it.
#[derive(Clone, Debug)]
pub struct Stack {
    /// By which the kernel knows it.
    pub(super) hash: u64,
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
    /// It opened sockets that only a garbage collector closed: kept, though no socket has it any more.
    pub(super) collected: bool,
    /// Its names have been asked for.
    pub asked: bool,
}

impl Stack {
    /// Its memory is kept.
    pub(super) fn is_heavy(&self) -> bool {
        self.raw.has_memory()
    }

    /// Lets go of its memory.
    pub(super) fn shrink(&mut self) {
        Arc::make_mut(&mut self.raw).shrink();
    }
}
