//! The flight recorder of `serve`: recordings in segments, of which the oldest go. `keep` decides which, `directory` has
//! the files, `snapshot` is what a segment begins with, and `status` tells metrics of it.
//!
//! Tracing never ends because of it. When a write fails, the segment ends with its last whole frame, and another begins
//! as soon as there is room.

mod directory;
mod keep;
mod snapshot;
mod status;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;

pub use status::{Pause, Status};

use crate::engine::conn::PollKind;
use crate::engine::rules::{self, Finding, Severity};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::input::{Input, Origin, Segment};
use crate::output::record::{self, WriteBehind, Writer};
use crate::output::recorder::directory::Directory;
use crate::output::recorder::keep::{Limits, Part};
use crate::output::{Needs, Output, RulesNeed, Run};
use crate::record_format::Ended;
use crate::record_format::segments::Noted;
use crate::time::MonoNs;

/// Segments in the time and in the size that are kept: what goes at once is no more than this part.
const PARTS: u64 = 48;
/// Bounds of a segment's length, nanoseconds.
const LENGTH: (u64, u64) = (1_000_000_000, 900_000_000_000);
/// Bounds of a segment's size.
const SIZE: (u64, u64) = (64 << 10, 64 << 20);
/// After a write that failed for another reason than a full disk, the next is tried this much later.
const RETRY_NS: u64 = 10_000_000_000;

/// What is recorded, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub path: PathBuf,
    /// Segments that are older go.
    pub keep: Duration,
    /// All segments together are no larger, bytes.
    pub keep_size: u64,
    /// Segments within this time of a finding's appearance stay beyond `keep`.
    pub pin: Duration,
    /// The run's filter.
    pub filter: Filter,
    /// The filters as arguments for a replay.
    pub filter_args: Vec<String>,
    /// The thresholds, in the words of the command line.
    pub thresholds: Vec<String>,
}

/// The output.
#[derive(Debug)]
pub struct FlightRecorder {
    options: Options,
    limits: Limits,
    directory: Directory,
    status: Arc<Status>,
    /// From the beginning of the run on.
    origin: Option<Origin>,
    /// Being written.
    open: Option<Open>,
    /// Of the next segment.
    number: u32,
    /// What was last read of processes and namespaces.
    facts: Vec<u8>,
    /// The sockets there were at the start are in the table.
    walked: bool,
    /// When the rules last looked.
    looked: MonoNs,
    /// Since when nothing is recorded, where it is so.
    paused: Option<MonoNs>,
    /// Not tried before.
    retry: MonoNs,
    /// That it pauses was said.
    told: bool,
}

/// The segment that is being written.
struct Open {
    writer: Writer<WriteBehind>,
    file: Arc<File>,
    path: PathBuf,
    begin: MonoNs,
    events: u64,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} since {:?}", self.path.display(), self.begin)
    }
}

impl FlightRecorder {
    /// Opens the directory.
    ///
    /// # Errors
    /// When it cannot be made or written, others may write it, or another tcptrail records there.
    pub fn new(options: Options, status: Arc<Status>) -> Result<FlightRecorder> {
        let directory = Directory::open(&options.path)
            .with_context(|| format!("--recorder {}", options.path.display()))?;
        let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let limits =
            Limits { age: ns(options.keep), bytes: options.keep_size, pin: ns(options.pin) };
        Ok(FlightRecorder {
            options,
            limits,
            directory,
            status,
            origin: None,
            open: None,
            number: 0,
            facts: Vec::new(),
            walked: false,
            looked: MonoNs(0),
            paused: None,
            retry: MonoNs(0),
            told: false,
        })
    }

    fn wall(&self, at: MonoNs) -> i64 {
        self.origin.as_ref().map_or(0, |origin| origin.anchor().wall_ns(at))
    }

    fn place(&self) -> std::path::Display<'_> {
        self.directory.path().display()
    }

    /// Begins a segment; but for the first of the run, with the sockets there are.
    fn start(&mut self, engine: &Engine, now: MonoNs, continues: bool) -> io::Result<()> {
        let Some(run) = &self.origin else { return Ok(()) };
        let (file, path) = self.directory.create(self.wall(now))?;
        let segment = Segment {
            run_ns: run.start_ns,
            number: self.number,
            continues,
            filter_args: self.options.filter_args.clone(),
            thresholds: self.options.thresholds.clone(),
        };
        let origin = Origin { start_ns: now.0, segment: Some(segment), ..run.clone() };
        let begun = record::begin(Arc::clone(&file), &origin).and_then(|mut writer| {
            if self.number != 0 {
                snapshot::write(engine, &self.facts, now, |input| writer.push(input))?;
                writer.flush()?;
                writer.sink().settle()?;
            }
            Ok(writer)
        });
        match begun {
            Ok(writer) => {
                self.open = Some(Open { writer, file, path, begin: now, events: 0 });
                self.number += 1;
                Ok(())
            }
            Err(error) => {
                // Without its beginning it is of no use.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// The segment that is being written is complete.
    fn finish(&mut self, connections: usize, now: MonoNs) {
        let Some(Open { writer, path, begin, events, file }) = self.open.take() else { return };
        let ended = Ended { events, connections: connections as u64, at: now };
        if let Err(error) = writer.finish(ended).and_then(WriteBehind::close) {
            self.pause(&error, now);
        }
        self.add(&file, path, begin, now);
    }

    fn add(&mut self, file: &File, path: PathBuf, begin: MonoNs, now: MonoNs) {
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        let part = Part { begin: self.wall(begin), end: self.wall(now), bytes };
        self.directory.add(part, path);
    }

    /// A write failed: what is whole of the segment stays.
    fn fail(&mut self, error: &io::Error) {
        let now = MonoNs::now();
        if let Some(Open { writer, file, path, begin, .. }) = self.open.take() {
            // The file ends with its last whole frame.
            drop(writer);
            self.add(&file, path, begin, now);
        }
        self.pause(error, now);
    }

    fn pause(&mut self, error: &io::Error, now: MonoNs) {
        if self.paused.is_none() {
            self.paused = Some(now);
            self.status.count_gap();
        }
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.retry = if full { now } else { now.after(RETRY_NS) };
        if !full {
            self.tell_pause(&error.to_string());
        }
    }

    fn tell_pause(&mut self, why: &str) {
        let why = format!("{}: {why}", self.place());
        if !std::mem::replace(&mut self.told, true) {
            eprintln!(
                "tcptrail: recording pauses: {why}; tracing goes on, and recording resumes when it can be written again"
            );
        }
        let pause = self.paused.map(|since| Pause { since, why });
        self.status.set_pause(pause);
    }

    /// Tries to go on.
    fn resume(&mut self, engine: &Engine, now: MonoNs) {
        // What was recorded last is not given up for what comes.
        if !self.directory.make_room(self.limits.pin, 1) {
            return self.tell_pause("the disk is full");
        }
        // Only one that begins with the run has its sockets to come.
        self.number = self.number.max(1);
        if let Err(error) = self.start(engine, now, false) {
            return self.pause(&error, now);
        }
        let Some(since) = self.paused.take() else { return };
        self.told = false;
        self.status.set_pause(None);
        let seconds = now.since(since).div_ceil(1_000_000_000);
        eprintln!(
            "tcptrail: recording goes on in {}: a write to it failed, and what happened in about {} s is missing",
            self.place(),
            seconds + 1
        );
    }

    fn tick(&mut self, engine: &Engine, now: MonoNs) {
        self.push(&Input::Tick(now));
        let (length, size) = self.turns();
        let full = |open: &Open| now.since(open.begin) >= length || open.writer.written() >= size;
        if self.walked && self.open.as_ref().is_some_and(full) {
            self.finish(engine.table().len(), now);
            self.directory.forget(self.wall(now));
            if self.paused.is_none()
                && let Err(error) = self.start(engine, now, true)
            {
                self.pause(&error, now);
            }
        }
        if self.open.is_none() && now >= self.retry {
            self.resume(engine, now);
        }
    }

    /// How long and how large a segment gets.
    fn turns(&self) -> (u64, u64) {
        let keep = u64::try_from(self.options.keep.as_nanos()).unwrap_or(u64::MAX);
        let length = (keep / PARTS).clamp(LENGTH.0, LENGTH.1);
        (length, (self.options.keep_size / PARTS).clamp(SIZE.0, SIZE.1))
    }

    #[inline]
    fn push(&mut self, input: &Input<'_>) {
        let Some(open) = &mut self.open else { return };
        open.events += u64::from(matches!(input, Input::Record(_)));
        // What is too long for a recording is left out of it.
        if let Err(error) = open.writer.push(input)
            && error.kind() != io::ErrorKind::InvalidInput
        {
            self.fail(&error);
        }
    }

    fn note(&mut self, at: MonoNs, update: &rules::Update, finding: &Finding) {
        let ended = match update {
            rules::Update::Appear => false,
            rules::Update::Clear { .. } => true,
            rules::Update::Change => return,
        };
        let wall_ns = self.wall(at);
        let time = Timestamp::from_nanosecond(wall_ns.into()).map(|time| time.to_string());
        self.directory.note(Noted {
            time: time.unwrap_or_default(),
            wall_ns,
            ended,
            found_ns: if ended { self.wall(self.looked) } else { wall_ns },
            pins: finding.severity != Severity::Note,
            id: finding.id.clone(),
            code: finding.code.to_string(),
            verdict: finding.verdict.clone(),
        });
    }
}

impl Output for FlightRecorder {
    fn needs(&self) -> Needs {
        Needs { inputs: true, rules: RulesNeed::Facts, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.options.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        self.origin = Some(engine.origin().clone());
        let start = engine.origin().start();
        self.walked = !engine.origin().hooked(crate::input::ITER_TCP);
        self.directory.make_room(self.limits.pin, 1);
        if let Err(error) = self.start(engine, start, false) {
            self.pause(&error, MonoNs::now());
        }
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        match update {
            // A segment ends with a tick, so that the next begins with what is known after it.
            Update::Tick(now) => self.tick(engine, *now),
            Update::Finding { at, update, finding } => self.note(*at, update, finding),
            Update::Looked(now) => self.looked = *now,
            Update::Walked { poll, .. } => self.walked |= poll.kind == PollKind::All,
            _ => {}
        }
    }

    #[inline]
    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        match input {
            Input::Tick(_) => return Ok(()),
            Input::Facts(bytes) => {
                self.facts.clear();
                self.facts.extend_from_slice(bytes);
            }
            _ => {}
        }
        self.push(input);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && let Err(error) = open.writer.flush()
        {
            self.fail(&error);
        }
        let open = self.open.as_ref().map_or(0, |open| open.writer.written());
        let now = self.wall(MonoNs::now());
        self.directory.keep(&self.limits, now, open);
        if self.open.is_some() {
            self.directory.make_room(self.limits.pin, 1);
        }
        let (segments, bytes) = self.directory.size();
        self.status.set_size(segments + u64::from(self.open.is_some()), bytes + open);
        Ok(())
    }

    fn end(&mut self, run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        self.finish(run.engine.table().len(), run.now);
        Ok(())
    }
}

/// Whether a path is where a flight recorder records: it has a segment.
#[must_use]
pub fn is_recorder(path: &Path) -> bool {
    use crate::record_format::segments;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| segments::begin(&name).is_some())
}
