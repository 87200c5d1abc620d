//! `build`: the binary with the committed eBPF objects.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::command::{cargo, must};
use crate::ebpf;
use crate::ebpf_cargo::{built, ebpf_cargo_for};
use crate::setup::Toolchain;

pub(crate) fn verb() -> Result<ExitCode> {
    all()?;
    Ok(ExitCode::SUCCESS)
}

/// Builds everything that `run` and `test` use. The eBPF objects only if their sources have changed.
pub(crate) fn all() -> Result<()> {
    ebpf::refresh()?;
    must(
        cargo().args(["build", "--release", "--package", "tracer"]),
        "build tcptrail",
        "fix what the compiler says above",
    )
}

/// Builds an eBPF program that only `bench` uses. Returns where it is.
pub(crate) fn for_bench(toolchain: &Toolchain, program: &str) -> Result<PathBuf> {
    let arch = env::consts::ARCH;
    let mut build = ebpf_cargo_for(toolchain, "build", arch)?;
    build.args(["--bin", program]);
    must(&mut build, "build an eBPF program of the bench", "fix what the compiler says above")?;
    Ok(built(arch, program))
}
