//! What a record costs on its way through user space: decoding it, the table, and each renderer.
//! `cargo bench --package tracer`; needs no privileges.
//!
//! The load is that of `cargo xtask bench`: both ends of loopback connections, one after the other, ten
//! transitions each, so that what is shown is nanoseconds per ten records.

use std::hint::black_box;
use std::io;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use tracer::engine::conn::{Options, Table};
use tracer::engine::{Engine, decode};
use tracer::filter::Filter;
use tracer::input::{Input, Origin};
use tracer::output::lines::{Life, List, Pen, Setting, Tail};
use tracer::output::record::Writer;
use tracer::output::session::Session;
use tracer::output::{Needs, Output};
use tracer::text::Terminal;
use tracer::time::MonoNs;
use tracer_common::TcpState;
use tracer_common::names::SEND_RESET;
use tracer_common::wire::{AF_INET, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

const START: u64 = 1_000_000_000_000;
/// Transitions of a connection, both ends together.
const STEPS: usize = 10;
/// Connections that are open while others come and go.
const OPEN: u64 = 10_000;

/// Makes the records of one connection after the other.
struct Source {
    number: u64,
    now: u64,
}

impl Source {
    fn new() -> Source {
        Source { number: 0, now: START }
    }

    fn record(&mut self, server: bool, old: TcpState, new: TcpState) -> Record {
        self.now += 1_000;
        let mut record = Record::new_zeroed();
        record.mono_ns = self.now;
        record.id = 2 * self.number + u64::from(server);
        record.netns = 4_026_531_840;
        record.kind = RecordKind::Transition as u8;
        record.family = AF_INET;
        (record.old_state, record.new_state) = (old.number(), new.number());
        record.local_addr[..4].copy_from_slice(&[127, 0, 0, 1]);
        record.remote_addr[..4].copy_from_slice(&[127, 1, 0, (self.number % 200) as u8]);
        (record.local_port, record.remote_port) = (32_768 + (self.number % 28_000) as u16, 8089);
        if server {
            (record.local_addr, record.remote_addr) = (record.remote_addr, record.local_addr);
            (record.local_port, record.remote_port) = (record.remote_port, record.local_port);
        }
        record.flags = flags::COUNTERS | flags::HAS_SOCKET;
        if matches!(new, TcpState::SynSent | TcpState::FinWait1 | TcpState::LastAck) {
            record.flags |= flags::OWNER;
            (record.pid, record.tid) = (31_467, 31_470);
            record.comm[..4].copy_from_slice(b"java");
            record.thread[..6].copy_from_slice(b"http-1");
        }
        (record.bytes_sent, record.bytes_received, record.srtt_us) = (1_234, 56_789, 321);
        if new == TcpState::Close {
            record.flags |= flags::DONE;
        }
        record
    }

    /// The next connection: opened by one end, closed by the same.
    fn connection(&mut self) -> [Record; STEPS] {
        use TcpState::{
            Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
        };
        self.number += 1;
        [
            (false, Close, SynSent),
            (true, Listen, SynRecv),
            (true, SynRecv, Established),
            (false, SynSent, Established),
            (false, Established, FinWait1),
            (true, Established, CloseWait),
            (false, FinWait1, FinWait2),
            (true, CloseWait, LastAck),
            // Without DONE a mini-socket would wait for the peer's FIN.
            (false, FinWait2, Close),
            (true, LastAck, Close),
        ]
        .map(|(server, old, new)| self.record(server, old, new))
    }
}

fn options() -> Options {
    Options {
        start: MonoNs(START),
        jiffy_ns: 4_000_000,
        limit: usize::MAX,
        jiffies: None,
        minis_are_seen: false,
        minis_are_asked_for: false,
        resets_are_seen: true,
    }
}

fn origin() -> Origin {
    Origin {
        version: String::new(),
        kernel: String::new(),
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
    }
}

fn session(output: Box<dyn Output>) -> Session {
    Session::begin(Engine::new(origin(), usize::MAX), vec![output]).expect("nothing to fail")
}

fn setting(json: bool) -> Setting {
    let terminal = Terminal { width: None, color: false };
    Setting { pen: Pen::new(json, terminal, TimeZone::UTC), filter: Filter::default() }
}

fn tail(json: bool) -> Session {
    session(Box::new(Tail::new(setting(json))))
}

fn life(json: bool) -> Session {
    session(Box::new(Life::new(setting(json), false, false)))
}

/// Packs records as the recorder does, and throws them away.
struct Recording(Writer<io::Sink>);

impl Output for Recording {
    fn needs(&self) -> Needs {
        Needs { inputs: true, ..Needs::default() }
    }

    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        self.0.push(input)
    }
}

/// Many connections are open, then others come and go.
fn feed(bench: &mut criterion::Bencher<'_>, mut session: Session) {
    let mut source = Source::new();
    for _ in 0..OPEN {
        for record in &source.connection()[..4] {
            session.feed(&Input::Record(record.as_bytes()));
        }
    }
    let mut ticks = 0;
    bench.iter_batched(
        || source.connection(),
        |records| {
            for record in &records {
                session.feed(&Input::Record(record.as_bytes()));
            }
            ticks += 1;
            if ticks % 1_000 == 0 {
                // TIME_WAITs end, and what was written is taken away, as in a live run.
                session.out().clear();
                let now = MonoNs(records[STEPS - 1].mono_ns + 61_000_000_000);
                session.feed(&Input::Tick(now));
            }
        },
        criterion::BatchSize::SmallInput,
    );
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ten records");
    group.throughput(Throughput::Elements(STEPS as u64));
    group.bench_function("decode", |bench| {
        let records = Source::new().connection();
        bench.iter(|| {
            for record in &records {
                let _ = black_box(decode::event(black_box(record.as_bytes())));
            }
        });
    });
    group.bench_function("table", |bench| {
        let mut source = Source::new();
        let mut table = Table::new(options());
        let mut changes = Vec::new();
        let mut apply = |table: &mut Table, record: &Record| {
            if let Ok(event) = decode::event(record.as_bytes()) {
                table.apply(&event, &mut changes);
                black_box(&changes);
                changes.clear();
                table.settle();
            }
        };
        for _ in 0..OPEN {
            source.connection()[..4].iter().for_each(|record| apply(&mut table, record));
        }
        let mut expired = Vec::new();
        let mut count = 0;
        bench.iter_batched(
            || source.connection(),
            |records| {
                records.iter().for_each(|record| apply(&mut table, record));
                count += 1;
                if count % 1_000 == 0 {
                    table.tick(MonoNs(records[0].mono_ns + 61_000_000_000), &mut expired);
                    expired.clear();
                    table.settle();
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("tail as text", |bench| feed(bench, tail(false)));
    group.bench_function("tail as JSON", |bench| feed(bench, tail(true)));
    group.bench_function("life as text", |bench| feed(bench, life(false)));
    group.bench_function("life as JSON", |bench| feed(bench, life(true)));
    group.bench_function("recording", |bench| {
        let writer = Writer::new(io::sink(), &origin()).expect("a sink takes everything");
        feed(bench, session(Box::new(Recording(writer))));
    });
    group.finish();
}

fn list(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a thousand sockets");
    group.throughput(Throughput::Elements(1_000));
    for (name, json) in [("list as text", false), ("list as JSON", true)] {
        group.bench_function(name, |bench| {
            let mut session = session(Box::new(List::new(setting(json), None, false)));
            let mut source = Source::new();
            for _ in 0..500 {
                for record in &source.connection()[..4] {
                    session.feed(&Input::Record(record.as_bytes()));
                }
            }
            let now = MonoNs(source.now);
            bench.iter(|| {
                session.out().clear();
                session.draw_last(now, true);
                black_box(session.waiting());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, records, list);
criterion_main!(benches);
