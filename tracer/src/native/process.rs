//! What `/proc` tells of a process whose frames are to be named.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Most lines of `maps` that are looked at.
const MOST_MAPS: usize = 65_536;

/// A mapping with code in it, or of a library we need whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) executable: bool,
    /// As `maps` has it, seen from inside; empty for anonymous memory.
    pub(crate) path: String,
}

impl Mapping {
    /// The file's name without directories.
    pub(crate) fn file_name(&self) -> &str {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        path.rsplit('/').next().unwrap_or(path)
    }

    pub(crate) fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// A process at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Its id in its own pid namespace.
    pub(crate) inner_pid: u32,
    /// Effective user and group, and further groups.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// It has a handler for SIGQUIT.
    pub(crate) catches_quit: bool,
    /// What tells this process, and what it runs, from another with the same id.
    pub(crate) identity: Identity,
    pub(crate) mappings: Vec<Mapping>,
}

/// Start of the process and what it executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    start: u64,
    exe: (u64, u64),
}

impl Identity {
    pub(crate) fn of(pid: u32) -> io::Result<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may have any characters; what follows has no parenthesis.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let start = rest.split_whitespace().nth(19).and_then(|word| word.parse().ok());
        let exe = fs::metadata(format!("/proc/{pid}/exe"))?;
        Ok(Identity { start: start.unwrap_or(0), exe: (exe.dev(), exe.ino()) })
    }
}

impl Process {
    pub(crate) fn look(pid: u32) -> io::Result<Process> {
        let identity = Identity::of(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("")
        };
        let number = |name: &str, at: usize| {
            field(name).split_whitespace().nth(at).and_then(|word| word.parse::<u32>().ok())
        };
        let inner_pid = field("NSpid").split_whitespace().last().and_then(|word| word.parse().ok());
        let caught = u64::from_str_radix(field("SigCgt").trim(), 16).unwrap_or(0);
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let no_ids = || io::Error::other("/proc tells no user of it");
        Ok(Process {
            pid,
            inner_pid: inner_pid.unwrap_or(pid),
            uid: number("Uid", 1).ok_or_else(no_ids)?,
            gid: number("Gid", 1).ok_or_else(no_ids)?,
            // SIGQUIT is 3.
            catches_quit: caught & 1 << 2 != 0,
            identity,
            mappings: maps.lines().take(MOST_MAPS).filter_map(mapping).collect(),
        })
    }

    /// The mapping with code that holds this address.
    pub(crate) fn code_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (mapping.holds(address) && mapping.executable).then_some(mapping)
    }

    /// The mapping of the beginning of HotSpot's library.
    pub(crate) fn hotspot(&self) -> Option<&Mapping> {
        self.mappings
            .iter()
            .find(|mapping| mapping.offset == 0 && mapping.file_name() == "libjvm.so")
    }

    /// The file behind a mapping, whatever mount namespace it is in and whether deleted or not.
    pub(crate) fn open(&self, mapping: &Mapping) -> io::Result<File> {
        let by_range =
            format!("/proc/{}/map_files/{:x}-{:x}", self.pid, mapping.start, mapping.end);
        File::open(by_range).or_else(|_| {
            let inside = mapping.path.trim_start_matches('/');
            File::open(PathBuf::from(format!("/proc/{}/root", self.pid)).join(inside))
        })
    }

    /// A thread's id in the innermost pid namespace: what thread dumps call `nid`.
    pub(crate) fn inner_tid(&self, tid: u32) -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{}/task/{tid}/status", self.pid)).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        ids.split_whitespace().last()?.parse().ok()
    }
}

/// A line of `maps`: `start-end perms offset dev inode path`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let path = words.nth(2).map_or("", str::trim_start);
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line = "7f1c-7f1d r-xp 00001000 fd:00 131 /usr/lib/a b/libjvm.so (deleted)";
        let read = mapping(line).expect("a mapping");
        assert_eq!((read.start, read.end, read.offset), (0x7f1c, 0x7f1d, 0x1000));
        assert_eq!(read.path, "/usr/lib/a b/libjvm.so (deleted)");
        assert_eq!(read.file_name(), "libjvm.so");
        assert!(read.executable);
        assert_eq!(mapping("7f1c-7f1d rw-p 00000000 00:00 0 ").expect("one").path, "");
        assert_eq!(mapping("nonsense"), None);
    }

    #[test]
    fn this_process_is_known() {
        let own = Process::look(std::process::id()).expect("it runs");
        let code = own.code_at(this_process_is_known as *const () as u64).expect("its own code");
        assert!(code.path.contains("tracer"), "{code:?}");
        assert!(own.open(code).is_ok());
        assert!(own.hotspot().is_none());
    }
}
