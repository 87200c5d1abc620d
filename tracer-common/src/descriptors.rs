//! Descriptors of a process that are no TCP sockets, counted by kind while the walk over descriptors
//! passes them: the value of the `DESCRIPTORS` map.

use core::mem::{align_of, offset_of, size_of};

/// What a descriptor is. TCP sockets have rows of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DescriptorKind {
    /// A UDP socket.
    Udp = 0,
    /// A unix socket.
    Unix = 1,
    /// A socket of another family or protocol.
    OtherSocket = 2,
    /// A pipe or FIFO.
    Pipe = 3,
    /// A regular file.
    File = 4,
    /// A directory.
    Directory = 5,
    /// A device.
    Device = 6,
    /// An epoll instance.
    Epoll = 7,
    /// Anything else: eventfd, timerfd, inotify, BPF objects.
    Other = 8,
}

impl DescriptorKind {
    /// Number of kinds.
    pub const COUNT: usize = 9;
}

/// Bytes kept of a name, the NUL among them.
pub const NAME: usize = 32;

/// Of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[repr(C)]
pub struct Descriptors {
    /// The walk that counted (`bpf_iter_meta.session_id`).
    pub session: u64,
    /// Address of the directory that most files are in, where there is one that has most: the
    /// candidate of a majority vote.
    pub directory: u64,
    /// By [`DescriptorKind`].
    pub counts: [u32; DescriptorKind::COUNT],
    /// Votes for the candidate less those against it.
    pub votes: u32,
    /// Files met in the candidate since it is one: at least so many are in it.
    pub matches: u32,
    /// Zero.
    pub pad: u32,
    /// The candidate's name, NUL-terminated.
    pub name: [u8; NAME],
    /// The name of the directory it is in, NUL-terminated.
    pub above: [u8; NAME],
}

const _: () = {
    assert!(size_of::<Descriptors>() == 128 && align_of::<Descriptors>() == 8);
    assert!(offset_of!(Descriptors, session) == 0);
    assert!(offset_of!(Descriptors, directory) == 8);
    assert!(offset_of!(Descriptors, counts) == 16);
    assert!(offset_of!(Descriptors, votes) == 52);
    assert!(offset_of!(Descriptors, matches) == 56);
    assert!(offset_of!(Descriptors, pad) == 60);
    assert!(offset_of!(Descriptors, name) == 64);
    assert!(offset_of!(Descriptors, above) == 96);
};
