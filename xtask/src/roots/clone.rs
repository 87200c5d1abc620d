//! What a newcomer does: clone and run, where there is git, Rust and a linker, and nothing else of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::debian;
use crate::command::{must, quietly, root};
use crate::ebpf_cargo::cargo_home;

const CLONE: &str = include_str!("clone.sh");
/// rustc links by calling `cc`.
const PACKAGES: [&str; 4] = ["git", "gcc", "libc6-dev", "ca-certificates"];

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Clones the repository into a root of Debian 12, and runs `cargo xtask run -- --duration 10s`.
pub(super) fn run(dir: &Path) -> Result<()> {
    let base = debian::base("debian-12")?;
    fs::remove_dir(dir)?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--"]).arg(base).arg(dir);
    must(&mut copy, "copy the root", "check the disk's free space")?;
    let rustc = quietly(Command::new("rustc").args(["--print", "sysroot"]));
    let sysroot = PathBuf::from(rustc.context("there is no rustc here")?.trim());
    let script = dir.join("tmp/clone.sh");
    fs::write(&script, CLONE)?;
    for sub in ["rust", "root/.cargo"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    // A copy of its own: of a work tree beside the repository, git's files are not below it.
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--bare", "--"]).arg(root()).arg(dir.join("source"));
    must(&mut git, "clone this repository", "see what it says above")?;
    // How crates are reached from here, but none of them.
    let config = cargo_home().join("config.toml");
    if config.is_file() {
        fs::copy(&config, dir.join("root/.cargo/config.toml"))?;
    }
    // And whom this machine trusts: a proxy of its own may stand in between.
    if Path::new(CERTIFICATES).is_file() {
        fs::copy(CERTIFICATES, dir.join("root/certificates"))?;
    }
    fs::copy("/etc/resolv.conf", dir.join("etc/resolv.conf"))?;
    let mut unshare = Command::new("unshare");
    let began = Instant::now();
    unshare
        .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
        .arg(
            "set -e; mount --bind \"$1\" \"$1\"; mount --rbind /dev \"$1/dev\"
             mount -t proc proc \"$1/proc\"; mount -t sysfs sysfs \"$1/sys\"; mount -t bpf bpf \"$1/sys/fs/bpf\"
             mount --bind -o ro \"$2\" \"$1/rust\"
             exec chroot \"$1\" /bin/sh /tmp/clone.sh",
        )
        .arg("enter")
        .arg(dir)
        .arg(&sysroot)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_HOME")
        .env_remove("CARGO_TARGET_DIR")
        .env("HOME", "/root")
        .env("PACKAGES", PACKAGES.join(" "))
        .env("PATH", "/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    must(&mut unshare, "clone and run in a clean root", "see what it says above")?;
    eprintln!("xtask: in all {:.0} s", began.elapsed().as_secs_f64());
    super::done_with(dir)
}
