//! Whoever reads from a socket: `tcp_rcv_space_adjust`, called by `tcp_recvmsg` in the reader's context
//! after it has copied data.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::stack::StackKind;

use crate::emit::{emit, identity, is_tcp};
use crate::layout::Kernel;
use crate::maps::{READERS, Reader, set};
use crate::task::wanted;

/// Arguments: `struct sock *sk`.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn stack_read(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    if !is_tcp(sk) {
        return 0;
    }
    let Some(thread) = wanted() else {
        return 0;
    };
    let id = identity(sk);
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let tid = u64::from(thread.tid);
    // A stack a second and thread is enough.
    // SAFETY: another CPU may write the entry under way: then one stack more or less is taken.
    if let Some(last) = unsafe { READERS.get(id.0) } {
        let pause = u64::from(set!(read_every_ms)) * 1_000_000;
        let recent = last.at == Reader::NEVER
            || now < last.at + if last.tid == tid { pause } else { pause / 8 };
        if recent {
            return 0;
        }
    }
    if emit(StackKind::Read, id, &thread) {
        let _ = READERS.insert(id.0, Reader { at: now, tid }, 0);
    }
    0
}
