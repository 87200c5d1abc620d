//! Which live tests run in the guests, and what they need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::cross;
use crate::command::{cargo, quietly, root};

/// Test binaries that run Python programs.
const OF_PYTHON: [&str; 3] = ["live_hostile", "live_leaks", "live_stuck"];
/// Runs Java and C programs, which are compiled beforehand.
const OF_FIXTURES: &str = "live_leaks";
/// Those of its tests that have no JVM begin like this.
const WITHOUT_JAVA: &str = "native::";
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

/// What `--quick` adds for another architecture: whether its verifier takes every program, and stacks of C and of JVMs,
/// whose registers and frames are others there.
const FOREIGN: [&str; 7] = [
    "live_doctor",
    "live_leaks native::",
    "live_leaks jvm::the_method_that_leaks",
    "live_leaks jvm::without_frame_pointers",
    "live_leaks inlined::inlined_methods",
    "live_leaks inlined::with_plain_flags",
    "live_stuck close_wait::a_server_that_never_closes",
];

/// The live tests to run.
pub(crate) struct Plan {
    /// By name of their binary: where it is, and its tests.
    pub(super) binaries: BTreeMap<String, (PathBuf, Vec<String>)>,
    /// What compiles the programs that they run.
    fixtures: Option<PathBuf>,
}

impl Plan {
    /// Compiles the live tests and takes those whose name contains one of `wanted`, if any.
    pub(crate) fn new(arch: Arch, wanted: &[String], quick: bool) -> Result<Plan> {
        let compiled = compiled(arch)?;
        let mut binaries = BTreeMap::new();
        let selected = |full: &str| {
            QUICK.iter().any(|part| full.contains(part))
                || !arch.is_own() && FOREIGN.iter().any(|part| full.contains(part))
        };
        for (name, path) in compiled.tests {
            let mut lister = if arch.is_own() { Command::new(&path) } else { cross::lister(&path) };
            let list = quietly(lister.args(["--list", "--format", "terse"]));
            let list = list.with_context(|| format!("could not list the tests of {name}"))?;
            let tests: Vec<String> = list
                .lines()
                .filter_map(|line| line.strip_suffix(": test"))
                .filter(|test| {
                    let full = format!("{name} {test}");
                    (wanted.is_empty() || wanted.iter().any(|part| full.contains(part)))
                        && (!quick || selected(&full))
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
        Ok(Plan { binaries, fixtures: compiled.fixtures })
    }

    /// Whether tests in it run Python.
    pub(super) fn needs_python(&self) -> bool {
        self.binaries.keys().any(|name| OF_PYTHON.contains(&name.as_str()))
    }

    /// Whether tests in it run programs that are compiled.
    pub(super) fn needs_fixtures(&self) -> bool {
        self.binaries.contains_key(OF_FIXTURES)
    }

    /// What compiles the programs that tests in it run, if some do.
    pub(super) fn fixtures(&self) -> Option<&Path> {
        self.fixtures.as_deref().filter(|_| self.needs_fixtures())
    }

    /// Whether there are JVMs in it.
    pub(super) fn needs_java(&self) -> bool {
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

/// What cargo compiled of the package `tests`.
#[derive(Default)]
struct Compiled {
    /// Live tests, by name.
    tests: Vec<(String, PathBuf)>,
    /// What compiles the programs that they run.
    fixtures: Option<PathBuf>,
}

/// Compiles the live tests. For this machine as a part of the workspace: alone, some libraries would have fewer
/// features, and `cargo xtask test` would compile everything again.
fn compiled(arch: Arch) -> Result<Compiled> {
    let mut build = if arch.is_own() { cargo() } else { cross::test_build(arch)? };
    build.args(["test", "--no-run", "--tests", "--message-format=json"]);
    if arch.is_own() {
        build.arg("--workspace");
    } else {
        build.args(["--package", "tests", "--target", &crate::dist::triple(arch.name())]);
    }
    build.stderr(std::process::Stdio::inherit());
    let output = build.output().context("could not start cargo")?;
    if !output.status.success() {
        bail!("could not compile the live tests: fix what the compiler says above");
    }
    let manifest = root().join("tests/Cargo.toml");
    let mut found = Compiled::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        if message["manifest_path"].as_str().map(Path::new) != Some(&manifest) {
            continue;
        }
        let target = &message["target"];
        let (Some(kind), Some(name), Some(path)) =
            (target["kind"][0].as_str(), target["name"].as_str(), message["executable"].as_str())
        else {
            continue;
        };
        match (kind, message["profile"]["test"] == true) {
            ("test", true) => found.tests.push((name.to_owned(), path.into())),
            ("bin", false) if name == "fixtures" => found.fixtures = Some(path.into()),
            _ => {}
        }
    }
    Ok(found)
}
