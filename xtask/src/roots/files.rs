//! Which files a root has: what an installation brings, and whether its removal takes all of it away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// What package managers keep for themselves: logs, lists, their databases.
const NOT_COMPARED: [&str; 9] = [
    "var/log",
    "var/lib/dpkg",
    "var/lib/apt",
    "var/cache",
    "var/lib/rpm",
    "proc",
    "sys",
    "dev",
    "run",
];

/// Files and links, by their path in the root. Folders count only where an installation has to remove them.
pub(super) fn list(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    walk(root, root, &mut all)?;
    Ok(all)
}

fn walk(root: &Path, dir: &Path, all: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let inside = path.strip_prefix(root)?.to_owned();
        if NOT_COMPARED.iter().any(|part| inside.starts_with(part)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &path, all)?;
        }
        all.insert(inside);
    }
    Ok(())
}

/// Fails where something is there that was not before, or the other way round.
pub(super) fn same(
    before: &BTreeSet<PathBuf>,
    after: &BTreeSet<PathBuf>,
    what: &str,
) -> Result<()> {
    let changed: Vec<_> = before.symmetric_difference(after).collect();
    ensure!(changed.is_empty(), "{what} leaves or takes files: {changed:?}");
    Ok(())
}
