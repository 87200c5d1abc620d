//! The way to a network namespace that no process is in and that has no name, by a socket of it that
//! some process has (slirp4netns, docker-proxy, CNI agents).

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tracer_common::wire::HolderRow;
use zerocopy::FromBytes;

/// A descriptor of a socket: process and number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lead {
    pid: u32,
    fd: u32,
}

/// Leads from the rows of a walk over descriptors: one to each namespace that is not `known`.
pub(super) fn leads<T>(rows: &[u8], known: &BTreeMap<u32, T>) -> BTreeMap<u32, Lead> {
    let mut found = BTreeMap::new();
    let mut last = 0;
    for bytes in rows.chunks_exact(size_of::<HolderRow>()) {
        let Ok(row) = HolderRow::read_from_bytes(bytes) else { continue };
        if row.netns == last {
            continue;
        }
        last = row.netns;
        if !known.contains_key(&row.netns) {
            found.entry(row.netns).or_insert(Lead { pid: row.pid, fd: row.fd });
        }
    }
    found
}

impl Lead {
    /// Descriptor `fd` of process `pid`.
    pub(super) fn new(pid: u32, fd: u32) -> Lead {
        Lead { pid, fd }
    }

    /// Enters the namespace with the calling thread. The socket is borrowed for as long as it takes to
    /// ask it: a copy kept longer would keep its connection open.
    ///
    /// # Errors
    /// When the descriptor is gone, or without CAP_SYS_PTRACE, CAP_NET_ADMIN and CAP_SYS_ADMIN.
    pub(super) fn enter(self) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let fd = i32::try_from(self.fd).map_err(io::Error::other)?;
        let socket = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())?;
        let namespace = namespace_of(&socket);
        drop(socket);
        enter(namespace?.as_fd())
    }
}

#[expect(unsafe_code, reason = "an ioctl that rustix has no function for")]
fn namespace_of(socket: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: SIOCGSKNS takes no argument, and gives a new descriptor.
    Ok(unsafe { rustix::ioctl::ioctl(socket, SocketNamespace) }?)
}

/// `SIOCGSKNS`: a descriptor of the network namespace that a socket is in.
struct SocketNamespace;

const SIOCGSKNS: Opcode = 0x894c;

#[expect(unsafe_code, reason = "rustix asks for a promise about the ioctl")]
// SAFETY: the opcode is that of SIOCGSKNS, which reads and writes no memory of ours and returns a
// descriptor that is ours alone (`get_net_ns` in net/socket.c).
unsafe impl Ioctl for SocketNamespace {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        SIOCGSKNS
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        output: IoctlOutput,
        _: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: called after the ioctl succeeded: then this is the new descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}

/// Network namespaces that are bound to a file somewhere, as `ip netns` and container runtimes do.
pub(super) fn mounted() -> Vec<std::path::PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(nsfs_of_net).collect()
}

/// The place of a line `... 4026532177 net:[4026532177] /run/netns/a ... - nsfs nsfs rw`.
fn nsfs_of_net(line: &[u8]) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut words = line.split(|&byte| byte == b' ');
    let root = words.nth(3)?;
    let place = words.next()?;
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    // Spaces and the like stand as \040: such a place is left out.
    let plain = !place.contains(&b'\\');
    (root.starts_with(b"net:[") && kind == b"nsfs" && plain)
        .then(|| Path::new(std::ffi::OsStr::from_bytes(place)).to_path_buf())
}

/// Moves this thread into the network namespace of a descriptor.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(
        namespace,
        Some(rustix::thread::LinkNameSpaceType::Network),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    #[test]
    fn places_of_namespaces_are_read_from_mounts() {
        let check = |line: &str, expect: Option<&str>| {
            let found = nsfs_of_net(line.as_bytes());
            assert_eq!(found.as_deref(), expect.map(Path::new), "{line}");
        };
        check(
            "61 30 0:4 net:[4026532177] /run/podman/x rw shared:9 - nsfs nsfs rw",
            Some("/run/podman/x"),
        );
        check("61 30 0:4 mnt:[4026532177] /run/x rw - nsfs nsfs rw", None);
        check("61 30 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw", None);
        check("61 30 0:4 net:[1] /run/a\\040b rw - nsfs nsfs rw", None);
        check("", None);
        check("1 2 3 net:[1]", None);
    }

    #[test]
    fn a_lead_is_taken_to_each_namespace_that_is_not_known() {
        let row = |netns, pid, fd| {
            let mut row = HolderRow::new_zeroed();
            (row.netns, row.pid, row.fd) = (netns, pid, fd);
            row.as_bytes().to_vec()
        };
        let rows = [row(1, 10, 3), row(2, 11, 4), row(2, 11, 5), row(1, 10, 6), row(3, 12, 7)];
        let known = BTreeMap::from([(1, ())]);
        let expect = BTreeMap::from([(2, Lead { pid: 11, fd: 4 }), (3, Lead { pid: 12, fd: 7 })]);
        assert_eq!(leads(&rows.concat(), &known), expect);
        assert_eq!(leads(&[0; 50], &known), BTreeMap::new());
    }
}
