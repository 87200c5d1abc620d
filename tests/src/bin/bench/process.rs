//! What /proc says of a process: its processor time, memory and eBPF programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;

/// Nanoseconds all its threads have run, those in the kernel on its behalf included.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may have ended.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first = text.split_ascii_whitespace().next().context("an empty schedstat")?;
        total += first.parse::<u64>()?;
    }
    Ok(total)
}

/// Bytes it has resident.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// What a program has done since it was loaded, as far as the kernel counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Times.
    pub(crate) count: u64,
    /// Nanoseconds in all, the kernel's own bookkeeping around a run included.
    pub(crate) ns: u64,
}

/// The eBPF programs it has a descriptor of, by name, but for iterators: those run when the process
/// reads them, in its own time.
pub(crate) fn programs(pid: u32) -> Result<BTreeMap<String, Ran>> {
    let mut all = BTreeMap::new();
    let mut named = BTreeMap::new();
    for program in loaded_programs().flatten() {
        named.insert(program.id(), String::from_utf8_lossy(program.name()).into_owned());
    }
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let path: PathBuf = entry?.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        // Links have the id too, but not the times.
        if let (Some(id), Some(ns), Some(count)) =
            (field("prog_id:"), field("run_time_ns:"), field("run_cnt:"))
        {
            let id = u32::try_from(id)?;
            let name = named.get(&id).cloned().unwrap_or_else(|| id.to_string());
            if !name.starts_with("iter_") {
                all.insert(name, Ran { count, ns });
            }
        }
    }
    Ok(all)
}
