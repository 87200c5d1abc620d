//! The list of outputs: which ones a command line asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use jiff::tz::TimeZone;

use crate::config::{
    Config, IncidentOptions, RecorderOptions, ReportOptions, ServeOptions, Show, Source, TopOptions,
};
use crate::output::Output;
use crate::output::incident::bundle::{Bundle, Place};
use crate::output::incident::evidence::{Evidence, FOLDED};
use crate::output::incident::{self, PAGE_WIDTH, Replayed, Watching};
use crate::output::lines::{Form, Leaks, Life, List, Pen, Setting, Stuck, Tail};
use crate::output::record::{Recorder, open_output};
use crate::output::recorder::{self, FlightRecorder, Status, is_recorder};
use crate::output::report::{self, Report, Stacks};
use crate::output::serve::Serve;
use crate::output::stats::Statistics;
use crate::output::top::{self, Hands, Top};
use crate::text::Terminal;
use crate::time::Anchor;
use crate::time::clock::Clock;

/// Outputs of a run, the one that speaks for it first. `live` when events come from the kernel; `hands` end sockets
/// for `top`.
///
/// # Errors
/// When the file of a recording cannot be opened.
pub fn outputs(config: &Config, live: bool, hands: Hands) -> Result<Vec<Box<dyn Output>>> {
    let setting = || Setting {
        pen: Pen {
            header: config.header,
            ..Pen::new(config.json, Terminal::of_stdout(config.color), TimeZone::system())
        },
        filter: config.filter.clone(),
    };
    let on_terminal = Terminal::of_stdout(false).width.is_some();
    let mut outputs: Vec<Box<dyn Output>> = Vec::new();
    match &config.show {
        Show::Tail => outputs.push(Box::new(Tail::new(setting()))),
        Show::Life { with_time_wait, unfinished } => {
            outputs.push(Box::new(Life::new(setting(), *with_time_wait, *unfinished)));
        }
        Show::List { watch, listing } => {
            let list = List::new(setting(), *watch, live).ordered(listing.clone());
            outputs.push(Box::new(list));
        }
        Show::Stats(options) => {
            outputs.push(Box::new(Statistics::new(setting(), options.clone())));
        }
        Show::Leaks(options) => {
            outputs.push(Box::new(Leaks::new(setting(), *options, on_terminal)));
        }
        Show::Stuck(options) => {
            let form = match options.once {
                true => Form::Once,
                // Nobody could read screens that pass as fast as a file is read.
                false if on_terminal && live => Form::Frames,
                false => Form::Lines,
            };
            let gates = !options.gates.is_empty();
            outputs.push(Box::new(Stuck::new(setting(), form, options.openers, gates)));
        }
        Show::Incident(options) if live => outputs.push(Box::new(incident(config, options)?)),
        Show::Incident(_) => outputs.push(Box::new(replayed(config)?)),
        Show::Report(options) => outputs.push(Box::new(report(config, options)?)),
        Show::Serve(options) => {
            let recorder = options.recorder.as_ref().map(|given| recorder(config, options, given));
            let (recorder, status) = recorder.transpose()?.unzip();
            outputs.push(Box::new(Serve::new(options.clone(), config.filter.clone(), status)?));
            // Findings as lines, for the journal.
            outputs.push(Box::new(Stuck::new(setting(), Form::Lines, options.openers, false)));
            if let Some(recorder) = recorder {
                outputs.push(Box::new(recorder));
            }
        }
        Show::Top(options) => outputs.push(Box::new(top(config, options, hands)?)),
        // It has an output of its own: see `source::kill`.
        Show::Kill(_) | Show::Nothing => {}
    }
    if let Some(path) = &config.record_to {
        let recorder = Recorder::create(path, config.filter.without_ends());
        let cannot = || format!("cannot write {}", path.display());
        outputs.push(Box::new(recorder.with_context(cannot)?));
    }
    Ok(outputs)
}

/// Its directory is opened before anything runs in the kernel.
fn recorder(
    config: &Config,
    serve: &ServeOptions,
    given: &RecorderOptions,
) -> Result<(FlightRecorder, Arc<Status>)> {
    let options = recorder::Options {
        path: given.path.clone(),
        keep: given.keep,
        keep_size: given.keep_size,
        pin: given.pin,
        filter: config.filter.without_ends(),
        filter_args: config.filter_args(),
        thresholds: serve.threshold_words.clone(),
    };
    let status = Arc::new(Status::default());
    Ok((FlightRecorder::new(options, Arc::clone(&status))?, status))
}

/// The bundle's place is made before anything runs in the kernel.
fn incident(config: &Config, options: &IncidentOptions) -> Result<Watching> {
    let by_time = || {
        let now = jiff::Zoned::now();
        PathBuf::from(format!("incident-{}.tar.zst", now.strftime("%Y%m%d-%H%M%S")))
    };
    let path = options.output.clone().unwrap_or_else(by_time);
    let cannot = || format!("cannot write {}", path.display());
    let place = Place::make(&path).with_context(cannot)?;
    if let Some(time) = config.duration {
        let time = humantime::format_duration(time);
        eprintln!(
            "tcptrail: watching for {time}; Ctrl-C ends this early and still writes the page"
        );
    }
    let options = incident::Options {
        filter: config.filter.clone(),
        attach: options.attach,
        place,
        filter_args: config.filter_args(),
        thresholds: options.threshold_words.clone(),
        doctor: options.doctor.clone(),
        width: page_width(),
    };
    Watching::new(options).with_context(cannot)
}

/// The report's file is made before anything runs in the kernel.
fn report(config: &Config, options: &ReportOptions) -> Result<Report> {
    let by_time = || {
        let now = jiff::Zoned::now();
        PathBuf::from(format!("report-{}.html", now.strftime("%Y%m%d-%H%M%S")))
    };
    let path = options.output.clone().unwrap_or_else(by_time);
    let place = if path.as_os_str() == "-" {
        report::Place::Stdout
    } else {
        let cannot = || format!("cannot write {}", path.display());
        report::Place::File(path.clone(), open_output(&path).with_context(cannot)?)
    };
    let (source, stacks) = match &config.source {
        Source::Live { .. } => {
            if let Some(time) = config.duration {
                let time = humantime::format_duration(time);
                eprintln!(
                    "tcptrail: watching for {time}; Ctrl-C ends this early and still writes the report"
                );
            }
            (host_name(), Stacks::default())
        }
        Source::File(path) => {
            // A recording has no stacks; the bundle of an incident has.
            let bundle = (!is_recorder(path)).then(|| Bundle::read(path).ok()).flatten();
            let folded = bundle.as_ref().and_then(|bundle| bundle.get(FOLDED));
            (file_name(path), folded.map(Stacks::parse).unwrap_or_default())
        }
    };
    Ok(Report::new(report::Options {
        filter: config.filter.clone(),
        place,
        live: matches!(config.source, Source::Live { .. }),
        attach: options.attach,
        stacks,
        zone: TimeZone::system(),
        source,
    }))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Its terminal is looked at before anything runs in the kernel.
fn top(config: &Config, options: &TopOptions, hands: Hands) -> Result<Top> {
    top::check().map_err(anyhow::Error::msg)?;
    let replay = match &config.source {
        Source::File(path) => Some(path.display().to_string()),
        Source::Live { .. } => None,
    };
    let source = match &config.source {
        Source::File(path) => file_name(path),
        Source::Live { .. } => host_name(),
    };
    let given = top::Options {
        scope: config.filter.clone(),
        scope_args: config.filter_args(),
        replay,
        source,
        color: Terminal::of_stdout(config.color).color,
        ascii: options.ascii,
        clock: Clock::new(Anchor { wall_at_zero: 0 }, TimeZone::system()),
        hands,
    };
    Ok(Top::new(given, options.openers, options.accepted))
}

fn replayed(config: &Config) -> Result<Replayed> {
    let Source::File(path) = &config.source else { bail!("there is no bundle") };
    let bundle = Bundle::read(path).with_context(|| path.display().to_string())?;
    let evidence = Evidence::of(&bundle).with_context(|| path.display().to_string())?;
    Ok(Replayed::new(evidence, config.filter.clone(), page_width()))
}

/// As wide as the terminal, up to what is easily read.
fn page_width() -> usize {
    Terminal::of_stdout(false).width.unwrap_or(PAGE_WIDTH).clamp(40, PAGE_WIDTH)
}
