//! The least a tracer of state changes can do: one 96-byte ring record with the time and the states,
//! no wake-up. `cargo xtask bench` measures tcptrail's program against it.
#![no_std]
#![no_main]

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::RingBuf;
use aya_ebpf::programs::BtfTracePointContext;

#[map]
static FLOOR_RING: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

const BPF_RB_NO_WAKEUP: u64 = 1;

/// Arguments: `const struct sock *sk, const int oldstate, const int newstate`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn bench_floor(ctx: BtfTracePointContext) -> i32 {
    if let Some(mut record) = FLOOR_RING.reserve::<[u64; 12]>(0) {
        let words = record.as_mut_ptr().cast::<u64>();
        // SAFETY: the helper takes nothing; twelve words are reserved, all of them written.
        unsafe {
            words.write(bpf_ktime_get_ns());
            words.add(1).write(ctx.arg::<i32>(1) as u64);
            words.add(2).write(ctx.arg::<i32>(2) as u64);
            let mut word = 3;
            while word < 12 {
                words.add(word).write(0);
                word += 1;
            }
        }
        record.submit(BPF_RB_NO_WAKEUP);
    }
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: nothing here panics; the verifier would refuse an endless loop.
    unsafe { core::hint::unreachable_unchecked() }
}
