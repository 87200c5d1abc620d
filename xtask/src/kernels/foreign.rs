//! The root of guests of another architecture: packages of Debian, unpacked, and what is compiled for it here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::plan::Plan;
use super::root::{self, Running};
use super::stage::{Stage, archive};
use crate::command::{cargo, must, root, target};
use crate::mirror::{Apt, Archive};
use crate::setup;

/// The release whose JDK is the one that tests on this machine were written with.
const SUITES: [(&str, Archive); 2] =
    [("bookworm", Archive::Main), ("bookworm-security", Archive::Security)];
/// What the tests use; a test that misses a program says so and is skipped.
const PACKAGES: [&str; 18] = [
    "bash",
    "bpftool",
    "busybox-static",
    "coreutils",
    "curl",
    "findutils",
    "grep",
    "iproute2",
    "libcap2-bin",
    "mount",
    "netbase",
    "nftables",
    "procps",
    "python3",
    "sed",
    "socat",
    "tcpdump",
    "util-linux",
];
const JAVA: &str = "openjdk-17-jdk-headless";
/// Nobody reads or runs it there.
const LEFT_OUT: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/include",
    "var/cache",
];
/// Where Debian's Java libraries are, the same for all architectures.
const JARS: &str = "usr/share/java";

/// Programs this takes beside those of any guest, and Debian's packages that have them.
pub(super) const TOOLS: [(&str, &str); 3] = [
    ("qemu-aarch64", "qemu-user"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("dpkg-deb", "dpkg"),
];
/// What links the C programs there.
const LIBC: (&str, &str) = ("/usr/aarch64-linux-gnu/include/features.h", "libc6-dev-arm64-cross");

/// Installs what is missing.
pub(super) fn required() -> Result<()> {
    setup::required(&TOOLS, "kernels of another architecture")?;
    if Path::new(LIBC.0).exists() {
        return Ok(());
    }
    crate::apt::apt_install(&[LIBC.1], "the C programs of the live tests")
}

/// Makes the archive that all guests share.
pub(super) fn image(arch: Arch, plan: &Plan, running: &Running<'_>) -> Result<PathBuf> {
    let dir = target().join("kernels").join(arch.debian());
    let base = base(&dir, arch, plan.needs_java())?;
    let stage = dir.join("root");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--link", "--"]).arg(&base).arg(&stage);
    must(&mut copy, "copy the guests' root", "check the disk's free space")?;
    for sub in ["proc", "sys", "dev", "run", "tmp", "mnt", "etc", "root", "tests"] {
        fs::create_dir_all(stage.join(sub))?;
    }
    // Debian's comes with dash, which is essential: no package depends on it.
    if fs::symlink_metadata(stage.join("usr/bin/sh")).is_err() {
        symlink("bash", stage.join("usr/bin/sh"))?;
    }
    put(&stage, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")?;
    put(&stage, "etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
    let tcptrail = crate::dist::build_static(arch.name())?;
    fs::copy(&tcptrail, stage.join("usr/bin/tcptrail")).context("could not copy tcptrail")?;
    for (name, (path, _)) in &plan.binaries {
        fs::copy(path, stage.join("tests").join(name))
            .with_context(|| format!("could not copy {}", path.display()))?;
    }
    if plan.needs_fixtures() {
        fixtures(&stage)?;
    }
    if plan.needs_java() {
        java(&stage)?;
    }
    // Tests name files of the repository where they were compiled.
    into(&stage, &root().join("tests/Cargo.toml"))?;
    root::first_process(&Stage { dir: stage.clone() }, plan, running)?;
    let image = dir.join("root.cpio");
    archive(&stage, &image)?;
    Ok(image)
}

/// Debian's packages, unpacked: nothing of them runs here, so what their scripts do at installation is not done.
fn base(dir: &Path, arch: Arch, java: bool) -> Result<PathBuf> {
    let base = dir.join(if java { "debian-java" } else { "debian" });
    let mut packages = PACKAGES.to_vec();
    packages.extend(java.then_some(JAVA));
    let stamp = base.with_extension("packages");
    let wanted = packages.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(base);
    }
    let apt = Apt::new(dir.join("userland"), arch.debian(), &SUITES)?;
    eprintln!("xtask: downloading Debian's packages for {} (cached)", arch.name());
    let debs = apt.download_with_dependencies(&packages)?;
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    for sub in ["bin", "sbin", "lib"] {
        fs::create_dir_all(base.join("usr").join(sub))?;
        symlink(format!("usr/{sub}"), base.join(sub))?;
    }
    for deb in &debs {
        let mut open = Command::new("dpkg-deb");
        open.arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped());
        let mut open = open.spawn().context("could not start dpkg-deb")?;
        let mut unpack = Command::new("tar");
        unpack.args(["-x", "--keep-directory-symlink", "-C"]).arg(&base);
        unpack.stdin(open.stdout.take().context("dpkg-deb's output")?);
        must(&mut unpack, "unpack a package", "check the disk's free space")?;
        if !open.wait()?.success() {
            bail!("could not unpack {}: remove it and try again", deb.display());
        }
    }
    for part in LEFT_OUT {
        let path = base.join(part);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    fs::write(stamp, wanted)?;
    Ok(base)
}

/// The programs of the live tests in Java and C, compiled here, where tests look for them.
fn fixtures(stage: &Path) -> Result<()> {
    let own = target().join("kernels/fixtures-aarch64");
    let mut compile = cargo();
    compile.args(["run", "--quiet", "--package", "tests", "--bin", "fixtures", "--"]);
    // Return addresses that are signed are to be followed, too.
    compile.arg(&own).args(["aarch64-linux-gnu-gcc", "-mbranch-protection=standard"]);
    must(&mut compile, "compile the programs of the live tests", "see what it says above")?;
    // First the sources: what is compiled is newer.
    tree(stage, &root().join("tests/fixtures/java"), &root().join("tests/fixtures/java"))?;
    tree(stage, &root().join("tests/fixtures/native"), &root().join("tests/fixtures/native"))?;
    let built = root().join("target/fixtures");
    tree(stage, &built.join("java"), &built.join("java"))?;
    tree(stage, &own, &built.join("native"))
}

/// The JDK's programs on PATH, and libraries of Java programs.
fn java(stage: &Path) -> Result<()> {
    let homes = fs::read_dir(stage.join("usr/lib/jvm")).context("the JDK is not unpacked")?;
    let home = homes
        .flatten()
        .map(|entry| entry.path())
        .find(|home| home.join("bin/java").is_file())
        .context("no java in the JDK's package")?;
    for name in ["java", "jcmd"] {
        let inside = Path::new("/").join(home.strip_prefix(stage)?).join("bin").join(name);
        symlink(inside, stage.join("usr/bin").join(name))?;
    }
    for entry in fs::read_dir(Path::new("/").join(JARS)).into_iter().flatten() {
        let path = entry?.path();
        if path.is_file() {
            into(stage, &path)?;
        }
    }
    Ok(())
}

/// Copies a file to the same path.
fn into(stage: &Path, path: &Path) -> Result<()> {
    let to = stage.join(path.strip_prefix("/").unwrap_or(path));
    fs::create_dir_all(to.parent().context("a path")?)?;
    fs::copy(path, &to).with_context(|| format!("could not copy {}", path.display()))?;
    Ok(())
}

/// Copies what is below `dir` to below `to`, the stamp of what is compiled last.
fn tree(stage: &Path, dir: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("there is no {}", dir.display()))?;
    let mut entries: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort_by(|one, other| other.cmp(one));
    for path in entries {
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            tree(stage, &path, &to)?;
        } else if path.is_file() {
            let place = stage.join(to.strip_prefix("/").unwrap_or(&to));
            fs::create_dir_all(place.parent().context("a path")?)?;
            fs::copy(&path, &place)
                .with_context(|| format!("could not copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn put(stage: &Path, name: &str, text: &str) -> Result<()> {
    let path = stage.join(name);
    // What is there may be a link to the unpacked package's.
    let _ = fs::remove_file(&path);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
