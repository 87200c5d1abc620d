//! One subject under one load, and the rounds that make figures of it.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::sys::{Stats, enable_stats};
use serde_json::Value;
use tests::netns::Netns;

use crate::Tools;
use crate::process;
use crate::subject::{Subject, Tracer};

/// After a load: what is under way arrives.
const DRAIN: Duration = Duration::from_millis(300);
/// Before a load: what the last one left in the kernel is tidied away.
const QUIET: Duration = Duration::from_millis(150);

/// What a load did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections opened and closed.
    pub(crate) connections: u64,
    /// Changes of state that were.
    pub(crate) transitions: u64,
    /// Connections a second.
    pub(crate) per_second: f64,
}

/// Runs `load churn ARGS` in a network namespace.
pub(crate) fn churn(tools: &Tools, netns: &Netns, args: &[&str]) -> Result<Load> {
    let mut command = Command::new(tools.beside("load").context("no load")?);
    command.arg("churn").args(args);
    let output = netns.output(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load failed: {said}");
    let value: Value = serde_json::from_slice(&output.stdout)?;
    Ok(Load {
        connections: value["connections"].as_u64().context("connections")?,
        transitions: value["transitions"].as_u64().context("transitions")?,
        per_second: value["per_second"].as_f64().context("per_second")?,
    })
}

/// What a program did for each transition.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its name in the kernel.
    pub(crate) name: String,
    /// Runs.
    pub(crate) runs: f64,
    /// Nanoseconds.
    pub(crate) ns: f64,
}

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Connections a second, kernel statistics off.
    pub(crate) per_second: f64,
    /// Of the same round's load without a tracer.
    pub(crate) slowdown: f64,
    /// Nanoseconds of its programs for each transition.
    pub(crate) kernel_ns: f64,
    /// Runs of its programs for each transition.
    pub(crate) runs: f64,
    /// The same for each program.
    pub(crate) programs: Vec<Program>,
    /// Nanoseconds of processor time of its process for each transition.
    pub(crate) cpu_ns: f64,
    /// Most memory it had resident.
    pub(crate) peak: u64,
    /// Lines there should be: one for each transition; of tcplife, for each end of a connection.
    pub(crate) expected: u64,
    /// Events it has shown.
    pub(crate) seen: Option<u64>,
    /// Events it says it lost.
    pub(crate) lost: Option<u64>,
    /// From its start to its first line.
    pub(crate) started_in: f64,
    /// Bytes of what it has recorded for each transition.
    pub(crate) recorded: f64,
}

/// Puts a subject under load: first for its speed, then, with the kernel's statistics on, for its
/// programs' time.
pub(crate) fn sample(
    subject: Subject,
    tools: &Tools,
    dir: &Path,
    seconds: f64,
    alone: Option<f64>,
) -> Result<Sample> {
    // With its own TIME_WAITs, which go when it goes.
    let netns = Netns::new()?;
    let (long, short) = (seconds.to_string(), (seconds / 3.0).to_string());
    let tracer = Tracer::start(subject, tools, dir)?;
    sleep(QUIET);
    let pid = tracer.as_ref().map(Tracer::pid);
    let cpu = || pid.map_or(Ok(0), process::cpu_ns);
    let before = cpu()?;
    let load = churn(tools, &netns, &["--seconds", &long])?;
    sleep(DRAIN);
    let cpu_ns = (cpu()? - before) as f64 / load.transitions as f64;

    let programs = || pid.map_or(Ok(Default::default()), process::programs);
    let statistics = enable_stats(Stats::RunTime).context("the kernel does not count run times")?;
    let before = programs()?;
    let counted = churn(tools, &netns, &["--seconds", &short])?;
    let after = programs()?;
    drop(statistics);
    let per = |value: u64| value as f64 / counted.transitions as f64;
    let programs: Vec<Program> = after
        .into_iter()
        .map(|(name, ran)| {
            let earlier = before.get(&name).copied().unwrap_or_default();
            Program { name, runs: per(ran.count - earlier.count), ns: per(ran.ns - earlier.ns) }
        })
        .collect();
    sleep(DRAIN);
    let peak = pid.map_or(Ok(0), tests::witness::peak_memory)?;
    let started_in = tracer.as_ref().map_or(0.0, |tracer| tracer.started_in.as_secs_f64());
    let left = tracer.map(Tracer::stop).transpose()?;
    let transitions = load.transitions + counted.transitions;
    Ok(Sample {
        per_second: load.per_second,
        slowdown: alone.map_or(0.0, |alone| 1.0 - load.per_second / alone),
        kernel_ns: programs.iter().map(|program| program.ns).sum(),
        runs: programs.iter().map(|program| program.runs).sum(),
        programs,
        cpu_ns,
        peak,
        expected: if subject == Subject::Tcplife {
            2 * (load.connections + counted.connections)
        } else {
            transitions
        },
        seen: left.as_ref().and_then(|left| left.seen),
        lost: left.as_ref().and_then(|left| left.lost),
        started_in,
        recorded: left.map_or(0.0, |left| left.recorded as f64 / transitions as f64),
    })
}

/// All subjects, round after round, so that what changes on the machine changes for all. Each round
/// has its own load without a tracer, before and after, to compare with.
pub(crate) fn rounds(
    subjects: &[Subject],
    tools: &Tools,
    dir: &Path,
    count: usize,
    seconds: f64,
) -> Result<Vec<(Subject, Vec<Sample>)>> {
    let mut all: Vec<(Subject, Vec<Sample>)> =
        subjects.iter().map(|&subject| (subject, Vec::new())).collect();
    for round in 0..count {
        eprintln!("bench: round {} of {count}", round + 1);
        let before = sample(Subject::None, tools, dir, seconds, None)?;
        let mut made = Vec::new();
        for step in 0..subjects.len() {
            // Each round begins with another one.
            let index = (step + round) % subjects.len();
            if subjects[index] != Subject::None {
                made.push((index, sample(subjects[index], tools, dir, seconds, Some(1.0))?));
            }
        }
        let after = sample(Subject::None, tools, dir, seconds, None)?;
        let alone = f64::midpoint(before.per_second, after.per_second);
        for (index, sample) in made {
            let slowdown = 1.0 - sample.per_second / alone;
            all[index].1.push(Sample { slowdown, ..sample });
        }
        for (subject, samples) in &mut all {
            if *subject == Subject::None {
                for one in [&before, &after] {
                    samples.push(Sample { slowdown: 1.0 - one.per_second / alone, ..one.clone() });
                }
            }
        }
    }
    Ok(all)
}
