//! Debian's mirror, as this machine's own apt sources name it, and packages of it that are not installed here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{must, quietly};

/// Debian's keys, as its package debian-archive-keyring has them.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One of the mirror's two archives.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Archive {
    Main,
    Security,
}

/// Where the two archives are.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    main: String,
    security: String,
}

impl Mirror {
    /// Of this machine's apt.
    pub(crate) fn here() -> Result<Mirror> {
        Mirror::of(&quietly(
            Command::new("apt-get")
                .args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"])
                .arg("Created-By: Packages"),
        ))
    }

    /// From what `apt-get indextargets` says.
    fn of(targets: &Option<String>) -> Result<Mirror> {
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
                "this takes packages from Debian, and apt has no source of Debian here: \
                 add one to /etc/apt/sources.list.d and run `apt-get update`"
            )
        };
        // The mirrors of both are side by side where the host's sources do not say.
        let security =
            security.unwrap_or_else(|| format!("{}-security/", main.trim_end_matches('/')));
        Ok(Mirror { main, security })
    }

    /// Where an archive is.
    pub(crate) fn uri(&self, archive: Archive) -> &str {
        match archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        }
    }

    /// Lines of sources.list.
    fn sources(&self, suites: &[(&str, Archive)]) -> String {
        let line = |&(suite, archive): &(&str, Archive)| {
            format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.uri(archive))
        };
        suites.iter().map(line).collect()
    }
}

/// An apt with folders of its own below the target directory, so that nothing of the host's changes.
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// One for these suites and this architecture, by Debian's name; its lists are fetched.
    pub(crate) fn new(dir: PathBuf, arch: &str, suites: &[(&str, Archive)]) -> Result<Apt> {
        for sub in ["lists/partial", "cache/archives/partial", "state", "debs"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path)
                .with_context(|| format!("could not make {}", path.display()))?;
        }
        let apt = Apt { dir };
        let sources = Mirror::here()?.sources(suites);
        let shown = apt.dir.display();
        let config = format!(
            "Dir::State \"{shown}/state\";\nDir::State::lists \"{shown}/lists\";\n\
             Dir::State::status \"{shown}/status\";\nDir::Cache \"{shown}/cache\";\n\
             Dir::Etc::sourcelist \"{shown}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\n\
             APT::Install-Recommends \"false\";\n"
        );
        for (name, text) in [("sources.list", sources.as_str()), ("status", ""), ("conf", &config)]
        {
            fs::write(apt.dir.join(name), text)
                .with_context(|| format!("could not write apt's {name}"))?;
        }
        if quietly(apt.command("apt-get").args(["-q", "update"])).is_none() {
            eprintln!(
                "xtask: warning: no new lists of packages from the mirror: taking those here"
            );
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("conf")).current_dir(self.dir.join("debs"));
        command
    }

    /// Names of packages that begin like this.
    pub(crate) fn names(&self, begin: &str) -> Result<Vec<String>> {
        let names = quietly(self.command("apt-cache").args(["pkgnames", begin]));
        Ok(names.context("could not run apt-cache")?.lines().map(str::to_owned).collect())
    }

    /// Downloads packages. Returns the files, which are the caller's to remove.
    pub(crate) fn download(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).args(names);
        must(&mut download, "download packages", "check the network")?;
        debs(&self.dir.join("debs"), |file| {
            names.iter().any(|name| file.starts_with(&format!("{name}_")))
        })
    }

    /// Downloads packages and all that they need. Returns the files, which are kept.
    pub(crate) fn download_with_dependencies(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |how: &str| {
            let mut install = self.command("apt-get");
            install.args(["-q", "--yes", how, "install"]).args(names);
            install
        };
        let plan = quietly(&mut install("--simulate")).with_context(|| {
            format!("the mirror does not have all that {} need", names.join(", "))
        })?;
        let all: Vec<&str> = planned(&plan).collect();
        must(&mut install("--download-only"), "download packages", "check the network")?;
        debs(&self.dir.join("cache/archives"), |file| {
            file.split_once('_').is_some_and(|(name, _)| all.contains(&name))
        })
    }
}

/// The packages in what `apt-get --simulate install` says: `Inst bash (5.2 Debian:12/stable [arm64])`.
fn planned(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
}

fn debs(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".deb") && wanted(&name) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_hosts() {
        let suites = [
            ("bullseye-security", Archive::Security),
            ("bookworm-security", Archive::Security),
            ("trixie-backports", Archive::Main),
        ];
        let sources = |targets: &str| {
            Mirror::of(&Some(targets.to_owned())).map(|mirror| mirror.sources(&suites))
        };
        let lines = sources(
            "Other Other http://x/\nDebian Debian http://a/debian/\n\
             Debian Debian-Security http://b/sec/\n",
        )
        .expect("sources");
        assert!(lines.contains("http://b/sec/ bullseye-security main\n"), "{lines}");
        assert!(lines.contains("http://a/debian/ trixie-backports main\n"), "{lines}");
        let lines = sources("Debian Debian http://a/debian/\n").expect("sources");
        assert!(lines.contains("http://a/debian-security/ bookworm-security main\n"), "{lines}");
        assert!(sources("Ubuntu Ubuntu http://u/\n").is_err());
    }
}
