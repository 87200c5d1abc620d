//! Where it ends: what the ring and the reader can do alone here, and what more processors would do to the ring's lock.

mod queue;
mod reader;
mod ring;

use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use self::queue::{Held, Machine, simulate};
use self::reader::{Alone, alone};
use self::ring::{Kind, Sample};
use crate::Tools;
use crate::compare::aligned;
use crate::figures::Figure;

/// As tcptrail has it, and larger than the caches.
const RINGS: [u32; 2] = [4 << 20, 64 << 20];
/// Processors that are simulated, and rings that they share alike: eight share a cache, 64 are in a socket.
const MACHINES: [(usize, usize); 5] = [(2, 1), (16, 1), (64, 1), (128, 1), (128, 16)];
/// Transitions a second.
const RATES: [f64; 3] = [1e6, 2e6, 5e6];
/// Nanoseconds for a line of cache to go to another processor of the same group, socket, machine: AMD EPYC 7R13 (Milan),
/// <https://github.com/nviennot/core-to-core-latency>. An assumption: here are two processors.
const LINES: [f64; 3] = [23.0, 107.0, 197.0];
/// Open sockets in recordings that are made up.
const SOCKETS: [usize; 2] = [1_000, 1_000_000];

/// All tables, as text and for `--json`.
pub(crate) fn tables(tools: &Tools, dir: &Path, quick: bool) -> Result<(String, Value)> {
    let rounds = if quick { 3 } else { 15 };
    eprintln!("bench: records into rings");
    let (line, rings) = rings(tools, rounds)?;
    let mut text = format!("A line of cache to the other processor: {} ns\n", line.text(0));
    for (bytes, kinds) in &rings {
        text.push_str(&of_ring(*bytes, kinds));
    }
    let held = held(&rings[0].1, line.median);
    text.push_str(&of_lock(held, if quick { 100_000 } else { 2_000_000 }));
    eprintln!("bench: the reader alone");
    let recording = reader::record(tools, dir, if quick { 5_000 } else { 50_000 })?;
    let rounds = if quick { 2 } else { 7 };
    let real = alone(tools, dir, &recording.display().to_string(), rounds)?;
    let mut readers = vec![("the bench's load".to_owned(), real)];
    for sockets in SOCKETS {
        eprintln!("bench: the reader alone, {sockets} open sockets");
        let made = alone(tools, dir, &sockets.to_string(), rounds.min(3))?;
        readers.push((format!("{sockets} open"), made));
    }
    text.push_str(&of_readers(&readers));
    text.push_str(&of_room(readers[0].1.ring_bytes));
    let json = json!({
        "line_ns": line.json(),
        "rings": rings.iter().map(|(bytes, kinds)| ring_json(*bytes, kinds)).collect::<Value>(),
        "held_ns": {"own": held.own, "group": held.group, "socket": held.socket, "other": held.other},
        "ring_bytes_per_transition": readers[0].1.ring_bytes,
        "reader": readers.iter().map(|(name, alone)| json!({
            "of": name,
            "ns_per_transition": alone.ns.iter()
                .map(|(command, figure)| (command.clone(), figure.json()))
                .collect::<serde_json::Map<_, _>>(),
            "longest_ms": alone.longest,
        })).collect::<Value>(),
    });
    Ok((text, json))
}

type Kinds = Vec<(Kind, Vec<Sample>)>;

/// On a thread of its own, which stays on one processor: what is started later must not.
fn rings(tools: &Tools, rounds: usize) -> Result<(Figure, Vec<(u32, Kinds)>)> {
    let all = || -> Result<_> {
        let lines = (0..rounds).map(|_| ring::line()).collect::<Result<Vec<_>>>()?;
        let line = Figure::of(lines).ok_or(anyhow!("no rounds"))?;
        let measure = |bytes| Ok((bytes, ring::measure(&tools.scale, bytes, rounds)?));
        Ok((line, RINGS.into_iter().map(measure).collect::<Result<_>>()?))
    };
    thread::scope(|scope| scope.spawn(all).join().map_err(|_| anyhow!("panicked"))?)
}

/// Title of a column, and its figure.
type Way = (&'static str, fn(&Sample) -> f64);

const WAYS: [Way; 5] = [
    ("ALONE", |one| one.alone),
    ("BOTH, ONE RING", |one| one.shared),
    ("BOTH, A RING EACH", |one| one.apart),
    ("BESIDE A READER", |one| one.read),
    ("READING", |one| one.reading),
];

fn of_ring(bytes: u32, kinds: &Kinds) -> String {
    let head = [format!("RING OF {} MiB, ns A RECORD", bytes >> 20)];
    let mut lines = vec![head.into_iter().chain(WAYS.map(|(name, _)| name.to_owned())).collect()];
    for (kind, samples) in kinds {
        let cells = WAYS.map(|(_, of)| {
            Figure::of(samples.iter().map(of)).map_or("-".to_owned(), |figure| figure.text(0))
        });
        lines.push([kind.name.to_owned()].into_iter().chain(cells).collect());
    }
    format!("\n{}", aligned(&lines))
}

fn ring_json(bytes: u32, kinds: &Kinds) -> Value {
    let rows = kinds.iter().map(|(kind, samples)| {
        let figures = WAYS.map(|(name, of)| {
            (name.to_owned(), Figure::of(samples.iter().map(of)).map(|figure| figure.json()).into())
        });
        json!({"record": kind.name, "ns": figures.into_iter().collect::<serde_json::Map<_, _>>()})
    });
    json!({"bytes": bytes, "records": rows.collect::<Value>()})
}

/// How long a record keeps others from theirs, at most: what reserving and submitting take alone, and the lines of cache
/// that come from the processor that wrote last. How many those are is seen where both write after other work, so that
/// they seldom meet.
fn held(kinds: &Kinds, line: f64) -> Held {
    let median = |program: &str, of: fn(&Sample) -> f64| {
        let samples = kinds.iter().find(|(kind, _)| kind.program == program);
        let samples = samples.map(|(_, samples)| samples.iter().map(of));
        samples.and_then(Figure::of).map_or(f64::NAN, |figure| figure.median)
    };
    let own = median("bare_record", |one| one.alone);
    let moved = median("paced_record", |one| one.shared) - median("paced_record", |one| one.alone);
    let lines = moved.max(0.0) / line;
    let [group, socket, other] = LINES.map(|there| own + lines * there);
    Held { own, group, socket, other }
}

fn of_lock(held: Held, records: usize) -> String {
    let Held { own, group, socket, other } = held;
    let mut text = format!(
        "\nThe lock is held, ns: {own:.0} after the same processor, {group:.0} after one of its group, {socket:.0} of its socket, {other:.0} of another\n"
    );
    let head =
        ["PROCESSORS", "RINGS", "ASKED/s", "WRITTEN/s", "LOCK BUSY %", "WAIT ns", "WAIT p99 ns"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (processors, rings) in MACHINES {
        let machine = Machine { processors: processors / rings, group: 8, socket: 64 };
        for rate in RATES {
            let outcome = simulate(machine, held, rate / rings as f64, records);
            lines.push(vec![
                processors.to_string(),
                rings.to_string(),
                format!("{rate:.0}"),
                format!("{:.0}", outcome.per_second * rings as f64),
                format!("{:.0}", outcome.busy * 100.0),
                format!("{:.0}", outcome.mean),
                format!("{:.0}", outcome.p99),
            ]);
        }
    }
    text.push_str(&aligned(&lines));
    text
}

fn of_readers(readers: &[(String, Alone)]) -> String {
    let head = ["THE READER ALONE", "", "ns A TRANSITION", "TRANSITIONS/s", "LONGEST INPUT ms"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (of, alone) in readers {
        for (command, figure) in &alone.ns {
            lines.push(vec![
                command.clone(),
                of.clone(),
                figure.text(0),
                format!("{:.0}", 1e9 / figure.median),
                format!("{:.1}", alone.longest.get(command).copied().unwrap_or(0.0)),
            ]);
        }
    }
    format!("\n{}", aligned(&lines))
}

/// How long the reader may be away.
fn of_room(ring_bytes: f64) -> String {
    let mut text = format!("\nA transition takes {ring_bytes:.0} bytes of the ring\n");
    for bytes in RINGS {
        for rate in RATES {
            let ms = f64::from(bytes) / (ring_bytes * rate) * 1e3;
            let mib = bytes >> 20;
            text.push_str(&format!("{mib} MiB at {rate:.0}/s are full after {ms:.0} ms\n"));
        }
    }
    text
}
