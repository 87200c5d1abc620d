//! rotel, a collector of OpenTelemetry, for the tests of what `serve --otlp` pushes: from the Python package of that
//! name, below `target/rotel`. The program in it needs no Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::target;
use crate::pypi;

const VERSION: &str = "0.0.1a15";
/// The wheel that has the program, whichever Python runs pip.
const WHEEL: [&str; 4] = ["--platform", "manylinux_2_34_x86_64", "--python-version", "3.11"];

/// Fetches it, as far as it is to be had. Tests do without it, and say so.
pub(crate) fn fetch() {
    let place = target().join("rotel");
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) || place.join("rotel").is_file() {
        return;
    }
    eprintln!("xtask: fetching rotel {VERSION} from PyPI into {}", place.display());
    if let Err(error) = unpack(&place) {
        eprintln!("xtask: warning: tests will not push to an OTLP collector: {error:#}");
    }
}

fn unpack(place: &Path) -> Result<()> {
    let work = place.with_extension("new");
    pypi::unpack("rotel", VERSION, &WHEEL, &work)?;
    let program = place.join("rotel");
    fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
    fs::rename(work.join("rotel/rotel-agent"), &program)
        .with_context(|| format!("move it to {}", program.display()))?;
    // The archive keeps no permissions.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("chmod failed")?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}
