//! Maps and globals of the stack programs. Their names are in `tracer_common::names`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_common::stack::{CodeRange, StackMemory, StackSettings, flags};

/// Records. The loader sets the real size.
#[map]
pub static STACK_RING: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Stacks that found the ring full.
#[map]
pub static STACK_DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where a stack is put together: one for each program, because another program may run on this CPU
/// when a task is preempted within one.
#[map]
pub static SCRATCH: PerCpuArray<StackMemory> = PerCpuArray::with_max_entries(4, 0);

/// Hashes of stacks that were written whole.
#[map]
pub static KNOWN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// Who has read from a socket last, by the socket's identity.
#[map]
pub static READERS: LruHashMap<u64, Reader> = LruHashMap::with_max_entries(65_536, 0);

/// Where a process has HotSpot's code, once user space knows.
#[map]
pub static INTERPRETERS: HashMap<u32, CodeRange> = HashMap::with_max_entries(8_192, 0);

/// Set by the loader before load.
#[unsafe(no_mangle)]
// SAFETY: integers throughout.
pub static STACK_SETTINGS: StackSettings = unsafe { core::mem::zeroed() };

/// A reader that was reported.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reader {
    /// When, nanoseconds; [`Reader::NEVER`] for a socket whose opener is known.
    pub at: u64,
    /// The thread.
    pub tid: u64,
}

impl Reader {
    /// Its readers are of no interest.
    pub const NEVER: u64 = u64::MAX;
}

/// Where an address stands for a socket (before 5.12), whoever read from the last one there does not
/// matter for the next.
#[inline(always)]
pub fn forget_reader(id: (u64, u8)) {
    if id.1 & flags::ID_IS_ADDRESS != 0 {
        let _ = READERS.remove(id.0);
    }
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
