//! `dist`: everything of a release, in `target/packages/out`: static binaries as archives, Debian and RPM packages and
//! one image, a bill of materials, and checksums.
//!
//! The same commit gives the same bytes: times are the commit's, paths are remapped, archives are sorted.

mod image;
mod sbom;
mod target;
mod twice;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::command::{must, quietly, root, target as target_dir};
use crate::{ebpf, setup};
use target::{Commit, PROFILE};
pub(crate) use target::{build_static, for_target, triple};

/// Architectures of a release, as Linux and as container images name them.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];
/// Programs this verb uses, and Debian's packages that have them.
const TOOLS: [(&str, &str); 4] =
    [("tar", "tar"), ("zstd", "zstd"), ("gzip", "gzip"), ("sha256sum", "coreutils")];

/// An archive is not to be larger.
const MOST_BYTES: u64 = 8 << 20;

/// The Debian package's revision and the RPM's release.
const REVISION: &str = "1";

/// What is the same for all parts of a release.
pub(crate) struct Release {
    pub(crate) version: String,
    pub(crate) commit: Commit,
    /// Where parts are put together.
    pub(crate) stage: PathBuf,
    /// Where the release is put.
    pub(crate) out: PathBuf,
}

pub(crate) fn verb(architectures: &[String], verify: bool) -> Result<ExitCode> {
    make(architectures)?;
    if verify {
        twice::verify(architectures)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a release is put.
pub(crate) fn out() -> PathBuf {
    // Not the target directory of the environment: the packages' metadata name these paths.
    root().join("target/packages/out")
}

/// Makes the release of this commit.
pub(crate) fn make(architectures: &[String]) -> Result<()> {
    setup::required(&TOOLS, "releases")?;
    ebpf::check_sources()?;
    let chosen: Vec<_> = ARCHITECTURES
        .into_iter()
        .filter(|(arch, _)| architectures.is_empty() || architectures.iter().any(|a| a == arch))
        .collect();
    if chosen.is_empty() {
        bail!("releases are for x86_64 and aarch64");
    }
    let release = Release::new()?;
    let mut binaries = Vec::new();
    for &(arch, container) in &chosen {
        binaries.push((arch, container, build_static(arch)?));
    }
    let own = binaries.iter().find(|(arch, _, _)| *arch == env::consts::ARCH);
    let own = own.map_or_else(|| build_static(env::consts::ARCH), |(_, _, own)| Ok(own.clone()))?;
    release.beside(&own)?;
    for (arch, _, binary) in &binaries {
        release.archive(arch, binary)?;
        release.packages(arch)?;
    }
    image::write(&release, &binaries)?;
    sbom::write(&release)?;
    release.checksums()?;
    eprintln!("xtask: the release is in {}", release.out.display());
    Ok(())
}

impl Release {
    fn new() -> Result<Release> {
        let commit = Commit::here()?;
        if commit.is_modified() {
            eprintln!(
                "xtask: warning: files here are not committed: this is no release to publish"
            );
        }
        let release = Release {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit,
            stage: root().join("target/packages/stage"),
            out: out(),
        };
        for dir in [&release.stage, &release.out] {
            if dir.exists() {
                fs::remove_dir_all(dir)
                    .with_context(|| format!("cannot empty {}", dir.display()))?;
            }
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(release)
    }

    /// Manual pages and completions, made by a binary that runs here.
    fn beside(&self, tcptrail: &Path) -> Result<()> {
        let man = self.stage.join("man");
        let mut pages = Command::new(tcptrail);
        pages.args(["man", "--dir"]).arg(&man);
        must(&mut pages, "write the manual pages", "see above")?;
        let mut gzip = Command::new("gzip");
        gzip.args(["-9", "--no-name"]);
        for page in fs::read_dir(&man)? {
            gzip.arg(page?.path());
        }
        must(&mut gzip, "compress the manual pages", "install gzip")?;
        let completions = self.stage.join("completions");
        fs::create_dir_all(&completions)?;
        for (shell, file) in [("bash", "tcptrail"), ("zsh", "_tcptrail"), ("fish", "tcptrail.fish")]
        {
            let script = quietly(Command::new(tcptrail).args(["completions", shell]));
            let script = script.with_context(|| format!("no completions for {shell}"))?;
            fs::write(completions.join(file), script)?;
        }
        // The RPM keeps the times of files that are older than the commit: those of a work tree are.
        let docs = self.stage.join("doc");
        fs::create_dir_all(&docs)?;
        for file in ["README.md", "LICENSE"] {
            let text =
                fs::read(root().join(file)).with_context(|| format!("cannot read {file}"))?;
            fs::write(docs.join(file), text)?;
        }
        Ok(())
    }

    /// `tcptrail-VERSION-ARCH.tar.zst`.
    fn archive(&self, arch: &str, binary: &Path) -> Result<()> {
        let name = format!("tcptrail-{}-{arch}", self.version);
        let dir = self.stage.join(&name);
        fs::create_dir_all(&dir)?;
        fs::copy(binary, dir.join("tcptrail"))?;
        for document in ["README.md", "LICENSE", "CHANGELOG.md"] {
            fs::copy(root().join(document), dir.join(document))?;
        }
        for part in ["man", "completions"] {
            fs::create_dir_all(dir.join(part))?;
            for file in fs::read_dir(self.stage.join(part))? {
                let file = file?;
                fs::copy(file.path(), dir.join(part).join(file.file_name()))?;
            }
        }
        let packed = self.out.join(format!("{name}.tar.zst"));
        let tar = self.stage.join(format!("{name}.tar"));
        self.tar(&self.stage, &name, &tar)?;
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-19", "--rm", "-o"]).arg(&packed).arg(tar);
        must(&mut zstd, "compress the archive", "install zstd")?;
        let bytes = fs::metadata(&packed)?.len();
        if bytes > MOST_BYTES {
            bail!("{} has {bytes} bytes, more than the {MOST_BYTES} it may have", packed.display());
        }
        Ok(())
    }

    /// Packs `what` below `dir`, the same bytes each time.
    pub(crate) fn tar(&self, dir: &Path, what: &str, to: &Path) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"])
            .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", self.commit.epoch), "-cf"])
            .arg(to)
            .arg("-C")
            .arg(dir)
            .arg(what);
        must(&mut tar, "pack an archive", "install GNU tar")
    }

    /// The .deb and the .rpm; what is in them stands in tracer/Cargo.toml.
    fn packages(&self, arch: &str) -> Result<()> {
        let mut deb = Command::new(setup::cargo_tool("cargo-deb", "3.8.0")?);
        deb.args(["--package", "tracer", "--profile", PROFILE, "--no-build", "--no-strip"]);
        deb.args(["--deb-revision", REVISION, "--target", &triple(arch), "--output"])
            .arg(&self.out);
        self.run(&mut deb, "make the Debian package")?;
        let mut rpm = rpm(arch, &self.out)?;
        self.run(&mut rpm, "make the RPM package")
    }

    pub(crate) fn run(&self, tool: &mut Command, what: &str) -> Result<()> {
        tool.current_dir(root())
            .env("CARGO_TARGET_DIR", target_dir())
            .env("SOURCE_DATE_EPOCH", &self.commit.epoch);
        must(tool, what, "fix what it says above")
    }

    /// `SHA256SUMS` of everything else.
    fn checksums(&self) -> Result<()> {
        let mut names: Vec<String> = fs::read_dir(&self.out)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        for name in &names {
            fs::set_permissions(self.out.join(name), fs::Permissions::from_mode(0o644))?;
        }
        let sums = ebpf::checksums(&self.out, &names)?;
        fs::write(self.out.join("SHA256SUMS"), &sums)?;
        print!("{sums}");
        Ok(())
    }
}

/// The command that makes the .rpm in this folder, from what a release has put together.
pub(crate) fn rpm(arch: &str, to: &Path) -> Result<Command> {
    let commit = Commit::here()?;
    let mut rpm = Command::new(setup::cargo_tool("cargo-generate-rpm", "0.21.1")?);
    rpm.args(["--package", "tracer", "--profile", PROFILE, "--auto-req", "disabled"]);
    rpm.args(["--target", &triple(arch), "--source-date", &commit.epoch, "--output"]);
    rpm.arg(to.join("")).current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    Ok(rpm)
}
