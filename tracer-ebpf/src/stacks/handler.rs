//! What a thread does after it has read from a socket: its stack may have the method that handles the request, which
//! was not there yet when the request was read.
//!
//! A few stacks of each request, of ten requests a second and thread at most: taken where it sends
//! (`sock_send_length`), or where the end of every system call is watched anyway, at those that come next. Only of
//! JVMs: a server of its own reads where it handles, or in one loop for all.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::stack::StackKind;

use crate::emit::emit;
use crate::maps::{HANDLING, HANDLING_SLOTS, INTERPRETERS, Turn, set};
use crate::task::{Thread, wanted};

/// Of one thread the next request's stacks are taken after this time.
const PAUSE_NS: u64 = 100_000_000;
/// In `Handling::left`: the read itself has not ended.
const READS: u32 = 1 << 31;

/// `java`, the name of a process.
const JAVA: u64 = u64::from_ne_bytes(*b"java\0\0\0\0");

/// This thread has read from a socket.
#[inline(always)]
pub fn begins(thread: &Thread, now: u64) {
    let (most, tid) = (set!(handler_samples), thread.tid);
    // SAFETY: nobody changes the range under way; a stale one does no harm.
    let is_jvm = match unsafe { INTERPRETERS.get(thread.pid) } {
        Some(range) => range.start != range.end,
        // User space has not looked yet.
        None => thread.comm[0] == JAVA,
    };
    if most == 0 || !is_jvm {
        return;
    }
    let Some(slot) = HANDLING.get_ptr_mut(tid & (HANDLING_SLOTS - 1)) else {
        return;
    };
    // SAFETY: a value of the map. Another thread with the same slot may write it under way: then stacks of one of
    // the two are not taken, or one more is; each says whose it is.
    unsafe {
        // What is left of the request before must not be taken for this one's.
        (*slot).left = 0;
        if (*slot).tid == tid && now.saturating_sub((*slot).at) < PAUSE_NS {
            return;
        }
        (*slot).tid = tid;
        (*slot).at = now;
        (*slot).left = most | READS;
    }
}

/// Whether this thread's stack is wanted now. `ends`: a system call ends, which may be that of the read.
#[inline(always)]
pub fn is_due(ends: bool) -> bool {
    // SAFETY: helper without arguments.
    let tid = unsafe { bpf_get_current_pid_tgid() } as u32;
    let Some(slot) = HANDLING.get_ptr_mut(tid & (HANDLING_SLOTS - 1)) else {
        return false;
    };
    // SAFETY: as in `begins`.
    unsafe {
        if (*slot).tid != tid || (*slot).left == 0 {
            return false;
        }
        let left = (*slot).left & !READS;
        if ends && (*slot).left != left {
            (*slot).left = left;
            return false;
        }
        (*slot).left = left - 1;
    }
    true
}

/// Arguments: `struct sock *sk, int ret, int flags`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn stack_send(_ctx: BtfTracePointContext) -> i32 {
    if is_due(false)
        && let Some(thread) = wanted()
    {
        emit(StackKind::Handle as u8, (0, 0), &thread, Turn::First);
    }
    0
}
