//! `lint`: rustfmt and clippy, warnings as errors, for user space and for the eBPF programs.

use std::env;
use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::command::{cargo, must, root};
use crate::setup::{self, Toolchain};

pub(crate) fn verb() -> Result<ExitCode> {
    let toolchain = setup::toolchain()?;
    setup::lint_tools(&toolchain)?;
    // User space carries the object, so clippy needs it too.
    build::ebpf(&toolchain)?;
    all(&toolchain)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs every check. The eBPF object must have been built.
pub(crate) fn all(toolchain: &Toolchain) -> Result<()> {
    let tidy = "run `cargo fmt` in the directory named, then try again";
    must(cargo().args(["fmt", "--all", "--check"]), "find user space formatted", tidy)?;
    let mut fmt = cargo();
    fmt.args(["fmt", "--check"]).current_dir(root().join("tracer-ebpf"));
    must(&mut fmt, "find tracer-ebpf formatted", tidy)?;

    let fix = "fix the warnings above";
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]);
    must(&mut clippy, "find user space free of warnings", fix)?;
    let mut clippy = build::ebpf_cargo(toolchain, "clippy");
    clippy.args(["--", "-Dwarnings"]);
    must(&mut clippy, "find the eBPF programs free of warnings", fix)?;
    other_architecture(toolchain)
}

/// Both sides compile for the architecture that this machine is not of.
fn other_architecture(toolchain: &Toolchain) -> Result<()> {
    let arch = if env::consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
    let target = format!("{arch}-unknown-linux-gnu");
    let fix = "fix what the compiler says above";
    let mut ebpf = build::ebpf_cargo_for(toolchain, "check", arch);
    must(&mut ebpf, &format!("compile the eBPF programs for {arch}"), fix)?;
    if !setup::has_target(&target) {
        eprintln!("xtask: warning: not checked for {arch}: rustc has no `std` for {target} here");
        return Ok(());
    }
    let mut check = cargo();
    check.args(["check", "--package", "tracer", "--package", "tracer-common", "--target", &target]);
    must(&mut check, &format!("compile tcptrail for {arch}"), fix)
}
