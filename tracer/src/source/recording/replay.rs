//! A recording instead of a kernel: the same inputs into the same engine.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::engine::Engine;
use crate::input::Input;
use crate::output::listed;
use crate::output::session::{Session, needs_of};
use crate::output::writer::{Ended, Stdout};
use crate::privileges;
use crate::source::outcome::{exit_code, summary};
use crate::source::recording::reader::{Item, Reader};
use crate::source::rules;
use crate::time::MonoNs;

/// Replays a file. Returns the exit code: 1 for a recording that is not whole, after what is whole
/// has been shown.
///
/// # Errors
/// When it is no recording this version can read.
pub fn run(config: &Config, path: &Path) -> Result<u8> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(name)?;
    // It may come from a stranger, and be made to do harm.
    privileges::keep_only(&[]);
    let (origin, mut reader) = Reader::open(file).with_context(name)?;
    let start = origin.start();
    let outputs = listed::outputs(config, false)?;
    let rules = rules(config, &needs_of(&outputs), &origin);
    let engine = Engine::new(origin, config.max_connections).with_rules(rules);
    let mut session = Session::begin(engine, outputs).context("cannot begin an output")?;
    let mut output = Stdout::start(io::stdout()).context("cannot start a thread")?;
    let mut last = start;
    let outcome = loop {
        if session.waiting() >= 64 << 10 {
            while !output.has_room() && !output.has_ended() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            output.push(session.out());
        }
        if output.has_ended() {
            break Ok(());
        }
        if session.engine.watch().is_some_and(|watch| watch.failed().is_some()) {
            session.end(last);
            break Ok(());
        }
        match reader.next() {
            Ok(Some(Item::Input(input))) => {
                last = last.max(time_of(&input));
                session.feed(&input);
            }
            Ok(Some(Item::Ended(ended))) => {
                last = ended.at;
                session.draw_last(last, true);
                session.end(last);
            }
            Ok(None) => break Ok(()),
            Err(error) => {
                session.draw_last(last, true);
                break Err(error);
            }
        }
    };
    while !output.has_room() && !output.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    output.push(session.out());
    match output.finish(std::time::Duration::MAX / 4) {
        Ended::Closed => return Ok(0),
        Ended::Done | Ended::Stalled => {}
        Ended::Failed(error) => return Err(error).context("cannot write the output"),
    }
    let failures = session.take_failures();
    let code = match outcome {
        Ok(()) if !failures.is_empty() => 1,
        Ok(()) => exit_code(&session),
        Err(error) => {
            eprintln!("tcptrail: {}: {error}", name());
            1
        }
    };
    for failure in failures {
        eprintln!("tcptrail: {failure}");
    }
    eprintln!("{}", summary(&session, last.since(start)));
    Ok(code)
}

fn time_of(input: &Input<'_>) -> MonoNs {
    match input {
        Input::Record(bytes) => {
            MonoNs(bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
        }
        Input::PollEnd { now, .. } | Input::Tick(now) => *now,
        Input::Lost(loss) => loss.to,
        Input::PollBegin | Input::Holders(_) | Input::Names(_) | Input::Facts(_) => MonoNs(0),
    }
}
