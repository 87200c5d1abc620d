//! Kernels of Debian, downloaded and unpacked but never installed.
//!
//! apt runs with folders of its own below the target directory, so nothing of the host's changes. The
//! mirror is the one in the host's apt sources.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{must, quietly, target};

/// Suites that have a series of kernels, and which of the mirror's two archives they are in.
const SUITES: [(&str, Archive); 4] = [
    ("bullseye-security", Archive::Security),
    ("bookworm-security", Archive::Security),
    ("trixie-security", Archive::Security),
    ("trixie-backports", Archive::Main),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FLAVOUR: &str = "-cloud-amd64";

#[derive(Clone, Copy, PartialEq)]
enum Archive {
    Main,
    Security,
}

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
pub(crate) fn get(series: &[&str]) -> Result<Vec<Kernel>> {
    let apt = Apt::new()?;
    let names = apt.names()?;
    let mut kernels = Vec::new();
    for &wanted in series {
        let release = newest(&names, wanted).with_context(|| {
            format!("the mirror has no kernel of series {wanted}: name another, such as 6.12")
        })?;
        kernels.push(apt.kernel(wanted, &release, &names)?);
    }
    Ok(kernels)
}

/// The newest release of a series among names of packages.
fn newest(names: &[String], series: &str) -> Option<String> {
    names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-image-")?.strip_suffix(FLAVOUR))
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

/// An apt with its own sources, lists and cache.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new() -> Result<Apt> {
        let dir = target().join("kernels");
        for sub in ["apt/lists/partial", "apt/cache/archives/partial", "apt/state", "debs"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path)
                .with_context(|| format!("could not make {}", path.display()))?;
        }
        let apt = Apt { dir };
        let sources = sources(&quietly(
            Command::new("apt-get")
                .args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"])
                .arg("Created-By: Packages"),
        ))?;
        let dir = apt.dir.join("apt");
        let shown = dir.display();
        let config = format!(
            "Dir::State \"{shown}/state\";\nDir::State::lists \"{shown}/lists\";\n\
             Dir::State::status \"{shown}/status\";\nDir::Cache \"{shown}/cache\";\n\
             Dir::Etc::sourcelist \"{shown}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n"
        );
        for (name, text) in [("sources.list", sources.as_str()), ("status", ""), ("conf", &config)]
        {
            fs::write(dir.join(name), text)
                .with_context(|| format!("could not write apt's {name}"))?;
        }
        if quietly(apt.command("apt-get").args(["-q", "update"])).is_none() {
            eprintln!("xtask: warning: no new lists of kernels from the mirror: taking those here");
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt/conf")).current_dir(self.dir.join("debs"));
        command
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = quietly(self.command("apt-cache").args(["pkgnames", "linux-"]));
        Ok(names.context("could not run apt-cache")?.lines().map(str::to_owned).collect())
    }

    /// Downloads and unpacks a kernel that is not here yet.
    fn kernel(&self, series: &str, release: &str, names: &[String]) -> Result<Kernel> {
        let dir = self.dir.join(release);
        let done = dir.join("unpacked");
        if !done.exists() {
            // The image alone up to 6.18; later apart from its modules.
            let parts: Vec<_> = ["image", "binary", "modules"]
                .map(|part| format!("linux-{part}-{release}{FLAVOUR}"))
                .into_iter()
                .filter(|name| names.contains(name))
                .collect();
            eprintln!("xtask: downloading {} (cached in the target directory)", parts.join(" "));
            must(
                self.command("apt-get").args(["-q", "download"]).args(&parts),
                "download the kernel",
                "check the network",
            )?;
            for entry in fs::read_dir(self.dir.join("debs"))? {
                let deb = entry?.path();
                let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if parts.iter().any(|part| name.starts_with(&format!("{part}_"))) {
                    let mut unpack = Command::new("dpkg");
                    unpack.arg("-x").arg(&deb).arg(&dir);
                    must(
                        &mut unpack,
                        "unpack the kernel",
                        "remove the target directory's kernels",
                    )?;
                    fs::remove_file(&deb)?;
                }
            }
            finish(&dir)?;
            fs::write(&done, "")?;
        }
        let modules = dir.join("lib/modules");
        let name = only_name(&modules)?;
        let image = [format!("boot/vmlinuz-{name}"), format!("lib/modules/{name}/vmlinuz")]
            .iter()
            .map(|path| dir.join(path))
            .find(|path| path.is_file())
            .with_context(|| format!("the packages of {release} have no vmlinuz"))?;
        Ok(Kernel { series: series.to_owned(), release: name, image, dir })
    }
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

/// Lines of sources.list, from what `apt-get indextargets` says of the host's own sources.
fn sources(targets: &Option<String>) -> Result<String> {
    let (mut main, mut security) = (None, None);
    for line in targets.iter().flat_map(|text| text.lines()) {
        match line.split_once(' ') {
            Some(("Debian", rest)) => match rest.rsplit_once(' ') {
                Some(("Debian", uri)) => main = main.or(Some(uri.to_owned())),
                Some(("Debian-Security", uri)) => security = security.or(Some(uri.to_owned())),
                _ => {}
            },
            _ => continue,
        }
    }
    let Some(main) = main else {
        bail!(
            "kernels come from Debian, and apt has no source of Debian here: \
             add one to /etc/apt/sources.list.d and run `apt-get update`"
        )
    };
    // The mirrors of both are side by side where the host's sources do not say.
    let security = security.unwrap_or_else(|| format!("{}-security/", main.trim_end_matches('/')));
    let mut lines = String::new();
    for (suite, archive) in SUITES {
        let uri = if archive == Archive::Main { &main } else { &security };
        lines.push_str(&format!("deb [signed-by={KEYRING}] {uri} {suite} main\n"));
    }
    Ok(lines)
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
            assert_eq!(newest(&names, series).as_deref(), release, "{series}");
        }
    }

    #[test]
    fn the_mirror_is_the_hosts() {
        let targets = "Other Other http://x/\nDebian Debian http://a/debian/\n\
                       Debian Debian-Security http://b/sec/\n";
        let lines = sources(&Some(targets.to_owned())).expect("sources");
        assert!(lines.contains("http://b/sec/ bullseye-security main\n"), "{lines}");
        assert!(lines.contains("http://a/debian/ trixie-backports main\n"), "{lines}");
        let lines = sources(&Some("Debian Debian http://a/debian/\n".to_owned())).expect("sources");
        assert!(lines.contains("http://a/debian-security/ bookworm-security main\n"), "{lines}");
        assert!(sources(&Some("Ubuntu Ubuntu http://u/\n".to_owned())).is_err());
    }
}
