//! Whoever reads from a socket: `tcp_rcv_space_adjust`, called by `tcp_recvmsg` in the reader's context
//! after it has copied data.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::stack::StackKind;

use crate::emit::{emit, identity, is_tcp};
use crate::handler;
use crate::layout::Kernel;
use crate::maps::{READERS, Reader, Turn, set};
use crate::task::wanted;
use crate::word::kernel_word;

/// Stacks of one socket's readers that are taken without a pause.
const MOST_IN_A_ROW: u64 = 8;

/// Arguments: `struct sock *sk`.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn stack_read(ctx: BtfTracePointContext) -> i32 {
    has_read(ctx.arg(0), Turn::First)
}

/// For what the kernel skips the one above for.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn stack_read_missed(ctx: BtfTracePointContext) -> i32 {
    has_read(ctx.arg(0), Turn::Second)
}

#[inline(always)]
fn has_read(sk: Kernel, turn: Turn) -> i32 {
    if !is_tcp(sk) {
        return 0;
    }
    let id = identity(sk);
    // SAFETY: helpers without arguments.
    let (now, tid) = unsafe { (bpf_ktime_get_ns(), u64::from(bpf_get_current_pid_tgid() as u32)) };
    let written = kernel_word(sk as u64, set!(write_seq)) & 0xffff_ffff;
    let mut count = 1;
    // Of a thread a stack a second is enough, and what the other program has just taken is recent. But another
    // thread, or an answer to another request, may be other code's: who borrows a connection from a pool must not
    // be taken for who had it a moment before.
    // SAFETY: another CPU may write the entry under way: then one stack more or less is taken.
    if let Some(last) = unsafe { READERS.get(id.0) } {
        let pause = u64::from(set!(read_every_ms)) * 1_000_000;
        // Another CPU's reader may be later than `now`.
        if last.at != 0 && now.saturating_sub(last.at) < pause {
            if last.tid == tid && last.written == written || last.count >= MOST_IN_A_ROW {
                return 0;
            }
            count = last.count + 1;
        }
    }
    let Some(thread) = wanted() else {
        return 0;
    };
    emit(StackKind::Read as u8, id, &thread, turn);
    let _ = READERS.insert(id.0, Reader { at: now, tid, taken_by: 0, written, count }, 0);
    handler::begins(&thread, now);
    0
}
