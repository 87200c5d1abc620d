//! `iter/tcp`: every TCP socket, request socket and mini-socket of the network namespace of the
//! process that opened the iterator, one [`SocketRow`] each.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_jiffies64, bpf_ktime_get_ns, bpf_seq_write, bpf_skc_to_tcp_request_sock,
    bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock,
};
use tracer_common::TcpState;
use tracer_common::wire::{RecordKind, SocketRow, flags};

use crate::filter::row_wanted;
use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::memory::blank;
use crate::socket::{Endpoints, cgroup_id, identity, interface, socket_flags};

/// `struct bpf_iter__tcp`.
#[repr(C)]
struct TcpContext {
    meta: Kernel,
    socket: Kernel,
    uid: u32,
}

/// aya-ebpf has no macro for iterators; the section name is what makes it one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *mut c_void) -> i32 {
    walk(ctx, true)
}

/// As `iter_tcp`, but of full sockets only those of which no tracepoint tells what there is to know:
/// those that wait to be accepted, that get no answer, and listeners, for their queues; and half-closed
/// ones where it is asked whether data goes over them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_minis(ctx: *mut c_void) -> i32 {
    walk(ctx, false)
}

#[inline(always)]
fn walk(ctx: *mut c_void, full_sockets: bool) -> i32 {
    let ctx = ctx.cast::<TcpContext>();
    // SAFETY: the kernel passes a `struct bpf_iter__tcp`; volatile, so that each field is one load
    // the verifier recognises.
    let (meta, common, uid) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx).meta),
            core::ptr::read_volatile(&raw const (*ctx).socket),
            core::ptr::read_volatile(&raw const (*ctx).uid),
        )
    };
    // The last call has no socket.
    if common.is_null() {
        return 0;
    }
    let state: u8 = load!(common, state);
    let is_mini = state == TcpState::TimeWait.number() || state == TcpState::NewSynRecv.number();
    if !full_sockets && !is_mini && !is_worth_a_look(common, state) {
        return 0;
    }
    let Some(ends) = Endpoints::read(common) else {
        return 0;
    };
    // What events are not told of, rows are not told of either.
    if !row_wanted(state, &ends) {
        return 0;
    }
    let mut row = MaybeUninit::<SocketRow>::uninit();
    let row = blank(&mut row);
    fill(row, common, state, &ends);
    row.uid = uid;

    // SAFETY: helper without arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    match state {
        s if s == TcpState::TimeWait.number() => mini_socket(common, jiffies, row),
        s if s == TcpState::NewSynRecv.number() => request(common, jiffies, row),
        _ => full_socket(common, jiffies as u32, row),
    }
    row.record.old_state = row.record.new_state;

    // SAFETY: `bpf_iter_meta.seq` stands first; the row is initialised memory of that size. When
    // the page is full the kernel calls again with the same socket.
    unsafe {
        let seq: Kernel = crate::layout::load_at(meta, 0);
        bpf_seq_write(
            seq.cast_mut().cast(),
            (&raw const *row).cast::<c_void>(),
            size_of::<SocketRow>() as u32,
        );
    }
    0
}

/// What rows of all kinds of sockets have.
#[inline(always)]
fn fill(row: &mut SocketRow, common: Kernel, state: u8, ends: &Endpoints) {
    let (id, id_flag) = identity(common);
    // SAFETY: helper without arguments.
    row.record.mono_ns = unsafe { bpf_ktime_get_ns() };
    row.record.id = id;
    row.record.netns = ends.netns;
    row.record.local_port = ends.local_port;
    row.record.remote_port = ends.remote_port;
    row.record.kind = RecordKind::Socket as u8;
    row.record.family = ends.family as u8;
    row.record.new_state = state;
    row.record.flags = id_flag;
    row.record.pid = interface(common);
    // SAFETY: sixteen bytes either way.
    row.record.local_addr = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(ends.local) };
    // SAFETY: sixteen bytes either way.
    row.record.remote_addr = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(ends.remote) };
}

/// Data that waits for this many jiffies, a second to ten, waits for a window.
const WAITS_LONG: u32 = 1_000;

/// A listener; or a full socket that no application has yet, whose retransmissions or probes are not
/// answered, or whose data does not go out.
#[inline(always)]
fn is_worth_a_look(common: Kernel, state: u8) -> bool {
    if state == TcpState::Listen.number() {
        return true;
    }
    let is_half_closed = state >= TcpState::FinWait1.number()
        && state <= TcpState::Closing.number()
        && state != TcpState::Close.number();
    if is_half_closed && global!(SETTINGS.half_closed) != 0 {
        return true;
    }
    // SAFETY: a trusted `sock_common` pointer; the helper checks that it is a full TCP socket.
    let tcp: Kernel = unsafe { bpf_skc_to_tcp_sock(common.cast_mut()) }.cast_const().cast();
    if tcp.is_null() {
        return false;
    }
    let (bits, _) = socket_flags(tcp);
    if bits & (flags::HAS_SOCKET | flags::DEAD) == 0 {
        return true;
    }
    let unanswered: u8 = load!(tcp, icsk_retransmits);
    let probes: u8 = load!(tcp, icsk_probes_out);
    if unanswered != 0 || probes != 0 {
        return true;
    }
    let written: u32 = load!(tcp, write_seq);
    let una: u32 = load!(tcp, snd_una);
    let sent: u32 = load!(tcp, lsndtime);
    // SAFETY: helper without arguments.
    let jiffies = unsafe { bpf_jiffies64() } as u32;
    written != una && jiffies.wrapping_sub(sent) > WAITS_LONG
}

#[inline(always)]
fn full_socket(common: Kernel, jiffies: u32, row: &mut SocketRow) {
    // SAFETY: a trusted `sock_common` pointer; the helper checks that it is a full TCP socket.
    let tcp: Kernel = unsafe { bpf_skc_to_tcp_sock(common.cast_mut()) }.cast_const().cast();
    if tcp.is_null() {
        return;
    }
    let (bits, _) = socket_flags(tcp);
    row.record.flags |= bits | flags::COUNTERS;
    row.record.cgroup = cgroup_id(tcp);
    let error: i32 = load!(tcp, err);
    row.record.error = error as u16;
    if row.record.local_port == 0 {
        let sport: u16 = load!(tcp, sport);
        row.record.local_port = u16::from_be(sport);
    }
    let sent: u64 = load!(tcp, bytes_sent);
    let again: u64 = load!(tcp, bytes_retrans);
    let srtt: u32 = load!(tcp, srtt_us);
    row.record.bytes_sent = sent - again;
    row.record.bytes_received = load!(tcp, bytes_received);
    row.record.retransmits = load!(tcp, total_retrans);
    row.record.srtt_us = srtt >> 3;
    row.unanswered = load!(tcp, icsk_retransmits);
    row.probes = load!(tcp, icsk_probes_out);
    if row.record.new_state == TcpState::Listen.number() {
        row.recv_queue = load!(tcp, ack_backlog);
        row.send_queue = load!(tcp, max_ack_backlog);
        if has!(defer_accept) {
            row.deferred = load!(tcp, defer_accept);
        }
    } else {
        let rcv_nxt: u32 = load!(tcp, rcv_nxt);
        let copied: u32 = load!(tcp, copied_seq);
        let written: u32 = load!(tcp, write_seq);
        let una: u32 = load!(tcp, snd_una);
        row.recv_queue = rcv_nxt.wrapping_sub(copied);
        row.send_queue = written.wrapping_sub(una);
        let received: u32 = load!(tcp, lrcvtime);
        let sent: u32 = load!(tcp, lsndtime);
        let acked: u32 = load!(tcp, rcv_tstamp);
        row.since_received = jiffies.wrapping_sub(received);
        row.since_sent = jiffies.wrapping_sub(sent);
        row.since_ack = jiffies.wrapping_sub(acked);
    }
    let socket: Kernel = load!(tcp, socket);
    if !socket.is_null() && has!(socket_file) && has!(file_inode) && has!(inode_ino) {
        let file: Kernel = load!(socket, socket_file);
        if !file.is_null() {
            let inode: Kernel = load!(file, file_inode);
            row.inode = load!(inode, inode_ino);
        }
    }
}

/// A mini-socket's state is TIME_WAIT; what it stands for is its substate (`tcp_time_wait`).
#[inline(always)]
fn mini_socket(common: Kernel, jiffies: u64, row: &mut SocketRow) {
    row.record.flags |= flags::MINI;
    // SAFETY: a trusted `sock_common` pointer; the helper checks the state.
    let tw: Kernel = unsafe { bpf_skc_to_tcp_timewait_sock(common.cast_mut()) }.cast_const().cast();
    if tw.is_null() {
        return;
    }
    row.record.new_state = load!(tw, tw_substate);
    let expires: u64 = load!(tw, tw_expires);
    row.timer = until(expires, jiffies);
}

#[inline(always)]
fn request(common: Kernel, jiffies: u64, row: &mut SocketRow) {
    row.record.flags |= flags::REQUEST;
    // SAFETY: a trusted `sock_common` pointer; the helper checks the state.
    let request: Kernel =
        unsafe { bpf_skc_to_tcp_request_sock(common.cast_mut()) }.cast_const().cast();
    if request.is_null() {
        return;
    }
    row.record.new_state = TcpState::SynRecv.number();
    let retransmits: u8 = if has!(num_retrans) { load!(request, num_retrans) } else { 0 };
    row.record.retransmits = u32::from(retransmits);
    if has!(req_acked) {
        let bits: u8 = load!(request, req_acked);
        row.deferred = u8::from(u32::from(bits) & global!(LAYOUT.req_acked_bit) != 0);
    }
    let expires: u64 = load!(request, rsk_expires);
    row.timer = until(expires, jiffies);
    if global!(SETTINGS.cookie_helper) != 0 {
        // `skc_listener` shares its place with `skc_flags`.
        let listener: Kernel = load!(request, flags);
        row.listener = listener as u64;
    }
}

/// Jiffies from now to `expires`, 0 when it has passed.
#[inline(always)]
fn until(expires: u64, jiffies: u64) -> u32 {
    let left = expires.wrapping_sub(jiffies);
    if left > u64::from(u32::MAX) { 0 } else { left as u32 }
}
