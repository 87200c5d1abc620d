//! The network namespaces of this machine: those of processes, and those with a name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::netns_socket;

/// Where `ip netns` and container runtimes keep named namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Inode and a path to open, one for each namespace that can be found, our own among them. Those that only
/// sockets lead to are not: see `netns_socket`.
#[must_use]
pub fn all() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    let mut add = |path: PathBuf| {
        if let Ok(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    };
    add(PathBuf::from("/proc/self/ns/net"));
    for directory in NAMED {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            add(entry.path());
        }
    }
    netns_socket::mounted().into_iter().for_each(&mut add);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            add(entry.path().join("ns/net"));
        }
    }
    found
}

/// Inode number of the namespace behind a path.
///
/// # Errors
/// When there is nothing, or it is no namespace's number.
pub fn inode(path: &Path) -> io::Result<u32> {
    u32::try_from(fs::metadata(path)?.ino()).map_err(io::Error::other)
}

/// Enters a namespace with the calling thread.
///
/// # Errors
/// When it is gone, or without CAP_SYS_ADMIN.
pub fn enter(path: &Path) -> io::Result<()> {
    enter_file(File::open(path)?.as_fd())
}

/// As [`enter`], by a file that is open.
pub(super) fn enter_file(file: BorrowedFd<'_>) -> io::Result<()> {
    netns_socket::enter(file)
}

/// How to get into a namespace.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// A file.
    Path(PathBuf),
    /// A socket of it, and who has that.
    Socket(netns_socket::Lead),
}

impl Way {
    pub(super) fn enter(&self) -> io::Result<()> {
        match self {
            Way::Path(path) => enter(path),
            Way::Socket(lead) => lead.enter(),
        }
    }
}
