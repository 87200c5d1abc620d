//! Names that the kernel's records have only numbers for.

use std::path::Path;

use crate::containers::Containers;
use crate::engine::Engine;
use crate::kernel::cgroups;
use crate::names::{self, Entry};

/// Looks names up from time to time, never for an event.
#[derive(Debug)]
pub(super) struct Naming {
    containers: Containers,
    executables: bool,
}

impl Naming {
    /// Of cgroups and containers, and with `executables` of the processes that hold sockets.
    pub(super) fn new(executables: bool) -> Naming {
        Naming { containers: Containers::below(Path::new("/")), executables }
    }

    /// The names there are now, as [`Input::Names`](crate::input::Input::Names) has them.
    pub(super) fn all(&mut self, engine: &Engine) -> Vec<u8> {
        let mut bytes = Vec::new();
        let cgroups = cgroups::all();
        for (id, path) in &cgroups {
            names::encode(Entry::Cgroup(*id), path.as_os_str().as_encoded_bytes(), &mut bytes);
        }
        if self.executables {
            executables(engine, &mut bytes);
        }
        // Last: versions that do not know them stop here when they read a recording.
        let cgroups = cgroups.iter().map(|(id, path)| (*id, path.as_os_str().as_encoded_bytes()));
        for (id, given) in self.containers.named(cgroups) {
            names::encode(Entry::Container(id), &given.encode(), &mut bytes);
        }
        bytes
    }
}

fn executables(engine: &Engine, bytes: &mut Vec<u8>) {
    let owners = engine.table().iter().filter_map(|conn| conn.owner.as_ref()?.pid());
    let mut pids: Vec<u32> = owners.collect();
    pids.sort_unstable();
    pids.dedup();
    for pid in pids {
        if let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            let path = path.as_os_str().as_encoded_bytes();
            names::encode(Entry::Executable(pid), path, bytes);
        }
    }
}
