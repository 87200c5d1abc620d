//! connect(): `inet_sock_set_state` to SYN_SENT, which `tcp_v4_connect` and `tcp_v6_connect` make in the
//! context of the caller.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::stack::{StackKind, flags};

use crate::emit::{emit, identity, is_tcp};
use crate::layout::Kernel;
use crate::maps::{READERS, Reader, forget_reader};
use crate::task::wanted;

/// Arguments: `const struct sock *sk, const int oldstate, const int newstate`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn stack_connect(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(2) != i32::from(TcpState::SynSent.number()) {
        return 0;
    }
    let sk: Kernel = ctx.arg(0);
    if !is_tcp(sk) {
        return 0;
    }
    let Some(thread) = wanted() else {
        return 0;
    };
    let id = identity(sk);
    let written = emit(StackKind::Connect, id, &thread);
    forget_reader(id);
    if written && id.1 & flags::ID_IS_ADDRESS == 0 {
        // Who opened it is known: who reads from it does not matter.
        let _ = READERS.insert(id.0, Reader { at: Reader::NEVER, tid: 0 }, 0);
    }
    0
}
