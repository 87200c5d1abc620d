//! Whoever reads from a socket: `tcp_rcv_space_adjust`, called by `tcp_recvmsg` in the reader's context
//! after it has copied data.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::stack::StackKind;

use crate::emit::{emit, identity, is_tcp};
use crate::layout::Kernel;
use crate::maps::{READERS, Reader, Turn, set};
use crate::task::wanted;

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
    // A stack a second and thread is enough; and what the other program has just taken is recent.
    // SAFETY: another CPU may write the entry under way: then one stack more or less is taken.
    if let Some(last) = unsafe { READERS.get(id.0) } {
        let pause = u64::from(set!(read_every_ms)) * 1_000_000;
        // Another CPU's reader may be later than `now`.
        let since = now.saturating_sub(last.at);
        let recent = last.at == Reader::NEVER
            || last.at != 0 && since < if last.tid == tid { pause } else { pause / 8 };
        if recent {
            return 0;
        }
    }
    let Some(thread) = wanted() else {
        return 0;
    };
    emit(StackKind::Read, id, &thread, turn);
    let _ = READERS.insert(id.0, Reader { at: now, tid, taken_by: 0 }, 0);
    0
}
