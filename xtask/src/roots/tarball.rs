//! The archive, on busybox alone, and the binary with nothing at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Files, Row, checks, done_with, enter, folder};
use crate::command::{find, must, quietly};

/// From the archive to the first line.
const LONGEST: Duration = Duration::from_secs(10);

/// A root with busybox, its names, and the archive's folder.
pub(super) fn busybox(release: &Files) -> Result<Row> {
    let mut row = Row::new("busybox", "tar");
    let root = folder("busybox")?;
    fs::create_dir_all(root.join("bin"))?;
    let busybox = find("busybox").context("busybox is not here")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for name in quietly(Command::new(&busybox).arg("--list")).unwrap_or_default().lines() {
        if name != "busybox" {
            symlink("busybox", root.join("bin").join(name))?;
        }
    }
    unpack(release, &root)?;
    let program = format!("/{}/tcptrail", release.folder);
    checks::all(&mut row, &root, &program)?;
    // Through its shell, as a person would.
    let script = format!("{program} completions bash | head -n 1 && {program} man | wc -l");
    let said = enter::run(&root, false, &["/bin/sh", "-c", &script])?;
    ensure!(said.code == Some(0), "busybox: {}", said.all());
    done_with(&root)?;
    Ok(row)
}

/// A root with the archive's folder and nothing else: no shell, no C library, no /etc.
pub(super) fn nothing(release: &Files) -> Result<Row> {
    let mut row = Row::new("nothing", "tar");
    let root = folder("nothing")?;
    let began = Instant::now();
    unpack(release, &root)?;
    let unpacked = began.elapsed();
    let program = format!("/{}/tcptrail", release.folder);
    let said = enter::run(&root, false, &[&program, "doctor"])?;
    let first = said.first_line.with_context(|| format!("nothing: {}", said.all()))?;
    ensure!(first < LONGEST, "the first line took {first:?}");
    row.step(
        "time",
        format!(
            "unpacked in {:.2} s, first line of doctor {:.2} s later",
            unpacked.as_secs_f64(),
            first.as_secs_f64()
        ),
    );
    checks::all(&mut row, &root, &program)?;
    done_with(&root)?;
    Ok(row)
}

fn unpack(release: &Files, root: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-xf"]).arg(&release.tarball).arg("-C").arg(root);
    must(&mut tar, "unpack the archive", "see what tar says")
}
