//! The current task, as the one that acts; or that none does.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
};
use tracer_common::wire::{self, Record, flags};

use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::memory::{clear, probe};
use crate::socket::interface;

/// No task acts: what `T` has room for says so, and the interface.
///
/// # Safety
/// `record` points to a reserved record.
#[inline(always)]
pub unsafe fn write_nobody<T>(record: *mut Record, common: Kernel) {
    // SAFETY: the record is ours to write, as far as `T` is long.
    unsafe {
        if size_of::<T>() >= wire::UP_TO_CGROUP {
            clear((&raw mut (*record).pid).cast::<[u64; 3]>());
            (*record).pid = interface(common);
        }
        if size_of::<T>() >= size_of::<Record>() {
            clear((&raw mut (*record).thread).cast::<[u64; 2]>());
        }
    }
}

/// `task_struct.flags`: set first of all in `do_exit`.
const PF_EXITING: u32 = 4;
/// `task_struct.flags`: a kernel thread.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes process, thread and their names; of a kernel thread only when it `opens` the socket, else that nobody acts.
/// Returns bits of [`Record::flags`].
///
/// # Safety
/// `record` points to a reserved record, whose socket is `common`.
#[inline(always)]
pub unsafe fn write_owner(record: *mut Record, common: Kernel, opens: bool) -> u16 {
    if has!(task_leader) && global!(SETTINGS.task_btf) != 0 {
        // SAFETY: helper without arguments; a trusted pointer to the current task.
        let task: Kernel = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
        let task_flags: u32 = if has!(task_flags) { load!(task, task_flags) } else { 0 };
        let Some(bits) = acts(task_flags, opens) else {
            // SAFETY: as the caller says.
            unsafe { write_nobody::<Record>(record, common) };
            return 0;
        };
        let leader: Kernel = load!(task, task_leader);
        let (comm, thread) = (task_comm(leader), task_comm(task));
        // SAFETY: the record is ours to write.
        unsafe {
            write_ids(record);
            (*record).comm = comm;
            (*record).thread = thread;
        }
        bits
    } else {
        // SAFETY: the record is ours to write; the helpers write sixteen bytes into it. The address of
        // the current task is a number to the verifier; a bad one gives zeroes.
        unsafe {
            let task = bpf_get_current_task();
            let mut task_flags = 0_u32;
            if has!(task_flags) {
                probe(&raw mut task_flags, task + u64::from(global!(LAYOUT.task_flags)));
            }
            let Some(bits) = acts(task_flags, opens) else {
                write_nobody::<Record>(record, common);
                return 0;
            };
            write_ids(record);
            bpf_get_current_comm((&raw mut (*record).thread).cast::<c_void>(), 16);
            clear((&raw mut (*record).comm).cast::<[u64; 2]>());
            if has!(task_leader) {
                let mut leader = 0_u64;
                probe(&raw mut leader, task + u64::from(global!(LAYOUT.task_leader)));
                probe(&raw mut (*record).comm, leader + u64::from(global!(LAYOUT.task_comm)));
            }
            bits
        }
    }
}

/// Bits of [`Record::flags`] that say that the current task acts; `None` when it does so for somebody else.
///
/// A kernel thread opens sockets of its own (NFS). What it closes was a process's, which has let go of it: the end of a ring
/// of io_uring (`io_ring_exit_work`), of what was on its way through a Unix socket (`unix_gc`), of an MPTCP
/// connection (`mptcp_worker`).
#[inline(always)]
fn acts(task_flags: u32, opens: bool) -> Option<u16> {
    if task_flags & PF_KTHREAD != 0 && !opens {
        return None;
    }
    let exiting = if task_flags & PF_EXITING != 0 { flags::EXITING } else { 0 };
    Some(flags::OWNER | exiting)
}

/// Process and thread.
///
/// # Safety
/// `record` points to a reserved record.
#[inline(always)]
unsafe fn write_ids(record: *mut Record) {
    // SAFETY: a helper of every tracing program, without arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    // SAFETY: the record is ours to write.
    unsafe {
        (*record).pid = (pid_tgid >> 32) as u32;
        (*record).tid = pid_tgid as u32;
    }
}

/// `task_struct.comm` of a trusted task.
#[inline(always)]
pub fn task_comm(task: Kernel) -> [u8; 16] {
    let name: [u64; 2] = [load!(task, task_comm), load!(task, task_comm, 8)];
    // SAFETY: sixteen bytes either way.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(name) }
}
