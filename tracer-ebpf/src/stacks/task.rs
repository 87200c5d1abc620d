//! The current thread: who it is, and whether it is wanted.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task};
use tracer_common::comm::until_nul;
use tracer_common::stack::TASK_SLOTS;

use crate::maps::set;
use crate::word::kernel_word;

/// The thread that runs.
pub struct Thread {
    /// The address of its `task_struct`: a number to the verifier, since only Linux 5.11 has a helper
    /// that gives a pointer.
    pub task: u64,
    pub pid: u32,
    pub tid: u32,
    pub comm: [u64; 2],
    pub name: [u64; 2],
}

/// The address of the current thread's `task_struct`.
#[inline(always)]
pub fn current_task() -> u64 {
    // SAFETY: helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// The current thread, if it is wanted.
#[inline(always)]
pub fn wanted() -> Option<Thread> {
    // SAFETY: helper without arguments.
    let pid_tgid = unsafe { bpf_get_current_pid_tgid() };
    let task = current_task();
    let (pid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    if pid == 0 || !pid_wanted(pid) {
        return None;
    }
    let leader = kernel_word(task, set!(task_leader));
    let thread = Thread { task, pid, tid, comm: name(leader), name: name(task) };
    name_wanted(&thread).then_some(thread)
}

#[inline(always)]
fn name(task: u64) -> [u64; 2] {
    let offset = set!(task_comm);
    until_nul([kernel_word(task, offset), kernel_word(task, offset + 8)])
}

#[inline(always)]
fn pid_wanted(pid: u32) -> bool {
    let count = set!(pid_count) as usize;
    let mut found = count == 0;
    let mut slot = 0;
    while slot < TASK_SLOTS {
        found |= slot < count && set!(pids[slot]) == pid;
        slot += 1;
    }
    found
}

#[inline(always)]
fn name_wanted(thread: &Thread) -> bool {
    let count = set!(comm_count) as usize;
    let mut found = count == 0;
    let mut slot = 0;
    while slot < TASK_SLOTS {
        if slot < count {
            let name = [set!(comms[slot][0]), set!(comms[slot][1])];
            found |= name == thread.comm || name == thread.name;
        }
        slot += 1;
    }
    found
}
