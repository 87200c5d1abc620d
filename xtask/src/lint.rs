//! `lint`: rustfmt and clippy, warnings as errors, for user space and for the eBPF programs.

use std::env;
use std::process::ExitCode;

use anyhow::Result;

use crate::command::{cargo, must, root};
use crate::ebpf;
use crate::ebpf_cargo::ebpf_cargo_for;
use crate::setup::{self, Toolchain};

const FIX: &str = "fix what the compiler says above";

pub(crate) fn verb() -> Result<ExitCode> {
    all()?;
    Ok(ExitCode::SUCCESS)
}

/// Runs every check. Those of the eBPF programs that take their compiler, only where that is.
pub(crate) fn all() -> Result<()> {
    let toolchain = setup::toolchain_here();
    setup::lint_tools(toolchain.as_ref())?;
    ebpf::check_sources()?;
    let tidy = "run `cargo fmt` in the directory named, then try again";
    must(cargo().args(["fmt", "--all", "--check"]), "find user space formatted", tidy)?;
    let mut fmt = cargo();
    fmt.args(["fmt", "--check"]).current_dir(root().join("tracer-ebpf"));
    must(&mut fmt, "find tracer-ebpf formatted", tidy)?;

    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]);
    must(&mut clippy, "find user space free of warnings", FIX)?;
    match &toolchain {
        Some(toolchain) => programs(toolchain)?,
        None => eprintln!(
            "xtask: warning: the eBPF programs are not linted, and not built again to compare: their compiler \
             is not here (`cargo xtask setup` installs it)"
        ),
    }
    other_architecture()
}

/// The eBPF programs: no warnings, and the committed objects are what the sources make.
fn programs(toolchain: &Toolchain) -> Result<()> {
    let mut clippy = ebpf_cargo_for(toolchain, "clippy", env::consts::ARCH)?;
    clippy.args(["--", "-Dwarnings"]);
    must(&mut clippy, "find the eBPF programs free of warnings", FIX)?;
    ebpf::compare(toolchain)
}

/// User space compiles for the architecture that this machine is not of.
fn other_architecture() -> Result<()> {
    let arch = if env::consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
    let target = format!("{arch}-unknown-linux-gnu");
    if !setup::has_target(&target) {
        eprintln!("xtask: warning: not checked for {arch}: rustc has no `std` for {target} here");
        return Ok(());
    }
    let mut check = cargo();
    check.args(["check", "--package", "tracer", "--package", "tracer-common", "--target", &target]);
    must(&mut check, &format!("compile tcptrail for {arch}"), FIX)
}
