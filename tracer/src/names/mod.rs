//! Names the kernel's records have only numbers for: paths of cgroups, executables of processes, interfaces.

use std::collections::HashMap;

/// What a name is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A cgroup's id.
    Cgroup(u64),
    /// A process's id.
    Executable(u32),
    /// A socket's identity: the code that opened it.
    Opener(u64),
    /// A network namespace's inode, and the index of an interface in it.
    Interface(u32, u32),
}

/// Appends an entry in the form of [`Input::Names`](crate::input::Input::Names): kind (`c`, `x`, `o` or `i`),
/// number as eight little-endian bytes, length as two, name.
pub fn encode(entry: Entry, name: &[u8], out: &mut Vec<u8>) {
    let (kind, number) = match entry {
        Entry::Cgroup(id) => (b'c', id),
        Entry::Executable(pid) => (b'x', u64::from(pid)),
        Entry::Opener(id) => (b'o', id),
        Entry::Interface(netns, index) => (b'i', in_namespace(netns, index)),
    };
    // Paths end at 4,096 bytes.
    let Ok(length) = u16::try_from(name.len()) else { return };
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(name);
}

const fn in_namespace(netns: u32, index: u32) -> u64 {
    (netns as u64) << 32 | index as u64
}

/// Most bytes of names kept, with what a map needs for each.
const MOST: usize = 16 << 20;
const EACH: usize = 48;

/// The names known so far, within bounds: whoever may make cgroups may make any number.
#[derive(Debug, Default)]
pub struct Names {
    /// What they take.
    size: usize,
    cgroups: HashMap<u64, Box<[u8]>>,
    executables: HashMap<u64, Box<[u8]>>,
    interfaces: HashMap<u64, Box<[u8]>>,
}

impl Names {
    /// Takes in what [`encode`] made; stops at what makes no sense.
    pub fn take_in(&mut self, mut bytes: &[u8]) {
        while let Some((kind, number, name, rest)) = split(bytes) {
            let names = match kind {
                b'c' => &mut self.cgroups,
                b'x' => &mut self.executables,
                b'i' => &mut self.interfaces,
                // For whoever looks for the stuck: see `openers`.
                b'o' => {
                    bytes = rest;
                    continue;
                }
                _ => return,
            };
            if names.get(&number).is_none_or(|known| **known != *name) {
                let before = names.insert(number, name.into());
                self.size -= before.map_or(0, |before| before.len() + EACH);
                self.size += name.len() + EACH;
                if self.size > MOST {
                    // Those that are still there will be named again.
                    *self = Names::default();
                }
            }
            bytes = rest;
        }
    }

    /// Path of a cgroup below the root of its hierarchy.
    #[must_use]
    pub fn cgroup(&self, id: u64) -> Option<&[u8]> {
        self.cgroups.get(&id).map(|path| &**path)
    }

    /// Path of a process's executable.
    #[must_use]
    pub fn executable(&self, pid: u32) -> Option<&[u8]> {
        self.executables.get(&u64::from(pid)).map(|path| &**path)
    }

    /// Name of a network namespace's interface.
    #[must_use]
    pub fn interface(&self, netns: u32, index: u32) -> Option<&[u8]> {
        self.interfaces.get(&in_namespace(netns, index)).map(|name| &**name)
    }
}

/// Sockets in what [`encode`] made, and the code that opened each.
pub fn openers(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (kind, number, name, rest) = split(bytes)?;
            bytes = rest;
            if kind == b'o' {
                return Some((number, name));
            }
        }
    })
}

/// Interfaces in what [`encode`] made, by network namespace and index, and the name of each.
pub fn interfaces(mut bytes: &[u8]) -> impl Iterator<Item = ((u32, u32), &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (kind, number, name, rest) = split(bytes)?;
            bytes = rest;
            if kind == b'i' {
                let netns = u32::try_from(number >> 32).ok()?;
                let index = u32::try_from(number & u64::from(u32::MAX)).ok()?;
                return Some(((netns, index), name));
            }
        }
    })
}

fn split(bytes: &[u8]) -> Option<(u8, u64, &[u8], &[u8])> {
    let (&kind, bytes) = bytes.split_first()?;
    let (number, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (name, rest) = bytes.split_at_checked(u16::from_le_bytes(*length).into())?;
    Some((kind, u64::from_le_bytes(*number), name, rest))
}

/// The id of the container a cgroup's path belongs to: the last part of the path that holds 64 hex
/// digits (Docker, containerd, CRI-O, Podman), or the name after `lxc.payload.` or `/lxc/`.
#[must_use]
pub fn container(path: &[u8]) -> Option<&[u8]> {
    const ID: usize = 64;
    let mut parts = path.split(|&byte| byte == b'/').rev();
    let hex = parts.find_map(|part| {
        part.windows(ID).enumerate().find_map(|(at, id)| {
            let alone = !part.get(at + ID).is_some_and(u8::is_ascii_hexdigit)
                && (at == 0 || !part[at - 1].is_ascii_hexdigit());
            (alone && id.iter().all(u8::is_ascii_hexdigit)).then_some(id)
        })
    });
    hex.or_else(|| {
        let parts: Vec<_> = path.split(|&byte| byte == b'/').collect();
        parts
            .iter()
            .find_map(|part| part.strip_prefix(b"lxc.payload."))
            .or_else(|| parts.windows(2).find_map(|two| (two[0] == b"lxc").then_some(two[1])))
    })
}

/// What runs in a cgroup, by its path: the container, as its tools shorten its id, else the unit of systemd. `None` for
/// what is no workload: sessions of people, and paths that say nothing.
#[must_use]
pub fn workload(path: &[u8]) -> Option<&[u8]> {
    if let Some(id) = container(path) {
        return Some(id.get(..12).unwrap_or(id));
    }
    let mut parts = path.split(|&byte| byte == b'/').rev();
    parts.find(|part| {
        let service = part.ends_with(b".service") && !part.starts_with(b"user@");
        let session = part.starts_with(b"session-") || *part == b"init.scope";
        service || part.ends_with(b".scope") && !session
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn containers_are_found_in_paths() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: String, expect: Option<&str>| {
            assert_eq!(container(path.as_bytes()), expect.map(str::as_bytes), "{path}");
        };
        check(format!("/docker/{id}"), Some(&id));
        check(format!("/system.slice/docker-{id}.scope"), Some(&id));
        check(format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), Some(&id));
        check(format!("/kubepods/besteffort/pod1/{id}"), Some(&id));
        check(format!("/machine.slice/libpod-{id}.scope/container"), Some(&id));
        check("/lxc/web1".to_owned(), Some("web1"));
        check("/lxc.payload.web1/system.slice".to_owned(), Some("web1"));
        check("/system.slice/nginx.service".to_owned(), None);
        check(format!("/x/{id}0"), None);
        check("/".to_owned(), None);
    }

    #[test]
    fn workloads_are_containers_and_units() {
        let id = "0123456789abcdef".repeat(4);
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(workload(path.as_bytes()), expect.map(str::as_bytes), "{path}");
        };
        check("/system.slice/nginx.service", Some("nginx.service"));
        check("/system.slice/app.service/worker", Some("app.service"));
        check(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
            Some("x.service"),
        );
        check(&format!("/system.slice/docker-{id}.scope"), Some("0123456789ab"));
        check("/lxc/web", Some("web"));
        check("/machine.slice/run-u12.scope", Some("run-u12.scope"));
        // Of a session the process says more.
        check("/user.slice/user-0.slice/session-3.scope", None);
        check("/user.slice/user-1000.slice/user@1000.service/init.scope", None);
        check("/init.scope", None);
        check("/mine/too", None);
        check("/", None);
    }

    #[test]
    fn names_come_back() {
        let mut bytes = Vec::new();
        encode(Entry::Cgroup(7), b"/a\nb", &mut bytes);
        encode(Entry::Executable(8), b"/bin/x", &mut bytes);
        let mut names = Names::default();
        names.take_in(&bytes);
        assert_eq!(names.cgroup(7), Some(&b"/a\nb"[..]));
        assert_eq!(names.executable(8), Some(&b"/bin/x"[..]));
        assert_eq!(names.cgroup(8), None);
    }

    #[test]
    fn names_stay_within_bounds() {
        let mut names = Names::default();
        let mut bytes = Vec::new();
        for id in 0..100_000 {
            bytes.clear();
            encode(Entry::Cgroup(id), &[b'x'; 4000], &mut bytes);
            names.take_in(&bytes);
            assert!(names.size <= MOST && names.cgroups.len() <= MOST / 4000);
        }
        // What came last is known, and the same name twice is counted once.
        assert_eq!(names.cgroup(99_999).map(<[u8]>::len), Some(4000));
        let size = names.size;
        names.take_in(&bytes);
        assert_eq!(names.size, size);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Names::default().take_in(&bytes);
            let _ = (container(&bytes), workload(&bytes));
        }
    }
}
