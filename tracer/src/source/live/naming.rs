//! Names that the kernel's records have only numbers for.

use crate::engine::Engine;
use crate::kernel::cgroups;
use crate::names::{self, Entry};

/// Paths of cgroups, and with `executables` those of the processes that hold sockets, as
/// [`Input::Names`](crate::input::Input::Names) has them.
pub(super) fn all(engine: &Engine, executables: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, path) in cgroups::all() {
        names::encode(Entry::Cgroup(id), path.as_os_str().as_encoded_bytes(), &mut bytes);
    }
    if !executables {
        return bytes;
    }
    let owners = engine.table().iter().filter_map(|conn| conn.owner.as_ref()?.pid());
    let mut pids: Vec<u32> = owners.collect();
    pids.sort_unstable();
    pids.dedup();
    for pid in pids {
        if let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            let path = path.as_os_str().as_encoded_bytes();
            names::encode(Entry::Executable(pid), path, &mut bytes);
        }
    }
    bytes
}
