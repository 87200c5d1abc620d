//! `inet_sock_set_state`: every change of `sk_state`.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use tracer_common::TcpState;
use tracer_common::state::{States, made_by_current_task};
use tracer_common::wire::{RecordKind, flags};

use crate::emit::{Subject, count_covered, emit};
use crate::filter::wanted;
use crate::layout::{Kernel, has, load};
use crate::maps::{LAST, global};
use crate::socket::{Endpoints, has_peer, is_ip, is_tcp, socket_flags};

/// Arguments: `const struct sock *sk, const int oldstate, const int newstate`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let (old, new) = states(&ctx);
    if is_tcp(sk) {
        report(&ctx, sk, old, new, 0);
    }
    mark_seen(sk, old, new);
    0
}

/// Runs right after the program above, for the events that one did not get.
///
/// An interrupt may come while it runs, and the softirq behind it deliver whole batches of segments:
/// for all their transitions the kernel skips the interrupted program (`bpf_prog.active`), but not
/// this one.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_missed(ctx: BtfTracePointContext) -> i32 {
    let sk: Kernel = ctx.arg(0);
    let (old, new) = states(&ctx);
    if was_seen(sk, old, new) {
        return 0;
    }
    count_covered();
    if is_tcp(sk) {
        report(&ctx, sk, old, new, flags::SECOND);
    }
    0
}

#[inline(always)]
fn states(ctx: &BtfTracePointContext) -> (u8, u8) {
    (ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8)
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext, sk: Kernel, old: u8, new: u8, extra: u16) {
    if !is_ip(sk) {
        return;
    }
    // inet_csk_clone_lock of older kernels says LISTEN->SYN_RECV before the child has its addresses
    // and its cookie, which is the request's.
    let unsettled =
        old == TcpState::Listen.number() && new == TcpState::SynRecv.number() && !has_peer(sk);
    if global!(FILTER.on) != 0 {
        let Some(ends) = Endpoints::read(sk) else {
            return;
        };
        // tcp_v4_connect sets SYN_SENT before inet_hash_connect chooses the port, and at ->CLOSE it may
        // be released: user space, which knows the connection, decides those two about ports.
        let port_comes_later = new == TcpState::SynSent.number()
            || old == TcpState::SynSent.number()
            || ends.local_port == 0
            || unsettled;
        if !wanted(sk, &ends, port_comes_later, unsettled) {
            return;
        }
    }
    if global!(SETTINGS.debug) != 0 {
        // Copies: what a message has been shown is kept in memory, and would be written there for each event.
        let (left, entered, port): (u8, u8, u16) = (old, new, load!(sk, num));
        debug!(ctx, "state {} -> {}, local port {}", left, entered, port);
    }
    let error: i32 = load!(sk, err);
    let error = error as u16;
    let shutdown: u8 = load!(sk, shutdown);
    const COUNTED: States =
        States::of(&[TcpState::Close, TcpState::Established, TcpState::CloseWait]);
    // How long it was idle when one side closed: an idle timeout shows in it.
    const CLOSING: States = States::of(&[TcpState::CloseWait, TcpState::FinWait1]);
    const WAITS: States = States::of(&[TcpState::FinWait2, TcpState::Closing]);
    let full = if new == TcpState::Close.number() && WAITS.has(old) != 0 && time_wait_is_full(sk) {
        flags::TIME_WAIT_FULL
    } else {
        0
    };
    const BEGUN: States = States::of(&[TcpState::SynSent, TcpState::SynRecv, TcpState::Listen]);
    let subject = Subject {
        kind: RecordKind::Transition,
        old_state: old,
        new_state: new,
        flags: extra | full,
        error,
        detail: if old == TcpState::SynRecv.number() { sk as u64 } else { 0 },
        retransmits: 0,
        counters: COUNTED.has(new) != 0,
        ages: old == TcpState::Established.number() && CLOSING.has(new) != 0,
        owner: made_by_current_task(old, new, error, shutdown),
        // A connection keeps the one it was made in.
        cgroup: BEGUN.has(new) != 0,
        unsettled,
    };
    emit(sk, sk, &subject, || (Endpoints::of_ip(sk), socket_flags(sk).0));
}

/// Whether `inet_twsk_alloc` may just have refused a mini-socket for this one. It counts its own in
/// `tw_refcount` and compares the rest: so this is true for the last one that got a place, too.
#[inline(always)]
fn time_wait_is_full(sk: Kernel) -> bool {
    if !has!(tw_count) || !has!(tw_max) {
        return false;
    }
    let net: Kernel = load!(sk, net);
    let count: i32 = load!(net, tw_count);
    let most: i32 = load!(net, tw_max);
    count >= most
}

/// Leaves word for the second program that this transition was seen.
#[inline(always)]
fn mark_seen(sk: Kernel, old: u8, new: u8) {
    if let Some(last) = LAST.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot.
        unsafe {
            (*last).socket = sk as u64;
            (*last).states = u64::from(old) << 8 | u64::from(new);
        }
    }
}

/// Whether the first program has just seen this transition. An interrupt between the two programs
/// leaves other word: then it is reported twice, marked [`flags::SECOND`], and user space knows.
#[inline(always)]
fn was_seen(sk: Kernel, old: u8, new: u8) -> bool {
    let Some(last) = LAST.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot.
    unsafe {
        (*last).socket == sk as u64 && (*last).states == (u64::from(old) << 8 | u64::from(new))
    }
}
