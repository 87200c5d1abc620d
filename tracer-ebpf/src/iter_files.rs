//! `iter/task_file`: every descriptor of every process that is a TCP socket, one [`HolderRow`] each.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_seq_write, bpf_sock_from_file};
use tracer_common::descriptors::DescriptorKind;
use tracer_common::wire::{AF_INET, AF_INET6, HolderRow, ends, flags};

use crate::descriptors;
use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::memory::{blank, probed};
use crate::owner::task_comm;
use crate::socket::{Endpoints, IPPROTO_TCP, identity, is_tcp};

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
    if task.is_null() || file.is_null() {
        return 0;
    }
    let found = if global!(SETTINGS.sock_from_file) != 0 { typed(file) } else { untyped(file) };
    let found = match found {
        Found::Tcp(found) => found,
        Found::Other(kind) => {
            if global!(SETTINGS.descriptors) != 0 {
                descriptors::count(meta, task, file, kind);
            }
            return 0;
        }
    };
    let mut row = MaybeUninit::<HolderRow>::uninit();
    let row = blank(&mut row);
    row.id = found.id;
    row.flags = found.id_flag;
    row.netns = found.netns;
    row.state = found.state;
    row.ends = found.ends;
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
            (&raw const *row).cast::<c_void>(),
            size_of::<HolderRow>() as u32,
        );
    }
    0
}

/// What a descriptor leads to.
enum Found {
    Tcp(Tcp),
    /// A socket of this kind; `None`: no socket.
    Other(Option<DescriptorKind>),
}

/// What is told of a TCP socket.
struct Tcp {
    id: u64,
    id_flag: u16,
    netns: u32,
    state: u8,
    ends: u8,
}

const AF_UNIX: u16 = 1;
const IPPROTO_UDP: u16 = 17;

/// The socket behind a file.
#[inline(always)]
fn typed(file: Kernel) -> Found {
    // SAFETY: a trusted file pointer; NULL when it is no socket.
    let socket: Kernel = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast();
    if socket.is_null() {
        return Found::Other(None);
    }
    let sk: Kernel = load!(socket, socket_sk);
    if sk.is_null() {
        return Found::Other(Some(DescriptorKind::OtherSocket));
    }
    let Some(ends) = Endpoints::read(sk) else {
        let family: u16 = load!(sk, family);
        let unix = family == AF_UNIX;
        let kind = if unix { DescriptorKind::Unix } else { DescriptorKind::OtherSocket };
        return Found::Other(Some(kind));
    };
    if !is_tcp(sk) {
        let protocol: u16 = load!(sk, protocol);
        let udp = protocol == IPPROTO_UDP;
        let kind = if udp { DescriptorKind::Udp } else { DescriptorKind::OtherSocket };
        return Found::Other(Some(kind));
    }
    let (id, id_flag) = identity(sk);
    Found::Tcp(Tcp {
        id,
        id_flag,
        netns: ends.netns,
        state: load!(sk, state),
        ends: ends_of(ends.local_port, ends.remote_port),
    })
}

#[inline(always)]
fn ends_of(local_port: u16, remote_port: u16) -> u8 {
    let bound = if local_port != 0 { ends::BOUND } else { 0 };
    let connected = if remote_port != 0 { ends::CONNECTED } else { 0 };
    bound | connected
}

/// The same for kernels before 5.11, which have no helper for it: what is behind `private_data` has
/// no type there and is read as bytes. It is a socket when the inode says so and it points back.
#[inline(always)]
fn untyped(file: Kernel) -> Found {
    if !has!(file_private) || !has!(socket_file) {
        return Found::Other(None);
    }
    let socket: u64 = load!(file, file_private);
    let back: u64 = probed(socket, global!(LAYOUT.socket_file));
    if back != file as u64 {
        return Found::Other(None);
    }
    let sk: u64 = probed(socket, global!(LAYOUT.socket_sk));
    let family: u16 = probed(sk, global!(LAYOUT.family));
    let protocol: u16 = probed(sk, global!(LAYOUT.protocol));
    let ip = family == u16::from(AF_INET) || family == u16::from(AF_INET6);
    if sk == 0 || !ip || protocol != IPPROTO_TCP {
        return Found::Other(None);
    }
    let net: u64 = probed(sk, global!(LAYOUT.net));
    Found::Tcp(Tcp {
        id: sk,
        id_flag: flags::ID_IS_ADDRESS,
        netns: probed(net, global!(LAYOUT.net_inum)),
        state: probed(sk, global!(LAYOUT.state)),
        ends: ends_of(probed(sk, global!(LAYOUT.num)), probed(sk, global!(LAYOUT.dport))),
    })
}
