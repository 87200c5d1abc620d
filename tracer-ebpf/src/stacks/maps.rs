//! Maps and globals of the stack programs. Their names are in `tracer_common::names`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_common::stack::{CodeRange, StackMemory, StackSettings};

/// Records. The loader sets the real size.
#[map]
pub static STACK_RING: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Stacks that found the ring full.
#[map]
pub static STACK_DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where a stack is put together: one for each program, because another program may run on this CPU
/// when a task is preempted within one.
#[map]
pub static SCRATCH: PerCpuArray<StackMemory> = PerCpuArray::with_max_entries(7, 0);

/// Hashes of stacks that were written whole.
#[map]
pub static KNOWN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// Who has read from a socket last; by the socket's identity.
#[map]
pub static READERS: LruHashMap<u64, Reader> = LruHashMap::with_max_entries(65_536, 0);

/// Threads that have read from a socket, by the low bits of their ids.
#[map]
pub static HANDLING: Array<Handling> = Array::with_max_entries(HANDLING_SLOTS, 0);
/// A power of two.
pub const HANDLING_SLOTS: u32 = 4096;

/// What the end of a system call is to be told as: see [`Ended`].
#[map]
pub static ENDED: PerCpuArray<Ended> = PerCpuArray::with_max_entries(1, 0);

/// Where a process has HotSpot's code, once user space knows.
#[map]
pub static INTERPRETERS: HashMap<u32, CodeRange> = HashMap::with_max_entries(8_192, 0);

/// Set by the loader before load.
#[unsafe(no_mangle)]
// SAFETY: integers throughout.
pub static STACK_SETTINGS: StackSettings = unsafe { core::mem::zeroed() };

/// A thread that has read from a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Handling {
    /// When it began with what it reads, nanoseconds.
    pub at: u64,
    /// The thread.
    pub tid: u32,
    /// Stacks that are still to be taken.
    pub left: u32,
}

/// What the end of a system call is told as. It goes through a map, and comes out as values of which the verifier knows
/// nothing: else it walks along the stack once for each kind and each form of identity, 180,000 instructions a time.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ended {
    /// The socket's identity.
    pub id: u64,
    /// `StackKind`.
    pub kind: u32,
    /// What the identity is.
    pub flags: u32,
}

/// A reader that was reported.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reader {
    /// When, nanoseconds: 0 when nobody has read yet.
    pub at: u64,
    /// The thread.
    pub tid: u64,
    /// The [`Turn`] that took the stack of who opened it, until the other has seen that; else 0.
    pub taken_by: u64,
    /// What had been written to the socket by then (`tcp_sock.write_seq`).
    pub written: u64,
    /// Stacks that were taken without a pause.
    pub count: u64,
}

/// Each hook has two programs that do the same. A task that is preempted within one keeps its CPU's other
/// tasks from running it (`bpf_prog.active`), but not from running the second, and whichever runs first
/// has the other leave it. That they know, and not which comes first: links of tracepoints are run in
/// the order they were made, those of functions the other way round.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Turn {
    /// The program that is always there.
    First = 1,
    /// The one that may be missing.
    Second = 2,
}

/// Reads a global's field; volatile, so that the zero above is not compiled in.
#[inline(always)]
pub fn read<T: Copy>(field: &'static T) -> T {
    // SAFETY: a reference is aligned and valid; nobody writes after load.
    unsafe { core::ptr::read_volatile(field) }
}

/// `set!(pid_count)`: the field of `STACK_SETTINGS`, known to the verifier.
macro_rules! set {
    ($($field:tt)+) => {
        $crate::maps::read(&$crate::maps::STACK_SETTINGS.$($field)+)
    };
}
pub(crate) use set;
