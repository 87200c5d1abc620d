//! `soak --verdicts`: healthy software under load for minutes, and what `stuck` and `leaks` say of it with default
//! thresholds.
//!
//! Nothing here leaks, so a finding that says *leak* fails the run. Every other finding is printed at the end: a
//! person judges whether it is one that an engineer would give.

mod deploy;
mod found;
mod pools;
mod wrk;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tests::netns::Netns;
use tests::tcptrail::{Run, Tcptrail};

use crate::verdicts::found::Table;

/// A load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Load {
    /// Pools before nginx, PostgreSQL and Redis that are idle for longer than these like.
    Pools,
    /// wrk before nginx, haproxy and Tomcat.
    Wrk,
    /// An old JVM is drained and a new one started, again and again, under load.
    Deploy,
}

const ALL: [Load; 3] = [Load::Pools, Load::Wrk, Load::Deploy];

impl Load {
    fn ready(self) -> bool {
        match self {
            Load::Pools => pools::ready(),
            Load::Wrk => wrk::ready(),
            Load::Deploy => deploy::ready(),
        }
    }

    /// Runs it; says what it has done.
    fn run(self, netns: &Netns, time: Duration) -> Result<Vec<String>> {
        match self {
            Load::Pools => pools::run(netns, time),
            Load::Wrk => wrk::run(netns, time),
            Load::Deploy => deploy::run(netns, time),
        }
    }
}

/// Runs one load, or all one after the other. Returns whether nothing healthy was called a leak.
pub(crate) fn run(program: &Path, minutes: u64, only: Option<Load>) -> Result<bool> {
    let mut good = true;
    for load in ALL.into_iter().filter(|&load| only.is_none_or(|only| only == load)) {
        ensure!(load.ready(), "{load:?} cannot run here");
        good &= watch(program, load, Duration::from_secs(60 * minutes))?;
    }
    Ok(good)
}

/// `tcptrail VIEW --netns NAME MORE`, told apart from what else runs.
fn view(program: &Path, netns: &Netns, view: &str, more: &[&str]) -> Result<Tcptrail> {
    let mut command = Command::new(program);
    command.args([view, "--netns", netns.name()]).args(more).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Tcptrail::spawn(command)
}

fn watch(program: &Path, load: Load, time: Duration) -> Result<bool> {
    let netns = Netns::new()?;
    let text = view(program, &netns, "stuck", &[])?;
    let leaks = view(program, &netns, "leaks", &["--watch=4m"])?;
    let mut stuck = view(program, &netns, "stuck", &["--json"])?;
    // Three start at a time.
    let patience = Duration::from_secs(120);
    stuck.wait_for_within("start", patience, |event| event.kind() == "start")?;
    // These two say nothing when they have begun.
    sleep(Duration::from_secs(3));
    println!("{load:?}: {} minutes, watched by stuck, stuck --json and leaks", time.as_secs() / 60);
    let did = load.run(&netns, time);
    let [stuck, text, leaks] = [stuck.stop()?, text.stop()?, leaks.stop()?];
    for line in did? {
        println!("  {line}");
    }
    judge(load, &stuck, &text, &leaks)
}

fn judge(load: Load, stuck: &Run, text: &Run, leaks: &Run) -> Result<bool> {
    let table = Table::of(stuck)?;
    println!("{table}");
    let text = String::from_utf8_lossy(&text.raw).into_owned();
    println!("{load:?}, stuck as text:\n{text}");
    let report = String::from_utf8_lossy(&leaks.raw).into_owned();
    println!("{load:?}, what leaks says every four minutes:\n{report}");
    for run in [stuck, leaks] {
        println!("{}", run.stderr.lines().last().unwrap_or_default());
    }
    let mut good = true;
    let mut hold = |what: &str, holds: bool| {
        println!("{} {load:?}: {what}", if holds { "ok" } else { "NO" });
        good &= holds;
    };
    hold(&format!("{} findings say leak", table.leaks()), table.leaks() == 0);
    let leaking = text.lines().filter(|line| line.contains(" leaks ") || line.contains(" leak "));
    // `no leak` is what is said of a pool.
    let leaking = leaking.filter(|line| !line.contains("no leak")).count();
    hold(&format!("{leaking} lines of text say leak"), leaking == 0);
    let collected = report.matches("garbage collector").count();
    hold(&format!("{collected} openers left closing to the garbage collector"), collected == 0);
    hold("nothing was lost", stuck.stderr.contains(" 0 lost") && leaks.stderr.contains(" 0 lost"));
    Ok(good)
}
