//! `tcp_retransmit_skb` and `tcp_retransmit_synack`: what was sent again.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::wire::{RecordKind, flags};

use crate::emit::{Subject, emit};
use crate::filter::wanted;
use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::socket::{Endpoints, is_tcp, socket_flags};

/// Arguments: `const struct sock *sk, const struct sk_buff *skb` (and `int err` later).
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let skb: Kernel = ctx.arg(1);
    if !is_tcp(sk) {
        return 0;
    }
    let Some(ends) = Endpoints::read(sk) else {
        return 0;
    };
    if !wanted(sk, &ends, false, false) {
        return 0;
    }
    let state: u8 = load!(sk, state);
    let (mut bits, _) = socket_flags(sk);
    let mut length = 0;
    if has!(skb_cb) {
        // SAFETY: struct tcp_skb_cb begins with seq and end_seq.
        let (seq, end_seq): (u32, u32) = unsafe {
            let cb = global!(LAYOUT.skb_cb);
            (crate::layout::load_at(skb, cb), crate::layout::load_at(skb, cb + 4))
        };
        length = end_seq.wrapping_sub(seq);
        if is_last(sk, end_seq) {
            bits |= flags::LAST_SEGMENT;
        }
    }
    emit(
        sk,
        sk,
        &ends,
        &Subject {
            kind: RecordKind::Retransmit,
            old_state: state,
            new_state: state,
            flags: bits,
            error: 0,
            detail: u64::from(length),
            retransmits: 0,
            counters: true,
            ages: false,
            owner: false,
            cgroup: true,
            unsettled: false,
        },
    );
    0
}

/// Whether the segment ends where everything written ends; a FIN advances `write_seq` too.
#[inline(always)]
fn is_last(sk: Kernel, end_seq: u32) -> bool {
    // SAFETY: a trusted socket pointer; the helper checks that it is a full TCP socket.
    let tcp = unsafe { aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock(sk.cast_mut()) };
    if tcp.is_null() {
        return false;
    }
    let write_seq: u32 = load!(tcp.cast_const().cast(), write_seq);
    end_seq == write_seq
}

/// Arguments: `const struct sock *sk` (the listener), `const struct request_sock *req`.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    let listener: Kernel = ctx.arg(0);
    let request: Kernel = ctx.arg(1);
    if !is_tcp(listener) {
        return 0;
    }
    let Some(ends) = Endpoints::read(request) else {
        return 0;
    };
    if !wanted(listener, &ends, false, false) {
        return 0;
    }
    let retransmits: u8 = if has!(num_retrans) { load!(request, num_retrans) } else { 0 };
    emit(
        request,
        listener,
        &ends,
        &Subject {
            kind: RecordKind::RetransmitSynack,
            old_state: TcpState::SynRecv.number(),
            new_state: TcpState::SynRecv.number(),
            flags: flags::REQUEST,
            error: 0,
            detail: 0,
            retransmits: u32::from(retransmits),
            counters: false,
            ages: false,
            owner: false,
            cgroup: true,
            unsettled: false,
        },
    );
    0
}
