//! Whether the same commit gives the same release: made again in a clone, in another folder.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Commit, out};
use crate::command::{cargo, must, root, target};

/// Makes the release again and compares the checksums.
pub(super) fn verify(architectures: &[String]) -> Result<()> {
    if Commit::here()?.is_modified() {
        bail!("only what is committed can be made again: commit first");
    }
    // Of another length, so that nothing fits by accident.
    let again = target().join("packages/made-again-elsewhere");
    if again.exists() {
        fs::remove_dir_all(&again)?;
    }
    let clone = again.join("tcptrail");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-hardlinks"]).arg(root()).arg(&clone);
    must(&mut git, "clone the repository", "see what git says")?;
    let mut dist = cargo();
    dist.args(["run", "--quiet", "--package", "xtask", "--", "dist"]);
    for arch in architectures {
        dist.args(["--arch", arch]);
    }
    // The tools need not be built again.
    let tools = target().join("tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path)))?;
    dist.current_dir(&clone).env("CARGO_TARGET_DIR", clone.join("target")).env("PATH", path);
    must(&mut dist, "make the release again", "see what it says above")?;
    let sums = |dir: std::path::PathBuf| {
        let file = dir.join("SHA256SUMS");
        fs::read_to_string(&file).with_context(|| format!("there is no {}", file.display()))
    };
    let (first, second) = (sums(out())?, sums(clone.join("target/packages/out"))?);
    if first != second {
        bail!("the same commit gave other bytes in another folder:\n{first}\n{second}");
    }
    fs::remove_dir_all(&again)?;
    eprintln!("xtask: made again in another folder: the same checksums");
    Ok(())
}
