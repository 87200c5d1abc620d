//! The cgroups of the version 2 hierarchy: their ids are the inodes of their directories.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted as a rule: alone, or beside version 1. Others are looked up.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Far more than a host has; a hostile one may make any number, and paths of any length.
const MOST: usize = 50_000;
const MOST_BYTES: usize = 8 << 20;

/// The mount point, when there is one.
#[must_use]
pub fn root() -> Option<PathBuf> {
    mounts().root
}

/// The hierarchies that are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Of version 2.
    pub root: Option<PathBuf>,
    /// There are some of version 1: a process may be in one cgroup there, and in another one of version
    /// 2, as a rule the root. Sockets have that of version 2 only (`sock_cgroup_data`).
    pub version_1: bool,
}

/// Those that this process sees.
#[must_use]
pub fn mounts() -> Mounts {
    let listed = Listed::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let mut points = ROOTS.into_iter().map(PathBuf::from).chain(listed.version_2);
    // Kept in every cgroup of version 2, the root included, and in none of version 1. What is listed may
    // be hidden by a later mount.
    let root = points.find(|root| root.join("cgroup.controllers").exists());
    Mounts { root, version_1: listed.version_1 }
}

/// What `/proc/PID/mountinfo` lists.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    version_2: Vec<PathBuf>,
    version_1: bool,
}

impl Listed {
    /// Lines such as `30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw`.
    fn parse(mountinfo: &[u8]) -> Listed {
        let mut listed = Listed::default();
        for line in mountinfo.split(|&byte| byte == b'\n') {
            let mut words = line.split(|&byte| byte == b' ');
            let point = words.nth(4);
            let kind = words.skip_while(|word| *word != b"-").nth(1);
            match (point, kind) {
                (_, Some(b"cgroup")) => listed.version_1 = true,
                (Some(point), Some(b"cgroup2")) => {
                    listed.version_2.push(PathBuf::from(OsString::from_vec(unescape(point))));
                }
                _ => {}
            }
        }
        listed
    }
}

/// Blank, tab, newline and backslash are three octal digits there.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                plain.push(escaped);
                rest = &after[3..];
            }
            _ => plain.push(byte),
        }
    }
    plain
}

/// Id and path below the root (`/system.slice/nginx.service`) of every cgroup; the root's is `/`.
#[must_use]
pub fn all() -> Vec<(u64, PathBuf)> {
    let Some(root) = root() else { return Vec::new() };
    let mut found = Vec::new();
    if let Ok(metadata) = fs::metadata(&root) {
        found.push((metadata.ino(), PathBuf::from("/")));
    }
    let mut waiting = vec![root.clone()];
    let mut bytes = 0;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if found.len() >= MOST || bytes >= MOST_BYTES {
                return found;
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if let Ok(inside) = path.strip_prefix(&root) {
                bytes += inside.as_os_str().len();
                found.push((entry.ino(), Path::new("/").join(inside)));
            }
            waiting.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let check = |lines: &str, root: Option<&str>, version_1| {
            let version_2 = root.map(PathBuf::from).into_iter().collect();
            let expected = Listed { version_2, version_1 };
            assert_eq!(Listed::parse(lines.as_bytes()), expected, "{lines}");
        };
        let other = "23 1 0:22 / /sys rw,relatime - sysfs sysfs rw\n";
        let two = "30 23 0:26 / /mnt/cgroup\\0402 rw shared:4 master:1 - cgroup2 cgroup2 rw\n";
        let one = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        check("", None, false);
        check(other, None, false);
        check(&format!("{other}{two}"), Some("/mnt/cgroup 2"), false);
        check(&format!("{other}{one}"), None, true);
        check(&format!("{one}{two}"), Some("/mnt/cgroup 2"), true);
        check("cut off - cgroup2", None, false);
        check("a b c d \\9\\04 - cgroup2", Some("\\9\\04"), false);
    }
}
