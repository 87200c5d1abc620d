//! Which live tests run in the guests, and what they need.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, quietly};

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

/// The live tests to run.
pub(crate) struct Plan {
    /// By name of their binary: where it is, and its tests.
    pub(super) binaries: BTreeMap<String, (PathBuf, Vec<String>)>,
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

    /// Whether tests in it run Python.
    pub(super) fn needs_python(&self) -> bool {
        self.binaries.keys().any(|name| OF_PYTHON.contains(&name.as_str()))
    }

    /// Whether there are compiled programs in it.
    pub(super) fn needs_fixtures(&self) -> bool {
        self.binaries.contains_key(OF_FIXTURES)
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
