//! `tcp_retransmit_skb` and `tcp_retransmit_synack`: what was sent again.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::wire::{RecordKind, again, flags};

use crate::emit::{Subject, emit};
use crate::filter::wanted;
use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::socket::{Endpoints, is_tcp, socket_flags};

/// `TCP_CA_Recovery` of `enum tcp_ca_state`.
const RECOVERY: u8 = 3;
/// `TCP_CA_Loss`.
const LOSS: u8 = 4;
/// `ICSK_TIME_LOSS_PROBE`, of `icsk_pending`.
const LOSS_PROBE: u8 = 5;

const EAGAIN: i32 = -11;
const ENOMEM: i32 = -12;
const EBUSY: i32 = -16;

/// Arguments: `const struct sock *sk, const struct sk_buff *skb`, since 6.17 `int err`.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let skb: Kernel = ctx.arg(1);
    let error = if global!(SETTINGS.retransmit_error) != 0 { ctx.arg::<i32>(2) } else { 0 };
    // Not tried yet: it is still on its way out, the window is closed, memory is short (`__tcp_retransmit_skb`).
    if error == EBUSY || error == EAGAIN || error == ENOMEM || !is_tcp(sk) {
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
    let (mut length, mut segments) = (0, 1_u16);
    if has!(skb_cb) {
        // struct tcp_skb_cb begins with seq, end_seq and tcp_gso_segs.
        let seq: u32 = load!(skb, skb_cb);
        let end_seq: u32 = load!(skb, skb_cb, 4);
        segments = load!(skb, skb_cb, 8);
        length = end_seq.wrapping_sub(seq);
        if is_last(sk, end_seq) {
            bits |= flags::LAST_SEGMENT;
        }
    }
    let (why, timeout) = why(sk);
    let more = u32::from(why) | u32::from(segments) << 16;
    let subject = Subject {
        kind: RecordKind::Retransmit,
        old_state: state,
        new_state: state,
        flags: bits,
        error: error.unsigned_abs() as u16,
        detail: u64::from(length) | u64::from(more) << 32,
        retransmits: timeout,
        counters: true,
        ages: false,
        owner: false,
        cgroup: true,
        unsettled: false,
    };
    emit(sk, sk, &subject, || (ends, 0));
    0
}

/// Why it was sent again, and the socket's timeout. The timer that ran out is not pending any more when
/// `tcp_retransmit_timer` sends, and that of a probe still is (`tcp_write_timer_handler`); all else happens while an
/// ACK is processed, with a timer running. The state is that by which the kernel counts itself
/// (`tcp_xmit_retransmit_queue`).
#[inline(always)]
fn why(sk: Kernel) -> (u8, u32) {
    if !has!(ca_state) || !has!(icsk_pending) || !has!(icsk_rto) {
        return (0, 0);
    }
    // SAFETY: a trusted socket pointer; the helper checks that it is a full TCP socket.
    let tcp = unsafe { aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock(sk.cast_mut()) };
    let tcp: Kernel = tcp.cast_const().cast();
    if tcp.is_null() {
        return (0, 0);
    }
    let state: u8 = load!(tcp, ca_state);
    let pending: u8 = load!(tcp, icsk_pending);
    let timeout: u32 = load!(tcp, icsk_rto);
    let why = match (state & 7, pending) {
        (LOSS, 0) => again::TIMEOUT,
        (LOSS, _) => again::SLOW_START,
        (RECOVERY, _) => again::FAST,
        (_, LOSS_PROBE) => again::PROBE,
        _ => again::OTHER,
    };
    (why, timeout)
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
    let subject = Subject {
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
    };
    emit(request, listener, &subject, || (ends, 0));
    0
}
