//! The .rpm in a root that has no C library, nor anything else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Files, Row, checks, done_with, files, folder};
use crate::command::{must, quietly};
use crate::dist;

/// A version that any release is newer than.
const OLDER: &str = "0.0.1";
/// Debian's rpm wants to be told that somebody means it, and keeps its database elsewhere.
const DEBIAN: [&str; 3] = ["--force-debian", "--dbpath", "/var/lib/rpm"];

/// Unpacks it and tries what is in it; then installs an older one, upgrades it and removes it.
pub(super) fn run(release: &Files) -> Result<Row> {
    let mut row = Row::new("rpm", "rpm2cpio in an empty root; rpm --root");
    let root = folder("rpm")?;
    let mut open = Command::new("rpm2cpio");
    open.arg(&release.rpm).stdout(Stdio::piped());
    let mut open = open.spawn().context("could not start rpm2cpio")?;
    let mut unpack = Command::new("cpio");
    unpack.args(["--extract", "--make-directories", "--quiet"]).current_dir(&root);
    unpack.stdin(open.stdout.take().context("rpm2cpio's output")?);
    must(&mut unpack, "unpack the .rpm", "see what cpio says")?;
    // Its exit code compares the size with a tag that cargo-generate-rpm does not write: cpio's tells.
    open.wait()?;
    let libraries =
        files::list(&root)?.into_iter().filter(|file| file.to_string_lossy().contains(".so"));
    ensure!(libraries.count() == 0, "the .rpm has libraries in it");
    checks::all(&mut row, &root, "/usr/bin/tcptrail")?;
    done_with(&root)?;

    let root = folder("rpm")?;
    let older = older()?;
    rpm(&root, &["--install"], &older)?;
    rpm(&root, &["--upgrade"], &release.rpm)?;
    let mut query = Command::new("rpm");
    query.arg("--root").arg(&root).args(DEBIAN).args(["--query", "tcptrail"]);
    let version = quietly(&mut query).context("rpm does not know the package any more")?;
    ensure!(!version.contains(OLDER), "rpm did not upgrade it: {version}");
    row.step("upgrade", format!("{OLDER} to {}", version.trim()));
    let mut erase = Command::new("rpm");
    erase.arg("--root").arg(&root).args(DEBIAN).args(["--erase", "tcptrail"]);
    must(&mut erase, "remove the package", "see what rpm says")?;
    // Folders that a distribution has anyway are not the package's.
    let left: Vec<PathBuf> =
        files::list(&root)?.into_iter().filter(|path| !root.join(path).is_dir()).collect();
    ensure!(left.is_empty(), "the removal leaves {left:?}");
    row.step("removal", "leaves nothing");
    done_with(&root)?;
    Ok(row)
}

fn rpm(root: &Path, how: &[&str], package: &Path) -> Result<()> {
    let mut rpm = Command::new("rpm");
    rpm.arg("--root").arg(root).args(DEBIAN).args(how).arg(package);
    must(&mut rpm, "install the .rpm", "see what rpm says")
}

/// The same package with a lower version.
fn older() -> Result<PathBuf> {
    let dir = folder("older")?;
    let mut make = dist::rpm(std::env::consts::ARCH, &dir)?;
    make.args(["--set-metadata", &format!("version = \"{OLDER}\"")]);
    must(&mut make, "make an older .rpm", "see what cargo-generate-rpm says")?;
    let mut all = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.path());
    all.next().context("cargo-generate-rpm wrote nothing")
}
