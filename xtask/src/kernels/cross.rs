//! Live tests that are compiled here for another architecture.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::arch::Arch;
use crate::command::cargo;

/// Asks a compiled test binary for its tests, by the emulator of single programs.
pub(super) fn lister(binary: &Path) -> Command {
    let mut emulated = Command::new("qemu-aarch64");
    emulated.arg(binary);
    emulated
}

/// The compiled tests of the package `tests`: cargo's command for it.
pub(super) fn test_build(arch: Arch) -> Result<Command> {
    let triple = crate::dist::triple(arch.name());
    let mut build = cargo();
    crate::dist::for_target(&mut build, &triple)?;
    // On an emulated processor nobody debugs them.
    build.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_PROFILE_TEST_DEBUG", "none");
    Ok(build)
}
