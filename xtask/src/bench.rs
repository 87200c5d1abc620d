//! `bench`: builds all that is measured, then runs the bench program of the `tests` crate as root.
//!
//! Measured is the release build, or with `--static` the binary that is shipped, which has another C library.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::command::{as_root, binary, cargo, exit_code, must, target};
use crate::{build, dist, setup};

pub(crate) fn verb(args: &[OsString]) -> Result<ExitCode> {
    let (shipped, args): (Vec<_>, Vec<_>) = args.iter().partition(|arg| *arg == "--static");
    build::all()?;
    let tcptrail =
        if shipped.is_empty() { binary() } else { dist::build_static(env::consts::ARCH)? };
    let toolchain = setup::toolchain()?;
    let floor = build::for_bench(&toolchain, "bench-floor")?;
    let scale = build::for_bench(&toolchain, "bench-scale")?;
    let fix = "fix what the compiler says above";
    let mut tools = cargo();
    tools.args(["build", "--release", "--package", "tests", "--bins"]);
    must(&mut tools, "build the load and the bench program", fix)?;
    let mut examples = cargo();
    examples.args(["build", "--release", "--package", "tracer"]);
    examples.args(["--example", "many", "--example", "alone"]);
    must(&mut examples, "build the maker of recordings and the reader alone", fix)?;
    if args.iter().any(|arg| *arg == "--peers") {
        setup::peers();
    }
    let release = target().join("release");
    let status = as_root(release.join("bench"))
        .arg("--floor")
        .arg(floor)
        .arg("--many")
        .arg(release.join("examples/many"))
        .arg("--scale")
        .arg(scale)
        .arg("--alone")
        .arg(release.join("examples/alone"))
        .arg("--tcptrail")
        .arg(tcptrail)
        .args(args)
        .status()
        .context("could not start the bench program as root: install sudo, or run this as root")?;
    Ok(exit_code(status))
}
