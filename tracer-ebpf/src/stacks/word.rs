//! A word of the kernel's memory.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// A word of the kernel's memory; 0 where it cannot be read.
#[inline(always)]
pub fn kernel_word(base: u64, offset: u32) -> u64 {
    let mut word = 0u64;
    // SAFETY: the helper checks the address itself.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut word).cast::<c_void>(),
            8,
            (base + u64::from(offset)) as *const c_void,
        );
    }
    word
}
