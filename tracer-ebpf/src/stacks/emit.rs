//! Writes a stack whole when it is new, else only its hash.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use tracer_common::stack::{StackHead, StackKind, StackMemory, StackRecord, flags};

use crate::layout::{Kernel, load_at};
use crate::maps::{KNOWN, READERS, Reader, SCRATCH, STACK_DROPS, STACK_RING, Turn, set};
use crate::task::{Thread, wanted};
use crate::walk::{read_rest, walk};

const IPPROTO_TCP: u16 = 6;
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Whether this full socket is TCP.
#[inline(always)]
pub fn is_tcp(sk: Kernel) -> bool {
    // SAFETY: a trusted socket, and its field.
    unsafe { load_at::<u16>(sk, set!(protocol)) == IPPROTO_TCP }
}

/// The socket's identity, and the flag that says what it is; as the other object has it.
#[inline(always)]
pub fn identity(sk: Kernel) -> (u64, u8) {
    if set!(cookie_helper) != 0 {
        // SAFETY: a trusted socket pointer.
        let cookie: u64 = unsafe { load_at(sk, set!(cookie)) };
        if cookie != 0 {
            return (cookie, 0);
        }
        // SAFETY: as above. The helper makes the cookie.
        return (unsafe { bpf_get_socket_cookie(sk.cast_mut()) }, 0);
    }
    (sk as u64, flags::ID_IS_ADDRESS)
}

/// Tells who opens a socket, unless the hook's other program has.
#[inline(always)]
pub fn opening(kind: StackKind, id: (u64, u8), turn: Turn) {
    if let Some(last) = READERS.get_ptr_mut(id.0) {
        // SAFETY: a value of the map; one thread at a time opens a socket.
        unsafe {
            if (*last).taken_by != 0 && (*last).taken_by != turn as u64 {
                (*last).taken_by = 0;
                return;
            }
        }
    }
    let Some(thread) = wanted() else {
        return;
    };
    emit(kind as u8, id, &thread, turn);
    opened(id, turn);
}

/// A socket begins: nobody has read from it.
#[inline(always)]
pub fn opened(id: (u64, u8), turn: Turn) {
    let opened = Reader { at: 0, tid: 0, taken_by: turn as u64, written: 0, count: 0 };
    let _ = READERS.insert(id.0, opened, 0);
}

/// Writes the current thread's stack; `kind` is a [`StackKind`].
#[inline(always)]
pub fn emit(kind: u8, id: (u64, u8), thread: &Thread, turn: Turn) {
    // Before the walk, which takes its time: so near to the program that tells of the same event.
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let slot = 2 * u32::from(kind.wrapping_sub(1)) + (turn as u32 - 1);
    let Some(memory) = SCRATCH.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: this CPU's own slot of this program, which the kernel does not run twice at a time on
    // a CPU (`bpf_prog.active`).
    let (record, head, wants_memory, known) = unsafe {
        let wants_memory = walk(memory, thread);
        let record = &raw mut (*memory).record;
        let head = &raw mut (*record).head;
        (*head).mono_ns = now;
        (*head).id = id.0;
        (*head).pid = thread.pid;
        (*head).tid = thread.tid;
        (*head).comm = core::mem::transmute::<[u64; 2], [u8; 16]>(thread.comm);
        (*head).thread = core::mem::transmute::<[u64; 2], [u8; 16]>(thread.name);
        (*head).kind = kind;
        (*head).flags |= id.1;
        (record, head, wants_memory, KNOWN.get((*head).hash).is_some())
    };
    // SAFETY: initialised above.
    let written = unsafe {
        if known {
            STACK_RING.output::<StackHead>(&*head, BPF_RB_NO_WAKEUP)
        } else if wants_memory {
            read_rest(memory);
            STACK_RING.output::<StackMemory>(&*memory, BPF_RB_NO_WAKEUP)
        } else {
            STACK_RING.output::<StackRecord>(&*record, BPF_RB_NO_WAKEUP)
        }
    };
    if written.is_err() {
        if let Some(drops) = STACK_DROPS.get_ptr_mut(0) {
            // SAFETY: this CPU's own slot.
            unsafe { *drops += 1 };
        }
        return;
    }
    if !known {
        // SAFETY: initialised above.
        let hash = unsafe { (*head).hash };
        // Full: it is written whole again next time.
        let _ = KNOWN.insert(hash, 1, 0);
    }
}
