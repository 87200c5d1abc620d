//! The ring: what a record costs one processor alone, two in one ring, two in a ring each, and beside a reader.

use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{SocketFilter, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Records that a program writes in one run; so in `bench-scale.rs`.
const RECORDS: usize = 16;
/// A packet that nobody looks at, as long as the kernel asks for.
const PACKET: [u8; 64] = [0; 64];

/// What is written, and how long it is with the kernel's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Its program.
    pub(crate) program: &'static str,
    /// As in the table.
    pub(crate) name: &'static str,
    bytes: usize,
}

/// From nothing to everything.
pub(crate) const KINDS: [Kind; 8] = [
    Kind { program: "no_record", name: "the time alone", bytes: 0 },
    Kind { program: "bare_record", name: "64 bytes, not filled", bytes: 72 },
    Kind { program: "record_64", name: "64 bytes", bytes: 72 },
    Kind { program: "record_96", name: "96 bytes", bytes: 104 },
    Kind { program: "record_128", name: "128 bytes", bytes: 136 },
    Kind { program: "record_whole", name: "144 bytes", bytes: 152 },
    Kind { program: "paced_nothing", name: "other work alone", bytes: 0 },
    Kind { program: "paced_record", name: "96 bytes after other work", bytes: 104 },
];

/// Nanoseconds a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// One processor writes.
    pub(crate) alone: f64,
    /// Both write into one ring: for each of them.
    pub(crate) shared: f64,
    /// Both write into a ring each.
    pub(crate) apart: f64,
    /// One writes while the other reads.
    pub(crate) read: f64,
    /// What reading takes, of records that the other processor has written.
    pub(crate) reading: f64,
}

/// The programs with a ring of their own.
struct Rig {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    bytes: usize,
}

impl Rig {
    fn load(object: &Path, bytes: u32) -> Result<Rig> {
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader.map_max_entries("SCALE_RING", bytes).load_file(object)?;
        for kind in KINDS {
            let program = ebpf.program_mut(kind.program).context(kind.program)?;
            <&mut SocketFilter>::try_from(program)?.load()?;
        }
        let ring = RingBuf::try_from(ebpf.take_map("SCALE_RING").context("no ring")?)?;
        Ok(Rig { ebpf, ring, bytes: bytes as usize })
    }

    fn program(&self, kind: Kind) -> Result<&SocketFilter> {
        Ok(self.ebpf.program(kind.program).context(kind.program)?.try_into()?)
    }

    /// Takes out what is there, and looks at every line of it. Returns how many records.
    fn drain(&mut self) -> usize {
        let mut records = 0;
        while let Some(record) = self.ring.next() {
            black_box(record.iter().step_by(64).fold(0, |sum: u8, &byte| sum.wrapping_add(byte)));
            records += 1;
        }
        records
    }

    /// Nothing was left out: a record that finds no room costs less.
    fn check(&self) -> Result<()> {
        let full: PerCpuArray<_, u64> =
            self.ebpf.map("SCALE_FULL").context("no count of the full")?.try_into()?;
        let count: u64 = full.get(&0, 0)?.iter().sum();
        ensure!(count == 0, "{count} records found the ring full");
        Ok(())
    }
}

/// Runs of a program so that all producers fill half the ring.
fn runs(kind: Kind, bytes: usize, producers: usize) -> u32 {
    // Without a record the ring says nothing, and other work takes some time.
    let most = if kind.program.starts_with("paced") { 512 } else { usize::MAX };
    (bytes / 2 / kind.bytes.max(64) / RECORDS / producers).min(most) as u32
}

/// Nanoseconds a record, as the kernel measures its runs.
fn run(program: &SocketFilter, runs: u32) -> Result<f64> {
    let options = TestRunOptions { data_in: Some(&PACKET), repeat: runs, ..Default::default() };
    Ok(program.test_run(options)?.duration.as_nanos() as f64 / RECORDS as f64)
}

fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).context("cannot stay on one processor")
}

/// On a processor each, begun at the same moment. Returns the mean of both.
fn both(programs: [&SocketFilter; 2], runs: u32) -> Result<f64> {
    let here = AtomicUsize::new(0);
    let producer = |processor: usize| {
        pin(processor)?;
        here.fetch_add(1, Ordering::SeqCst);
        while here.load(Ordering::SeqCst) < 2 {
            spin_loop();
        }
        run(programs[processor], runs)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| producer(1));
        let one = scope.spawn(|| producer(0)).join();
        let join = |result: thread::Result<Result<f64>>| result.map_err(|_| anyhow!("panicked"))?;
        Ok(f64::midpoint(join(one)?, join(other.join())?))
    })
}

/// On processor 0, while processor 1 reads.
fn beside_a_reader(rig: &mut Rig, kind: Kind) -> Result<f64> {
    let runs = runs(kind, rig.bytes, 1);
    let Rig { ebpf, ring, .. } = rig;
    let program: &SocketFilter = ebpf.program(kind.program).context(kind.program)?.try_into()?;
    let (reads, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            // Elsewhere it would be in the way: the figure would show it.
            let _ = pin(1);
            reads.store(true, Ordering::SeqCst);
            loop {
                let last = ended.load(Ordering::SeqCst);
                while let Some(record) = ring.next() {
                    black_box(record[0]);
                }
                if last {
                    return;
                }
            }
        });
        while !reads.load(Ordering::SeqCst) {
            spin_loop();
        }
        let ns = run(program, runs);
        ended.store(true, Ordering::SeqCst);
        ns
    })
}

/// Each kind in each way, once a round, in rings of so many bytes.
pub(crate) fn measure(
    object: &Path,
    bytes: u32,
    rounds: usize,
) -> Result<Vec<(Kind, Vec<Sample>)>> {
    let mut all: Vec<(Kind, Vec<Sample>)> = KINDS.map(|kind| (kind, Vec::new())).into();
    let mut rigs = [Rig::load(object, bytes)?, Rig::load(object, bytes)?];
    // The first is of memory that was never touched, and does not count.
    for round in 0..=rounds {
        for (kind, samples) in &mut all {
            let sample = sample(&mut rigs, *kind)?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    Ok(all)
}

fn sample(rigs: &mut [Rig; 2], kind: Kind) -> Result<Sample> {
    let bytes = rigs[0].bytes;
    pin(0)?;
    let alone = run(rigs[0].program(kind)?, runs(kind, bytes, 1))?;
    pin(1)?;
    let began = Instant::now();
    let records = rigs[0].drain();
    let reading = began.elapsed().as_nanos() as f64 / records as f64;
    let one = rigs[0].program(kind)?;
    let shared = both([one, one], runs(kind, bytes, 2))?;
    rigs[0].drain();
    let apart = both([rigs[0].program(kind)?, rigs[1].program(kind)?], runs(kind, bytes, 1))?;
    rigs[1].drain();
    rigs[0].drain();
    pin(0)?;
    let read = beside_a_reader(&mut rigs[0], kind)?;
    rigs.iter().try_for_each(Rig::check)?;
    Ok(Sample { alone, shared, apart, read, reading })
}

/// Nanoseconds from one processor's write to the other's sight of it: a line of cache goes to and fro.
pub(crate) fn line() -> Result<f64> {
    const TIMES: usize = 200_000;
    let ball = AtomicUsize::new(0);
    // Each waits for its turn, and gives it to the other.
    let play = |own: usize| -> Result<()> {
        pin(own)?;
        for turn in 0..TIMES {
            while ball.load(Ordering::Acquire) != 2 * turn + own {
                spin_loop();
            }
            ball.store(2 * turn + own + 1, Ordering::Release);
        }
        Ok(())
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        play(0)?;
        other.join().map_err(|_| anyhow!("panicked"))?
    })?;
    Ok(began.elapsed().as_nanos() as f64 / (2 * TIMES) as f64)
}
