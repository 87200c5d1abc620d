//! Counts descriptors that are no TCP sockets, by process and kind, while the walk passes them.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use core::mem::MaybeUninit;
use tracer_common::descriptors::{DescriptorKind, Descriptors, NAME};

use crate::layout::{Kernel, has, load};
use crate::maps::{DESCRIPTORS, global};
use crate::memory::{blank, probed};

/// `S_IFMT` of `i_mode`, and what it may say.
const FORMAT: u16 = 0o170_000;
const PIPE: u16 = 0o010_000;
const CHARACTERS: u16 = 0o020_000;
const DIRECTORY: u16 = 0o040_000;
const BLOCKS: u16 = 0o060_000;
/// `ANON_INODE_FS_MAGIC`: files that have no place, as epoll instances.
const ANON_INODE_FS: u64 = 0x0904_1934;
/// The beginning of `[eventpoll]`, as one number.
const EVENTPOLL: u64 = u64::from_ne_bytes(*b"[eventpo");

/// One more of `socket`, or of what the file is.
#[inline(always)]
pub fn count(meta: Kernel, task: Kernel, file: Kernel, socket: Option<DescriptorKind>) {
    let known = has!(inode_sb) && has!(sb_magic) && has!(file_inode);
    let named = has!(file_dentry) && has!(dentry_name) && has!(dentry_parent);
    if !known || !named {
        return;
    }
    // SAFETY: `bpf_iter_meta.session_id` stands second, after a pointer.
    let session: u64 = unsafe { crate::layout::load_at(meta, 8) };
    let process: u32 = load!(task, task_tgid);
    let kind = match socket {
        Some(kind) => kind,
        None => kind_of(file),
    };
    // To the verifier it is any number: read as such, so that the compiler leaves the check.
    let number = kind as usize;
    // SAFETY: a local variable.
    let index = unsafe { core::ptr::read_volatile(&raw const number) };
    if index >= DescriptorKind::COUNT {
        return;
    }
    let Some(entry) = entry(process) else {
        return;
    };
    // SAFETY: a value of the map. One walk runs at a time, on one thread.
    unsafe {
        if (*entry).session != session {
            crate::memory::clear(entry);
            (*entry).session = session;
        }
        let count = (&raw mut (*entry).counts).cast::<u32>().add(index);
        *count += 1;
        if kind as u8 == DescriptorKind::File as u8 {
            vote(entry, probed(dentry(file), global!(LAYOUT.dentry_parent)));
        }
    }
}

#[inline(always)]
fn entry(process: u32) -> Option<*mut Descriptors> {
    if let Some(entry) = DESCRIPTORS.get_ptr_mut(process) {
        return Some(entry);
    }
    let mut fresh = MaybeUninit::<Descriptors>::uninit();
    // Full: nothing is said of this process.
    let fresh: &Descriptors = blank(&mut fresh);
    DESCRIPTORS.insert(process, fresh, 0).ok()?;
    DESCRIPTORS.get_ptr_mut(process)
}

#[inline(always)]
fn dentry(file: Kernel) -> u64 {
    probed(file as u64, global!(LAYOUT.file_dentry))
}

#[inline(always)]
fn kind_of(file: Kernel) -> DescriptorKind {
    let inode: Kernel = load!(file, file_inode);
    if inode.is_null() {
        return DescriptorKind::Other;
    }
    let mode: u16 = load!(inode, inode_mode);
    let format = mode & FORMAT;
    if format == PIPE {
        return DescriptorKind::Pipe;
    }
    if format == CHARACTERS || format == BLOCKS {
        return DescriptorKind::Device;
    }
    if format == DIRECTORY {
        return DescriptorKind::Directory;
    }
    // Since 6.16 they say to be regular files, before that nothing.
    let volume: Kernel = load!(inode, inode_sb);
    if volume.is_null() {
        return DescriptorKind::Other;
    }
    let magic: u64 = load!(volume, sb_magic);
    if magic != ANON_INODE_FS {
        return DescriptorKind::File;
    }
    let name: u64 = probed(dentry(file), global!(LAYOUT.dentry_name));
    let begin: u64 = probed(name, 0);
    if begin == EVENTPOLL { DescriptorKind::Epoll } else { DescriptorKind::Other }
}

/// The majority vote of Boyer and Moore: what more than half of the files are in is the candidate in the
/// end, whatever the order.
///
/// # Safety
/// `entry` is a value of the map.
#[inline(always)]
unsafe fn vote(entry: *mut Descriptors, directory: u64) {
    // SAFETY: as the caller says; the helper checks what it reads.
    unsafe {
        if (*entry).votes == 0 {
            (*entry).directory = directory;
            (*entry).votes = 1;
            (*entry).matches = 1;
            let above: u64 = probed(directory, global!(LAYOUT.dentry_parent));
            copy_name(&raw mut (*entry).name, directory);
            copy_name(&raw mut (*entry).above, above);
        } else if (*entry).directory == directory {
            (*entry).votes += 1;
            (*entry).matches += 1;
        } else {
            (*entry).votes -= 1;
        }
    }
}

/// # Safety
/// `to` is the program's to write.
#[inline(always)]
unsafe fn copy_name(to: *mut [u8; NAME], dentry: u64) {
    let name: u64 = probed(dentry, global!(LAYOUT.dentry_name));
    // SAFETY: the helper checks the address and ends what it writes with NUL.
    unsafe {
        bpf_probe_read_kernel_str(to.cast(), NAME as u32, name as *const core::ffi::c_void);
    }
}
