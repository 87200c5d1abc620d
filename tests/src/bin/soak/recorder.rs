//! The flight recorder of `serve`: its segments turn, and its disk is full now and then.
//!
//! What is asked of it: that it says so while it records nothing, goes on once there is room, keeps to its size, and
//! has what `tail` recorded beside it, to the last transition.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::disk::Disk;
use tests::witness::now_ns;

use crate::follow::{Step, steps};
use crate::serve::Serve;

/// A segment is a forty-eighth of it: five seconds.
pub(crate) const KEEP: &str = "4m";
const KEEP_SECONDS: u64 = 240;
/// What the segments together may take. Whatever else the machine does goes into them, too.
pub(crate) const KEEP_SIZE: &str = "8MiB";
const KEEP_BYTES: u64 = 8 << 20;
const DISK_BYTES: u64 = 12 << 20;

/// From one filling to the next.
const CYCLE: Duration = Duration::from_secs(180);
/// How long the disk stays full.
const FULL: Duration = Duration::from_secs(20);
/// Until it has to go on.
const PATIENCE: Duration = Duration::from_secs(15);
/// So long before the load ends the disk is not filled any more: there is to be something to compare.
const LAST: Duration = Duration::from_secs(100);

#[derive(Clone, Copy)]
enum Mood {
    Room {
        until: Instant,
    },
    Full {
        until: Instant,
    },
    /// There is room again; it has to go on by then.
    Resuming {
        until: Instant,
    },
}

pub(crate) struct Recorder {
    disk: Disk,
    dir: PathBuf,
    mood: Mood,
    /// Times that the disk was full.
    filled: u32,
    /// It paused this time, and said so.
    seen: bool,
    /// Gaps that it had told of before.
    gaps: f64,
    /// Times that it paused and said so, or told of a gap: where removing its oldest segment made room at once.
    said: u32,
    /// Since when it records again, CLOCK_MONOTONIC.
    since: u64,
    /// What was wrong.
    wrong: Vec<String>,
}

impl Recorder {
    /// Makes the disk, before `serve` starts.
    pub(crate) fn new(place: &Path) -> Result<Recorder> {
        let root = place.join("disk");
        fs::create_dir(&root)?;
        let disk = Disk::mount(&root, DISK_BYTES)?;
        Ok(Recorder {
            disk,
            dir: root.join("recorder"),
            mood: Mood::Room { until: Instant::now() + CYCLE / 2 },
            filled: 0,
            seen: false,
            gaps: 0.0,
            said: 0,
            since: now_ns(),
            wrong: Vec::new(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Goes on with what is done to it; the load lasts so long still.
    pub(crate) fn step(&mut self, serve: &Serve, left: Duration) -> Result<()> {
        let now = Instant::now();
        match self.mood {
            Mood::Room { until } if now >= until && left > LAST => {
                self.filled += 1;
                self.gaps = metric(serve, "gaps_total")?;
                self.mood = Mood::Full { until: now + FULL };
            }
            Mood::Room { .. } => {}
            // It removes its oldest segments first. While the soak compares, nobody fills, and it has room for a moment.
            Mood::Full { until } if now < until => {
                self.disk.fill()?;
                self.seen = self.seen || paused(serve)? && says(serve)?;
            }
            Mood::Full { .. } => {
                let gap = metric(serve, "gaps_total")? > self.gaps;
                self.said += u32::from(std::mem::take(&mut self.seen) || gap);
                self.disk.empty()?;
                self.mood = Mood::Resuming { until: now + PATIENCE };
            }
            Mood::Resuming { until } => {
                if !paused(serve)? && !says(serve)? {
                    self.since = now_ns();
                    self.mood = Mood::Room { until: now + CYCLE };
                } else if now >= until {
                    self.wrong.push("it does not go on".to_owned());
                    self.mood = Mood::Room { until: now + CYCLE };
                }
            }
        }
        Ok(())
    }

    /// Looks at its size, as often as the caller likes.
    pub(crate) fn look(&mut self) -> Result<()> {
        let (segments, bytes) = self.size()?;
        // The last segment is being written.
        if bytes > KEEP_BYTES + KEEP_BYTES / 8 || segments > 60 {
            self.wrong.push(format!("{segments} files of {bytes} bytes"));
        }
        Ok(())
    }

    /// Files, and their bytes.
    fn size(&self) -> Result<(usize, u64)> {
        let entries = fs::read_dir(&self.dir)?.collect::<Result<Vec<_>, _>>()?;
        // One may just have been removed.
        let bytes = entries.iter().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        Ok((entries.len(), bytes))
    }

    /// What it has of the last minutes, beside what `tail` recorded; and whether all was well.
    pub(crate) fn verdict(
        &self,
        program: &Path,
        recording: &Path,
        net: &str,
        ended: u64,
    ) -> Result<(String, bool)> {
        let second = 1_000_000_000;
        let all = steps(program, &self.dir, net).context("its own directory")?;
        // It keeps so much of the time before it was stopped, which was after the load had settled.
        let mut from = self.since.max(now_ns().saturating_sub(KEEP_SECONDS * second));
        // Other sockets of the machine filled it: it has less.
        if self.size()?.1 > KEEP_BYTES / 2 {
            from = from.max(all.first().map_or(0, |step| step.at));
        }
        let (from, until) = (from + 2 * second, ended.saturating_sub(second));
        ensure!(from < until, "nothing to compare");
        // Each program reads the clock for itself, so that a step at the edge is within it for one only.
        let within = |steps: &BTreeSet<Step>, more: u64| -> BTreeSet<String> {
            let time = from - more..until + more;
            steps.iter().filter(|step| time.contains(&step.at)).map(Step::what).collect()
        };
        let tape = steps(program, recording, net)?;
        let (theirs, own) = (within(&tape, 0), within(&all, 0));
        let missing = theirs.difference(&within(&all, second)).cloned().collect::<Vec<_>>();
        let more = own.difference(&within(&tape, second)).cloned().collect::<Vec<_>>();
        let different: Vec<_> = missing.into_iter().chain(more).take(5).collect();
        let Recorder { filled, said, wrong, .. } = self;
        let text = format!(
            "full {filled} times, said {said} times; {} and {} transitions of the last {} s, different {different:?}; wrong {wrong:?}",
            own.len(),
            theirs.len(),
            (until - from) / second,
        );
        let well = filled == said && wrong.is_empty() && different.is_empty() && own.len() > 100;
        Ok((text, well))
    }
}

fn paused(serve: &Serve) -> Result<bool> {
    Ok(metric(serve, "paused")? > 0.0)
}

fn metric(serve: &Serve, name: &str) -> Result<f64> {
    let metrics = serve.ask("/metrics")?;
    let (head, space) = ("tcptrail_recorder_", ' ');
    let value =
        |line: &str| line.strip_prefix(head)?.strip_prefix(name)?.strip_prefix(space)?.parse().ok();
    metrics.lines().find_map(value).with_context(|| format!("no metric {head}{name}"))
}

/// Whether it has a finding about itself.
fn says(serve: &Serve) -> Result<bool> {
    Ok(serve.ask("/findings")?.contains("\"TT501\""))
}
