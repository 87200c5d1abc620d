//! Reads memory whose type the verifier does not know, and clears ours.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Reads kernel memory that the verifier knows no type of.
///
/// # Safety
/// `to` is the program's to write.
#[inline(always)]
pub unsafe fn probe<T>(to: *mut T, from: u64) {
    // SAFETY: the helper checks the address it reads from, and writes zeroes when it cannot.
    unsafe {
        bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const c_void);
    }
}

/// A field of a struct whose type the verifier does not know.
#[inline(always)]
pub fn probed<T: Default>(base: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the value is ours to write.
    unsafe { probe(&raw mut value, base + u64::from(offset)) };
    value
}

/// Writes zeroes over `to`, a word at a time: left to itself the compiler calls aya's `memset`, a loop
/// over bytes, which took a fifth of the program's time.
///
/// # Safety
/// `to` is the program's to write, of whole words and at the place of one; zeroes are good values of `T`.
#[inline(always)]
pub unsafe fn clear<T>(to: *mut T) {
    let words = to.cast::<u64>();
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: inside `T`, as the caller says. Volatile, so that it stays as it is.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

/// Makes `place` a record without its fields, for the rows of iterators: integers throughout, of whole
/// words.
#[inline(always)]
pub fn blank<T>(place: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    // SAFETY: used for wire structs only, whole words of integers; then all of it is written.
    unsafe {
        clear(place.as_mut_ptr());
        place.assume_init_mut()
    }
}
