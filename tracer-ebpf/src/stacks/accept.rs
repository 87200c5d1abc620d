//! accept(): the end of `inet_csk_accept`, or where programs on functions are not permitted, the end of
//! the system call.

use aya_ebpf::macros::{btf_tracepoint, fexit};
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use tracer_common::stack::{StackKind, flags};

use crate::emit::{emit, identity, is_tcp, opened, opening};
use crate::handler;
use crate::layout::{Kernel, load_at};
use crate::maps::{ENDED, Ended, Turn, set};
use crate::task::{current_task, wanted};
use crate::word::kernel_word;

const IPPROTO_TCP: u16 = 6;

/// Arguments: the 2 of `inet_csk_accept`, and what it returned.
#[fexit(function = "inet_csk_accept")]
pub fn stack_accept(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2), Turn::First)
}

/// For what the kernel skips the one above for.
#[fexit(function = "inet_csk_accept")]
pub fn stack_accept_missed(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(2), Turn::Second)
}

/// The same before 6.10, with 4 arguments. Programs of their own: of a choice between two offsets the
/// compiler makes one load from a changed pointer, which no verifier lets be the context.
#[fexit(function = "inet_csk_accept")]
pub fn stack_accept_4(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4), Turn::First)
}

/// For what the kernel skips the one above for.
#[fexit(function = "inet_csk_accept")]
pub fn stack_accept_4_missed(ctx: FExitContext) -> i32 {
    accepted(ctx.arg(4), Turn::Second)
}

#[inline(always)]
fn accepted(sk: Kernel, turn: Turn) -> i32 {
    if !sk.is_null() && is_tcp(sk) {
        opening(StackKind::Accept, identity(sk), turn);
    }
    0
}

/// Arguments: `struct pt_regs *regs, long ret`.
#[btf_tracepoint(function = "sys_exit")]
pub fn stack_accept_exit(ctx: BtfTracePointContext) -> i32 {
    let Some(ended) = ENDED.get_ptr_mut(0) else {
        return 0;
    };
    let (kind, (id, flags)) = if handler::is_due(true) {
        (StackKind::Handle, (0, 0))
    } else {
        match accepted_by(&ctx) {
            Some(id) => (StackKind::Accept, id),
            None => return 0,
        }
    };
    // SAFETY: this CPU's own, which the kernel does not let this program use twice at a time (`bpf_prog.active`).
    let Ended { id, kind, flags } = unsafe {
        ended.write_volatile(Ended { id, kind: kind as u32, flags: u32::from(flags) });
        ended.read_volatile()
    };
    let Some(thread) = wanted() else {
        return 0;
    };
    // It has no second program: every system call on the machine would pay for that.
    emit(kind as u8, (id, flags as u8), &thread, Turn::First);
    if kind == StackKind::Accept as u32 {
        opened((id, flags as u8), Turn::First);
    }
    0
}

/// The socket that the system call which ends here has accepted.
#[inline(always)]
fn accepted_by(ctx: &BtfTracePointContext) -> Option<(u64, u8)> {
    let fd: i64 = ctx.arg(1);
    if !(0..1 << 24).contains(&fd) {
        return None;
    }
    let regs: Kernel = ctx.arg(0);
    // SAFETY: the registers of the system call, and the field with its number. It has four bytes on arm64, and eight on
    // x86-64, of which the first four are enough.
    let call: u32 = unsafe { load_at(regs, set!(regs_syscall)) };
    if call != set!(accept) && call != set!(accept4) {
        return None;
    }
    // From the descriptor to the socket. All of it may be closed by another thread while we look: then
    // the words read are whatever stands there now, and do not lead back to the file.
    let files = kernel_word(current_task(), set!(task_files));
    let table = kernel_word(files, set!(files_fdt));
    let array = kernel_word(table, set!(fdt_fd));
    let file = kernel_word(array + 8 * fd as u64, 0);
    let socket = kernel_word(file, set!(file_private));
    if file == 0 || socket == 0 || kernel_word(socket, set!(socket_file)) != file {
        return None;
    }
    let sk = kernel_word(socket, set!(socket_sk));
    if sk == 0 || kernel_word(sk, set!(protocol)) as u16 != IPPROTO_TCP {
        return None;
    }
    let id = if set!(cookie_helper) != 0 {
        // The child has its request's cookie, which was made when the other object saw it.
        (kernel_word(sk, set!(cookie)), 0)
    } else {
        (sk, flags::ID_IS_ADDRESS)
    };
    (id.0 != 0).then_some(id)
}
