//! Fills one record in place in the ring: reserve, write, submit, or count a drop.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns, bpf_probe_read_kernel,
    bpf_ringbuf_query, bpf_skc_to_tcp_sock,
};
use tracer_common::TcpState;
use tracer_common::wire::{self, AF_INET, AF_INET6, COVERED, Record, RecordKind, flags};

use crate::layout::{Kernel, has, load};
use crate::maps::{DROPS, RING, WAKE, global};

/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u16 = 6;
/// Bits of `sk_flags` (`enum sock_flags`).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;
const SOCK_KEEPOPEN: u64 = 1 << 3;
/// Bits of `sk_shutdown`.
const RCV_SHUTDOWN: u64 = 1;
const SEND_SHUTDOWN: u64 = 2;

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Who talks to whom, read from a `struct sock_common`.
pub struct Endpoints {
    pub netns: u32,
    pub family: u16,
    pub local_port: u16,
    pub remote_port: u16,
    /// As stored: of IPv4 the first four bytes.
    pub local: [u64; 2],
    /// As stored: of IPv4 the first four bytes.
    pub remote: [u64; 2],
}

impl Endpoints {
    /// From any of `struct sock`, `request_sock`, `inet_timewait_sock`; `None` when not IP.
    #[inline(always)]
    pub fn read(common: Kernel) -> Option<Self> {
        let family: u16 = load!(common, family);
        let (local, remote) = if family == u16::from(AF_INET) {
            let local: u32 = load!(common, rcv_saddr);
            let remote: u32 = load!(common, daddr);
            ([u64::from(local), 0], [u64::from(remote), 0])
        } else if family == u16::from(AF_INET6) && has!(v6_daddr) {
            (
                load_v6(common, global!(LAYOUT.v6_rcv_saddr)),
                load_v6(common, global!(LAYOUT.v6_daddr)),
            )
        } else {
            return None;
        };
        let net: Kernel = load!(common, net);
        let dport: u16 = load!(common, dport);
        Some(Self {
            netns: load!(net, net_inum),
            family,
            local_port: load!(common, num),
            remote_port: u16::from_be(dport),
            local,
            remote,
        })
    }
}

/// A `struct in6_addr` of a `struct sock_common`.
#[inline(always)]
fn load_v6(common: Kernel, offset: u32) -> [u64; 2] {
    // SAFETY: as in `load!`: sixteen bytes at that offset.
    unsafe { [crate::layout::load_at(common, offset), crate::layout::load_at(common, offset + 8)] }
}

/// Whether this full socket is TCP; MPTCP, SCTP and DCCP share the tracepoints.
#[inline(always)]
pub fn is_tcp(sk: Kernel) -> bool {
    let protocol: u16 = load!(sk, protocol);
    protocol == IPPROTO_TCP
}

/// The socket's identity, and the flag that says what it is.
#[inline(always)]
pub fn identity(common: Kernel) -> (u64, u16) {
    if global!(SETTINGS.cookie_helper) != 0 {
        let cookie: u64 = load!(common, cookie);
        if cookie != 0 {
            return (cookie, 0);
        }
        // SAFETY: a trusted `sock_common` pointer. The helper makes the cookie.
        return (unsafe { bpf_get_socket_cookie(common.cast_mut()) }, 0);
    }
    (common as u64, flags::ID_IS_ADDRESS)
}

/// What a full socket says of itself, as bits of [`flags`].
#[inline(always)]
pub fn socket_flags(sk: Kernel) -> (u16, u8) {
    let sk_flags: u64 = load!(sk, flags);
    let shutdown: u8 = load!(sk, shutdown);
    let socket: Kernel = load!(sk, socket);
    // Moved, not tested: see `States`.
    let mut bits = moved(sk_flags, SOCK_DEAD, flags::DEAD)
        | moved(sk_flags, SOCK_DONE, flags::DONE)
        | moved(sk_flags, SOCK_KEEPOPEN, flags::KEEPALIVE)
        | moved(u64::from(shutdown), RCV_SHUTDOWN, flags::RCV_SHUTDOWN)
        | moved(u64::from(shutdown), SEND_SHUTDOWN, flags::SEND_SHUTDOWN);
    if !socket.is_null() {
        bits |= flags::HAS_SOCKET;
    }
    (bits, shutdown)
}

/// The bit `from` of `bits`, as the bit `to`.
#[inline(always)]
fn moved(bits: u64, from: u64, to: u16) -> u16 {
    ((bits >> from.trailing_zeros()) as u16 & 1) << to.trailing_zeros()
}

/// Id of the cgroup the socket was made in, 0 when this kernel does not say.
#[inline(always)]
pub fn cgroup_id(sk: Kernel) -> u64 {
    if !has!(cgroup) {
        return 0;
    }
    let cgroup: Kernel = load!(sk, cgroup);
    if cgroup.is_null() {
        return 0;
    }
    let node: Kernel = load!(cgroup, cgroup_kn);
    load!(node, kn_id)
}

/// What to put into a record besides what the socket's `sock_common` holds.
pub struct Subject {
    pub kind: RecordKind,
    pub old_state: u8,
    pub new_state: u8,
    pub flags: u16,
    pub error: u16,
    pub detail: u64,
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
/// without it: memory of the ring is always cold.
#[inline(always)]
pub fn emit(common: Kernel, full: Kernel, ends: &Endpoints, subject: &Subject) {
    let bare = subject.kind as u8 == RecordKind::Transition as u8 && !subject.owner;
    if !bare {
        write::<Record>(common, full, ends, subject);
    } else if subject.counters || subject.old_state == TcpState::SynRecv.number() {
        write::<[u64; wire::UP_TO_DETAIL / 8]>(common, full, ends, subject);
    } else if subject.cgroup {
        write::<[u64; wire::UP_TO_CGROUP / 8]>(common, full, ends, subject);
    } else {
        write::<[u64; wire::UP_TO_ADDRESSES / 8]>(common, full, ends, subject);
    }
}

/// Writes as much of a record as `T` is long.
#[inline(always)]
fn write<T: 'static>(common: Kernel, full: Kernel, ends: &Endpoints, subject: &Subject) {
    // SAFETY: helper without arguments. Taken before the reservation, so that the order in the
    // ring and the order of the times agree for one socket.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(mut entry) = RING.reserve::<T>(0) else {
        drop_counted(subject.kind);
        return;
    };
    let (id, id_flag) =
        if subject.unsettled { (common as u64, flags::ID_IS_ADDRESS) } else { identity(common) };
    let mut bits = subject.flags | id_flag;

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
            bits |= flags::OWNER;
            write_owner(record);
        } else {
            if size_of::<T>() >= wire::UP_TO_CGROUP {
                clear((&raw mut (*record).pid).cast::<[u64; 3]>());
            }
            if size_of::<T>() >= size_of::<Record>() {
                clear((&raw mut (*record).thread).cast::<[u64; 2]>());
            }
        }
        if size_of::<T>() >= wire::UP_TO_CGROUP {
            (*record).cgroup = if subject.cgroup { cgroup_id(full) } else { 0 };
        }
        if size_of::<T>() >= wire::UP_TO_DETAIL {
            // Both halves at once: the verifier lets nobody take an address apart.
            (&raw mut (*record).detail).cast::<u64>().write(subject.detail);
            if subject.counters && write_counters(record, full) {
                bits |= flags::COUNTERS;
            } else {
                clear((&raw mut (*record).bytes_sent).cast::<[u64; 3]>());
                (*record).retransmits = subject.retransmits;
            }
            let reset = subject.kind as u8 == RecordKind::ResetReceived as u8;
            if subject.ages && write_ages(record, full, reset) {
                bits |= flags::AGES;
            }
        }
        (*record).flags = bits;
    }
    entry.submit(wake_flag(now));
}

/// # Safety
/// `record` points to a reserved record.
#[inline(always)]
unsafe fn write_owner(record: *mut Record) {
    // SAFETY: a helper of every tracing program, without arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: the record is ours to write.
    unsafe {
        (*record).pid = (pid_tgid >> 32) as u32;
        (*record).tid = pid_tgid as u32;
    }
    if has!(task_leader) && global!(SETTINGS.task_btf) != 0 {
        // SAFETY: helper without arguments; a trusted pointer to the current task.
        let task: Kernel = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
        let leader: Kernel = load!(task, task_leader);
        let (comm, thread) = (task_comm(leader), task_comm(task));
        // SAFETY: the record is ours to write.
        unsafe {
            (*record).comm = comm;
            (*record).thread = thread;
        }
    } else {
        // SAFETY: the record is ours to write; the helpers write sixteen bytes into it. The address of
        // the current task is a number to the verifier; a bad one gives zeroes.
        unsafe {
            bpf_get_current_comm((&raw mut (*record).thread).cast::<c_void>(), 16);
            clear((&raw mut (*record).comm).cast::<[u64; 2]>());
            if has!(task_leader) {
                let task = bpf_get_current_task();
                let mut leader = 0_u64;
                probe(&raw mut leader, task + u64::from(global!(LAYOUT.task_leader)));
                probe(&raw mut (*record).comm, leader + u64::from(global!(LAYOUT.task_comm)));
            }
        }
    }
}

/// Reads kernel memory that the verifier knows no type of.
///
/// # Safety
/// `to` is the program's to write.
#[inline(always)]
pub unsafe fn probe<T>(to: *mut T, from: u64) {
    // SAFETY: the helper checks the address it reads from, and writes zeroes when it cannot.
    unsafe {
        bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from as *const c_void);
    }
}

/// A field of a struct whose type the verifier does not know.
#[inline(always)]
pub fn probed<T: Default>(base: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the value is ours to write.
    unsafe { probe(&raw mut value, base + u64::from(offset)) };
    value
}

/// `task_struct.comm` of a trusted task.
#[inline(always)]
pub fn task_comm(task: Kernel) -> [u8; 16] {
    let offset = global!(LAYOUT.task_comm);
    // SAFETY: as in `load!`: sixteen bytes at that offset.
    unsafe {
        let name: [u64; 2] =
            [crate::layout::load_at(task, offset), crate::layout::load_at(task, offset + 8)];
        core::mem::transmute::<[u64; 2], [u8; 16]>(name)
    }
}

/// False when `full` is no TCP socket; the fields are then not written.
///
/// # Safety
/// `record` points to a reserved record.
#[inline(always)]
unsafe fn write_counters(record: *mut Record, full: Kernel) -> bool {
    // SAFETY: a trusted socket pointer; the helper checks that it is a full TCP socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock(full.cast_mut()) }.cast_const().cast::<c_void>();
    if tcp.is_null() {
        return false;
    }
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
    true
}

/// How many jiffies ago data was last sent and received, and for a RST an ACK. False when `full` is no TCP
/// socket; nothing is written then.
///
/// # Safety
/// `record` points to a reserved record, whose other fields have been written.
#[inline(always)]
unsafe fn write_ages(record: *mut Record, full: Kernel, reset: bool) -> bool {
    // SAFETY: as in `write_counters`.
    let tcp = unsafe { bpf_skc_to_tcp_sock(full.cast_mut()) }.cast_const().cast::<c_void>();
    if tcp.is_null() {
        return false;
    }
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
    true
}

/// Wakes the reader for the first record after a quiet time, and when the ring fills. In between its own
/// timer brings it; more wake-ups would help nobody.
#[inline(always)]
fn wake_flag(now: u64) -> u64 {
    let wake = &raw mut WAKE;
    // SAFETY: aligned words of a map; whatever another processor writes in between is a time, too.
    unsafe {
        if now < (&raw const (*wake).ask_at).read_volatile() {
            return BPF_RB_NO_WAKEUP;
        }
        (&raw mut (*wake).ask_at).write_volatile(now + u64::from(global!(SETTINGS.ask_every_ns)));
        if now < (&raw const (*wake).due).read_volatile() {
            let level = u64::from(global!(SETTINGS.wake_bytes));
            let ring = (&raw const RING).cast_mut().cast::<c_void>();
            if bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < level {
                return BPF_RB_NO_WAKEUP;
            }
        }
        (&raw mut (*wake).due).write_volatile(now + u64::from(global!(SETTINGS.wake_every_ns)));
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
fn drop_counted(kind: RecordKind) {
    if let Some(counts) = DROPS.get_ptr_mut(0) {
        // SAFETY: this CPU's own slot, indexed by a kind. A softirq nested between load and store
        // can lose one count, never make one up.
        unsafe { (*counts)[kind as usize] += 1 };
    }
}

/// Writes zeroes over `to`, a word at a time: left to itself the compiler calls aya's `memset`, a loop
/// over bytes, which took a fifth of the program's time.
///
/// # Safety
/// `to` is the program's to write, of whole words and at the place of one; zeroes are good values of `T`.
#[inline(always)]
pub unsafe fn clear<T>(to: *mut T) {
    let words = to.cast::<u64>();
    let mut index = 0;
    while index < size_of::<T>() / 8 {
        // SAFETY: inside `T`, as the caller says. Volatile, so that it stays as it is.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
}

/// Makes `place` a record without its fields, for the rows of iterators: integers throughout, of whole
/// words.
#[inline(always)]
pub fn blank<T>(place: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    // SAFETY: used for wire structs only, whole words of integers; then all of it is written.
    unsafe {
        clear(place.as_mut_ptr());
        place.assume_init_mut()
    }
}
