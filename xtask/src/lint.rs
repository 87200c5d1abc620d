//! `lint`: rustfmt and clippy, warnings as errors, for user space and for the eBPF programs.

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
    must(&mut clippy, "find the eBPF programs free of warnings", fix)
}
