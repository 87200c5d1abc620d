//! The eBPF programs of tcptrail: one file per probe.
//!
//! They are stateless: each writes one fixed-size record into the ring buffer and leaves
//! correlation to user space. `emit` fills a record (`owner`: with the task that acts),
//! `socket` reads what a socket says of itself, `filter` decides before anything is written,
//! `layout` reads kernel fields at offsets the loader found in the running kernel's BTF.
#![no_std]
#![no_main]

mod descriptors;
mod dropped;
mod emit;
mod error_report;
mod filter;
mod iter_files;
mod iter_tcp;
mod layout;
mod maps;
mod memory;
mod owner;
mod reset;
mod retransmit;
mod set_state;
mod socket;

/// The helpers for tracing (`bpf_probe_read_kernel`, `bpf_skc_to_tcp_sock`) are for GPL-compatible
/// programs only; MIT OR Apache-2.0 holds for the source.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: no program has a reachable panic; the verifier would refuse the endless loop that a
    // reachable one would need.
    unsafe { core::hint::unreachable_unchecked() }
}
