//! The records of the programs that take stacks, and what the loader tells them. Those programs are
//! an object of their own, loaded only where stacks are wanted.
//!
//! As in [`crate::wire`]: integers and byte arrays, padding spelled out, offsets asserted.

use core::mem::{offset_of, size_of};

/// Words of memory taken where frame pointers lead nowhere: what is left of the page where they begin, and four pages
/// more.
pub const MEMORY_WORDS: usize = 2560;
/// Bytes of [`StackMemory::words`] that are set, where they begin at this address.
#[must_use]
pub const fn memory_bytes(begin: u64) -> u64 {
    4096 - (begin & 4095 & !7) + 4 * 4096
}
/// Least bytes of a frame that memory begins behind: reads and writes of `java.net.Socket` have a buffer of 64 KiB on
/// the stack (`socketRead0`, `socketWrite0`, JDK 12 and older), and all of Java is behind it.
pub const LARGE_FRAME: u64 = 64 << 10;
/// A frame that is so much larger is none of these.
pub const LARGE_FRAME_MORE: u64 = 4 << 10;
/// Most frames of a stack.
pub const MOST_FRAMES: usize = 96;
/// Words of memory taken from the stack pointer up.
pub const TOP_WORDS: usize = 32;
/// How many processes or names the programs can be told to look at.
pub const TASK_SLOTS: usize = 8;

/// What the thread was doing with the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StackKind {
    /// connect(): CLOSE->SYN_SENT.
    Connect = 1,
    /// accept() returned it.
    Accept = 2,
    /// It read data from it (`tcp_rcv_space_adjust`).
    Read = 3,
    /// It did something else after it had read; of no socket.
    Handle = 4,
}

impl TryFrom<u8> for StackKind {
    type Error = u8;

    fn try_from(number: u8) -> Result<Self, u8> {
        Ok(match number {
            1 => StackKind::Connect,
            2 => StackKind::Accept,
            3 => StackKind::Read,
            4 => StackKind::Handle,
            other => return Err(other),
        })
    }
}

/// Bits of [`StackHead::flags`].
pub mod flags {
    /// `id` is the address of the kernel's socket, not its cookie (kernels before 5.12).
    pub const ID_IS_ADDRESS: u8 = 1;
    /// There are more frames than were taken.
    pub const DEEPER: u8 = 1 << 1;
    /// The walk ended at a word that leads nowhere, not at the outermost frame.
    pub const BROKEN: u8 = 1 << 2;
    /// `method` and `bytecode` were taken of every frame: the process is not in `INTERPRETERS`.
    pub const UNKNOWN_PROCESS: u8 = 1 << 3;
    /// The second frame is the link register (aarch64, wire version 4). It holds the return address of a function
    /// that has no frame of its own; of any other it may hold what an earlier call has left there.
    pub const LINK: u8 = 1 << 4;
}

/// Which socket, which thread, which stack: all that is written when the stack is known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct StackHead {
    /// `bpf_ktime_get_ns`: CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// The socket cookie, or the socket's address ([`flags::ID_IS_ADDRESS`]).
    pub id: u64,
    /// Of the process and its frames: two stacks with one hash are one stack.
    pub hash: u64,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name of the process: its first thread's.
    pub comm: [u8; 16],
    /// Name of the thread.
    pub thread: [u8; 16],
    /// A [`StackKind`].
    pub kind: u8,
    /// Bits of [`flags`].
    pub flags: u8,
    /// How many of the frames are set.
    pub frames: u16,
    /// How far above the stack pointer [`StackMemory::words`] begin, bytes.
    pub far: u32,
}

/// One frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct RawFrame {
    /// The instruction pointer; of all but the innermost a return address.
    pub ip: u64,
    /// The word three below its frame pointer: HotSpot's interpreter has its `Method*` there.
    pub method: u64,
    /// The word eight below its frame pointer, nine on arm64: HotSpot's interpreter has its bytecode pointer there.
    pub bytecode: u64,
}

/// A stack that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct StackRecord {
    /// What it is of.
    pub head: StackHead,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// What stands from the stack pointer up; zeroes where it cannot be read.
    pub top: [u64; TOP_WORDS],
    /// Innermost first.
    pub frames: [RawFrame; MOST_FRAMES],
}

/// A stack that was not known, of a process whose compiled code has no frame pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct StackMemory {
    /// What it is of, and the walk along frame pointers as far as it goes.
    pub record: StackRecord,
    /// What stands from the stack pointer up, or from [`StackHead::far`] above it: [`memory_bytes`] of it; zeroes where
    /// it cannot be read.
    pub words: [u64; MEMORY_WORDS],
}

/// What user space has found out of a process: key of `INTERPRETERS` is the pid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// First address behind it; equal to `start` where there is no interpreter.
    pub end: u64,
    /// First address of compiled code.
    pub code_start: u64,
    /// First address behind it.
    pub code_end: u64,
    /// 1: compiled code has no frame pointers; take [`StackMemory`].
    pub memory: u64,
}

/// What the loader tells the programs. Offsets are 0 where the kernel has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct StackSettings {
    /// `sock.sk_protocol`.
    pub protocol: u32,
    /// `sock_common.skc_cookie`.
    pub cookie: u32,
    /// `task_struct.group_leader`.
    pub task_leader: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.fd`.
    pub fdt_fd: u32,
    /// `file.private_data`.
    pub file_private: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `socket.file`.
    pub socket_file: u32,
    /// Frame pointer in `pt_regs`.
    pub regs_fp: u32,
    /// Stack pointer in `pt_regs`.
    pub regs_sp: u32,
    /// Instruction pointer in `pt_regs`.
    pub regs_ip: u32,
    /// Number of the system call in `pt_regs`.
    pub regs_syscall: u32,
    /// 1: `bpf_get_socket_cookie` may be called.
    pub cookie_helper: u32,
    /// 1: `bpf_task_pt_regs` may be called; 0: the registers are found from `task_stack`.
    pub regs_helper: u32,
    /// `task_struct.stack`.
    pub task_stack: u32,
    /// From there to the registers.
    pub stack_regs: u32,
    /// Number of accept.
    pub accept: u32,
    /// Number of accept4.
    pub accept4: u32,
    /// Arguments of `inet_csk_accept`: its result stands behind them, where the program for that number
    /// looks for it.
    pub accept_args: u32,
    /// A reader's stack is taken again after this many milliseconds.
    pub read_every_ms: u32,
    /// `tcp_sock.write_seq`.
    pub write_seq: u32,
    /// Stacks that are taken of what a thread does after it has read.
    pub handler_samples: u32,
    /// Link register in `pt_regs`; 0 where return addresses are on the stack.
    pub regs_link: u32,
    /// Number of `pids`.
    pub pid_count: u32,
    /// Number of `comms`.
    pub comm_count: u32,
    /// Zero.
    pub pad: u32,
    /// Only these processes.
    pub pids: [u32; TASK_SLOTS],
    /// Only processes or threads of these names.
    pub comms: [[u64; 2]; TASK_SLOTS],
}

const _: () = {
    assert!(size_of::<StackHead>() == 72);
    assert!(offset_of!(StackHead, pid) == 24);
    assert!(offset_of!(StackHead, comm) == 32);
    assert!(offset_of!(StackHead, kind) == 64);
    assert!(offset_of!(StackHead, frames) == 66);
    assert!(offset_of!(StackHead, far) == 68);
    assert!(size_of::<RawFrame>() == 24);
    assert!(offset_of!(StackRecord, sp) == 72);
};

const _: () = {
    assert!(offset_of!(StackRecord, fp) == 80);
    assert!(offset_of!(StackRecord, top) == 88);
    assert!(offset_of!(StackRecord, frames) == 88 + 8 * TOP_WORDS);
    assert!(size_of::<StackRecord>() == 88 + 8 * TOP_WORDS + 24 * MOST_FRAMES);
    assert!(size_of::<CodeRange>() == 40);
    assert!(offset_of!(StackMemory, words) == size_of::<StackRecord>());
    assert!(size_of::<StackMemory>() == size_of::<StackRecord>() + 8 * MEMORY_WORDS);
    assert!(offset_of!(StackSettings, pids) == 28 * 4);
    assert!(offset_of!(StackSettings, comms) == 144);
    assert!(size_of::<StackSettings>() == 272);
};
