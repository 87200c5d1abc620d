//! Names the kernel's records have only numbers for: paths of cgroups, executables of processes, interfaces, remote
//! addresses, ports; and where connections really go.

mod place;
mod remotes;

use std::collections::HashMap;

use foldhash::fast::RandomState;

use place::Whereabouts;
pub use place::{Kept, Place, container, workload};
use remotes::Remotes;
pub use remotes::{Addr, HostSource, Translation, bytes_of};

/// What a name is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A cgroup's id.
    Cgroup(u64),
    /// A cgroup's id: what its container's tools call it, as [`Given::encode`] makes it.
    Container(u64),
    /// A process's id.
    Executable(u32),
    /// A socket's identity: the code that opened it.
    Opener(u64),
    /// A network namespace's inode, and the index of an interface in it.
    Interface(u32, u32),
    /// An address, and who names it. Without a name it has none any more.
    Host(Addr, HostSource),
    /// The port of a service. As for hosts.
    Port(u16),
    /// A socket's identity: where it really goes, as [`Translation::encode`] makes it.
    Translation(u64),
}

/// Appends an entry in the form of [`Input::Names`](crate::input::Input::Names): kind (`c`, `k`, `x`, `o`, `i`, `h`, `s`
/// or `t`), number as eight little-endian bytes, length as two, name; in front of a host's name its address.
/// Versions that do not know a kind stop there, so what is new comes in an input of its own, or last.
pub fn encode(entry: Entry, name: &[u8], out: &mut Vec<u8>) {
    let (kind, number) = match entry {
        Entry::Cgroup(id) => (b'c', id),
        Entry::Container(id) => (b'k', id),
        Entry::Executable(pid) => (b'x', u64::from(pid)),
        Entry::Opener(id) => (b'o', id),
        Entry::Interface(netns, index) => (b'i', in_namespace(netns, index)),
        Entry::Host(_, source) => (b'h', source.number()),
        Entry::Port(port) => (b's', u64::from(port)),
        Entry::Translation(id) => (b't', id),
    };
    let address = match &entry {
        Entry::Host(addr, _) => &addr[..],
        _ => &[],
    };
    // Paths end at 4,096 bytes.
    let Ok(length) = u16::try_from(address.len() + name.len()) else { return };
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(address);
    out.extend_from_slice(name);
}

/// What a container is called by the tools that made it. Strangers chose these names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// Its own name.
    pub container: Option<String>,
    /// The namespace of its pod, in Kubernetes.
    pub namespace: Option<String>,
    /// Its pod.
    pub pod: Option<String>,
}

impl Given {
    /// The three, in this order, with a zero byte after each; what is not known is empty.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in [&self.container, &self.namespace, &self.pod] {
            let name = name.as_deref().unwrap_or_default().as_bytes();
            bytes.extend(name.iter().filter(|&&byte| byte != 0));
            bytes.push(0);
        }
        bytes
    }
}

const fn in_namespace(netns: u32, index: u32) -> u64 {
    (netns as u64) << 32 | index as u64
}

const fn interface(number: u64) -> Entry {
    Entry::Interface((number >> 32) as u32, (number & u32::MAX as u64) as u32)
}

/// Most bytes of names kept, with what a map needs for each.
const MOST: usize = 16 << 20;
const EACH: usize = 48;

/// The names known so far, within bounds: whoever may make cgroups may make any number.
#[derive(Debug, Default)]
pub struct Names {
    /// What they take.
    size: usize,
    cgroups: HashMap<u64, Whereabouts, RandomState>,
    /// Counts up when anything gets a name or another one.
    version: u64,
    executables: HashMap<u64, Box<[u8]>>,
    interfaces: HashMap<u64, Box<[u8]>>,
    /// With bounds of their own.
    remotes: Remotes,
}

impl Names {
    /// Takes in what [`encode`] made; stops at what makes no sense.
    pub fn take_in(&mut self, mut bytes: &[u8]) {
        while let Some((kind, number, name, rest)) = split(bytes) {
            bytes = rest;
            let size = match kind {
                b'c' | b'k' => self.name_cgroup(number, kind, name),
                b'x' => put(&mut self.executables, number, name).unwrap_or(0),
                b'i' => {
                    let size = put(&mut self.interfaces, number, name);
                    self.version += u64::from(size.is_some());
                    size.unwrap_or(0)
                }
                b'h' => {
                    self.version += u64::from(self.remotes.name_host(number, name));
                    continue;
                }
                b's' => {
                    self.version += u64::from(self.remotes.name_port(number, name));
                    continue;
                }
                // For whoever looks for the stuck: see `openers`. For the table: see `translations`.
                b'o' | b't' => continue,
                _ => return,
            };
            self.size = self.size.saturating_add_signed(size);
            if self.size > MOST {
                // Those that are still there will be named again.
                let remotes = std::mem::take(&mut self.remotes);
                *self = Names { version: self.version + 1, remotes, ..Names::default() };
            }
        }
    }

    /// Those of cgroups, executables and interfaces, as [`encode`] makes them.
    #[must_use]
    pub fn all(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, known) in self.cgroups.iter().filter(|(_, known)| !known.path.is_empty()) {
            encode(Entry::Cgroup(*id), &known.path, &mut bytes);
        }
        for (pid, path) in &self.executables {
            encode(Entry::Executable(u32::try_from(*pid).unwrap_or(0)), path, &mut bytes);
        }
        for (number, name) in &self.interfaces {
            encode(interface(*number), name, &mut bytes);
        }
        // A path forgets what was given, so it comes first.
        for (id, known) in self.cgroups.iter().filter(|(_, known)| !known.given.is_empty()) {
            encode(Entry::Container(*id), &known.given, &mut bytes);
        }
        bytes
    }

    /// Names of addresses and ports, as [`encode`] makes them.
    #[must_use]
    pub fn remotes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (addr, source, name) in self.remotes.hosts() {
            encode(Entry::Host(*addr, source), name, &mut bytes);
        }
        for (port, name) in self.remotes.ports() {
            encode(Entry::Port(port), name, &mut bytes);
        }
        bytes
    }

    /// What an address is called, and who says so.
    #[must_use]
    pub fn host(&self, addr: &Addr) -> Option<(&[u8], HostSource)> {
        self.remotes.host(addr)
    }

    /// What the port of a service is called.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&[u8]> {
        self.remotes.port(port)
    }

    fn name_cgroup(&mut self, id: u64, kind: u8, name: &[u8]) -> isize {
        let known = self.cgroups.get(&id);
        let is_path = kind == b'c';
        let same = match known {
            Some(known) if is_path => *known.path == *name,
            Some(known) => *known.given == *name,
            None => false,
        };
        if same {
            return 0;
        }
        self.version += 1;
        let entry = self.cgroups.entry(id);
        let is_new = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        let known = entry.or_default();
        let before = known.size();
        if is_path {
            // What was at another path was another container.
            *known = Whereabouts::at(name);
        } else {
            known.given = name.into();
        }
        let grown = known.size().cast_signed() - before.cast_signed();
        if is_new { grown + EACH.cast_signed() } else { grown }
    }

    /// Another number when anything may have another name than before.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Ids of cgroups that have a name.
    pub fn cgroups(&self) -> impl Iterator<Item = u64> {
        self.cgroups.keys().copied()
    }

    /// Where whatever is in this cgroup runs, as far as it is known.
    #[must_use]
    pub fn place(&self, cgroup: u64) -> Place<'_> {
        self.cgroups.get(&cgroup).map(Whereabouts::place).unwrap_or_default()
    }

    /// Path of a cgroup below the root of its hierarchy.
    #[must_use]
    pub fn cgroup(&self, id: u64) -> Option<&[u8]> {
        self.cgroups.get(&id).map(|known| &*known.path).filter(|path| !path.is_empty())
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

/// Names a number; returns how much more is kept then, and nothing where that is its name already.
fn put(names: &mut HashMap<u64, Box<[u8]>>, number: u64, name: &[u8]) -> Option<isize> {
    if names.get(&number).is_some_and(|known| **known == *name) {
        return None;
    }
    let before = names.insert(number, name.into());
    let before = before.map_or(0, |before| before.len() + EACH);
    Some((name.len() + EACH).cast_signed() - before.cast_signed())
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

/// Sockets in what [`encode`] made, and where each really goes.
pub fn translations(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Translation)> {
    std::iter::from_fn(move || {
        loop {
            let (kind, number, name, rest) = split(bytes)?;
            bytes = rest;
            if let Some(translation) = Translation::decode(name).filter(|_| kind == b't') {
                return Some((number, translation));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(names.place(8), Place::default());
    }

    #[test]
    fn names_of_remotes_come_back() {
        let translation = Translation { local: ([1; 16], 1), remote: ([2; 16], 2) };
        let mut bytes = Vec::new();
        encode(Entry::Host([7; 16], HostSource::Dns), b"db.example", &mut bytes);
        encode(Entry::Port(5432), b"postgresql", &mut bytes);
        encode(Entry::Translation(9), &translation.encode(), &mut bytes);
        encode(Entry::Translation(10), b"too short", &mut bytes);
        encode(Entry::Cgroup(7), b"/a", &mut bytes);
        let mut names = Names::default();
        names.take_in(&bytes);
        assert_eq!(names.host(&[7; 16]), Some((&b"db.example"[..], HostSource::Dns)));
        assert_eq!(names.host(&[8; 16]), None);
        assert_eq!(names.port(5432), Some(&b"postgresql"[..]));
        assert_eq!(names.cgroup(7), Some(&b"/a"[..]));
        assert_eq!(translations(&bytes).collect::<Vec<_>>(), [(9, translation)]);
        let mut again = Names::default();
        again.take_in(&names.remotes());
        assert_eq!(again.host(&[7; 16]), names.host(&[7; 16]));
        assert_eq!(again.port(5432), names.port(5432));
    }

    #[test]
    fn another_name_of_anything_is_another_version() {
        let entries = [
            Entry::Cgroup(7),
            Entry::Container(7),
            Entry::Interface(7, 2),
            Entry::Host([7; 16], HostSource::Hosts),
            Entry::Host([7; 16], HostSource::Dns),
            Entry::Port(7),
        ];
        let mut names = Names::default();
        let mut version = |entry, name: &[u8]| {
            let mut bytes = Vec::new();
            encode(entry, name, &mut bytes);
            names.take_in(&bytes);
            names.version()
        };
        for entry in entries {
            let first = version(entry, b"a");
            assert_eq!(version(entry, b"a"), first, "{entry:?}");
            // As long as the first.
            let other = version(entry, b"b");
            assert_ne!(other, first, "{entry:?}");
            assert_ne!(version(entry, b""), other, "{entry:?}");
        }
    }

    #[test]
    fn names_stay_within_bounds() {
        let mut names = Names::default();
        let mut bytes = Vec::new();
        for id in 0..10_000 {
            bytes.clear();
            encode(Entry::Cgroup(id), &[b'x'; 4000], &mut bytes);
            names.take_in(&bytes);
            assert!(names.size <= MOST && names.cgroups.len() <= MOST / 4000);
        }
        // What came last is known, and the same name twice is counted once.
        assert_eq!(names.cgroup(9_999).map(<[u8]>::len), Some(4000));
        let size = names.size;
        names.take_in(&bytes);
        assert_eq!(names.size, size);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Names::default().take_in(&bytes);
            let _ = container(&bytes);
            let _ = translations(&bytes).count();
        }
    }
}
