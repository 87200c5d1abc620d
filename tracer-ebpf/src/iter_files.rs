//! `iter/task_file`: every descriptor of every process that is a TCP socket, one [`HolderRow`] each.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_seq_write, bpf_sock_from_file};
use tracer_common::wire::HolderRow;

use crate::emit::{Endpoints, blank, identity, is_tcp, task_comm};
use crate::layout::{Kernel, load};
use crate::maps::global;

/// `struct bpf_iter__task_file`.
#[repr(C)]
struct FileContext {
    meta: Kernel,
    task: Kernel,
    fd: u32,
    file: Kernel,
}

/// Only thread group leaders are walked by the kernel (`task_seq_get_next` skips threads that
/// share their leader's files).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_files(ctx: *mut c_void) -> i32 {
    let ctx = ctx.cast::<FileContext>();
    // SAFETY: the kernel passes a `struct bpf_iter__task_file`.
    let (meta, task, fd, file) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx).meta),
            core::ptr::read_volatile(&raw const (*ctx).task),
            core::ptr::read_volatile(&raw const (*ctx).fd),
            core::ptr::read_volatile(&raw const (*ctx).file),
        )
    };
    if task.is_null() || file.is_null() || global!(SETTINGS.sock_from_file) == 0 {
        return 0;
    }
    // SAFETY: a trusted file pointer; NULL when it is no socket.
    let socket: Kernel = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast();
    if socket.is_null() {
        return 0;
    }
    let sk: Kernel = load!(socket, socket_sk);
    if sk.is_null() {
        return 0;
    }
    let Some(ends) = Endpoints::read(sk) else {
        return 0;
    };
    if !is_tcp(sk) {
        return 0;
    }
    let (id, id_flag) = identity(sk);
    let mut row: HolderRow = blank();
    row.id = id;
    row.flags = id_flag;
    row.netns = ends.netns;
    row.fd = fd;
    row.pid = load!(task, task_tgid);
    row.start_ns = load!(task, task_start);
    row.comm = task_comm(task);
    // SAFETY: a helper without arguments; `bpf_iter_meta.seq` stands first; the row is initialised
    // memory of that size.
    unsafe {
        row.mono_ns = bpf_ktime_get_ns();
        let seq: Kernel = crate::layout::load_at(meta, 0);
        bpf_seq_write(
            seq.cast_mut().cast(),
            (&raw const row).cast::<c_void>(),
            size_of::<HolderRow>() as u32,
        );
    }
    0
}
