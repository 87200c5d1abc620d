//! The thread that reads: what a transition takes it when nothing keeps it waiting.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::netns::Netns;

use crate::Tools;
use crate::figures::Figure;
use crate::measure::churn;
use crate::subject::{Subject, Tracer};

/// What was measured of one recording.
pub(crate) struct Alone {
    /// Bytes that a transition takes in the ring, all events included.
    pub(crate) ring_bytes: f64,
    /// Nanoseconds a transition, by command.
    pub(crate) ns: Vec<(String, Figure)>,
    /// Milliseconds that the longest input took which is no record, by command.
    pub(crate) longest: BTreeMap<String, f64>,
}

/// Records the bench's own load. Returns where it is.
pub(crate) fn record(tools: &Tools, dir: &Path, connections: usize) -> Result<PathBuf> {
    let netns = Netns::new()?;
    let tracer = Tracer::start(Subject::Record, tools, dir)?.context("no tracer")?;
    churn(tools, &netns, &["--connections", &connections.to_string()])?;
    // The tracer's own name of it goes when it ends.
    let kept = dir.join("kept");
    fs::hard_link(dir.join("recording"), &kept)?;
    tracer.stop()?;
    Ok(kept)
}

/// `what`: a recording, or how many sockets are open in one that is made up.
pub(crate) fn alone(tools: &Tools, dir: &Path, what: &str, rounds: usize) -> Result<Alone> {
    let record = format!("record {}", dir.join("alone").display());
    let serve = format!("serve --no-openers --listen unix:{}", dir.join("alone.socket").display());
    let commands = ["decode", "table", "life", "tail", "tail --json", &record, &serve];
    let output = Command::new(&tools.alone)
        .args([what, &rounds.to_string()])
        .args(commands)
        .output()
        .context("alone")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "alone failed: {said}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |of: &Value| {
        Figure::of(of.as_array().into_iter().flatten().filter_map(Value::as_f64))
            .context("nothing was measured")
    };
    let name = |command: &str| match command.split_once(" /").or(command.split_once(" --no")) {
        Some((name, _)) => name.to_owned(),
        None => command.to_owned(),
    };
    let mut alone = Alone {
        ring_bytes: told["ring_bytes"].as_f64().unwrap_or(0.0),
        ns: Vec::new(),
        longest: BTreeMap::new(),
    };
    for command in commands {
        alone.ns.push((name(command), figure(&told["ns"][command])?));
        alone.longest.insert(name(command), figure(&told["longest_ms"][command])?.max);
    }
    Ok(alone)
}
