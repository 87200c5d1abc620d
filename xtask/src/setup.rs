//! `setup`: installs what is missing, says so first, and is fast when nothing is.
//!
//! What to do about the eBPF compiler is decided by [`routes`], a pure function of [`Facts`].

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{as_root, cargo, find, is_root, must, quietly, target, within};

/// LLVM of the compiler and of bpf-linker: a linker cannot read the bitcode of a newer one.
const LLVM: &str = "22";
const LINKER_VERSION: &str = "0.13.0";
const FUZZER_VERSION: &str = "0.13.2";
/// The nightly installed where there is none: of LLVM 22, while later ones have LLVM 23.
const NIGHTLY: &str = "nightly-2026-05-20";
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
const DEBIAN_LLVM: &str = "llvm-22-dev";
/// How long rustup may take; one that reaches nothing must not hold anybody up for long.
const RUSTUP_ADD: Duration = Duration::from_secs(60);
const RUSTUP_INSTALL: Duration = Duration::from_secs(300);

/// What live tests use: the program or file looked for, and the Debian package that has it.
const TEST_TOOLS: [(&str, &str); 19] = [
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
    ("setpriv", "util-linux"),
    ("setcap", "libcap2-bin"),
];

/// The other tracers that `bench --peers` measures: the program, and the Debian package that has it.
const PEERS: [(&str, &str); 2] = [("tcpstates", "libbpf-tools"), ("bpftrace", "bpftrace")];

/// What builds the eBPF programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Compiler {
    /// Debian's rustc, with a ready-built `core`.
    Debian,
    /// A rustup toolchain of this name, with the source of `core`.
    Nightly(String),
}

/// A nightly toolchain that rustup has.
#[derive(Clone, Debug)]
struct Nightly {
    name: String,
    has_source: bool,
    /// Major version of its LLVM, as text.
    llvm: String,
}

/// What is known of this machine.
#[derive(Clone, Debug, Default)]
struct Facts {
    has_rustup: bool,
    nightlies: Vec<Nightly>,
    debian_installed: bool,
    debian_offers: bool,
}

/// One way to an eBPF compiler.
#[derive(Clone, Debug, PartialEq)]
enum Route {
    /// Nothing to do.
    Use(Compiler),
    AddSource(String),
    InstallDebian,
    InstallNightly,
}

/// The ways to try, best first. What is complete wins, then what needs the least.
fn routes(facts: &Facts) -> Vec<Route> {
    let usable = || facts.nightlies.iter().filter(|nightly| nightly.llvm == LLVM);
    if let Some(ready) = usable().find(|nightly| nightly.has_source) {
        return vec![Route::Use(Compiler::Nightly(ready.name.clone()))];
    }
    if facts.debian_installed {
        return vec![Route::Use(Compiler::Debian)];
    }
    let mut routes: Vec<_> =
        usable().take(1).map(|nightly| Route::AddSource(nightly.name.clone())).collect();
    if facts.debian_offers {
        routes.push(Route::InstallDebian);
    }
    if facts.has_rustup {
        routes.push(Route::InstallNightly);
    }
    routes
}

pub(crate) fn verb(tests: bool) -> Result<ExitCode> {
    let toolchain = toolchain()?;
    if tests {
        lint_tools(&toolchain)?;
        test_tools();
    }
    let compiler = match &toolchain.compiler {
        Compiler::Debian => "Debian's rustc",
        Compiler::Nightly(name) => name,
    };
    eprintln!("xtask: ready: {compiler} with {}", toolchain.linker.display());
    Ok(ExitCode::SUCCESS)
}

/// The eBPF compiler and linker, installed if need be.
pub(crate) fn toolchain() -> Result<Toolchain> {
    let compiler = compiler()?;
    let linker = linker()?;
    Ok(Toolchain { compiler, linker })
}

fn compiler() -> Result<Compiler> {
    let mut facts = Facts {
        has_rustup: find("rustup").is_some(),
        nightlies: nightlies(),
        debian_installed: DEBIAN_COMPILER.iter().all(|package| is_installed(package)),
        debian_offers: false,
    };
    if let [Route::Use(compiler)] = routes(&facts).as_slice() {
        return Ok(compiler.clone());
    }
    // Only now is it worth the time to ask apt, which may have to fetch its lists first.
    facts.debian_offers = apt_offers(&DEBIAN_COMPILER);
    for route in routes(&facts) {
        match follow(route) {
            Ok(compiler) => return Ok(compiler),
            Err(error) => eprintln!("xtask: {error:#}"),
        }
    }
    bail!(
        "found no way to a compiler for eBPF: install {NIGHTLY} with rustup \
         (`rustup toolchain install {NIGHTLY} --component rust-src,clippy`), or on Debian \
         {} with apt-get, then try again",
        DEBIAN_COMPILER.join(" ")
    )
}

fn follow(route: Route) -> Result<Compiler> {
    match route {
        Route::Use(compiler) => Ok(compiler),
        Route::AddSource(name) => {
            eprintln!("xtask: adding rust-src to the rustup toolchain {name}, for eBPF");
            let mut rustup = Command::new("rustup");
            rustup.args(["component", "add", "rust-src", "--toolchain", &name]);
            if !within(&mut rustup, RUSTUP_ADD) {
                bail!("rustup could not add rust-src to {name}: check the network");
            }
            Ok(Compiler::Nightly(name))
        }
        Route::InstallDebian => {
            apt_install(&DEBIAN_COMPILER, "the compiler for eBPF")?;
            Ok(Compiler::Debian)
        }
        Route::InstallNightly => {
            eprintln!("xtask: installing the rustup toolchain {NIGHTLY} with rust-src, for eBPF");
            let mut rustup = Command::new("rustup");
            rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
            rustup.args(["--component", "rust-src,clippy", "--no-self-update"]);
            if !within(&mut rustup, RUSTUP_INSTALL) {
                bail!("rustup could not install {NIGHTLY}: check the network");
            }
            Ok(Compiler::Nightly(NIGHTLY.to_owned()))
        }
    }
}

/// The nightlies rustup has. Asks nothing of the network.
fn nightlies() -> Vec<Nightly> {
    let list = quietly(Command::new("rustup").args(["toolchain", "list", "-v"]));
    list.unwrap_or_default().lines().filter_map(nightly).collect()
}

/// Reads one line of `rustup toolchain list -v`: name, perhaps `(active, default)`, path.
fn nightly(line: &str) -> Option<Nightly> {
    let name = line.split_whitespace().next().filter(|name| name.starts_with("nightly"))?;
    let path = Path::new(line.get(line.find(" /")?..)?.trim());
    let version = quietly(Command::new(path.join("bin/rustc")).arg("-vV"))?;
    Some(Nightly {
        name: name.to_owned(),
        has_source: path.join("lib/rustlib/src/rust/library/core").is_dir(),
        llvm: llvm_major(&version)?.to_owned(),
    })
}

/// The major version of LLVM in what `rustc -vV` prints.
fn llvm_major(version: &str) -> Option<&str> {
    let full = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    full.split('.').next()
}

/// A bpf-linker that reads the compiler's bitcode: one on PATH if it fits, else one of our own
/// in the target directory, so that nobody's linker for another project is replaced.
fn linker() -> Result<PathBuf> {
    let tools = target().join("tools");
    let own = tools.join("bin/bpf-linker");
    if let Some(fits) = find("bpf-linker").into_iter().chain([own.clone()]).find(|l| fits(l)) {
        return Ok(fits);
    }
    let prefix = llvm_prefix()?;
    eprintln!(
        "xtask: building bpf-linker {LINKER_VERSION} with LLVM {LLVM} into {}",
        tools.display()
    );
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
        "check the network, and that a C++ compiler and LLVM's development files are there",
    )?;
    Ok(own)
}

/// cargo-fuzz, installed if need be.
pub(crate) fn fuzzer() -> Result<PathBuf> {
    let tools = target().join("tools");
    let own = tools.join("bin/cargo-fuzz");
    if let Some(found) = find("cargo-fuzz").or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    eprintln!("xtask: building cargo-fuzz {FUZZER_VERSION} into {}", tools.display());
    let mut install = cargo();
    install
        .args(["install", "cargo-fuzz", "--version", FUZZER_VERSION, "--locked", "--root"])
        .arg(&tools)
        .env_remove("CARGO_TARGET_DIR");
    must(&mut install, "build cargo-fuzz", "check the network")?;
    Ok(own)
}

fn fits(linker: &Path) -> bool {
    let version = quietly(Command::new(linker).arg("--version")).unwrap_or_default();
    if version.trim() != format!("bpf-linker {LINKER_VERSION}") {
        return false;
    }
    // It does not say which LLVM it has; the dynamic linker does, unless it is linked in.
    let libraries = quietly(Command::new("ldd").arg(linker)).unwrap_or_default();
    !libraries.contains("libLLVM") || libraries.contains(&format!("libLLVM.so.{LLVM}"))
}

fn llvm_prefix() -> Result<PathBuf> {
    if let Some(prefix) = env::var_os("LLVM_PREFIX") {
        return Ok(prefix.into());
    }
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM}"));
    if debian.join("include/llvm-c").is_dir() {
        return Ok(debian);
    }
    if apt_offers(&[DEBIAN_LLVM]) {
        apt_install(&[DEBIAN_LLVM], "building bpf-linker")?;
        return Ok(debian);
    }
    bail!(
        "bpf-linker needs the development files of LLVM {LLVM}, which are not here: install \
         them and set LLVM_PREFIX to where they are, then try again"
    )
}

/// rustfmt and clippy, for the compiler that runs xtask and for the one that builds eBPF.
pub(crate) fn lint_tools(toolchain: &Toolchain) -> Result<()> {
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
    match &toolchain.compiler {
        Compiler::Debian if !Path::new("/usr/bin/clippy-driver").exists() => {
            packages.push("rust-web-clippy");
        }
        Compiler::Debian => {}
        Compiler::Nightly(name) => {
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
    }
    packages.dedup();
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
    eprintln!("xtask: adding {target} to the rustup toolchain in use, to check that it compiles");
    within(Command::new("rustup").args(["target", "add", target]), RUSTUP_ADD)
}

/// Installs what the live tests use, as far as it goes; what is missing is named.
pub(crate) fn test_tools() {
    programs(&TEST_TOOLS, "only the live tests (nginx may start as a service)", "the live tests");
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

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    quietly(&mut query).is_some_and(|status| status == "installed")
}

/// Whether apt offers all of `packages`, after fetching its lists if it seems not to.
fn apt_offers(packages: &[&str]) -> bool {
    if find("apt-get").is_none() {
        return false;
    }
    let offered = || {
        let mut policy = Command::new("apt-cache");
        policy.args(["policy"]).args(packages).env("LC_ALL", "C");
        candidates(&quietly(&mut policy).unwrap_or_default()) == packages.len()
    };
    if offered() {
        return true;
    }
    if may_use_apt().is_err() {
        return false;
    }
    eprintln!("xtask: fetching apt's package lists");
    // Its failure shows in what is offered afterwards.
    let _ = apt().arg("update").status();
    offered()
}

/// How many packages have an installable version, in what `apt-cache policy` prints.
fn candidates(policy: &str) -> usize {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .count()
}

fn apt_install(packages: &[&str], purpose: &str) -> Result<()> {
    may_use_apt()?;
    eprintln!("xtask: installing with apt-get, for {purpose}: {}", packages.join(" "));
    let mut install = apt();
    // --no-remove: where a package here conflicts with one of the user's, fail and let them choose.
    install.args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages);
    must(&mut install, "install packages", "run it by hand and see what apt-get says")
}

/// apt-get as root. The variable goes through `env`, since sudo drops it.
fn apt() -> Command {
    let mut apt = as_root("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    apt
}

fn may_use_apt() -> Result<()> {
    if is_root() || find("sudo").is_some() {
        return Ok(());
    }
    bail!("apt-get needs root and there is no sudo: run `cargo xtask setup --tests` as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_nightly(llvm: &str, has_source: bool) -> Facts {
        let name = "nightly-x86_64-unknown-linux-gnu".to_owned();
        let nightlies = vec![Nightly { name, has_source, llvm: llvm.to_owned() }];
        Facts { has_rustup: true, nightlies, ..Facts::default() }
    }

    fn name() -> String {
        "nightly-x86_64-unknown-linux-gnu".to_owned()
    }

    #[test]
    fn what_is_complete_is_used_as_it_is() {
        let facts = Facts { debian_installed: true, ..with_nightly("22", true) };
        assert_eq!(routes(&facts), [Route::Use(Compiler::Nightly(name()))]);
        let facts = Facts { debian_installed: true, ..with_nightly("22", false) };
        assert_eq!(routes(&facts), [Route::Use(Compiler::Debian)]);
    }

    #[test]
    fn a_nightly_only_lacking_its_source_is_completed_else_debian() {
        let facts = Facts { debian_offers: true, ..with_nightly("22", false) };
        let expected = [Route::AddSource(name()), Route::InstallDebian, Route::InstallNightly];
        assert_eq!(routes(&facts), expected);
    }

    #[test]
    fn without_nightly_debian_comes_before_rustup() {
        let facts = Facts { has_rustup: true, debian_offers: true, ..Facts::default() };
        assert_eq!(routes(&facts), [Route::InstallDebian, Route::InstallNightly]);
        let facts = Facts { has_rustup: true, ..Facts::default() };
        assert_eq!(routes(&facts), [Route::InstallNightly]);
        assert_eq!(routes(&Facts::default()), []);
    }

    #[test]
    fn a_nightly_of_another_llvm_is_no_use() {
        let facts = with_nightly("23", true);
        assert_eq!(routes(&facts), [Route::InstallNightly]);
    }

    #[test]
    fn llvm_is_read_from_the_compiler() {
        assert_eq!(llvm_major("rustc 1.97.0\nLLVM version: 22.1.4\n"), Some("22"));
        assert_eq!(llvm_major("rustc 1.97.0\n"), None);
    }

    #[test]
    fn packages_without_a_version_do_not_count() {
        let policy = "a:\n  Installed: (none)\n  Candidate: 1.0\nb:\n  Candidate: (none)\n";
        assert_eq!(candidates(policy), 1);
    }
}
