//! `memcpy` and `memmove` of the static binaries for x86-64.
//!
//! musl's own copy by `rep movsq`, which takes 40 ns to begin where all of a short copy takes 4 (docs/performance.md), and a
//! program that writes lines copies little and often: a third of `tail --json`'s time was spent there. musl's for aarch64 do
//! not. What is linked before the C library takes the place of its functions.

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// Bytes of a vector.
const VECTOR: usize = size_of::<__m128i>();
/// Bytes that a loop copies at a time.
const STEP: usize = 4 * VECTOR;

/// As C's.
///
/// # Safety
/// As C's: `from` can be read and `to` be written for `count` bytes.
// Without optimization what this is made of may itself call it.
#[cfg_attr(all(target_env = "musl", not(debug_assertions), not(test)), unsafe(no_mangle))]
#[expect(unsafe_code, reason = "a function of C's")]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: as asked for above.
    unsafe { copy(to, from, count) };
    to
}

/// As C's. musl's needs its own `memcpy`, so that both are here or none.
///
/// # Safety
/// As C's: `from` can be read and `to` be written for `count` bytes; they may overlap.
#[cfg_attr(all(target_env = "musl", not(debug_assertions), not(test)), unsafe(no_mangle))]
#[expect(unsafe_code, reason = "a function of C's")]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: as asked for above.
    unsafe { copy(to, from, count) };
    to
}

/// What is copied may overlap: whatever is read is read before anything is written there.
#[inline(always)]
#[expect(unsafe_code, reason = "memory is copied that nothing else is known of")]
unsafe fn copy(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: each piece lies within `count` bytes of `from` and `to`, since two of half the size or more cover the whole;
    // the whole of pieces is read before the first is written.
    unsafe {
        match count {
            0 => {}
            1 => *to = *from,
            2..4 => both_ends::<u16>(to, from, count),
            4..8 => both_ends::<u32>(to, from, count),
            8..16 => both_ends::<u64>(to, from, count),
            16..=32 => both_ends::<__m128i>(to, from, count),
            33..=64 => {
                let first = [load(from), load(from.add(VECTOR))];
                let end = count - 2 * VECTOR;
                let last = [load(from.add(end)), load(from.add(end + VECTOR))];
                store(to, first[0]);
                store(to.add(VECTOR), first[1]);
                store(to.add(end), last[0]);
                store(to.add(end + VECTOR), last[1]);
            }
            65..=128 => {
                let (first, last) = (load_step(from), load_step(from.add(count - STEP)));
                store_step(to, first);
                store_step(to.add(count - STEP), last);
            }
            // It moves down, which wraps around here, or does not overlap.
            _ if to.addr().wrapping_sub(from.addr()) >= count => forward(to, from, count),
            _ => backward(to, from, count),
        }
    }
}

/// The first and the last bytes of a piece that two of `T` cover.
#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn both_ends<T: Copy>(to: *mut u8, from: *const u8, count: usize) {
    let last = count - size_of::<T>();
    // SAFETY: `count` is at least the size of `T`, and any bytes are one.
    unsafe {
        let ends = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(ends.0);
        to.add(last).cast::<T>().write_unaligned(ends.1);
    }
}

/// More than two steps, from the front. The last step is read before anything is written over it, and written last.
#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn forward(to: *mut u8, from: *const u8, count: usize) {
    let end = count - STEP;
    // SAFETY: `at` is less than `end`, which has a step behind it.
    unsafe {
        let last = load_step(from.add(end));
        let mut at = 0;
        while at < end {
            store_step(to.add(at), load_step(from.add(at)));
            at += STEP;
        }
        store_step(to.add(end), last);
    }
}

/// More than two steps, from the end, for what moves up by less than its length. The first step is written last.
#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn backward(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: a step is taken off `at` only while it is more than one, and it begins at `count`.
    unsafe {
        let first = load_step(from);
        let mut at = count;
        while at > STEP {
            at -= STEP;
            store_step(to.add(at), load_step(from.add(at)));
        }
        store_step(to, first);
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn load(from: *const u8) -> __m128i {
    // SAFETY: the caller's; it need not be aligned.
    unsafe { _mm_loadu_si128(from.cast()) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn store(to: *mut u8, bytes: __m128i) {
    // SAFETY: the caller's; it need not be aligned.
    unsafe { _mm_storeu_si128(to.cast(), bytes) }
}

#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn load_step(from: *const u8) -> [__m128i; 4] {
    // SAFETY: the caller's.
    unsafe {
        [load(from), load(from.add(VECTOR)), load(from.add(2 * VECTOR)), load(from.add(3 * VECTOR))]
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "see `copy`")]
unsafe fn store_step(to: *mut u8, bytes: [__m128i; 4]) {
    // SAFETY: the caller's.
    unsafe {
        store(to, bytes[0]);
        store(to.add(VECTOR), bytes[1]);
        store(to.add(2 * VECTOR), bytes[2]);
        store(to.add(3 * VECTOR), bytes[3]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Copies within `before`, and checks what it is then, around it, too.
    #[expect(unsafe_code, reason = "what is tested is")]
    fn check(before: &[u8], from: usize, to: usize, count: usize) {
        let mut expect = before.to_vec();
        expect.copy_within(from..from + count, to);
        let mut bytes = before.to_vec();
        let start = bytes.as_mut_ptr();
        // SAFETY: both lie within `bytes`: `copy_within` above would have panicked.
        let returned = unsafe { memmove(start.add(to), start.add(from), count) };
        assert_eq!(returned.addr(), bytes.as_ptr().addr() + to);
        assert_eq!(bytes, expect, "{count} bytes from {from} to {to}");

        let mut bytes = before.to_vec();
        // SAFETY: `before` is elsewhere, and as long.
        unsafe { memcpy(bytes.as_mut_ptr().add(to), before.as_ptr().add(from), count) };
        assert_eq!(bytes, expect, "{count} bytes from another place, {from} to {to}");
    }

    fn different(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7 + at / 256) as u8).collect()
    }

    #[test]
    fn every_short_length_is_copied_whole_wherever_it_overlaps() {
        let bytes = different(700);
        for count in 0..=260 {
            for to in [0, 1, 7, 16, 63, 64, 65, 100, 127, 200, 300, 400] {
                check(&bytes, 200, to, count);
            }
        }
    }

    proptest! {
        #[test]
        fn any_length_is_copied_whole(count in 0_usize..9_000, from in 0_usize..300, to in 0_usize..300) {
            check(&different(9_300), from, to, count);
        }
    }
}
