//! Memory, processor time and descriptors of those who watch.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::Load;

const EVERY: Duration = Duration::from_secs(30);
/// More than this between the second and the last third is growth.
const FLAT_KIB: u64 = 1024;

/// Of one process, over time.
struct Watched {
    name: &'static str,
    pid: u32,
    resident_kib: Vec<u64>,
}

/// Of all of them.
pub(crate) struct Figures {
    began: Instant,
    next: Instant,
    all: Vec<Watched>,
}

impl Figures {
    pub(crate) fn new(all: &[(&'static str, u32)]) -> Self {
        let now = Instant::now();
        let watched = |&(name, pid)| Watched { name, pid, resident_kib: Vec::new() };
        Figures { began: now, next: now, all: all.iter().map(watched).collect() }
    }

    /// Takes them when it is time, and prints a line.
    pub(crate) fn take(&mut self, load: &Load) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next += EVERY;
        let mut line = format!("{:>5.0?}s", self.began.elapsed().as_secs_f64());
        for one in &mut self.all {
            let status = fs::read_to_string(format!("/proc/{}/status", one.pid))
                .with_context(|| format!("{} has ended", one.name))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            // A process that has ended and was not waited for has no memory.
            let resident = resident.with_context(|| format!("{} has ended", one.name))?;
            let resident = resident.trim().trim_end_matches(" kB");
            let resident: u64 = resident.parse()?;
            one.resident_kib.push(resident);
            let descriptors = fs::read_dir(format!("/proc/{}/fd", one.pid))?.count();
            let cpu = cpu_seconds(one.pid)?;
            line += &format!("  {}: {resident} KiB, {descriptors} fds, {cpu:.2} s CPU", one.name);
        }
        println!("{line}  load: {}", load.summary());
        Ok(())
    }

    /// Whether memory was flat: the last third against the second, the first being for warming up.
    pub(crate) fn verdicts(&self) -> Vec<(&'static str, String, bool)> {
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or(0)
        };
        let verdict = |one: &Watched| {
            let third = one.resident_kib.len() / 3;
            let second = median(&one.resident_kib[third..2 * third]);
            let last = median(&one.resident_kib[2 * third..]);
            let most = one.resident_kib.iter().max().copied().unwrap_or(0);
            let text = format!("{second} KiB in the second third, {last} in the last, most {most}");
            (one.name, text, last <= second + FLAT_KIB)
        };
        self.all.iter().map(verdict).collect()
    }
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may have spaces.
    let (_, rest) = stat.rsplit_once(')').context("no name")?;
    let ticks: Vec<u64> =
        rest.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(ticks.iter().sum::<u64>() as f64 / per_second as f64)
}
