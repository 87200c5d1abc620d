//! Memory that was needed for a moment: it goes back to the system.

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

/// Blocks of this size and more are given back as soon as they are freed. Smaller ones come and go with every look at the
/// ring, and are not to cost a system call each.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 2 << 20;

/// To be called before anything large is allocated. glibc raises its own threshold to the size of each large block that is
/// freed, up to 32 MiB: the rows of a walk over 100,000 sockets would stay with the process, 30 MB. musl has a fixed one.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "no crate in use has a function for it")
)]
pub fn keep_no_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes no pointer and changes nothing that has been allocated.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
