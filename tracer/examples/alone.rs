//! What the thread that reads takes when nothing keeps it waiting:
//! `cargo run --release --example alone [--pause MILLISECONDS] RECORDING|SOCKETS ROUNDS COMMAND...`.
//!
//! Feeds what is in a recording, from memory, to the outputs of each command (`life`, "tail --json"); `decode` stops before
//! the table, `table` before outputs. A number makes up connections instead: so many sockets are open, of which any may be
//! the next to be closed, and another is opened. Lines are thrown away: writing them is another thread's. Prints as JSON, of
//! each round, nanoseconds a transition, and milliseconds of the longest input that is no record; and how many bytes
//! of the ring a transition takes, other events included.
//!
//! With a pause the thread sleeps so long after every 7,000 records of a recording, as a live run does between two looks
//! at full speed: what comes back to cold caches takes longer. Of a recording processor time is counted, without pauses.

use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::mem::offset_of;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tracer::cli::Cli;
use tracer::config::{self, Config};
use tracer::engine::rules::Watch;
use tracer::engine::{Engine, Rules, decode};
use tracer::input::{Input, Origin};
use tracer::output::session::{Session, needs_of};
use tracer::output::{RulesNeed, listed};
use tracer::source::recording::{Item, Reader};
use tracer::time::MonoNs;
use tracer_common::TcpState::{
    self, Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
};
use tracer_common::names::SEND_RESET;
use tracer_common::wire::{AF_INET, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

const START: u64 = 1_000_000_000_000;
/// Made up: connections that are closed and opened between two readings of the clock.
const PIECE: usize = 500;
/// Made up: so many pieces in a round, a million transitions.
const PIECES: usize = 200;
/// Records between two pauses: those of 50 ms at full speed on two processors.
const LOOK: usize = 7_000;
/// The buffer of lines is handed over when it has so much.
const MUCH: usize = 64 << 10;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: alone [--pause MILLISECONDS] RECORDING|SOCKETS ROUNDS COMMAND...";
    let (pause, args) = match &args[..] {
        [option, pause, rest @ ..] if option == "--pause" => {
            (Some(Duration::from_millis(pause.parse().context(usage)?)), rest)
        }
        all => (None, all),
    };
    let [what, rounds, commands @ ..] = args else { anyhow::bail!(usage) };
    let rounds: usize = rounds.parse().context(usage)?;
    let tape = if what.parse::<usize>().is_ok() { None } else { Some(Tape::read(what)?) };
    let mut times = vec![Vec::new(); commands.len()];
    let mut longest = vec![Vec::new(); commands.len()];
    for round in 0..rounds {
        for step in 0..commands.len() {
            // Each round begins with another one.
            let index = (step + round) % commands.len();
            let took = match &tape {
                Some(tape) => tape.play(&commands[index], pause)?,
                None => made_up(what.parse()?, &commands[index])?,
            };
            times[index].push(took.ns);
            longest[index].push(took.longest.as_secs_f64() * 1e3);
        }
    }
    let named = |all: Vec<Vec<f64>>| -> Value {
        commands.iter().cloned().zip(all.into_iter().map(Value::from)).collect()
    };
    let ring_bytes = tape.map_or(0.0, |tape| tape.ring_bytes as f64 / tape.transitions as f64);
    let (ns, longest) = (named(times), named(longest));
    println!("{}", json!({"ring_bytes": ring_bytes, "ns": ns, "longest_ms": longest}));
    Ok(())
}

/// What a round took.
struct Took {
    /// Nanoseconds a transition, whatever comes in between included.
    ns: f64,
    /// Of one input that is no record.
    longest: Duration,
}

/// Where inputs go.
enum Sink {
    Decode,
    Session(Box<Session>),
}

impl Sink {
    fn new(command: &str, origin: &Origin) -> Result<Sink> {
        if command == "decode" {
            return Ok(Sink::Decode);
        }
        if command == "table" {
            let engine = Engine::new(origin.clone(), usize::MAX);
            return Ok(Sink::Session(Box::new(Session::begin(engine, Vec::new())?)));
        }
        let words = ["tcptrail"].into_iter().chain(command.split(' '));
        let cli = Cli::try_parse_from(words)?;
        let config: Config = config::resolve(cli.command, &cli.common)?;
        let outputs = listed::outputs(&config, false, None)?;
        let needs = needs_of(&outputs);
        let rules = (needs.rules != RulesNeed::None).then(|| Rules {
            watch: Watch::new(config.rules(origin.jiffy_ns)),
            scope: config.filter.clone(),
            looks: needs.rules == RulesNeed::Looks,
        });
        let engine = Engine::new(origin.clone(), usize::MAX).with_rules(rules);
        Ok(Sink::Session(Box::new(Session::begin(engine, outputs)?)))
    }

    fn feed(&mut self, input: &Input<'_>) {
        match (self, input) {
            (Sink::Decode, Input::Record(bytes)) => {
                let _ = black_box(decode::event(black_box(bytes)));
            }
            (Sink::Decode, _) => {}
            (Sink::Session(session), _) => {
                session.feed(input);
                if session.waiting() >= MUCH {
                    session.out().clear();
                }
            }
        }
    }
}

/// A recording in memory.
struct Tape {
    origin: Origin,
    bytes: Vec<u8>,
    inputs: Vec<Kept>,
    transitions: usize,
    /// Bytes of what came through the ring, each with the kernel's header.
    ring_bytes: usize,
}

/// An input that does not borrow.
enum Kept {
    Record(Range<usize>),
    Holders(Range<usize>),
    Names(Range<usize>),
    Facts(Range<usize>),
    Other(Input<'static>),
}

impl Tape {
    fn read(path: &str) -> Result<Tape> {
        let file = File::open(path).with_context(|| path.to_owned())?;
        let (origin, mut reader) = Reader::open(BufReader::new(file))?;
        let mut tape =
            Tape { origin, bytes: Vec::new(), inputs: Vec::new(), transitions: 0, ring_bytes: 0 };
        while let Some(Item::Input(input)) = reader.next()? {
            let kept = match input {
                Input::Record(bytes) => {
                    let kind = bytes.get(offset_of!(Record, kind)).copied();
                    tape.transitions += usize::from(kind == Some(RecordKind::Transition as u8));
                    if kind != Some(RecordKind::Socket as u8) {
                        tape.ring_bytes += bytes.len().next_multiple_of(8) + 8;
                    }
                    Kept::Record(tape.keep(bytes))
                }
                Input::Holders(bytes) => Kept::Holders(tape.keep(bytes)),
                Input::Names(bytes) => Kept::Names(tape.keep(bytes)),
                Input::Facts(bytes) => Kept::Facts(tape.keep(bytes)),
                Input::PollBegin => Kept::Other(Input::PollBegin),
                Input::PollEnd { poll, now } => Kept::Other(Input::PollEnd { poll, now }),
                Input::Lost(loss) => Kept::Other(Input::Lost(loss)),
                Input::Tick(now) => Kept::Other(Input::Tick(now)),
            };
            tape.inputs.push(kept);
        }
        ensure!(tape.transitions > 0, "no transition in {path}");
        Ok(tape)
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        from..self.bytes.len()
    }

    fn play(&self, command: &str, pause: Option<Duration>) -> Result<Took> {
        let mut sink = Sink::new(command, &self.origin)?;
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        let mut longest = Duration::ZERO;
        let began = cpu_time();
        for (number, kept) in self.inputs.iter().enumerate() {
            if let Some(pause) = pause
                && number.is_multiple_of(LOOK)
            {
                std::thread::sleep(pause);
            }
            if let Kept::Record(range) = kept {
                sink.feed(&Input::Record(bytes(range)));
                continue;
            }
            let began = Instant::now();
            match kept {
                Kept::Record(_) => {}
                Kept::Holders(range) => sink.feed(&Input::Holders(bytes(range))),
                Kept::Names(range) => sink.feed(&Input::Names(bytes(range))),
                Kept::Facts(range) => sink.feed(&Input::Facts(bytes(range))),
                Kept::Other(input) => sink.feed(input),
            }
            longest = longest.max(began.elapsed());
        }
        let took = cpu_time() - began;
        Ok(Took { ns: took.as_nanos() as f64 / self.transitions as f64, longest })
    }
}

/// What this thread has run.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// While so many sockets are open. Making the records is not counted; the ends of TIME_WAITs are.
fn made_up(sockets: usize, command: &str) -> Result<Took> {
    let origin = Origin {
        version: String::new(),
        kernel: "none: made up".to_owned(),
        machine: String::new(),
        hooks: vec![SEND_RESET.to_owned()],
        filters: Vec::new(),
        wall_at_zero: 0,
        start_ns: START,
        jiffy_ns: 4_000_000,
        jiffies: None,
        reset_reasons: Vec::new(),
        drop_reasons: Vec::new(),
        only_netns: None,
        only_cgroup: false,
        segment: None,
    };
    let mut sink = Sink::new(command, &origin)?;
    let mut source = Source { number: 0, now: START };
    let mut records = Vec::new();
    let mut open = Vec::new();
    for _ in 0..sockets / 2 {
        open.push(source.open(&mut records));
        feed(&mut sink, &mut records);
    }
    let (mut took, mut longest, mut transitions) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..PIECES {
        for _ in 0..PIECE {
            let index = (source.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
            let index = index % open.len();
            source.close(open[index], &mut records);
            open[index] = source.open(&mut records);
        }
        transitions += records.len();
        let began = Instant::now();
        feed(&mut sink, &mut records);
        let ticks = Instant::now();
        source.now += 61_000_000_000;
        sink.feed(&Input::Tick(MonoNs(source.now)));
        longest = longest.max(ticks.elapsed());
        took += began.elapsed();
    }
    Ok(Took { ns: took.as_nanos() as f64 / transitions as f64, longest })
}

fn feed(sink: &mut Sink, records: &mut Vec<Record>) {
    for record in records.drain(..) {
        sink.feed(&Input::Record(record.as_bytes()));
    }
}

/// Makes records of connections, both ends, as the load of `cargo xtask bench` has them.
struct Source {
    number: u64,
    now: u64,
}

impl Source {
    fn open(&mut self, records: &mut Vec<Record>) -> u64 {
        self.number += 1;
        let steps = [
            (false, Close, SynSent),
            (true, Listen, SynRecv),
            (true, SynRecv, Established),
            (false, SynSent, Established),
        ];
        records.extend(steps.map(|step| self.record(self.number, step)));
        self.number
    }

    fn close(&mut self, number: u64, records: &mut Vec<Record>) {
        let steps = [
            (false, Established, FinWait1),
            (true, Established, CloseWait),
            (false, FinWait1, FinWait2),
            (true, CloseWait, LastAck),
            (false, FinWait2, Close),
            (true, LastAck, Close),
        ];
        records.extend(steps.map(|step| self.record(number, step)));
    }

    fn record(&mut self, number: u64, step: (bool, TcpState, TcpState)) -> Record {
        let (server, old, new) = step;
        self.now += 1_000;
        let mut record = Record::new_zeroed();
        record.mono_ns = self.now;
        record.id = 2 * number + u64::from(server);
        record.netns = 4_026_531_840;
        record.kind = RecordKind::Transition as u8;
        record.family = AF_INET;
        (record.old_state, record.new_state) = (old.number(), new.number());
        record.local_addr[..4].copy_from_slice(&[127, 0, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&[127, 1, 0, (number / 28_000 % 200) as u8]);
        (record.local_port, record.remote_port) = (32_768 + (number % 28_000) as u16, 8089);
        if server {
            (record.local_addr, record.remote_addr) = (record.remote_addr, record.local_addr);
            (record.local_port, record.remote_port) = (record.remote_port, record.local_port);
        }
        record.flags = flags::COUNTERS | flags::HAS_SOCKET;
        if matches!(new, SynSent | FinWait1 | LastAck) {
            record.flags |= flags::OWNER;
            (record.pid, record.tid) = (31_467, 31_470);
            record.comm[..4].copy_from_slice(b"java");
            record.thread[..6].copy_from_slice(b"http-1");
        }
        (record.bytes_sent, record.bytes_received, record.srtt_us) = (1_234, 56_789, 321);
        if new == Close {
            record.flags |= flags::DONE;
        }
        record
    }
}
