//! One kernel in QEMU: boot, listen to what it says, stop it when it takes too long.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::arch::Arch;
use super::emulator::Emulator;
use super::initrd::initrd;
use super::packages::Kernel;
use super::plan::Plan;
use crate::command::target;

/// Longest that a guest may say nothing: a test may take two tries of four minutes.
const SILENCE: Duration = Duration::from_secs(600);
/// How often a guest is started that does not come up.
const BOOTS: usize = 3;
/// The root with its JDK is in memory, and one test runs fifty tracers at a time.
const MEMORY: &str = "3G";

/// What a guest is given.
pub(crate) struct Machine<'a> {
    pub(crate) arch: Arch,
    pub(crate) emulator: &'a Emulator,
    pub(crate) cpus: usize,
    /// No test begins after that.
    pub(crate) seconds: Option<u64>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    /// Passed at its second try; what it said at the first.
    Flaky(String),
    /// Why it could not run.
    Skipped(String),
    /// What it said.
    Failed(String),
}

/// What became of a guest.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// By binary and test.
    pub(crate) outcomes: BTreeMap<(String, String), Outcome>,
    /// Whether its first process was at work.
    pub(crate) booted: bool,
    /// How long it ran.
    pub(crate) took: Duration,
    /// Whether it came to its end; else the last of its console.
    pub(crate) cut_off: Option<String>,
    /// What was said outside of tests.
    pub(crate) said: String,
}

impl Report {
    pub(crate) fn of(&self, binary: &str, test: &str) -> Option<&Outcome> {
        self.outcomes.get(&(binary.to_owned(), test.to_owned()))
    }

    /// Whether no test of the plan failed, and all were run; when time is `short`, a third of them.
    pub(crate) fn is_good(&self, plan: &Plan, short: bool) -> bool {
        let failed = self.outcomes.values().any(|outcome| matches!(outcome, Outcome::Failed(_)));
        let all = plan.tests().count();
        let enough = if short { all.div_ceil(3) } else { all };
        !failed && self.cut_off.is_none() && self.outcomes.len() >= enough
    }
}

/// Boots `kernel` and takes down what the tests come to. A guest that dies before its first process is at
/// work has told nothing of tcptrail: it boots again.
pub(crate) fn run(
    kernel: &Kernel,
    base: &Path,
    plan: &Plan,
    machine: &Machine<'_>,
) -> Result<Report> {
    let initrd = initrd(kernel, base)?;
    for _ in 1..BOOTS {
        let report = boot(kernel, &initrd, plan, machine)?;
        if report.booted {
            return Ok(report);
        }
        eprintln!("xtask: {}: did not boot: once more", kernel.series);
    }
    boot(kernel, &initrd, plan, machine)
}

fn boot(kernel: &Kernel, initrd: &Path, plan: &Plan, machine: &Machine<'_>) -> Result<Report> {
    let console = target().join(format!("kernels/guest-{}/console", kernel.release));
    let mut append = format!("rdinit=/init panic=-1 {}", machine.arch.command_line());
    if let Some(seconds) = machine.seconds {
        // What the kernel does not know goes into the first process's environment.
        append.push_str(&format!(" TEST_SECONDS={seconds}"));
    }
    let mut qemu = machine.emulator.command();
    qemu.args(["-accel", "tcg,thread=multi", "-m", MEMORY])
        .args(["-smp", &machine.cpus.to_string()])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &append])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    machine.arch.machine(&mut qemu, &console);
    let start = Instant::now();
    let mut child =
        qemu.spawn().with_context(|| format!("could not start {}", machine.emulator.name()))?;
    let stdout = child.stdout.take().context("QEMU's output")?;
    let mut words = File::create(console.with_file_name("words"))?;
    let (sender, lines) = channel();
    let reader = thread::spawn(move || listen(stdout, &sender));
    let mut listener =
        Listener { series: &kernel.series, left: plan.tests().count(), ..Listener::default() };
    let stuck = loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                // Kept beside the console, for who wants to know before the end.
                let _ = writeln!(words, "{line}");
                listener.take(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if stuck {
        // It may have ended in between, which is what is wanted.
        let _ = child.kill();
    }
    child.wait().context("could not wait for QEMU")?;
    let _ = reader.join();
    let mut report = listener.report;
    report.took = start.elapsed();
    if !listener.done {
        let text = std::fs::read(&console).unwrap_or_default();
        let last = String::from_utf8_lossy(&text[text.len().saturating_sub(3000)..]).into_owned();
        report.cut_off = Some(last);
    }
    Ok(report)
}

fn listen(stdout: impl Read, sender: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// Puts lines from the second serial port together.
#[derive(Default)]
struct Listener<'a> {
    series: &'a str,
    left: usize,
    report: Report,
    /// Of the test that is being told: binary, name, exit code, tries, milliseconds, its words.
    test: Option<(String, String, i32, u32, u64, String)>,
    done: bool,
}

impl Listener<'_> {
    fn take(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("@@test ") {
            let mut words = rest.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (binary, name) = (word(), word());
            let mut number = || word().parse::<i64>().unwrap_or(-1);
            let (code, tries, took) = (number(), number(), number());
            self.test = Some((
                binary,
                name,
                i32::try_from(code).unwrap_or(-1),
                u32::try_from(tries).unwrap_or(1),
                u64::try_from(took).unwrap_or(0),
                String::new(),
            ));
        } else if line == "@@end" {
            self.end();
        } else if let Some(rest) = line.strip_prefix("@@ready ") {
            self.report.booted = true;
            eprintln!("xtask: {}: booted: {rest} s", self.series);
        } else if line.starts_with("@@done") {
            self.done = true;
        } else if let Some(test) = &mut self.test {
            test.5.push_str(line);
            test.5.push('\n');
        } else {
            self.report.said.push_str(line);
            self.report.said.push('\n');
        }
    }

    fn end(&mut self) {
        let Some((binary, name, code, tries, took, words)) = self.test.take() else { return };
        let skipped = words.lines().find_map(|line| line.strip_prefix("skipped: "));
        let outcome = match (code, skipped) {
            (0, Some(why)) => Outcome::Skipped(why.to_owned()),
            (0, None) if tries > 1 => Outcome::Flaky(words),
            (0, None) => Outcome::Passed,
            // 124 and 137 are the words of `timeout`.
            (124 | 137, _) => Outcome::Failed(format!("{words}\ntook too long")),
            _ => Outcome::Failed(words),
        };
        self.left = self.left.saturating_sub(1);
        let word = match &outcome {
            Outcome::Passed => "passed",
            Outcome::Flaky(_) => "passed at its second try",
            Outcome::Skipped(_) => "skipped",
            Outcome::Failed(_) => "FAILED",
        };
        eprintln!(
            "xtask: {}: {word}: {binary} {name} ({:.1} s, {} to go)",
            self.series,
            std::time::Duration::from_millis(took).as_secs_f64(),
            self.left
        );
        self.report.outcomes.insert((binary, name), outcome);
    }
}
