//! `soak`: builds tcptrail and the soak program of the `tests` crate, and runs it as root.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::command::{as_root, binary, cargo, exit_code, must, target};
use crate::{build, setup};

pub(crate) fn verb(args: &[OsString]) -> Result<ExitCode> {
    build::all()?;
    setup::test_tools();
    let mut soak = cargo();
    soak.args(["build", "--release", "--package", "tests", "--bin", "soak", "--bin", "load"]);
    must(&mut soak, "build the soak programs", "fix what the compiler says above")?;
    let status = as_root(target().join("release/soak"))
        .arg("--tcptrail")
        .arg(binary())
        .args(args)
        .status()
        .context("could not start the soak as root: install sudo, or run this as root")?;
    Ok(exit_code(status))
}
