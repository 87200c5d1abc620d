//! `setup`: installs what is missing, says so first, and is fast when nothing is.
//!
//! Only who changes the eBPF programs needs their compiler: the objects are committed ([`crate::ebpf`]).

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::apt::{apt_install, apt_offers};
use crate::command::{cargo, find, must, quietly, target, within};
use crate::{collectors, jdks};

/// The one compiler of the eBPF programs, whose bytes are committed: another gives others. Later nightlies
/// have LLVM 23, which the linker below cannot read.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";
/// By what a toolchain of another name is known to be the same.
const NIGHTLY_COMMIT: &str = "e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a";
pub(crate) const LINKER_VERSION: &str = "0.13.0";
const FUZZER_VERSION: &str = "0.13.2";
/// How long rustup may take; one that reaches nothing must not hold anybody up for long.
const RUSTUP_ADD: Duration = Duration::from_secs(60);
const RUSTUP_INSTALL: Duration = Duration::from_secs(300);

/// What live tests use: the program or file looked for, and the Debian package that has it.
const TEST_TOOLS: [(&str, &str); 32] = [
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("bpftool", "bpftool"),
    ("tcpdump", "tcpdump"),
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("socat", "socat"),
    ("python3", "python3"),
    ("tmux", "tmux"),
    ("cc", "gcc"),
    ("javac", "default-jdk-headless"),
    ("unshare", "util-linux"),
    ("/usr/share/java/tomcat10-catalina.jar", "libtomcat10-java"),
    ("/usr/share/java/httpclient.jar", "libhttpclient-java"),
    ("/usr/share/java/commons-logging.jar", "libcommons-logging-java"),
    ("/usr/share/java/netty-transport.jar", "libnetty-java"),
    ("/usr/share/java/HikariCP.jar", "libhikaricp-java"),
    ("/usr/share/java/postgresql.jar", "libpostgresql-jdbc-java"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
    ("redis-server", "redis-server"),
    ("chromium", "chromium"),
    ("setpriv", "util-linux"),
    ("fsfreeze", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("setcap", "libcap2-bin"),
    ("node", "nodejs"),
    ("systemd-socket-activate", "systemd"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("systemd-analyze", "systemd"),
];

/// The other tracers that `bench --peers` measures: the program, and the Debian package that has it.
const PEERS: [(&str, &str); 2] = [("tcpstates", "libbpf-tools"), ("bpftrace", "bpftrace")];

/// What builds the eBPF programs: the pinned nightly, and a linker that uses its LLVM.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// What rustup calls it.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) sysroot: PathBuf,
    pub(crate) linker: PathBuf,
}

impl Toolchain {
    /// A program that comes with the compiler.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        // One host, one directory; `etc` and `src` have no `bin`.
        let hosts = fs::read_dir(self.sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
        let mut tools = hosts.map(|host| host.path().join("bin").join(name));
        tools.find(|tool| tool.is_file()).unwrap_or_else(|| name.into())
    }
}

/// A toolchain of rustup that is the pinned nightly.
#[derive(Clone, Debug)]
struct Nightly {
    name: String,
    sysroot: PathBuf,
}

impl Nightly {
    fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
    }
}

pub(crate) fn verb(tests: bool) -> Result<ExitCode> {
    let toolchain = toolchain()?;
    if tests {
        lint_tools(Some(&toolchain))?;
        test_tools();
    }
    eprintln!("xtask: ready: {} with {}", toolchain.name, toolchain.linker.display());
    Ok(ExitCode::SUCCESS)
}

/// The eBPF compiler and linker, installed if need be.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let Nightly { name, sysroot } = compiler()?;
    let linker = linker(&sysroot)?;
    Ok(Toolchain { name, sysroot, linker })
}

/// The eBPF compiler and linker, if both are here.
pub(crate) fn toolchain_here() -> Option<Toolchain> {
    let Nightly { name, sysroot } = nightlies().into_iter().find(Nightly::has_source)?;
    let linker = own_linker();
    fits(&linker, &sysroot).then_some(Toolchain { name, sysroot, linker })
}

fn compiler() -> Result<Nightly> {
    let here = nightlies();
    if let Some(ready) = here.iter().find(|nightly| nightly.has_source()) {
        return Ok(ready.clone());
    }
    if find("rustup").is_none() {
        bail!(
            "the eBPF programs are built by the Rust toolchain {NIGHTLY}, and only rustup can install it: \
             install rustup, then try again"
        );
    }
    let name = here.first().map_or(NIGHTLY, |nightly| &nightly.name);
    eprintln!(
        "xtask: installing the rustup toolchain {name} with rust-src, to build the eBPF programs"
    );
    let mut rustup = Command::new("rustup");
    if here.is_empty() {
        rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--no-self-update"]);
        rustup.args(["--component", "rust-src,clippy"]);
    } else {
        rustup.args(["component", "add", "rust-src", "--toolchain", name]);
    }
    if !within(&mut rustup, RUSTUP_INSTALL) {
        bail!(
            "rustup could not install {NIGHTLY} with rust-src, which builds the eBPF programs: check the network, \
             or run `rustup toolchain install {NIGHTLY} --component rust-src,clippy` yourself"
        );
    }
    nightlies().into_iter().find(Nightly::has_source).with_context(|| {
        format!("rustup installed {NIGHTLY}, but it is not the compiler {NIGHTLY_COMMIT}")
    })
}

/// Which of rustup's toolchains are the pinned one. Asks nothing of the network.
fn nightlies() -> Vec<Nightly> {
    let list = quietly(Command::new("rustup").args(["toolchain", "list", "-v"]));
    list.unwrap_or_default().lines().filter_map(nightly).collect()
}

/// Reads one line of `rustup toolchain list -v`: name, perhaps `(active, default)`, path.
fn nightly(line: &str) -> Option<Nightly> {
    let name = line.split_whitespace().next().filter(|name| name.starts_with("nightly"))?;
    let rustc = Path::new(line.get(line.find(" /")?..)?.trim()).join("bin/rustc");
    let version = quietly(Command::new(&rustc).arg("-vV"))?;
    // What is listed may be a link; the compiler's own word is what cargo goes by.
    let sysroot = quietly(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    let is_pinned = commit(&version) == Some(NIGHTLY_COMMIT);
    is_pinned.then(|| Nightly { name: name.to_owned(), sysroot })
}

/// The commit in what `rustc -vV` prints.
fn commit(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("commit-hash: "))
}

fn own_linker() -> PathBuf {
    target().join("tools/ebpf/bin/bpf-linker")
}

/// A bpf-linker in the target directory that uses the compiler's own LLVM: so one toolchain decides about
/// every byte, and no LLVM has to be installed.
fn linker(sysroot: &Path) -> Result<PathBuf> {
    let own = own_linker();
    if fits(&own, sysroot) {
        return Ok(own);
    }
    let tools = target().join("tools/ebpf");
    eprintln!("xtask: building bpf-linker {LINKER_VERSION} into {}", tools.display());
    let prefix = tools.join("llvm");
    link_llvm(sysroot, &prefix.join("lib"))?;
    let mut install = cargo();
    install
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(&tools)
        .env("LLVM_PREFIX", prefix)
        .env_remove("CARGO_TARGET_DIR");
    must(
        &mut install,
        "build bpf-linker",
        "check the network, and that a C compiler is there, which links it",
    )?;
    Ok(own)
}

/// Makes `lib` a place where the compiler's LLVM has the name that linkers look for.
fn link_llvm(sysroot: &Path, lib: &Path) -> Result<()> {
    let entries = fs::read_dir(sysroot.join("lib")).context("the toolchain has no lib")?;
    let library = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"libLLVM.so."))
        })
        .context("the toolchain has no libLLVM.so beside its compiler")?;
    fs::create_dir_all(lib).with_context(|| format!("could not make {}", lib.display()))?;
    for name in [OsStr::new("libLLVM.so"), library.file_name().unwrap_or_default()] {
        let link = lib.join(name);
        // One of an earlier toolchain, perhaps.
        let _ = fs::remove_file(&link);
        symlink(&library, &link).with_context(|| format!("could not make {}", link.display()))?;
    }
    Ok(())
}

/// cargo-fuzz, installed if need be.
pub(crate) fn fuzzer() -> Result<PathBuf> {
    cargo_tool("cargo-fuzz", FUZZER_VERSION)
}

/// A program that cargo installs: of PATH, or of our own in the target directory, installed if need be.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    let tools = target().join("tools");
    let own = tools.join("bin").join(name);
    if let Some(found) = own.is_file().then(|| own.clone()).or_else(|| find(name)) {
        return Ok(found);
    }
    eprintln!("xtask: building {name} {version} into {}", tools.display());
    let mut install = cargo();
    install
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(&tools)
        .env_remove("CARGO_TARGET_DIR");
    must(&mut install, &format!("build {name}"), "check the network")?;
    Ok(own)
}

/// Whether it is the right linker, and runs with the LLVM of the compiler.
fn fits(linker: &Path, sysroot: &Path) -> bool {
    let mut ask = Command::new(linker);
    ask.arg("--version").env("LD_LIBRARY_PATH", sysroot.join("lib"));
    let version = quietly(&mut ask).unwrap_or_default();
    version.trim() == format!("bpf-linker {LINKER_VERSION}")
}

/// rustfmt and clippy, for the compiler that runs xtask and for the one that builds eBPF.
pub(crate) fn lint_tools(toolchain: Option<&Toolchain>) -> Result<()> {
    let mut packages = Vec::new();
    for (verb, component, package) in
        [("fmt", "rustfmt", "rustfmt-web"), ("clippy", "clippy", "rust-web-clippy")]
    {
        if quietly(cargo().args([verb, "--version"])).is_some() {
            continue;
        }
        if env::var_os("RUSTUP_TOOLCHAIN").is_none() {
            packages.push(package);
            continue;
        }
        eprintln!("xtask: adding {component} to the rustup toolchain in use");
        if !within(Command::new("rustup").args(["component", "add", component]), RUSTUP_ADD) {
            bail!("rustup could not add {component}: run `rustup component add {component}`");
        }
    }
    if let Some(Toolchain { name, .. }) = toolchain {
        let mut clippy = Command::new("rustup");
        clippy.args(["which", "--toolchain", name, "clippy-driver"]);
        if quietly(&mut clippy).is_none() {
            eprintln!("xtask: adding clippy to the rustup toolchain {name}");
            let mut add = Command::new("rustup");
            add.args(["component", "add", "clippy", "--toolchain", name]);
            if !within(&mut add, RUSTUP_ADD) {
                bail!("rustup could not add clippy to {name}: check the network");
            }
        }
    }
    if packages.is_empty() { Ok(()) } else { apt_install(&packages, "linting") }
}

/// Whether the compiler that runs xtask can check for another target; rustup is asked to add it.
pub(crate) fn has_target(target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    let there = quietly(rustc.args(["--print", "target-libdir", "--target", target]));
    if there.is_some_and(|dir| Path::new(dir.trim()).is_dir()) {
        return true;
    }
    if env::var_os("RUSTUP_TOOLCHAIN").is_none() {
        return false;
    }
    eprintln!("xtask: adding {target} to the rustup toolchain in use");
    within(Command::new("rustup").args(["target", "add", target]), RUSTUP_ADD)
}

/// Installs what the live tests use, as far as it goes; what is missing is named.
pub(crate) fn test_tools() {
    programs(&TEST_TOOLS, "only the live tests (nginx may start as a service)", "the live tests");
    jdks::all();
    collectors::fetch();
}

/// Installs the tracers that `bench --peers` compares with, as far as it goes; what is missing is named.
pub(crate) fn peers() {
    programs(&PEERS, "only the comparison with other tracers", "the comparison");
}

fn programs(wanted: &[(&str, &'static str)], purpose: &str, user: &str) {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| !Path::new(program).is_file() && find(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    if missing.is_empty() {
        return;
    }
    let warning = if apt_offers(&missing) {
        match apt_install(&missing, purpose) {
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        }
    } else {
        "apt-get does not offer all of it here".to_owned()
    };
    eprintln!(
        "xtask: warning: {user} also use{} {}, which is not here: {warning}; install it \
         yourself for all of them to run",
        if user.ends_with('s') { "" } else { "s" },
        missing.join(", ")
    );
}

/// Programs a verb cannot do without, each with Debian's package that has it.
pub(crate) fn required(wanted: &[(&str, &str)], purpose: &str) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt_offers(&missing) {
        bail!(
            "{purpose} need {}, which apt-get does not offer here: install them",
            missing.join(", ")
        );
    }
    apt_install(&missing, purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_read_from_the_compiler() {
        assert_eq!(commit("rustc 1.97.0\ncommit-hash: abc\nLLVM version: 22.1.4\n"), Some("abc"));
        assert_eq!(commit("rustc 1.97.0\n"), None);
    }
}
