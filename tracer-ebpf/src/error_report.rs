//! `inet_sk_error_report`: an error was put on a socket (5.15 and later).

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::wire::RecordKind;

use crate::emit::{Subject, emit};
use crate::filter::wanted;
use crate::layout::{Kernel, load};
use crate::socket::{Endpoints, is_tcp, socket_flags};

/// Arguments: `const struct sock *sk`.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    if !is_tcp(sk) {
        return 0;
    }
    let Some(ends) = Endpoints::read(sk) else {
        return 0;
    };
    if !wanted(sk, &ends, ends.local_port == 0, false) {
        return 0;
    }
    let state: u8 = load!(sk, state);
    let (flags, _) = socket_flags(sk);
    let error: i32 = load!(sk, err);
    let subject = Subject {
        kind: RecordKind::Error,
        old_state: state,
        new_state: state,
        flags,
        error: error as u16,
        detail: 0,
        retransmits: 0,
        counters: false,
        ages: false,
        owner: false,
        cgroup: true,
        unsettled: false,
    };
    emit(sk, sk, &subject, || (ends, 0));
    0
}
