//! Stacks of the threads that open and read sockets, and of what they do next: an object of its own, so that only who wants
//! stacks pays for them.
//!
//! All programs run in the context of the thread they tell of. `walk` takes the stack, `task` says
//! whether the thread is wanted and who it is, `emit` writes a stack once and then only its hash.
#![no_std]
#![no_main]

mod accept;
mod connect;
mod emit;
mod handler;
#[path = "../layout.rs"]
#[allow(unused_macros, unused_imports, reason = "its macros are for the other object's globals")]
mod layout;
mod maps;
mod read;
mod task;
mod walk;
mod word;

/// As in the other object: the helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: no program has a reachable panic; the verifier would refuse the endless loop that a
    // reachable one would need.
    unsafe { core::hint::unreachable_unchecked() }
}
