//! What it costs to have `serve` always running: idle, beside many sockets, a transition, a scrape.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::held::Held;
use tests::netns::Netns;

use crate::Tools;
use crate::figures::Figure;
use crate::measure::sample;
use crate::process::{cpu_ns, resident};
use crate::subject::{Subject, Tracer};
use crate::target::Target;

/// As many as have names of their own in metrics.
const SERVICES: usize = 200;
/// What a scrape has to have at least.
const SERIES: usize = 10_000;
const SCRAPES: usize = 20;
/// Walks, names and rules have settled.
const SETTLE: Duration = Duration::from_secs(20);

/// In so many rounds of so many seconds.
pub(crate) fn targets(
    tools: &Tools,
    dir: &Path,
    count: usize,
    seconds: f64,
) -> Result<Vec<Target>> {
    let mut all = vec![idle(tools, dir, Duration::from_secs_f64(seconds * 40.0))?];
    all.push(beside_sockets(tools, dir)?);
    const SUBJECTS: [Subject; 2] = [Subject::ServeRecorder, Subject::ServeDefault];
    let mut samples = SUBJECTS.map(|subject| (subject, Vec::new()));
    for round in 0..count {
        eprintln!("bench: serve, round {} of {count}", round + 1);
        for (subject, samples) in &mut samples {
            samples.push(sample(*subject, tools, dir, seconds, None)?);
        }
    }
    for (subject, samples) in samples {
        let name = subject.name();
        let us = Figure::of(samples.iter().map(|one| one.cpu_ns / 1e3));
        let what = format!("processor time a transition, `{name}`");
        all.push(Target::at_most(&what, 1.0, " us", us, 2));
        let lost = samples.iter().map(|one| one.lost).sum();
        let expected = samples.iter().map(|one| one.expected).sum();
        all.push(Target::zero(&format!("lost by `{name}`"), lost, expected));
    }
    all.extend(scrapes(tools, dir)?);
    Ok(all)
}

/// With everything on, and nothing to do.
fn idle(tools: &Tools, dir: &Path, time: Duration) -> Result<Target> {
    eprintln!("bench: serve, idle for {time:.0?}");
    let tracer = Tracer::start(Subject::ServeDefault, tools, dir)?.context("a tracer")?;
    sleep(SETTLE);
    let (before, began) = (cpu_ns(tracer.pid())?, Instant::now());
    sleep(time);
    let share = (cpu_ns(tracer.pid())? - before) as f64 / began.elapsed().as_nanos() as f64;
    tracer.stop()?;
    let share = Figure::of([share * 100.0]);
    Ok(Target::at_most("`serve --recorder` idle, of one processor", 0.1, " %", share, 3))
}

fn beside_sockets(tools: &Tools, dir: &Path) -> Result<Target> {
    let netns = Netns::new()?;
    let _held = Held::open(&tools.beside("load").context("no load")?, &netns, 10_000)?;
    let tracer = Tracer::start(Subject::ServeDefault, tools, dir)?.context("a tracer")?;
    sleep(SETTLE);
    let megabytes = Figure::of([resident(tracer.pid())? as f64 / 1e6]);
    tracer.stop()?;
    let what = "`serve --recorder` beside 10,000 sockets, resident";
    Ok(Target::at_most(what, 40.0, " MB", megabytes, 1))
}

/// `services hold`.
struct Services(Child);

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn scrapes(tools: &Tools, dir: &Path) -> Result<Vec<Target>> {
    let netns = Netns::new()?;
    let socket = dir.join("scraped");
    let mut serve = Command::new(&tools.tcptrail);
    serve.args(["serve", "--netns", netns.name(), "--labels", "port"]);
    serve.args(["--threshold", "CLOSE_WAIT=1s", "--listen"]);
    serve.arg(format!("unix:{}", socket.display()));
    let tracer = Tracer::spawn(Subject::Serve, serve, dir)?;
    let mut hold = Command::new(tools.beside("services").context("no services")?);
    hold.args(["hold", &SERVICES.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut services = Services(netns.spawn(&mut hold)?);
    let mut line = String::new();
    BufReader::new(services.0.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
    ensure!(line.contains("services"), "the services could not be started");
    sleep(SETTLE);
    let (mut times, mut series) = (Vec::new(), usize::MAX);
    for _ in 0..SCRAPES {
        sleep(Duration::from_millis(700));
        let began = Instant::now();
        let text = scrape(&socket)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        series = series.min(text.lines().filter(|line| !line.starts_with('#')).count());
    }
    let megabytes = resident(tracer.pid())? as f64 / 1e6;
    eprintln!(
        "bench: {series} series of {SERVICES} services; serve has {megabytes:.0} MB resident"
    );
    tracer.stop()?;
    ensure!(series >= SERIES, "{series} series are too few to measure a scrape of {SERIES}");
    let what = format!("a scrape of {series} series");
    Ok(vec![Target::at_most(&what, 20.0, " ms", Figure::of(times), 1)])
}

fn scrape(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text:.80}");
    Ok(text)
}
