//! The cgroups of the version 2 hierarchy: their ids are the inodes of their directories.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted: alone, or beside version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Far more than a host has; a hostile one may make any number, and paths of any length.
const MOST: usize = 50_000;
const MOST_BYTES: usize = 8 << 20;

/// The mount point, when there is one.
#[must_use]
pub fn root() -> Option<&'static Path> {
    // Kept in every cgroup of version 2, the root included, and in none of version 1.
    ROOTS.into_iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists())
}

/// Id and path below the root (`/system.slice/nginx.service`) of every cgroup; the root's is `/`.
#[must_use]
pub fn all() -> Vec<(u64, PathBuf)> {
    let Some(root) = root() else { return Vec::new() };
    let mut found = Vec::new();
    if let Ok(metadata) = fs::metadata(root) {
        found.push((metadata.ino(), PathBuf::from("/")));
    }
    let mut waiting = vec![root.to_owned()];
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
            if let Ok(inside) = path.strip_prefix(root) {
                bytes += inside.as_os_str().len();
                found.push((entry.ino(), Path::new("/").join(inside)));
            }
            waiting.push(path);
        }
    }
    found
}
