//! Records into a ring as fast as they go, for `cargo xtask bench --parts scale`: how long one takes, and how long
//! processors wait for each other. Socket filters, since the kernel repeats those on request (`BPF_PROG_TEST_RUN`).
#![no_std]
#![no_main]

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, socket_filter};
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use aya_ebpf::programs::SkBuffContext;
use tracer_common::wire::{Record, UP_TO_ADDRESSES, UP_TO_CGROUP, UP_TO_DETAIL};

/// The bench sets the real size.
#[map]
static SCALE_RING: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Records that found the ring full.
#[map]
static SCALE_FULL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

const BPF_RB_NO_WAKEUP: u64 = 1;

/// Records of one run, so that the kernel's work around a run is a small part.
const RECORDS: u64 = 16;

/// Takes the time, as each record has it, and writes none.
#[socket_filter]
pub fn no_record(_: SkBuffContext) -> i64 {
    let mut sum = 0;
    let mut number = 0;
    while number < RECORDS {
        // SAFETY: the helper takes nothing.
        sum ^= unsafe { bpf_ktime_get_ns() };
        number += 1;
    }
    sum as i64 & 1
}

/// Reserves and submits, and does nothing else: the lock is taken as often as can be.
#[socket_filter]
pub fn bare_record(_: SkBuffContext) -> i64 {
    let mut number = 0;
    while number < RECORDS {
        match SCALE_RING.reserve::<[u64; UP_TO_ADDRESSES / 8]>(0) {
            Some(record) => record.submit(BPF_RB_NO_WAKEUP),
            None => full(),
        }
        number += 1;
    }
    0
}

#[socket_filter]
pub fn record_64(_: SkBuffContext) -> i64 {
    records::<{ UP_TO_ADDRESSES / 8 }>()
}

#[socket_filter]
pub fn record_96(_: SkBuffContext) -> i64 {
    records::<{ UP_TO_CGROUP / 8 }>()
}

#[socket_filter]
pub fn record_128(_: SkBuffContext) -> i64 {
    records::<{ UP_TO_DETAIL / 8 }>()
}

#[socket_filter]
pub fn record_whole(_: SkBuffContext) -> i64 {
    records::<{ size_of::<Record>() / 8 }>()
}

/// A record after some microseconds of other work, in which another processor may write.
#[socket_filter]
pub fn paced_record(_: SkBuffContext) -> i64 {
    let mut sum = 0;
    let mut number = 0;
    while number < RECORDS {
        sum ^= work();
        record::<{ UP_TO_CGROUP / 8 }>();
        number += 1;
    }
    sum as i64 & 1
}

/// That work alone.
#[socket_filter]
pub fn paced_nothing(_: SkBuffContext) -> i64 {
    let mut sum = 0;
    let mut number = 0;
    while number < RECORDS {
        sum ^= work();
        number += 1;
    }
    sum as i64 & 1
}

#[inline(always)]
fn work() -> u64 {
    let mut sum = 0;
    let mut times = 0;
    while times < 128 {
        // SAFETY: the helper takes nothing.
        sum ^= unsafe { bpf_ktime_get_ns() };
        times += 1;
    }
    sum
}

#[inline(always)]
fn records<const WORDS: usize>() -> i64 {
    let mut number = 0;
    while number < RECORDS {
        record::<WORDS>();
        number += 1;
    }
    0
}

/// Takes the time, reserves, fills and submits, as `emit` does.
#[inline(always)]
fn record<const WORDS: usize>() {
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(mut record) = SCALE_RING.reserve::<[u64; WORDS]>(0) {
        let words = record.as_mut_ptr().cast::<u64>();
        let mut word = 0;
        while word < WORDS {
            // SAFETY: so many words are reserved.
            unsafe { words.add(word).write(now) };
            word += 1;
        }
        record.submit(BPF_RB_NO_WAKEUP);
    } else {
        full();
    }
}

fn full() {
    if let Some(count) = SCALE_FULL.get_ptr_mut(0) {
        // SAFETY: this processor's own.
        unsafe { *count += 1 };
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: nothing here panics; the verifier would refuse an endless loop.
    unsafe { core::hint::unreachable_unchecked() }
}
