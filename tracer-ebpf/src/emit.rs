//! Fills one record in place in the ring: reserve, write, submit, or count a drop.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_jiffies64, bpf_ktime_get_ns, bpf_ringbuf_query, bpf_skc_to_tcp_sock,
};
use tracer_common::TcpState;
use tracer_common::wire::{self, COVERED, Record, RecordKind, flags};

use crate::layout::{Kernel, has, load};
use crate::maps::{DROPS, RING, WAKE, global};
use crate::memory::clear;
use crate::owner::{write_nobody, write_owner};
use crate::socket::{Endpoints, cgroup_id, identity, interface};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// What to put into a record besides what the socket's `sock_common` holds.
pub struct Subject {
    pub kind: RecordKind,
    pub old_state: u8,
    pub new_state: u8,
    pub flags: u16,
    pub error: u16,
    pub detail: u64,
    /// Of a retransmit the socket's timeout, which goes into `tid`.
    pub retransmits: u32,
    /// Read the counters of `struct tcp_sock`.
    pub counters: bool,
    /// Say how long ago data last went over the connection; `detail` is then not used.
    pub ages: bool,
    /// Name the current task as the one that acts.
    pub owner: bool,
    /// Name the socket's cgroup.
    pub cgroup: bool,
    /// A child that has not got its cookie yet: its address stands for it.
    pub unsettled: bool,
}

/// Writes one record about `common`; `full` is the socket for what only full sockets have (of a
/// request the listener). A transition that has nothing to say in the end of a record is written
/// without it: memory of the ring is always cold. `read` reads its ends and its flags, which are added
/// to those of `subject`: while the record's memory is on its way.
#[inline(always)]
pub fn emit(
    common: Kernel,
    full: Kernel,
    subject: &Subject,
    read: impl FnOnce() -> (Endpoints, u16),
) {
    let bare = subject.kind as u8 == RecordKind::Transition as u8 && !subject.owner;
    if !bare {
        write::<Record>(common, full, subject, read);
    } else if subject.counters || subject.old_state == TcpState::SynRecv.number() {
        write::<[u64; wire::UP_TO_DETAIL / 8]>(common, full, subject, read);
    } else if subject.cgroup {
        write::<[u64; wire::UP_TO_CGROUP / 8]>(common, full, subject, read);
    } else {
        write::<[u64; wire::UP_TO_ADDRESSES / 8]>(common, full, subject, read);
    }
}

/// Asks for the memory of a record: a word of each of its lines is written, so that all are on their way to this
/// processor at the same time, and while the socket is read. Submitting waits for them (`bpf_ringbuf_commit` exchanges a
/// word, which no processor does before its stores are done).
///
/// # Safety
/// `record` points to a reserved record of the length of `T`, of which every word will be written again.
#[inline(always)]
unsafe fn ask_for<T>(record: *mut u64) {
    const LINE: usize = 64 / size_of::<u64>();
    let words = size_of::<T>() / size_of::<u64>();
    let mut word = 0;
    while word < words {
        // SAFETY: inside the record. Volatile, so that it is written now.
        unsafe { record.add(word).write_volatile(0) };
        word += LINE;
    }
    // A record does not begin where a line does.
    // SAFETY: as above.
    unsafe { record.add(words - 1).write_volatile(0) };
}

/// Writes as much of a record as `T` is long.
#[inline(always)]
fn write<T: 'static>(
    common: Kernel,
    full: Kernel,
    subject: &Subject,
    read: impl FnOnce() -> (Endpoints, u16),
) {
    // SAFETY: helper without arguments. Taken before the reservation, so that the order in the
    // ring and the order of the times agree for one socket.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(mut entry) = RING.reserve::<T>(0) else {
        drop_counted(subject.kind);
        return;
    };
    // SAFETY: reserved; all of it is written below.
    unsafe { ask_for::<T>(entry.as_mut_ptr().cast()) };
    let (ends, more) = read();
    let (id, id_flag) =
        if subject.unsettled { (common as u64, flags::ID_IS_ADDRESS) } else { identity(common) };
    let mut bits = subject.flags | more | id_flag;

    let record = entry.as_mut_ptr().cast::<Record>();
    // SAFETY: `record` is the reserved memory, aligned; every field that `T` has room for is written
    // before it is submitted, and no other. Raw writes, because the memory is not initialised.
    unsafe {
        (*record).mono_ns = now;
        (*record).id = id;
        (*record).netns = ends.netns;
        (*record).local_port = ends.local_port;
        (*record).remote_port = ends.remote_port;
        (*record).kind = subject.kind as u8;
        (*record).family = ends.family as u8;
        (*record).old_state = subject.old_state;
        (*record).new_state = subject.new_state;
        (*record).error = subject.error;
        (*record).local_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(ends.local);
        (*record).remote_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(ends.remote);
        if size_of::<T>() >= size_of::<Record>() && subject.owner {
            let opens = subject.old_state == TcpState::Close.number();
            bits |= write_owner(record, common, opens);
        } else {
            write_nobody::<T>(record, common);
        }
        if size_of::<T>() >= wire::UP_TO_CGROUP {
            (*record).cgroup = if subject.cgroup { cgroup_id(full) } else { 0 };
        }
        if size_of::<T>() >= wire::UP_TO_DETAIL {
            bits |= write_end(record, common, full, subject);
        }
        (*record).flags = bits;
    }
    entry.submit(wake_flag(now));
}

/// The end of a record, from `detail` on: its counters, and how old they are. Returns bits of [`Record::flags`].
///
/// # Safety
/// `record` points to a reserved record that has room for it, and whose other fields have been written.
#[inline(always)]
unsafe fn write_end(record: *mut Record, common: Kernel, full: Kernel, subject: &Subject) -> u16 {
    // Once: a call of a helper.
    let asks = subject.counters || subject.ages;
    let tcp = if asks { tcp_sock(full) } else { core::ptr::null() };
    let mut bits = 0;
    // SAFETY: the record is ours to write.
    unsafe {
        // Both halves at once: the verifier lets nobody take an address apart.
        (&raw mut (*record).detail).cast::<u64>().write(subject.detail);
        if subject.counters && !tcp.is_null() {
            bits |= flags::COUNTERS;
            write_counters(record, tcp);
            write_segments(record, tcp, subject);
        } else {
            clear((&raw mut (*record).bytes_sent).cast::<[u64; 3]>());
            (*record).retransmits = subject.retransmits;
            if subject.owner {
                (*record).srtt_us = interface(common);
            }
        }
        if subject.ages && !tcp.is_null() {
            bits |= flags::AGES;
            write_ages(record, tcp, subject.kind as u8 == RecordKind::ResetReceived as u8);
        }
    }
    bits
}

/// The same socket as a `struct tcp_sock`; null when it is none.
#[inline(always)]
fn tcp_sock(full: Kernel) -> Kernel {
    // SAFETY: a trusted socket pointer; the helper checks that it is a full TCP socket.
    unsafe { bpf_skc_to_tcp_sock(full.cast_mut()) }.cast_const().cast::<c_void>()
}

/// What `struct tcp_sock` counts.
///
/// # Safety
/// `record` points to a reserved record, `tcp` is of [`tcp_sock`].
#[inline(always)]
unsafe fn write_counters(record: *mut Record, tcp: Kernel) {
    let sent: u64 = load!(tcp, bytes_sent);
    let again: u64 = load!(tcp, bytes_retrans);
    let received: u64 = load!(tcp, bytes_received);
    let retransmits: u32 = load!(tcp, total_retrans);
    let srtt: u32 = load!(tcp, srtt_us);
    let sport: u16 = load!(tcp, sport);
    // SAFETY: the record is ours to write.
    unsafe {
        (*record).bytes_sent = sent - again;
        (*record).bytes_received = received;
        (*record).retransmits = retransmits;
        (*record).srtt_us = srtt >> 3;
        if (*record).local_port == 0 {
            // At ->CLOSE the port may be released (inet_put_port), inet_sport is still there.
            (*record).local_port = u16::from_be(sport);
        }
    }
}

/// What is told of segments: of a retransmit the timeout, at the end which of them came twice.
///
/// # Safety
/// `record` points to a reserved record, whose other fields have been written.
#[inline(always)]
unsafe fn write_segments(record: *mut Record, tcp: Kernel, subject: &Subject) {
    let ends = subject.kind as u8 == RecordKind::Transition as u8
        && subject.new_state == TcpState::Close.number()
        && subject.old_state != TcpState::SynRecv.number();
    // SAFETY: the record is ours to write.
    unsafe {
        if subject.kind as u8 == RecordKind::Retransmit as u8 {
            (*record).tid = subject.retransmits;
        }
        if ends {
            (*record).detail = got_twice(tcp);
        }
    }
}

/// 1 and how many segments the peer said it got twice (D-SACK, `tcp_dsack_seen`); 0 where that is not known.
#[inline(always)]
fn got_twice(tcp: Kernel) -> u32 {
    if !has!(dsack_dups) {
        return 0;
    }
    let times: u32 = load!(tcp, dsack_dups);
    times.saturating_add(1)
}

/// How many jiffies ago data was last sent and received, and for a RST an ACK.
///
/// # Safety
/// `record` points to a reserved record, whose other fields have been written, `tcp` is of [`tcp_sock`].
#[inline(always)]
unsafe fn write_ages(record: *mut Record, tcp: Kernel, reset: bool) {
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_jiffies64() } as u32;
    let sent: u32 = load!(tcp, lsndtime);
    let received: u32 = load!(tcp, lrcvtime);
    let acked: u32 = load!(tcp, rcv_tstamp);
    // SAFETY: the record is ours to write.
    unsafe {
        (*record).detail = now.wrapping_sub(sent);
        (*record).detail_more = now.wrapping_sub(received);
        if reset {
            (*record).tid = now.wrapping_sub(acked);
        }
    }
}

/// Wakes the reader for the first record after a quiet time, when the ring fills, and now and then while much comes. In
/// between its own timer brings it; more wake-ups would help nobody.
#[inline(always)]
pub fn wake_flag(now: u64) -> u64 {
    let wake = &raw mut WAKE;
    // SAFETY: aligned words of a map; whatever another processor writes in between is a time, too.
    unsafe {
        if now < (&raw const (*wake).ask_at).read_volatile() {
            return BPF_RB_NO_WAKEUP;
        }
        (&raw mut (*wake).ask_at).write_volatile(now + u64::from(global!(SETTINGS.ask_every_ns)));
        let ring = (&raw const RING).cast_mut().cast::<c_void>();
        let waits = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
        let due = (&raw const (*wake).due).read_volatile();
        if now < due && waits < u64::from(global!(SETTINGS.wake_bytes)) {
            return BPF_RB_NO_WAKEUP;
        }
        let mut pause = u64::from(global!(SETTINGS.wake_every_ns));
        if waits >= u64::from(global!(SETTINGS.busy_bytes)) {
            pause *= 2;
        }
        (&raw mut (*wake).due).write_volatile(now + pause);
    }
    BPF_RB_FORCE_WAKEUP
}

/// Counts a transition that only the second program got.
#[inline(always)]
pub fn count_covered() {
    if let Some(counts) = DROPS.get_ptr_mut(0) {
        // SAFETY: as in `drop_counted`.
        unsafe { (*counts)[COVERED] += 1 };
    }
}

#[inline(always)]
pub fn drop_counted(kind: RecordKind) {
    if let Some(counts) = DROPS.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot, indexed by a kind. A softirq nested between load and store
        // can lose one count, never make one up.
        unsafe { (*counts)[kind as usize] += 1 };
    }
}
