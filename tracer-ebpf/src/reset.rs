//! `tcp_send_reset` and `tcp_receive_reset`: who reset a connection, and why.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::wire::RecordKind;

use crate::emit::{Subject, emit};
use crate::filter::wanted;
use crate::layout::{Kernel, load};
use crate::maps::global;
use crate::socket::{Endpoints, is_tcp, socket_flags};

/// Arguments: `const struct sock *sk, const struct sk_buff *skb` (and `enum sk_rst_reason` later).
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let reason = if global!(SETTINGS.reset_reason) != 0 { ctx.arg::<i32>(2) as u32 } else { 0 };
    report(ctx.arg(0), RecordKind::ResetSent, reason)
}

/// Arguments: `struct sock *sk`.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    report(ctx.arg(0), RecordKind::ResetReceived, 0)
}

#[inline(always)]
fn report(sk: Kernel, kind: RecordKind, reason: u32) -> i32 {
    // A RST for a segment that found no socket. Where the verifier believes that the argument
    // cannot be NULL it drops this check; the loads then give zeroes and the next one fails.
    if sk.is_null() {
        return 0;
    }
    let state: u8 = load!(sk, state);
    // Mini-sockets and requests are no `struct sock` beyond `sock_common`.
    if state == TcpState::TimeWait.number() || state == TcpState::NewSynRecv.number() {
        return 0;
    }
    let Some(ends) = Endpoints::read(sk) else {
        return 0;
    };
    if !is_tcp(sk) || !wanted(sk, &ends, ends.local_port == 0, false) {
        return 0;
    }
    let (flags, _) = socket_flags(sk);
    let error: i32 = load!(sk, err);
    let subject = Subject {
        kind,
        old_state: state,
        new_state: state,
        flags,
        error: error as u16,
        detail: u64::from(reason),
        retransmits: 0,
        counters: true,
        ages: kind as u8 == RecordKind::ResetReceived as u8,
        owner: false,
        cgroup: true,
        unsettled: false,
    };
    emit(sk, sk, &subject, || (ends, 0));
    0
}
