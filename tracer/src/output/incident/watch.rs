//! The live run: it records, watches with everything there is, and writes page and bundle at the end.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::bundle::{Bundle, Place};
use super::case::{Over, verdict};
use super::evidence::{
    ABOUT, About, DOCTOR, Evidence, FINDINGS, FOLDED, Jvm, LEAKS, PAGE, RECORDING, SOCKETS,
};
use crate::answer::Question;
use crate::config::LeaksOptions;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::input::Input;
use crate::output::lines::{Form, Leaks, List, Pen, Setting, Stuck};
use crate::output::record::{self, WriteBehind, Writer};
use crate::output::{Draws, Needs, Output, RulesNeed, Run, StacksNeed, Totals, Verdict};
use crate::record_format::Ended;
use crate::text::{self, Terminal};
use crate::time::MonoNs;

/// Sockets that have been open for so long are in the list of openers.
const OLDER: Duration = Duration::from_secs(2);
/// Columns of the page in the bundle, and the most on a terminal.
pub const PAGE_WIDTH: usize = 100;

/// How `incident` runs.
#[derive(Debug)]
pub struct Options {
    /// Which sockets it is about.
    pub filter: Filter,
    /// JVMs may be asked for names, threads and classes.
    pub attach: bool,
    /// Where the bundle will be.
    pub place: Place,
    /// Its words for a replay.
    pub filter_args: Vec<String>,
    /// Thresholds that were given, in the words of the command line.
    pub thresholds: Vec<String>,
    /// What `doctor` says of this machine.
    pub doctor: String,
    /// Columns of the page on stdout.
    pub width: usize,
}

/// The output of `incident`.
pub struct Watching {
    filter: Filter,
    attach: bool,
    width: usize,
    doctor: String,
    filter_args: Vec<String>,
    thresholds: Vec<String>,
    place: Option<Place>,
    path: PathBuf,
    recording: File,
    writer: Option<Writer<WriteBehind>>,
    over: Over,
    sockets: List,
    findings: Part<Stuck>,
    leaks: Leaks,
    folded: Leaks,
}

/// An output that writes a file of the bundle while the run goes on.
struct Part<O> {
    output: O,
    bytes: Vec<u8>,
}

impl Watching {
    /// Makes the file of the recording beside the bundle.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new(options: Options) -> io::Result<Watching> {
        let Options { filter, filter_args, attach, place, thresholds, doctor, width } = options;
        let terminal = Terminal { width: None, color: false };
        let setting = || Setting {
            pen: Pen::new(true, terminal, TimeZone::system()),
            filter: filter.clone(),
        };
        let leaks = |folded| {
            let options = LeaksOptions { watch: None, attach, older: OLDER, folded, full: true };
            Leaks::new(setting(), options, false)
        };
        Ok(Watching {
            recording: place.scratch()?,
            path: place.path().to_owned(),
            place: Some(place),
            sockets: List::new(setting(), None, true),
            findings: Part {
                output: Stuck::new(setting(), Form::Lines, true, false),
                bytes: Vec::new(),
            },
            leaks: leaks(false),
            folded: leaks(true),
            writer: None,
            over: Over::default(),
            filter,
            attach,
            width,
            doctor,
            filter_args,
            thresholds,
        })
    }

    fn explain(&self, error: &io::Error) -> io::Error {
        let text = format!("cannot write {}: {error}", self.path.display());
        io::Error::new(error.kind(), text)
    }

    /// The files that other commands would print.
    fn lists(&mut self, bundle: &mut Bundle, run: &Run<'_>) -> io::Result<()> {
        let mut draw = |name: &str, output: &mut dyn Output, mut bytes: Vec<u8>, draws: bool| {
            if draws {
                output.begin(run.engine, &mut bytes)?;
                output.draw(run.engine, run.now, true, &mut bytes);
            }
            output.end(run, &mut bytes)?;
            bundle.add(name, bytes);
            io::Result::Ok(())
        };
        draw(SOCKETS, &mut self.sockets, Vec::new(), true)?;
        draw(LEAKS, &mut self.leaks, Vec::new(), true)?;
        draw(FOLDED, &mut self.folded, Vec::new(), true)?;
        draw(FINDINGS, &mut self.findings.output, std::mem::take(&mut self.findings.bytes), false)
    }

    /// What JVMs said, and what the page says of the run.
    fn about(&self, bundle: &mut Bundle, engine: &Engine, now: MonoNs) -> About {
        let origin = engine.origin();
        let mut about = About {
            schema: 1,
            version: origin.version.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            kernel: origin.kernel.clone(),
            filters: origin.filters.clone(),
            filter_args: self.filter_args.clone(),
            thresholds: self.thresholds.clone(),
            watched_ns: now.since(origin.start()),
            stacks_lost: engine.book.malformed + engine.book.unsettled + engine.book.refused,
            ..About::default()
        };
        let ended = jiff::Timestamp::from_nanosecond(i128::from(origin.anchor().wall_ns(now)));
        let ended = ended.unwrap_or_default().to_zoned(TimeZone::system());
        about.utc_offset_s = ended.offset().seconds();
        about.date = ended.strftime("%Y-%m-%d").to_string();
        for answer in &engine.answers {
            let mut comm = Vec::new();
            text::name(answer.comm.bytes(), &mut comm);
            let jvm = match about.jvms.iter_mut().find(|jvm| jvm.pid == answer.pid) {
                Some(jvm) => jvm,
                None => {
                    let comm = String::from_utf8_lossy(&comm).into_owned();
                    about.jvms.push(Jvm { pid: answer.pid, comm, ..Jvm::default() });
                    let Some(jvm) = about.jvms.last_mut() else { continue };
                    jvm
                }
            };
            match (&answer.text, answer.question) {
                (Err(why), Question::Threads) => jvm.refused = Some(why.clone()),
                (Err(why), Question::Classes) => about.not_seen.push(format!(
                    "What is on the heap of process {0}: {why}. Ask it yourself: jcmd {0} GC.class_histogram -all",
                    answer.pid
                )),
                (Ok(bytes), Question::Threads) => {
                    let name = format!("threads-{}-{}.txt", answer.pid, jvm.dumps.len() + 1);
                    bundle.add(&name, bytes.clone());
                    jvm.dumps.push(name);
                }
                (Ok(bytes), Question::Classes) => {
                    let name = format!("classes-{}.txt", answer.pid);
                    bundle.add(&name, bytes.clone());
                    jvm.classes = Some(name);
                }
            }
        }
        about
    }
}

impl Output for Watching {
    fn needs(&self) -> Needs {
        Needs {
            inputs: true,
            rules: RulesNeed::Looks,
            stacks: Some(StacksNeed {
                attach: self.attach,
                accepted: true,
                named_at_end: Some(OLDER),
                dumps: self.attach,
            }),
            executables: true,
            draws: Draws::AtEnd,
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        let file = Arc::new(self.recording.try_clone()?);
        self.writer = Some(record::begin(file, engine.origin())?);
        let Part { output, bytes } = &mut self.findings;
        output.begin(engine, bytes)
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        self.over.update(update);
        let Part { output, bytes } = &mut self.findings;
        output.update(engine, update, bytes);
    }

    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.push(input).map_err(|error| self.explain(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.writer.as_mut().map_or(Ok(()), Writer::flush);
        flushed.map_err(|error| self.explain(&error))
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let &Run { engine, totals, now } = run;
        let mut bundle = Bundle::default();
        self.lists(&mut bundle, run)?;
        let about = self.about(&mut bundle, engine, now);
        bundle.add(ABOUT, serde_json::to_vec_pretty(&about)?);
        bundle.add(DOCTOR, std::mem::take(&mut self.doctor).into_bytes());
        let evidence = Evidence::of(&bundle).map_err(io::Error::other)?;
        let page = self.over.page(run, &self.filter, &evidence, PAGE_WIDTH);
        bundle.add(PAGE, page.into_bytes());
        // The page comes first, whatever becomes of the files.
        let page = self.over.page(run, &self.filter, &evidence, self.width);
        out.extend_from_slice(page.as_bytes());
        if let Some(writer) = self.writer.take() {
            let ended = Ended { events: totals.events, connections: totals.connections, at: now };
            let finished = writer.finish(ended).and_then(WriteBehind::close);
            finished.map_err(|error| self.explain(&error))?;
        }
        bundle.add_file(RECORDING, self.recording.try_clone()?);
        let seconds = u64::try_from(engine.origin().anchor().wall_ns(now) / 1_000_000_000);
        let Some(place) = self.place.take() else { return Ok(()) };
        let written = bundle.write(place, seconds.unwrap_or(0));
        written.map_err(|error| self.explain(&io::Error::other(error.to_string())))
    }

    fn verdict(&self, engine: &Engine) -> Option<Verdict> {
        verdict(engine)
    }

    fn summary(&self, _totals: &Totals, _duration_ns: u64) -> Option<String> {
        let path = self.path.display();
        Some(format!(
            "tcptrail: all evidence is in {path}; read it anywhere: tcptrail replay {path} incident"
        ))
    }
}
