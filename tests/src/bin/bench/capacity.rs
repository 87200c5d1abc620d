//! Many connections at once: a million in a recording, a hundred thousand real sockets.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::held::Held;
use tests::netns::Netns;
use tests::witness::peak_memory;

use crate::Tools;
use crate::figures::Figure;
use crate::measure::churn;
use crate::process::cpu_ns;
use crate::subject::{Subject, Tracer};
use crate::target::Target;

/// Replays a made-up recording of so many live connections.
pub(crate) fn replay(tools: &Tools, dir: &Path, connections: u64) -> Result<Vec<Target>> {
    eprintln!("bench: a recording of {connections} live connections");
    let file = dir.join("many.tcpt");
    let mut make = Command::new(&tools.many);
    let made = make.arg(connections.to_string()).arg(&file).status().context("many")?;
    ensure!(made.success(), "the recording could not be made");
    let (peak, took) = replay_once(tools, &file, dir)?;
    fs::remove_file(&file)?;
    let limit = connections as f64 * 320e6 / 1e6 / 1e6;
    Ok(vec![
        Target::at_most(
            &format!("memory of `replay` with {connections} live connections"),
            limit,
            " MB",
            Figure::of([peak as f64 / 1e6]),
            0,
        ),
        Target {
            what: "time of that replay".to_owned(),
            asked: "-".to_owned(),
            measured: format!("{took:.2} s"),
            met: None,
        },
    ])
}

/// Most memory and seconds. /proc has the peak only while the process lives: it is read all the time.
fn replay_once(tools: &Tools, file: &Path, dir: &Path) -> Result<(u64, f64)> {
    let began = Instant::now();
    let mut child = Command::new(&tools.tcptrail)
        .arg("replay")
        .arg(file)
        .arg("life")
        .stdin(Stdio::null())
        .stdout(File::create(dir.join("out"))?)
        .stderr(File::create(dir.join("err"))?)
        .spawn()
        .context("tcptrail")?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = peak_memory(child.id()).unwrap_or(0).max(peak);
        sleep(Duration::from_millis(1));
    };
    let said = fs::read_to_string(dir.join("err"))?;
    ensure!(status.success(), "replay failed: {said}");
    Ok((peak, began.elapsed().as_secs_f64()))
}

/// What a tracer costs beside so many open sockets.
pub(crate) struct Beside {
    /// Seconds of `list`, owners included.
    pub(crate) list: f64,
    /// Sockets listed with an owner.
    pub(crate) owned: u64,
    /// Of one processor, while a few connections come and go: looks at mini-sockets and owners.
    pub(crate) ticks: f64,
    /// Most memory of `tail`.
    pub(crate) peak: u64,
}

/// Measures it.
pub(crate) fn beside(tools: &Tools, dir: &Path, sockets: u64, watch: Duration) -> Result<Beside> {
    let netns = Netns::new()?;
    let _held = Held::open(&tools.beside("load").context("no load")?, &netns, sockets)?;
    let began = Instant::now();
    let listed = Command::new(&tools.tcptrail)
        .args(["list", "--json", "--netns", netns.name()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(File::create(dir.join("list"))?)
        .status()?;
    let list = began.elapsed().as_secs_f64();
    ensure!(listed.success(), "list failed");
    let text = fs::read_to_string(dir.join("list"))?;
    let owned =
        text.lines().filter(|line| line.contains("\"fd\":") && !line.contains("\"fd\":null"));
    let owned = owned.count() as u64;
    fs::remove_file(dir.join("list"))?;

    let tracer = Tracer::start(Subject::Tail, tools, dir)?.context("tail")?;
    // A few TIME_WAITs, so that there is something to look at each second.
    let seconds = watch.as_secs().to_string();
    sleep(Duration::from_secs(2));
    let (before, began) = (cpu_ns(tracer.pid())?, Instant::now());
    churn(tools, &netns, &["--seconds", &seconds, "--rate", "5"])?;
    let ticks = (cpu_ns(tracer.pid())? - before) as f64 / began.elapsed().as_nanos() as f64;
    let peak = peak_memory(tracer.pid())?;
    tracer.stop()?;
    Ok(Beside { list, owned, ticks, peak })
}

/// A hundred thousand real ones.
pub(crate) fn sockets(tools: &Tools, dir: &Path, count: u64) -> Result<Vec<Target>> {
    eprintln!("bench: {count} open sockets");
    let beside = beside(tools, dir, count, Duration::from_secs(15))?;
    let listed = Target {
        what: format!("owners known of {count} sockets"),
        asked: "all".to_owned(),
        measured: beside.owned.to_string(),
        met: Some(beside.owned >= count),
    };
    Ok(vec![
        Target::at_most(
            &format!("`list` of {count} sockets with owners, start to end"),
            1.0,
            " s",
            Figure::of([beside.list]),
            2,
        ),
        listed,
        Target::at_most(
            &format!("`tail` beside {count} sockets, of one processor"),
            1.0,
            " %",
            Figure::of([beside.ticks * 100.0]),
            2,
        ),
    ])
}
