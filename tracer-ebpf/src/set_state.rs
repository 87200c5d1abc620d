//! `inet_sock_set_state`: every change of `sk_state`.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use tracer_common::TcpState;
use tracer_common::wire::RecordKind;

use crate::emit::{Endpoints, Subject, emit, is_tcp, made_by_current_task, socket_flags};
use crate::filter::wanted;
use crate::layout::{Kernel, load};

/// Arguments: `const struct sock *sk, const int oldstate, const int newstate`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let old = ctx.arg::<i32>(1) as u8;
    let new = ctx.arg::<i32>(2) as u8;
    if !is_tcp(sk) {
        return 0;
    }
    let Some(ends) = Endpoints::read(sk) else {
        return 0;
    };
    // tcp_v4_connect sets SYN_SENT before inet_hash_connect chooses the port, and at ->CLOSE it may
    // be released: user space, which knows the connection, decides those two about ports.
    let port_comes_later = new == TcpState::SynSent.number()
        || old == TcpState::SynSent.number()
        || ends.local_port == 0;
    if !wanted(sk, &ends, port_comes_later) {
        return 0;
    }
    debug!(&ctx, "state {} -> {}, local port {}", old, new, ends.local_port);
    let (flags, shutdown) = socket_flags(sk);
    let error: i32 = load!(sk, err);
    let error = error as u16;
    let counters = new == TcpState::Close.number() || new == TcpState::Established.number();
    emit(
        sk,
        sk,
        &ends,
        &Subject {
            kind: RecordKind::Transition,
            old_state: old,
            new_state: new,
            flags,
            error,
            detail: 0,
            retransmits: 0,
            counters,
            owner: made_by_current_task(old, new, error, shutdown),
        },
    );
    0
}
