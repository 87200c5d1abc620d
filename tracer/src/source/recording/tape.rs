//! What a replay reads, as often as it is wanted: a file, a bundle, or the segments of a flight recorder, and which part
//! of it is shown.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use jiff::tz::TimeZone;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{Config, Show, Span, between, moment};
use crate::input::Origin;
use crate::output::incident::evidence::About;
use crate::output::recorder::is_recorder;
use crate::privileges;
use crate::record_format::segments::{self, FINDINGS, MOST_FINDINGS, Noted};
use crate::source::recording::chosen::{self, Key};
use crate::source::recording::error::ReadError;
use crate::source::recording::inputs::Inputs;
use crate::source::recording::opened::{as_watched, opened};
use crate::source::recording::reader::{Item, Reader};
use crate::source::recording::times::time_of;
use crate::time::MonoNs;

/// What happened so long before the time that is shown is taken in, so that what is known then is nearly what was known
/// live.
const LEAD_NS: i64 = 3_600_000_000_000;

/// So much before and after the appearance of a finding is shown.
const AROUND_NS: i64 = 600_000_000_000;

/// A recording.
pub(super) struct Tape {
    path: PathBuf,
    /// The file; of a flight recorder the segments that are read.
    files: Vec<File>,
    /// What is before is taken in and not shown.
    pub(super) from: Option<MonoNs>,
    until: Option<MonoNs>,
}

impl Tape {
    /// Opens it, gives up privileges, and finds the part that is asked for.
    ///
    /// # Errors
    /// When it cannot be read, or has nothing of that part.
    pub(super) fn open(config: &Config, path: &Path) -> Result<Tape> {
        let name = || path.display().to_string();
        if path.is_dir() && is_recorder(path) {
            return of_recorder(config, path).with_context(name);
        }
        let file = File::open(path).with_context(name)?;
        // It may come from a stranger, and be made to do harm.
        privileges::keep_only(&[]);
        let files = vec![file];
        let mut tape = Tape { path: path.to_owned(), files, from: None, until: None };
        match &config.span {
            None => {}
            Some(Span::Around(_)) => bail!(
                "{}: --around is for the directory of `serve --recorder`: only there findings are noted",
                name()
            ),
            Some(Span::Times { from, to }) => {
                let (origin, inputs, _) = tape.inputs(config)?;
                let wall = |at| origin.anchor().wall_ns(at);
                // What is wrong with it is said when it is shown.
                let (last, _) = length(inputs, origin.start());
                let there = (wall(origin.start()), wall(last));
                let shown = between((from.as_ref(), to.as_ref()), there, &TimeZone::system())
                    .map_err(|error| anyhow!("{}: {error}", name()))?;
                tape.show(origin.wall_at_zero, shown);
            }
        }
        Ok(tape)
    }

    /// Only this part, Unix time in nanoseconds, of a run whose clock was 0 then.
    fn show(&mut self, wall_at_zero: i64, (from, until): (i64, i64)) {
        let mono = |at: i64| {
            let ns = at.saturating_sub(wall_at_zero);
            MonoNs(u64::try_from(ns).unwrap_or(0))
        };
        self.from = Some(mono(from));
        self.until = Some(mono(until));
    }

    /// From the beginning, and the configuration as the run that made it had it.
    ///
    /// # Errors
    /// When it is no recording this version can read.
    pub(super) fn inputs(&self, config: &Config) -> Result<(Origin, Inputs, Config)> {
        let name = || self.path.display().to_string();
        let again = |file: &File| -> io::Result<File> {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok(file)
        };
        let mut files = VecDeque::new();
        for file in &self.files {
            files.push_back(again(file).with_context(name)?);
        }
        let first = files.pop_front().context("no file")?;
        let (recording, mut about): (Box<dyn Read>, About) = match files.is_empty() {
            true => opened(first, &self.path).with_context(name)?,
            false => (Box::new(first), About::default()),
        };
        let (origin, inputs) = Inputs::open(recording, files, self.until).with_context(name)?;
        if let Some(segment) = &origin.segment {
            about.filter_args.clone_from(&segment.filter_args);
            about.thresholds.clone_from(&segment.thresholds);
        }
        let config = as_watched(config, &about).with_context(name)?;
        Ok((origin, inputs, config))
    }
}

/// The time of its last input, and what is wrong with it, if anything is.
pub(super) fn length(mut inputs: Inputs, start: MonoNs) -> (MonoNs, Option<ReadError>) {
    let mut last = start;
    loop {
        match inputs.next() {
            Ok(Some(Item::Input(input))) => last = last.max(time_of(&input)),
            Ok(Some(Item::Ended(ended))) => last = last.max(ended.at),
            Ok(None) => return (last, None),
            Err(error) => return (last, Some(error)),
        }
    }
}

/// A segment whose header makes sense.
struct Segment {
    key: Key,
    file: File,
}

impl Segment {
    /// When what it holds ends.
    fn end(&self) -> Result<i64> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        let (origin, inputs) = Inputs::open(Box::new(file), VecDeque::new(), None)?;
        let (last, _) = length(inputs, origin.start());
        Ok(origin.anchor().wall_ns(last))
    }
}

fn of_recorder(config: &Config, path: &Path) -> Result<Tape> {
    // All of them, while it may: privileges are given up then. There may be more than a process has open usually.
    let mut files_open = getrlimit(Resource::Nofile);
    files_open.current = files_open.maximum;
    // If that is refused, opening them says so.
    let _ = setrlimit(Resource::Nofile, files_open);
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(begin) = name.to_str().and_then(segments::begin) {
            match File::open(entry.path()) {
                // The recorder removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => files.push((begin, file.with_context(|| name.display().to_string())?)),
            }
        }
    }
    let noted = File::open(path.join(FINDINGS)).ok();
    privileges::keep_only(&[]);
    files.sort_unstable_by_key(|(begin, _)| *begin);
    let mut all = Vec::new();
    let mut wrong = None;
    for (_, file) in files {
        match Reader::open(file.try_clone()?) {
            Ok((origin, _)) => {
                all.extend(Key::of(&origin).map(|key| Segment { key, file }));
            }
            Err(error) => wrong = Some(error),
        }
    }
    let Some(newest) = all.last() else {
        return Err(wrong.map_or_else(|| anyhow!("no segment can be read"), Into::into));
    };
    let end = newest.end()?;
    chosen_part(config, path, all, noted, end)
}

fn chosen_part(
    config: &Config,
    path: &Path,
    all: Vec<Segment>,
    noted: Option<File>,
    end: i64,
) -> Result<Tape> {
    let zone = TimeZone::system();
    let keys: Vec<Key> = all.iter().map(|segment| segment.key).collect();
    let stretches = chosen::stretches(&keys);
    let begin = keys.first().map_or(0, |key| key.begin);
    let newest = stretches.last().and_then(|last| keys.get(last.start)).map_or(0, |key| key.begin);
    let (from, to) = match &config.span {
        None => (newest, end),
        Some(Span::Times { from, to }) => {
            between((from.as_ref(), to.as_ref()), (begin, end), &zone)
                .map_err(anyhow::Error::msg)?
        }
        Some(Span::Around(what)) => {
            let (from, to) = around(what, noted, draws_at_end(&config.show), &zone)?;
            if to < begin || from > end {
                bail!(
                    "the segments of {what} are gone: the recording has {} to {}",
                    moment(begin, &zone),
                    moment(end, &zone)
                );
            }
            (from.max(begin), to.min(end))
        }
    };
    let at = chosen::stretch(&keys, &stretches, (from, to), end).context("no segment")?;
    let stretch = stretches.get(at).cloned().unwrap_or_default();
    let own = keys.get(stretch.start).map_or(begin, |key| key.begin);
    let next = stretches.get(at + 1).and_then(|next| keys.get(next.start)).map(|key| key.begin);
    tell_others((own, next), (from, to), begin, &zone);
    let parts = chosen::parts(&keys, stretch, (from, to), LEAD_NS);
    let read: Vec<Segment> = all.into_iter().skip(parts.start).take(parts.len()).collect();
    let (wall_at_zero, _) = read.first().context("no segment")?.key.run;
    let files = read.into_iter().map(|segment| segment.file).collect();
    let mut tape = Tape { path: path.to_owned(), files, from: None, until: None };
    tape.show(wall_at_zero, (from.max(own), to.min(next.unwrap_or(to))));
    if config.span.is_none() {
        // To its very end, whatever it is.
        (tape.from, tape.until) = (None, None);
    }
    Ok(tape)
}

/// Says what of the time is not shown: the recorder was started anew, or could not write for a while.
fn tell_others(
    (own, next): (i64, Option<i64>),
    (from, to): (i64, i64),
    begin: i64,
    zone: &TimeZone,
) {
    if from < own && begin < own {
        eprintln!(
            "tcptrail: recording began anew at {} (a restart, or a disk that was full): only what is after is shown; \
             --to with that time shows what was before",
            moment(own, zone)
        );
    }
    if let Some(next) = next.filter(|next| *next < to) {
        eprintln!(
            "tcptrail: recording began anew at {} (a restart, or a disk that was full): only what is before is shown; \
             --from with that time shows what came after",
            moment(next, zone)
        );
    }
}

/// Whether a view shows only what there is at the end.
fn draws_at_end(show: &Show) -> bool {
    match show {
        Show::List { .. } => true,
        Show::Stuck(options) => options.once,
        _ => false,
    }
}

/// The time around the newest finding with this id or code. Of one that has ended, for a view of what there is at the
/// end, up to when it was last found.
fn around(what: &str, noted: Option<File>, at_end: bool, zone: &TimeZone) -> Result<(i64, i64)> {
    let mut text = Vec::new();
    if let Some(file) = noted {
        file.take(MOST_FINDINGS).read_to_end(&mut text).context(FINDINGS)?;
    }
    let noted = segments::noted(&String::from_utf8_lossy(&text));
    let is_it =
        |one: &&Noted| !one.ended && (one.id == what || one.code.eq_ignore_ascii_case(what));
    let Some(found) = noted.iter().rev().find(is_it) else {
        return Err(none_such(what, &noted, zone));
    };
    let at = found.wall_ns;
    let (from, to) = (at.saturating_sub(AROUND_NS), at.saturating_add(AROUND_NS));
    let ended = noted
        .iter()
        .find(|one| one.ended && one.id == found.id && one.wall_ns >= found.wall_ns && at_end);
    Ok((from, ended.map_or(to, |ended| ended.found_ns.min(to))))
}

fn none_such(what: &str, noted: &[Noted], zone: &TimeZone) -> anyhow::Error {
    let newest = noted.iter().rev().filter(|one| !one.ended).take(5);
    let there: Vec<String> = newest
        .map(|one| {
            let mut id = Vec::new();
            crate::text::name(one.id.as_bytes(), &mut id);
            let id = String::from_utf8_lossy(&id).into_owned();
            format!("\n  {}  {}  {id}", moment(one.wall_ns, zone), one.code)
        })
        .collect();
    match there.is_empty() {
        true => anyhow!("no finding {what} was noted, nor any other: give a time with --from"),
        false => anyhow!("no finding {what} was noted; the newest are:{}", there.concat()),
    }
}
