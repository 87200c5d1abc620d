//! Memory that loading needed and running does not.

/// Gives freed memory back to the system: reading the kernel's types takes 27 MB for a moment, and glibc keeps them.
/// musl gives them back by itself.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "no crate in use has a function for it")
)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes no pointer, locks the heap itself, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
