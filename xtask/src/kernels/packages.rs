//! Kernels of Debian, downloaded and unpacked but never installed.
//!
//! apt runs with folders of its own below the target directory, so nothing of the host's changes. The
//! mirror is the one in the host's apt sources.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::arch::Arch;
use crate::command::{must, target};
use crate::mirror::{Apt, Archive};

/// Suites that have a series of kernels, and which of the mirror's two archives they are in.
const SUITES: [(&str, Archive); 4] = [
    ("bullseye-security", Archive::Security),
    ("bookworm-security", Archive::Security),
    ("trixie-security", Archive::Security),
    ("trixie-backports", Archive::Main),
];

/// A kernel, unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `6.12`.
    pub(crate) series: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// What QEMU boots.
    pub(crate) image: PathBuf,
    /// Where `lib/modules` is.
    pub(crate) dir: PathBuf,
}

/// The newest kernel of each of these series.
pub(crate) fn get(arch: Arch, series: &[&str]) -> Result<Vec<Kernel>> {
    let dir = target().join("kernels");
    let dir = if arch.is_own() { dir } else { dir.join(arch.debian()) };
    let apt = Apt::new(dir.join("apt"), arch.debian(), &SUITES)?;
    let names = apt.names("linux-")?;
    let mut kernels = Vec::new();
    for &wanted in series {
        let (number, flavour) = arch.flavour(wanted);
        let release = newest(&names, number, flavour).with_context(|| {
            format!("the mirror has no kernel of series {wanted}: name another, such as 6.12")
        })?;
        let name = format!("{release}{flavour}");
        // The cloud flavour's is where it has always been.
        let place = if flavour.starts_with("-cloud") { &release } else { &name };
        kernels.push(kernel(&apt, wanted, &name, &dir.join(place), &names)?);
    }
    Ok(kernels)
}

/// The newest release of a series among names of packages.
fn newest(names: &[String], series: &str, flavour: &str) -> Option<String> {
    names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-")?.strip_suffix(flavour))
        .filter(|release| {
            let rest = release.strip_prefix(series);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        // `linux-image-6.12-cloud-amd64` names no kernel, only the newest.
        .filter(|release| *release != series)
        .max_by(|a, b| by_number(a, b))
        .map(str::to_owned)
}

/// As people order versions: runs of digits by their value.
fn by_number(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|run| run.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

/// Downloads and unpacks a kernel that is not here yet; `name` is what its packages have behind their kind.
fn kernel(apt: &Apt, series: &str, name: &str, dir: &Path, names: &[String]) -> Result<Kernel> {
    let done = dir.join("unpacked");
    if !done.exists() {
        // The image alone up to 6.18; later apart from its modules.
        let parts: Vec<_> = ["image", "binary", "modules"]
            .map(|part| format!("linux-{part}-{name}"))
            .into_iter()
            .filter(|name| names.contains(name))
            .collect();
        eprintln!("xtask: downloading {} (cached in the target directory)", parts.join(" "));
        for deb in apt.download(&parts)? {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(&deb).arg(dir);
            must(&mut unpack, "unpack the kernel", "remove the target directory's kernels")?;
            fs::remove_file(&deb)?;
        }
        finish(dir)?;
        fs::write(&done, "")?;
    }
    let modules = dir.join("lib/modules");
    let name = only_name(&modules)?;
    let image = [format!("boot/vmlinuz-{name}"), format!("lib/modules/{name}/vmlinuz")]
        .iter()
        .map(|path| dir.join(path))
        .find(|path| path.is_file())
        .with_context(|| format!("the packages of {name} have no vmlinuz"))?;
    Ok(Kernel { series: series.to_owned(), release: name, image, dir: dir.to_owned() })
}

/// Modules are where `modprobe -d` looks, with their dependencies.
fn finish(dir: &Path) -> Result<()> {
    if !dir.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", dir.join("lib"))?;
    }
    let release = only_name(&dir.join("lib/modules"))?;
    let mut depmod = Command::new(crate::command::find("depmod").context("depmod is not here")?);
    depmod.arg("-b").arg(dir).arg(release);
    must(&mut depmod, "read the kernel's modules", "install kmod")
}

fn only_name(dir: &Path) -> Result<String> {
    let entries = fs::read_dir(dir).with_context(|| format!("no modules in {}", dir.display()))?;
    let name = entries.flatten().next().context("an empty lib/modules")?.file_name();
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_by_number() {
        let names: Vec<String> = [
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-46-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.1.0-8-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.200+deb13-amd64",
        ]
        .map(str::to_owned)
        .to_vec();
        for (series, release) in [
            ("5.10", Some("5.10.0-46")),
            ("6.1", Some("6.1.0-8")),
            ("6.12", Some("6.12.117+deb13")),
            ("6", Some("6.12.117+deb13")),
            ("6.2", None),
        ] {
            assert_eq!(newest(&names, series, "-cloud-amd64").as_deref(), release, "{series}");
        }
    }
}
