//! What it costs to know when the peer's FIN comes to sockets that no event tells of, beside very many TIME_WAITs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use tests::netns::{Netns, Pair};

use crate::Tools;
use crate::figures::Figure;
use crate::measure::churn;
use crate::process::cpu_ns;
use crate::subject::{Subject, Tracer};
use crate::target::Target;

const TIME_WAITS: u64 = 200_000;
/// Connections a second that are closed here first.
const RATE: f64 = 5.0;
/// So much later the other side closes.
const PAUSE: Duration = Duration::from_millis(2_300);
/// So long after that it may take to be told.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client's port, and when.
type Moment = (u16, Instant);

/// `tail --json` of a namespace with the TIME_WAITs, while a few connections are closed there first: their peers are in
/// another namespace, which it does not see. Before the first TIME_WAIT is over.
pub(crate) fn targets(tools: &Tools, dir: &Path, _: usize, seconds: f64) -> Result<Vec<Target>> {
    // As long as there is before the first TIME_WAIT is over: a walk over all of them comes some twenty seconds after the last.
    let count = (seconds * 24.0 * RATE) as usize;
    let pair = Pair::new()?;
    pair.left.sysctl("ipv4/tcp_max_tw_buckets", "400000")?;
    eprintln!("bench: {TIME_WAITS} TIME_WAITs, and {count} connections to look at");
    churn(tools, &pair.left, &["--connections", &TIME_WAITS.to_string(), "--close", "client"])?;
    let mut tail = Command::new(&tools.tcptrail);
    tail.args(["tail", "--json", "--netns", pair.left.name()]);
    let tracer = Tracer::spawn(Subject::TailJson, tail, dir)?;
    sleep(Duration::from_secs(2));
    let listener = pair.right.run(|| Ok(TcpListener::bind((Pair::RIGHT, 0))?))?;
    let port = listener.local_addr()?.port();
    let (sender, fins) = channel();
    thread::spawn(move || close_later(&listener, count, &sender));
    let (before, began) = (cpu_ns(tracer.pid())?, Instant::now());
    let told = thread::scope(|scope| {
        let client = scope.spawn(|| close_first(&pair.left, port, count));
        let told = told(&dir.join("out"), count);
        client.join().map_err(|_| anyhow!("the client panicked"))??;
        told
    })?;
    let share = (cpu_ns(tracer.pid())? - before) as f64 / began.elapsed().as_nanos() as f64;
    tracer.stop()?;
    let delays = delays(&fins, &told);
    let missing = (count - delays.len()) as u64;
    let of = |what: &str| format!("`tail --json` beside {TIME_WAITS} TIME_WAITs, {what}");
    Ok(vec![
        Target::at_most(&of("of one processor"), 1.0, " %", Figure::of([share * 100.0]), 2),
        Target::at_most(&of("FIN to its line"), 1.0, " s", Figure::of(delays), 2),
        Target::zero(&of("FINs not told"), Some(missing), count as u64),
    ])
}

/// Connects and closes at once: a FIN_WAIT2 without a process, until the peer closes.
fn close_first(netns: &Netns, port: u16, count: usize) -> Result<()> {
    netns.run(|| {
        let began = Instant::now();
        for number in 0..count {
            drop(TcpStream::connect((Pair::RIGHT, port)).context("the client cannot connect")?);
            let due = Duration::from_secs_f64((number + 1) as f64 / RATE);
            sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(())
    })
}

/// Closes each connection after a while, and says when.
fn close_later(listener: &TcpListener, count: usize, fins: &Sender<Moment>) {
    for stream in listener.incoming().take(count).flatten() {
        let fins = fins.clone();
        thread::spawn(move || {
            sleep(PAUSE);
            let port = stream.peer_addr().map_or(0, |peer| peer.port());
            let at = Instant::now();
            drop(stream);
            // Nobody waits for it any more: the run has failed.
            let _ = fins.send((port, at));
        });
    }
}

/// When the output has told of each FIN that came.
fn told(out: &Path, count: usize) -> Result<Vec<Moment>> {
    let patience = Duration::from_secs_f64(count as f64 / RATE) + PAUSE + PATIENCE;
    let mut file = File::open(out)?;
    let (began, mut text, mut told) = (Instant::now(), Vec::new(), Vec::new());
    while told.len() < count && began.elapsed() < patience {
        sleep(Duration::from_millis(10));
        file.read_to_end(&mut text)?;
        let now = Instant::now();
        let Some(end) = text.iter().rposition(|&byte| byte == b'\n') else { continue };
        let lines: Vec<u8> = text.drain(..=end).collect();
        let ports = lines.split(|&byte| byte == b'\n').filter_map(came_to);
        told.extend(ports.map(|port| (port, now)));
    }
    Ok(told)
}

/// The port of a FIN_WAIT2 that became TIME_WAIT.
fn came_to(line: &[u8]) -> Option<u16> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let is = |key: &str, text: &str| value[key].as_str() == Some(text);
    let remote = value["remote"].as_str()?.starts_with(Pair::RIGHT);
    let wanted = is("old", "FIN_WAIT2") && is("new", "TIME_WAIT") && remote;
    let (_, port) = value["local"].as_str()?.rsplit_once(':')?;
    port.parse().ok().filter(|_| wanted)
}

/// Seconds from each FIN to its line.
fn delays(fins: &Receiver<Moment>, told: &[Moment]) -> Vec<f64> {
    let told: HashMap<u16, Instant> = told.iter().copied().collect();
    let delay = |(port, at): Moment| Some(told.get(&port)?.duration_since(at).as_secs_f64());
    fins.try_iter().filter_map(delay).collect()
}
