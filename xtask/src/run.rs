//! `run`: build, become tcptrail.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build;
use crate::command::{as_root, binary};

pub(crate) fn verb(args: &[OsString]) -> Result<ExitCode> {
    build::all()?;
    // Exec, so that signals and the exit code are tcptrail's own.
    let error = as_root(binary()).args(args).exec();
    Err(error).context("could not start tcptrail as root: install sudo, or run this as root")
}
