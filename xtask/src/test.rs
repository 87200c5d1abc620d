//! `test`: set up, build, lint, then one test run over everything, whose totals come last.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, IsTerminal, stderr, stdin};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::command::{binary, cargo, exit_code, is_root, must, quietly};
use crate::{build, lint, setup};

/// Nextest's variable for the number of tests at a time.
const AT_A_TIME: &str = "NEXTEST_TEST_THREADS";
/// So many live tests at a time leave a machine of two processors half idle.
const LEAST_AT_A_TIME: usize = 6;

pub(crate) fn verb(args: &[OsString]) -> Result<ExitCode> {
    setup::test_tools();
    // First, since it says at once when the objects are not those of the sources.
    lint::all()?;
    build::all()?;

    if quietly(cargo().args(["nextest", "--version"])).is_none() {
        let mut plain = tests(&["test", "--workspace", "--no-fail-fast"])?;
        // Passing tests' output is kept, for their `skipped:` lines.
        plain.args(args).env("RUST_TEST_NOCAPTURE", "1");
        let status = plain.status().context("could not start `cargo test`")?;
        return Ok(exit_code(status));
    }
    // Nextest does not know documentation tests; they come first so that its totals end the run.
    // With arguments somebody wants certain tests, not these.
    if args.is_empty() {
        let mut doc = cargo();
        doc.args(["test", "--quiet", "--workspace", "--doc"]);
        must(&mut doc, "pass the documentation tests", "fix the ones named above")?;
    }
    let mut nextest = tests(&["nextest", "run", "--workspace", "--no-fail-fast"])?;
    if env::var_os(AT_A_TIME).is_none() {
        nextest.env(AT_A_TIME, at_a_time().to_string());
    }
    nextest.args(["--success-output", "immediate"]);
    nextest.args(["--color", if stderr().is_terminal() { "always" } else { "never" }]);
    nextest.args(args);
    filtered(nextest)
}

/// Tests at a time, where nobody says: live tests wait more than they compute (see `.config/nextest.toml`).
fn at_a_time() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).max(LEAST_AT_A_TIME)
}

/// A cargo command that runs tests, the live ones as root where that is possible.
fn tests(args: &[&str]) -> Result<Command> {
    let mut command = cargo();
    command.args(args).env("TCPTRAIL_BIN", binary());
    if !is_root() && can_become_root() {
        let own = env::current_exe().context("could not find xtask's own path")?;
        let mut runner = own.into_os_string();
        runner.push(" test-runner");
        command.env(runner_variable()?, runner);
    }
    Ok(command)
}

fn can_become_root() -> bool {
    // With a person there sudo may ask once, now: tests have no terminal to ask on.
    let arg = if stdin().is_terminal() { "--validate" } else { "--non-interactive" };
    let mut sudo = Command::new("sudo");
    sudo.arg(arg);
    if arg == "--non-interactive" {
        sudo.arg("true").stderr(Stdio::null());
    }
    sudo.status().is_ok_and(|status| status.success())
}

/// Cargo's variable for the program that starts test binaries on this host.
fn runner_variable() -> Result<String> {
    let version = quietly(Command::new("rustc").arg("-vV"))
        .context("could not ask `rustc -vV` for the host's name: check the Rust installation")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host: check the Rust installation")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_")))
}

/// Starts one test binary; only the `tests` package is given root.
pub(crate) fn runner(args: &[OsString]) -> Result<ExitCode> {
    let (program, rest) = args.split_first().context("the test runner named no test binary")?;
    let live = env::var_os("CARGO_PKG_NAME").as_deref() == Some(OsStr::new("tests"));
    let mut command = if live {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "--preserve-env", "--"]).arg(program);
        sudo
    } else {
        Command::new(program)
    };
    let status = command.args(rest).status().context("could not start the test binary")?;
    Ok(exit_code(status))
}

/// Runs nextest, leaving out what passing tests print except that they were skipped.
fn filtered(mut nextest: Command) -> Result<ExitCode> {
    let mut child = nextest.stderr(Stdio::piped()).spawn().context(
        "could not start cargo-nextest: reinstall it with `cargo install cargo-nextest`",
    )?;
    if let Some(pipe) = child.stderr.take() {
        let mut filter = Filter::default();
        for line in BufReader::new(pipe).split(b'\n') {
            let line = line.context("could not read what cargo-nextest prints")?;
            let line = String::from_utf8_lossy(&line);
            if filter.shows(&line) {
                eprintln!("{line}");
            }
        }
    }
    let status = child.wait().context("could not wait for cargo-nextest")?;
    Ok(exit_code(status))
}

/// Decides line by line what of nextest's output is shown.
#[derive(Default)]
struct Filter {
    /// Inside what a passing test printed.
    passed: bool,
}

impl Filter {
    fn shows(&mut self, line: &str) -> bool {
        let plain = without_colour(line);
        let text = plain.trim_start();
        // A status line is capital words and a time: `PASS [   0.004s] (1/3) package test`, or
        // `TRY 1 FAIL [` of a test that may be tried again.
        // Nextest indents what tests print by four spaces, statuses and totals by others.
        let status = text.split_once(" [").is_some_and(|(word, _)| {
            let in_word =
                |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "- ".contains(c);
            word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(in_word)
        });
        let printed = plain.starts_with("    ") && !plain.starts_with("     ");
        if status && !printed {
            let (word, _) = text.split_once(" [").unwrap_or_default();
            self.passed = word.ends_with("PASS");
            return true;
        }
        if plain.starts_with('─') || text.starts_with("Summary [") {
            self.passed = false;
        }
        !self.passed || text.starts_with("skipped: ")
    }
}

/// `line` without terminal escape sequences.
fn without_colour(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // Colours end with a letter.
            let _ = chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_passing_tests_only_skips_are_shown() {
        let output = "\
    Starting 3 tests across 1 binary
        PASS [   0.004s] (1/2) tests a
  stdout ───

    running 1 test
    skipped: needs root
    FAIL [not a status]
    test a ... ok

        \u{1b}[31;1mFAIL\u{1b}[0m [   0.065s] (2/2) tests b
  stdout ───

    why
    PASS [not a status]
    because

        PASS [   0.004s] (3/4) tests c
  stdout ───

    fine

  TRY 1 FAIL [   0.070s] (4/4) tests d
  stdout ───

    why again

  TRY 2 PASS [   0.070s] (4/4) tests d
  stdout ───

    fine now

────────────
     Summary [   0.071s] 4 tests run: 3 passed (1 flaky), 1 failed, 0 skipped";
        let mut filter = Filter::default();
        let shown: Vec<_> = output.lines().filter(|line| filter.shows(line)).collect();
        assert_eq!(
            shown.iter().map(|line| line.trim()).collect::<Vec<_>>(),
            [
                "Starting 3 tests across 1 binary",
                "PASS [   0.004s] (1/2) tests a",
                "skipped: needs root",
                "\u{1b}[31;1mFAIL\u{1b}[0m [   0.065s] (2/2) tests b",
                "stdout ───",
                "",
                "why",
                "PASS [not a status]",
                "because",
                "",
                "PASS [   0.004s] (3/4) tests c",
                "TRY 1 FAIL [   0.070s] (4/4) tests d",
                "stdout ───",
                "",
                "why again",
                "",
                "TRY 2 PASS [   0.070s] (4/4) tests d",
                "────────────",
                "Summary [   0.071s] 4 tests run: 3 passed (1 flaky), 1 failed, 0 skipped",
            ]
        );
    }
}
