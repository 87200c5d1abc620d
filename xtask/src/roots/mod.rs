//! `roots`: the release installed and run in clean roots, and a table of what came of it.
//!
//! Each root is a folder entered by chroot, in mount and network namespaces of its own. A Python program outside of
//! it, in the same network namespace, leaks sockets; what it did is what tcptrail has to say.

mod checks;
mod clone;
mod debian;
mod enter;
mod files;
mod image;
mod lint;
mod rpm;
mod tarball;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::{is_root, target};
use crate::{dist, setup};

/// Roots, in the order of the table.
const ROOTS: [&str; 7] =
    ["debian-11", "debian-12", "debian-13", "rpm", "busybox", "nothing", "image"];

/// Programs this verb uses, and Debian's packages that have them.
const TOOLS: [(&str, &str); 14] = [
    ("debootstrap", "debootstrap"),
    ("dpkg-deb", "dpkg"),
    ("lintian", "lintian"),
    ("rpmlint", "rpmlint"),
    ("rpm", "rpm"),
    ("rpm2cpio", "rpm2cpio"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("python3", "python3"),
    ("zstd", "zstd"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
];

#[derive(Args)]
pub(crate) struct Options {
    /// Which: debian-11, debian-12, debian-13, rpm, busybox, nothing, image; all of them when left out.
    roots: Vec<String>,
    /// Instead: clone and build in a root that has git, this machine's Rust and a linker, and nothing else.
    #[arg(long)]
    clone: bool,
}

/// What came of one root.
#[derive(Default)]
struct Row {
    root: String,
    /// By what the release came there.
    by: &'static str,
    /// Name of a step and what it came to.
    steps: Vec<(&'static str, String)>,
}

impl Row {
    fn new(root: &str, by: &'static str) -> Row {
        Row { root: root.to_owned(), by, steps: Vec::new() }
    }

    fn step(&mut self, name: &'static str, result: impl Into<String>) {
        let result = result.into();
        eprintln!("xtask: {}: {name}: {result}", self.root);
        self.steps.push((name, result));
    }
}

/// The release's files that roots are given.
struct Files {
    deb: PathBuf,
    rpm: PathBuf,
    tarball: PathBuf,
    image: PathBuf,
    /// Name of the folder in the archive.
    folder: String,
}

pub(crate) fn verb(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        bail!("roots are entered as root: run this as root, with sudo for instance");
    }
    for name in &options.roots {
        if !ROOTS.contains(&name.as_str()) {
            bail!("there is no root {name}: there are {}", ROOTS.join(", "));
        }
    }
    setup::required(&TOOLS, "clean roots")?;
    if options.clone {
        clone::run(&folder("clone")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !dist::out().join("SHA256SUMS").is_file() {
        dist::make(&[])?;
    }
    let release = release()?;
    let wanted =
        |name: &str| options.roots.is_empty() || options.roots.iter().any(|one| one == name);
    let mut rows = Vec::new();
    if options.roots.is_empty() {
        rows.push(lint::run(&release)?);
    }
    for name in ROOTS.into_iter().filter(|name| wanted(name)) {
        let row = match name {
            "rpm" => rpm::run(&release)?,
            "busybox" => tarball::busybox(&release)?,
            "nothing" => tarball::nothing(&release)?,
            "image" => image::run(&release)?,
            _ => debian::run(name, &release)?,
        };
        rows.push(row);
    }
    print(&rows);
    Ok(ExitCode::SUCCESS)
}

fn release() -> Result<Files> {
    let out = dist::out();
    let arch = env::consts::ARCH;
    let mut names: Vec<String> = fs::read_dir(&out)
        .with_context(|| format!("there is no release in {}", out.display()))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let find = |end: &str| {
        let name = names.iter().find(|name| name.ends_with(end));
        name.map(|name| out.join(name))
            .with_context(|| format!("no {end} in {}: run `cargo xtask dist` again", out.display()))
    };
    let debian = if arch == "aarch64" { "arm64" } else { "amd64" };
    let tarball = find(&format!("-{arch}.tar.zst"))?;
    let name = tarball.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Files {
        deb: find(&format!("_{debian}.deb"))?,
        rpm: find(&format!(".{arch}.rpm"))?,
        folder: name.trim_end_matches(".tar.zst").to_owned(),
        tarball,
        image: find(".oci.tar")?,
    })
}

/// An empty folder for a root.
fn folder(name: &str) -> Result<PathBuf> {
    let dir = target().join("roots").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Removes a root that has served: it takes some hundred megabytes.
fn done_with(root: &Path) -> Result<()> {
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
}

fn print(rows: &[Row]) {
    for row in rows {
        println!("\n{} ({})", row.root, row.by);
        for (name, result) in &row.steps {
            println!("  {name:<8} {result}");
        }
    }
}
