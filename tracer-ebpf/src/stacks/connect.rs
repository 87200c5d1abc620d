//! connect(): `inet_sock_set_state` to SYN_SENT, which `tcp_v4_connect` and `tcp_v6_connect` make in the
//! context of the caller.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::emit::{identity, is_tcp, opening};
use crate::layout::Kernel;
use crate::maps::Turn;

/// Arguments: `const struct sock *sk, const int oldstate, const int newstate`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn stack_connect(ctx: BtfTracePointContext) -> i32 {
    connected(&ctx, Turn::First)
}

/// For what the kernel skips the one above for.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn stack_connect_missed(ctx: BtfTracePointContext) -> i32 {
    connected(&ctx, Turn::Second)
}

#[inline(always)]
fn connected(ctx: &BtfTracePointContext, turn: Turn) -> i32 {
    if ctx.arg::<i32>(2) != i32::from(TcpState::SynSent.number()) {
        return 0;
    }
    let sk: Kernel = ctx.arg(0);
    if is_tcp(sk) {
        opening(StackKind::Connect, identity(sk), turn);
    }
    0
}
