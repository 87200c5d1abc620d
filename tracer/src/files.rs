//! Reads files and folders that strangers may have made: up to a size, and without waiting.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A list of Podman with thousands of containers; the file of one container is a few KiB.
const MOST_BYTES: u64 = 4 << 20;
/// Names in a folder that are looked at.
const MOST_NAMES: usize = 20_000;

/// The whole file, when it is a plain one and not too long.
#[must_use]
pub fn read(path: &Path) -> Option<Vec<u8>> {
    // A pipe would not be waited for, nor a terminal become ours.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    if length > MOST_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The names in a folder; of a folder that is not there none.
pub fn names_in(path: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(MOST_NAMES);
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
