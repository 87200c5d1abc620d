//! The guests' root: what the live tests use of this machine, as an archive that the kernel unpacks
//! into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::Kernel;
use crate::command::{binary, cargo, find, must, quietly, root, target};

/// Of this machine, where it has them: a test that misses one says so and is skipped.
const PROGRAMS: [&str; 46] = [
    "bash", "ip", "ss", "nft", "bpftool", "nginx", "haproxy", "wrk", "curl", "socat", "tcpdump",
    "setpriv", "mount", "umount", "unshare", "nsenter", "timeout", "date", "cat", "head", "tail",
    "stty", "sleep", "mkdir", "rm", "mv", "ln", "env", "id", "true", "false", "chmod", "seq", "tr",
    "xargs", "kill", "ps", "uname", "stdbuf", "flock", "strace", "setcap", "sed", "mkfifo",
    "prlimit", "setarch",
];
/// Test binaries that run Python programs, and what those import.
const OF_PYTHON: [&str; 3] = ["live_hostile", "live_leaks", "live_stuck"];
const PYTHON: &str =
    "import atexit, ctypes, encodings.idna, fcntl, os, resource, signal, socket, struct, sys, threading, time
print(sys.executable)
for module in list(sys.modules.values()):
    print(getattr(module, '__file__', None) or '')";
/// Runs Java and C programs, which are compiled beforehand.
const OF_FIXTURES: &str = "live_leaks";
/// Those of its tests that have no JVM begin like this.
const WITHOUT_JAVA: &str = "native::";
/// What Debian's Java libraries are linked from, and what tests name.
const JARS: &str = "/usr/share/java";
/// Modules the live tests make the kernel use; those a kernel does not have are built in or not
/// needed there.
const MODULES: [&str; 22] = [
    "veth",
    "tun",
    "dummy",
    "nf_tables",
    "nf_tables_set",
    "nft_limit",
    "nft_counter",
    "nft_ct",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_chain_nat",
    "nft_numgen",
    "nft_quota",
    "nfnetlink",
    "inet_diag",
    "tcp_diag",
    "mptcp_diag",
    "unix_diag",
    "udp_diag",
    "sch_netem",
    "overlay",
];
/// Tests that run one at a time, by parts of names: those that do in `.config/nextest.toml`, and those whose
/// load keeps an emulated processor from anything else.
const ALONE: [&str; 9] = [
    "live_loss ",
    "live_filters ",
    "live_churn ",
    "live_hostile ",
    "flood::",
    "healthy::",
    "proxy::",
    "a_full_disk",
    "incident::",
];
/// What continuous integration runs in each kernel, by parts of names: something of every kind that
/// this machine's own run has, in the time there is for six kernels.
const QUICK: [&str; 22] = [
    "live_cgroups with_both_versions",
    "live_endings a_listener_opens_and_closes",
    "live_endings connection_refused",
    "live_endings half_close_shows_who_waits_for_whom",
    "live_endings owners_are_those_that_ss_names",
    "live_endings what_was_there_before_has_lower_bounds",
    "live_leaks native::a_c_function",
    "live_mptcp",
    "live_privileges too_little_locked_memory",
    "live_privileges two_capabilities_are_enough",
    "live_retransmits a_lost_fin",
    "live_stuck gone::fin_wait1",
    "live_survives a_full_table",
    "begin::a_half_open_request_that_is_reset",
    "begin::a_slow_third_ack",
    "begin::what_waits_in_the_accept_queue",
    "end::a_last_ack",
    "minis::a_half_closed_socket",
    "peers::both_ends_of_a_veth",
    "reasons::a_killed_connection",
    "reasons::a_reset_sent",
    "reasons::data_after_close",
];

const INIT: &str = include_str!("init.sh");
const RUN_ONE: &str = include_str!("run-one.sh");

/// How a guest runs them.
pub(crate) struct Running<'a> {
    /// Tests at a time.
    pub(crate) jobs: usize,
    /// Instead of tests.
    pub(crate) shell: Option<&'a str>,
}

/// The live tests to run.
pub(crate) struct Plan {
    /// By name of their binary: where it is, and its tests.
    binaries: BTreeMap<String, (PathBuf, Vec<String>)>,
}

impl Plan {
    /// Compiles the live tests and takes those whose name contains one of `wanted`, if any.
    pub(crate) fn new(wanted: &[String], quick: bool) -> Result<Plan> {
        let mut binaries = BTreeMap::new();
        for (name, path) in test_binaries()? {
            let list = quietly(Command::new(&path).args(["--list", "--format", "terse"]));
            let list = list.with_context(|| format!("could not list the tests of {name}"))?;
            let tests: Vec<String> = list
                .lines()
                .filter_map(|line| line.strip_suffix(": test"))
                .filter(|test| {
                    let full = format!("{name} {test}");
                    (wanted.is_empty() || wanted.iter().any(|part| full.contains(part)))
                        && (!quick || QUICK.iter().any(|part| full.contains(part)))
                })
                .map(str::to_owned)
                .collect();
            if !tests.is_empty() {
                binaries.insert(name, (path, tests));
            }
        }
        if binaries.is_empty() {
            bail!("no live test has such a name: `cargo nextest list -p tests` shows all");
        }
        Ok(Plan { binaries })
    }

    /// Whether there are compiled programs in it.
    fn needs_fixtures(&self) -> bool {
        self.binaries.contains_key(OF_FIXTURES)
    }

    /// Whether there are JVMs in it.
    fn needs_java(&self) -> bool {
        let tests = self.binaries.get(OF_FIXTURES).map(|(_, tests)| tests);
        tests.into_iter().flatten().any(|test| !test.starts_with(WITHOUT_JAVA))
    }

    /// Binary and test, in the order of the table.
    pub(crate) fn tests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.binaries
            .iter()
            .flat_map(|(name, (_, tests))| tests.iter().map(|test| (name.as_str(), test.as_str())))
    }
}

/// The compiled tests of the package `tests`, by name.
fn test_binaries() -> Result<Vec<(String, PathBuf)>> {
    let mut build = cargo();
    build.args(["test", "--package", "tests", "--no-run", "--tests", "--message-format=json"]);
    build.stderr(std::process::Stdio::inherit());
    let output = build.output().context("could not start cargo")?;
    if !output.status.success() {
        bail!("could not compile the live tests: fix what the compiler says above");
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if message["profile"]["test"] == true
            && message["target"]["kind"][0] == "test"
            && let (Some(name), Some(path)) =
                (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            found.push((name.to_owned(), path.into()));
        }
    }
    Ok(found)
}

/// Makes the archive that all guests share.
pub(crate) fn image(plan: &Plan, running: &Running<'_>) -> Result<PathBuf> {
    let dir = target().join("kernels/root");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let stage = Stage { dir };
    for sub in
        ["bin", "proc", "sys", "dev", "run", "tmp", "mnt", "etc", "root", "tests", "var/log/nginx"]
    {
        fs::create_dir_all(stage.dir.join(sub))?;
    }
    fs::create_dir_all(stage.dir.join("var/lib/nginx"))?;
    symlink("bash", stage.dir.join("bin/sh"))?;
    let busybox = find("busybox").context("busybox is not here")?;
    fs::copy(&busybox, stage.dir.join("bin/busybox"))?;

    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        if let Some(path) = find(program) {
            let path = fs::canonicalize(&path)?;
            fs::copy(&path, stage.dir.join("bin").join(program))?;
            libraries.extend(libraries_of(&path));
        }
    }
    stage.strip(&binary(), "bin/tcptrail")?;
    libraries.extend(libraries_of(&binary()));
    let (mut side_by_side, mut alone) = (String::new(), String::new());
    for (name, (path, tests)) in &plan.binaries {
        stage.strip(path, &format!("tests/{name}"))?;
        libraries.extend(libraries_of(path));
        for test in tests {
            let line = format!("{name} {test}\n");
            let is_alone = ALONE.iter().any(|part| line.contains(part));
            let list = if is_alone { &mut alone } else { &mut side_by_side };
            list.push_str(&line);
        }
    }
    if plan.binaries.keys().any(|name| OF_PYTHON.contains(&name.as_str())) {
        libraries.extend(stage.python()?);
    }
    if plan.needs_fixtures() {
        libraries.extend(stage.fixtures()?);
    }
    if plan.needs_java() {
        libraries.extend(stage.java()?);
    }
    // Loaded by name, not linked.
    libraries.extend(libraries_beside(&libraries, &["libnss_files.so.2", "libgcc_s.so.1"]));
    for library in &libraries {
        stage.copy(library)?;
    }
    for file in
        ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services"]
    {
        if Path::new(file).is_file() {
            stage.copy(Path::new(file))?;
        }
    }
    // Tests name files of the repository where they were compiled.
    stage.copy(&root().join("tests/Cargo.toml"))?;
    stage.write("tests/side-by-side", &side_by_side, 0o644)?;
    stage.write("tests/alone", &alone, 0o644)?;
    stage.write("tests/jobs", &running.jobs.to_string(), 0o644)?;
    if let Some(shell) = running.shell {
        stage.write("tests/shell", shell, 0o755)?;
    }
    stage.write("init", INIT, 0o755)?;
    stage.write("bin/run-one", RUN_ONE, 0o755)?;
    let image = target().join("kernels/root.cpio");
    archive(&stage.dir, &image)?;
    Ok(image)
}

/// The shared archive and a kernel's own, with its modules, as one.
pub(crate) fn initrd(kernel: &Kernel, base: &Path) -> Result<PathBuf> {
    let dir = target().join("kernels").join(format!("guest-{}", kernel.release));
    let own = dir.join("own");
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    let into = own.join("modules");
    fs::create_dir_all(&into)?;
    let mut order = String::new();
    for (number, module) in modules(kernel)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let (plain, unpack) = match name.rsplit_once('.') {
            Some((plain, "xz")) => (plain, Some("xz")),
            Some((plain, "zst")) => (plain, Some("zstd")),
            _ => (&*name, None),
        };
        let plain = format!("{number:02}-{plain}");
        let to = into.join(&plain);
        match unpack {
            None => {
                fs::copy(module, &to)
                    .with_context(|| format!("could not copy {}", module.display()))?;
            }
            Some(program) => {
                let mut unpack = Command::new(program);
                unpack.arg("-dc").arg(module).stdout(fs::File::create(&to)?);
                must(&mut unpack, "unpack a module", "remove the target directory's kernels")?;
            }
        }
        order.push_str(&plain);
        order.push('\n');
    }
    fs::write(into.join("order"), order)?;
    let packed = dir.join("own.cpio");
    archive(&own, &packed)?;
    let both = dir.join("initrd");
    let mut bytes = fs::read(base)?;
    bytes.extend(fs::read(packed)?);
    fs::write(&both, bytes)?;
    Ok(both)
}

/// Files of the wanted modules, each after those it needs.
fn modules(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = Vec::new();
    let modprobe = find("modprobe").context("modprobe is not here: install kmod")?;
    for name in MODULES {
        let mut depends = Command::new(&modprobe);
        // Not with the options that this machine's modprobe.d gives.
        depends.args(["-C", "/dev/null"]).arg("-d").arg(&kernel.dir).args([
            "-S",
            &kernel.release,
            "--show-depends",
            name,
        ]);
        for line in quietly(&mut depends).unwrap_or_default().lines() {
            if let Some(path) = line.strip_prefix("insmod ") {
                let path = PathBuf::from(path.trim());
                if !all.contains(&path) {
                    all.push(path);
                }
            }
        }
    }
    if all.is_empty() {
        bail!("modprobe finds no module of {}", kernel.release);
    }
    Ok(all)
}

struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Copies a file to the same path.
    fn copy(&self, path: &Path) -> Result<()> {
        let to = self.dir.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(to.parent().context("a path")?)?;
        fs::copy(path, &to).with_context(|| format!("could not copy {}", path.display()))?;
        Ok(())
    }

    /// Copies a program without what only debuggers read.
    fn strip(&self, program: &Path, to: &str) -> Result<()> {
        let mut strip = Command::new("strip");
        strip.args(["--strip-debug", "-o"]).arg(self.dir.join(to)).arg(program);
        must(&mut strip, "strip a program", "install binutils")
    }

    /// Copies Python and the modules that tests import, compiled: on an emulated processor that would
    /// take longer than what is tested. Says which libraries it links.
    fn python(&self) -> Result<BTreeSet<PathBuf>> {
        let mut libraries = BTreeSet::new();
        let Some(found) = find("python3") else { return Ok(libraries) };
        let said = quietly(Command::new(found).args(["-I", "-c", PYTHON]));
        let said = said.context("python3 does not import what tests do")?;
        let mut files = said.lines().filter(|line| line.starts_with('/')).map(PathBuf::from);
        // It finds its modules from where it is.
        let python = fs::canonicalize(files.next().context("python3 does not say where it is")?)?;
        self.copy(&python)?;
        symlink(&python, self.dir.join("bin/python3"))?;
        libraries.extend(libraries_of(&python));
        let mut compile = Command::new(&python);
        compile.args(["-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]);
        for file in files {
            self.copy(&file)?;
            if file.extension().is_some_and(|kind| kind == "so") {
                libraries.extend(libraries_of(&file));
            } else {
                compile.arg(self.dir.join(file.strip_prefix("/")?));
            }
        }
        must(&mut compile, "compile Python's modules", "install all of python3")?;
        Ok(libraries)
    }

    /// Copies the Java and C programs of the live tests, compiled. Says which libraries they link.
    fn fixtures(&self) -> Result<BTreeSet<PathBuf>> {
        let mut compile = cargo();
        compile.args(["run", "--quiet", "--package", "tests", "--bin", "fixtures"]);
        must(&mut compile, "compile the programs of the live tests", "see what it says above")?;
        let mut libraries = BTreeSet::new();
        // First the sources: what is compiled is newer.
        self.tree(&root().join("tests/fixtures/java"), &mut libraries)?;
        self.tree(&root().join("tests/fixtures/native"), &mut libraries)?;
        let compiled = root().join("target/fixtures");
        if compiled.is_dir() {
            self.tree(&compiled, &mut libraries)?;
        }
        Ok(libraries)
    }

    /// Copies the JVM and the libraries of the Java programs. Says which libraries it links.
    fn java(&self) -> Result<BTreeSet<PathBuf>> {
        let mut libraries = BTreeSet::new();
        if let Some(java) = find("java").and_then(|java| fs::canonicalize(java).ok()) {
            // Of /usr/lib/jvm/NAME/bin/java; its libraries are found from there.
            let home = java.parent().and_then(Path::parent).context("java is not in a JDK")?;
            for name in ["java", "jcmd"] {
                let program = home.join("bin").join(name);
                if program.is_file() {
                    self.copy(&program)?;
                    symlink(&program, self.dir.join("bin").join(name))?;
                    libraries.extend(libraries_of(&program));
                }
            }
            self.tree(&home.join("lib"), &mut libraries)?;
            self.tree(&home.join("conf"), &mut libraries)?;
            if Path::new(JARS).is_dir() {
                for entry in fs::read_dir(JARS)? {
                    let path = entry?.path();
                    if path.is_file() {
                        self.copy(&path)?;
                    }
                }
            }
        }
        Ok(libraries)
    }

    /// Copies what is below a directory, files for links, and adds what its shared objects link.
    fn tree(&self, dir: &Path, libraries: &mut BTreeSet<PathBuf>) -> Result<()> {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        // A stamp begins with a dot and has to be the last.
        entries.sort_by(|one, other| other.cmp(one));
        for path in entries {
            if path.is_dir() {
                self.tree(&path, libraries)?;
            } else if path.is_file() {
                self.copy(&path)?;
                if path.extension().is_some_and(|kind| kind == "so") {
                    libraries.extend(libraries_of(&path));
                }
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }
}

/// What the dynamic linker loads for a program.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let list = quietly(Command::new("ldd").arg(program)).unwrap_or_default();
    list.lines()
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

fn libraries_beside(known: &BTreeSet<PathBuf>, names: &[&str]) -> Vec<PathBuf> {
    let Some(libc) = known.iter().find(|path| path.ends_with("libc.so.6")) else {
        return Vec::new();
    };
    names.iter().map(|name| libc.with_file_name(name)).filter(|path| path.is_file()).collect()
}

/// Packs a directory as the kernel unpacks it, everything root's.
fn archive(dir: &Path, to: &Path) -> Result<()> {
    let mut pack = Command::new("bash");
    pack.args([
        "-c",
        "set -o pipefail; find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet",
    ])
    .current_dir(dir)
    .stdout(fs::File::create(to)?);
    must(&mut pack, "pack the guests' root", "check the disk's free space")
}
