//! The guests' root: what the live tests use of this machine, as an archive that the kernel unpacks
//! into memory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::plan::Plan;
use super::stage::{Libraries, Stage, archive, libraries_beside, libraries_of};
use crate::command::{binary, find, root, target};

/// Of this machine, where it has them: a test that misses one says so and is skipped.
const PROGRAMS: [&str; 46] = [
    "bash", "ip", "ss", "nft", "bpftool", "nginx", "haproxy", "wrk", "curl", "socat", "tcpdump",
    "setpriv", "mount", "umount", "unshare", "nsenter", "timeout", "date", "cat", "head", "tail",
    "stty", "sleep", "mkdir", "rm", "mv", "ln", "env", "id", "true", "false", "chmod", "seq", "tr",
    "xargs", "kill", "ps", "uname", "stdbuf", "flock", "strace", "setcap", "sed", "mkfifo",
    "prlimit", "setarch",
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

const INIT: &str = include_str!("init.sh");
const RUN_ONE: &str = include_str!("run-one.sh");

/// How a guest runs them.
pub(crate) struct Running<'a> {
    /// Tests at a time.
    pub(crate) jobs: usize,
    /// Instead of tests.
    pub(crate) shell: Option<&'a str>,
}

/// Makes the archive that all guests share.
pub(crate) fn image(plan: &Plan, running: &Running<'_>) -> Result<PathBuf> {
    let stage = Stage::empty(target().join("kernels/root"))?;
    for sub in
        ["bin", "proc", "sys", "dev", "run", "tmp", "mnt", "etc", "root", "tests", "var/log/nginx"]
    {
        stage.folder(sub)?;
    }
    stage.folder("var/lib/nginx")?;
    let mut libraries = programs(&stage)?;
    libraries.extend(tests(&stage, plan)?);
    if plan.needs_python() {
        libraries.extend(stage.python()?);
    }
    if let Some(compiler) = plan.fixtures() {
        libraries.extend(stage.fixtures(compiler)?);
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
    first_process(&stage, plan, running)?;
    let image = target().join("kernels/root.cpio");
    archive(&stage.dir, &image)?;
    Ok(image)
}

/// Writes the first process, and the lists of tests that it is to run.
pub(super) fn first_process(stage: &Stage, plan: &Plan, running: &Running<'_>) -> Result<()> {
    let (mut side_by_side, mut alone) = (String::new(), String::new());
    for (name, test) in plan.tests() {
        let line = format!("{name} {test}\n");
        let is_alone = ALONE.iter().any(|part| line.contains(part));
        let list = if is_alone { &mut alone } else { &mut side_by_side };
        list.push_str(&line);
    }
    stage.write("tests/side-by-side", &side_by_side, 0o644)?;
    stage.write("tests/alone", &alone, 0o644)?;
    stage.write("tests/jobs", &running.jobs.to_string(), 0o644)?;
    if let Some(shell) = running.shell {
        stage.write("tests/shell", shell, 0o755)?;
    }
    stage.write("init", INIT, 0o755)?;
    stage.write("bin/run-one", RUN_ONE, 0o755)
}

/// Copies this machine's tools, and tcptrail. Says which libraries they link.
fn programs(stage: &Stage) -> Result<Libraries> {
    let mut libraries = BTreeSet::new();
    symlink("bash", stage.dir.join("bin/sh"))?;
    let busybox = find("busybox").context("busybox is not here")?;
    fs::copy(&busybox, stage.dir.join("bin/busybox"))?;
    for program in PROGRAMS {
        if let Some(path) = find(program) {
            let path = fs::canonicalize(&path)?;
            fs::copy(&path, stage.dir.join("bin").join(program))?;
            libraries.extend(libraries_of(&path));
        }
    }
    stage.strip(&binary(), "bin/tcptrail")?;
    libraries.extend(libraries_of(&binary()));
    Ok(libraries)
}

/// Copies the compiled tests. Says which libraries they link.
fn tests(stage: &Stage, plan: &Plan) -> Result<Libraries> {
    let mut libraries = BTreeSet::new();
    for (name, (path, _)) in &plan.binaries {
        stage.strip(path, &format!("tests/{name}"))?;
        libraries.extend(libraries_of(path));
    }
    Ok(libraries)
}
