//! Maps and globals. Their names are the constants of `tracer_common::names`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, PerCpuArray, RingBuf};
use tracer_common::descriptors::Descriptors;
use tracer_common::globals::{DropSettings, Filter, Layout, Pace, Settings};
use tracer_common::wire::Drops;

/// All records. The loader sets the real size before the kernel sees it.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// Records that found the ring full, by kind.
#[map]
pub static DROPS: PerCpuArray<Drops> = PerCpuArray::with_max_entries(1, 0);

/// The transition a CPU has seen last.
#[map]
pub static LAST: PerCpuArray<LastSeen> = PerCpuArray::with_max_entries(1, 0);

/// Descriptors that are no TCP sockets, by process. The loader sets the real size.
#[map]
pub static DESCRIPTORS: HashMap<u32, Descriptors> = HashMap::with_max_entries(1, 0);

/// How many drops were told in this second, by [`DropSettings::REASONS`] and whether they are SYNs; then those of other
/// namespaces than the one that is wanted.
#[map]
pub static DROP_PACE: PerCpuArray<Pace> = PerCpuArray::with_max_entries(2 * DropSettings::KINDS, 0);

/// Which socket and which states.
#[repr(C)]
pub struct LastSeen {
    /// The socket's address.
    pub socket: u64,
    /// Old state, new state.
    pub states: u64,
}

/// When the reader is to be thought of next, on whatever processor: nanoseconds of CLOCK_MONOTONIC.
#[repr(C)]
pub struct Wake {
    /// Not before this.
    pub ask_at: u64,
    /// Then it is woken, however little waits.
    pub due: u64,
}

/// Two processors may write at the same time: then one wakes the reader for both, or both do.
#[unsafe(no_mangle)]
pub static mut WAKE: Wake = Wake { ask_at: 0, due: 0 };

/// Set by the loader before load.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = zeroed();

/// Set by the loader before load.
#[unsafe(no_mangle)]
pub static FILTER: Filter = zeroed();

/// Set by the loader before load.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = zeroed();

/// Set by the loader before load.
#[unsafe(no_mangle)]
pub static DROP_SETTINGS: DropSettings = zeroed();

const fn zeroed<T>() -> T {
    // SAFETY: only used for the structs above, integers throughout.
    unsafe { core::mem::zeroed() }
}

/// Reads a global's field. The volatile read keeps the compiler from using the zeroes above; the
/// verifier sees a load from a read-only map and knows the value.
#[inline(always)]
pub fn read<T: Copy>(field: &'static T) -> T {
    // SAFETY: a reference is aligned and valid; nobody writes after load.
    unsafe { core::ptr::read_volatile(field) }
}

/// `global!(FILTER.netns)`: the value the loader put there.
macro_rules! global {
    ($name:ident . $($field:tt)+) => {
        $crate::maps::read(&$crate::maps::$name.$($field)+)
    };
}
pub(crate) use global;
