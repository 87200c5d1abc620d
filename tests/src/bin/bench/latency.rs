//! How long starting and ending take, and what an idle tracer costs.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tests::netns::Netns;

use crate::Tools;
use crate::figures::Figure;
use crate::measure::churn;
use crate::process::cpu_ns;
use crate::subject::{Subject, Tracer};
use crate::target::Target;

/// Starts are measured this often.
const STARTS: usize = 7;

/// Start to first event, Ctrl-C to exit, idle.
pub(crate) fn targets(tools: &Tools, dir: &Path, idle: Duration) -> Result<Vec<Target>> {
    eprintln!("bench: starts and ends");
    let mut targets = Vec::new();
    for args in [&["tail"][..], &["tail", "--json"], &["life"]] {
        let times: Result<Vec<f64>> = (0..STARTS).map(|_| first_event(tools, args)).collect();
        targets.push(Target::at_most(
            &format!("start to first event, `{}`", args.join(" ")),
            500.0,
            " ms",
            Figure::of(times?),
            0,
        ));
    }
    for subject in Subject::OWN {
        let mut times = Vec::new();
        for _ in 0..3 {
            times.push(end_after_burst(subject, tools, dir)?);
        }
        targets.push(Target::at_most(
            &format!("Ctrl-C to exit right after a load, all shown, `{}`", subject.name()),
            200.0,
            " ms",
            Figure::of(times),
            0,
        ));
    }
    eprintln!("bench: idle for {} s", idle.as_secs());
    // Of a machine on which nothing happens: others' TIME_WAITs would be looked at once a second.
    let netns = Netns::new()?;
    let tracer = Tracer::start_in(&netns, tools, dir)?;
    sleep(Duration::from_secs(2));
    let (before, began) = (cpu_ns(tracer.pid())?, Instant::now());
    sleep(idle);
    let used = (cpu_ns(tracer.pid())? - before) as f64 / began.elapsed().as_nanos() as f64;
    tracer.stop()?;
    targets.push(Target::at_most(
        "idle, of one processor",
        0.1,
        " %",
        Figure::of([used * 100.0]),
        3,
    ));
    Ok(targets)
}

/// Milliseconds from starting the process to the first line about a connection that is opened and
/// closed all the while.
fn first_event(tools: &Tools, args: &[&str]) -> Result<f64> {
    let netns = Netns::new()?;
    let began = Instant::now();
    let mut child = Command::new(&tools.tcptrail)
        .args(args)
        .args(["--netns", netns.name()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("tcptrail")?;
    let stdout = child.stdout.take().context("a pipe")?;
    let reader = std::thread::spawn(move || -> Result<Instant> {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            // The header, the start line, and what was there before are no events.
            if line.contains("127.0.0.") {
                return Ok(Instant::now());
            }
        }
        bail!("no event came")
    });
    let traffic = netns.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        while !reader.is_finished() && began.elapsed() < Duration::from_secs(10) {
            drop(TcpStream::connect(listener.local_addr()?)?);
            drop(listener.accept()?);
            sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let stopped = child.kill().and_then(|()| child.wait());
    traffic?;
    stopped?;
    let came = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    Ok((came - began).as_secs_f64() * 1e3)
}

/// Milliseconds from Ctrl-C to the end, when it comes the moment a load is over; everything must
/// have been shown.
fn end_after_burst(subject: Subject, tools: &Tools, dir: &Path) -> Result<f64> {
    let netns = Netns::new()?;
    let tracer = Tracer::start(subject, tools, dir)?.context("a tracer")?;
    let load = churn(tools, &netns, &["--connections", "20000"])?;
    let left = tracer.stop()?;
    let seen = left.seen.context("no summary")?;
    ensure!(
        seen >= load.transitions,
        "{}: {seen} of {} transitions were shown",
        subject.name(),
        load.transitions
    );
    Ok(left.ended_in.as_secs_f64() * 1e3)
}
