//! Debian's minimal systems, and the .deb in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::enter;
use super::{Files, Row, checks, done_with, files, folder};
use crate::command::{must, target};
use crate::mirror::{Archive, KEYRING, Mirror};

/// A version that any release is newer than.
const OLDER: &str = "0.0.1-1";

/// Installs an older version, upgrades it by apt, tries it, and removes it.
pub(super) fn run(name: &str, release: &Files) -> Result<Row> {
    let mut row = Row::new(name, "dpkg, apt");
    let base = base(name)?;
    let root = folder(name)?;
    fs::remove_dir(&root)?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--"]).arg(&base).arg(&root);
    must(&mut copy, "copy the root", "check the disk's free space")?;
    let before = files::list(&root)?;

    let older = older(&release.deb)?;
    fs::copy(&older, root.join("tmp/older.deb"))?;
    fs::copy(&release.deb, root.join("tmp/new.deb"))?;
    must_run(&root, &["dpkg", "--install", "/tmp/older.deb"])?;
    must_run(&root, &["apt-get", "install", "--yes", "--no-install-recommends", "/tmp/new.deb"])?;
    let version =
        must_run(&root, &["dpkg-query", "--show", "--showformat=${Version}", "tcptrail"])?;
    ensure!(version != OLDER && !version.is_empty(), "{name}: apt did not upgrade it: {version}");
    row.step("upgrade", format!("{OLDER} to {version}"));
    checks::all(&mut row, &root, "tcptrail")?;
    must_run(&root, &["apt-get", "purge", "--yes", "tcptrail"])?;
    fs::remove_file(root.join("tmp/older.deb"))?;
    fs::remove_file(root.join("tmp/new.deb"))?;
    files::same(&before, &files::list(&root)?, &format!("{name}: the removal"))?;
    row.step("removal", "leaves nothing");
    done_with(&root)?;
    Ok(row)
}

fn suite(name: &str) -> &'static str {
    match name {
        "debian-11" => "bullseye",
        "debian-12" => "bookworm",
        _ => "trixie",
    }
}

/// Debian's smallest system, made once.
pub(super) fn base(name: &str) -> Result<PathBuf> {
    let base = target().join("roots/base").join(name);
    let done = base.with_extension("done");
    if done.is_file() {
        return Ok(base);
    }
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    fs::create_dir_all(&base)?;
    eprintln!("xtask: making a root of {name} (kept in the target directory)");
    let mirror = Mirror::here()?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", &format!("--keyring={KEYRING}"), suite(name)])
        .arg(&base)
        .arg(mirror.uri(Archive::Main));
    must(&mut debootstrap, &format!("make a root of {name}"), "see what debootstrap says")?;
    fs::write(done, "")?;
    Ok(base)
}

/// The same package with a lower version.
fn older(deb: &Path) -> Result<PathBuf> {
    let dir = folder("older")?;
    let content = dir.join("content");
    let mut open = Command::new("dpkg-deb");
    open.arg("--raw-extract").arg(deb).arg(&content);
    must(&mut open, "unpack the package", "see what dpkg-deb says")?;
    let control = content.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let older: String = text
        .lines()
        .map(|line| match line.starts_with("Version:") {
            true => format!("Version: {OLDER}\n"),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(&control, older)?;
    let packed = dir.join("older.deb");
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "--build"]).arg(&content).arg(&packed);
    must(&mut pack, "pack an older package", "see what dpkg-deb says")?;
    Ok(packed)
}

fn must_run(root: &Path, command: &[&str]) -> Result<String> {
    let said = enter::run(root, false, command)?;
    ensure!(said.code == Some(0), "{}: {}", command.join(" "), said.all());
    Ok(said.text)
}
