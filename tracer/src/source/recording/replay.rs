//! A recording instead of a kernel: the same inputs into the same engine.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::{Config, Show};
use crate::engine::Engine;
use crate::output::listed;
use crate::output::session::{Session, needs_of};
use crate::output::writer::{Ended, MUCH, Stdout};
use crate::source::outcome::{exit_code, summary, tell_left_out};
use crate::source::recording::error::ReadError;
use crate::source::recording::inputs::Inputs;
use crate::source::recording::player;
use crate::source::recording::reader::Item;
use crate::source::recording::tape::Tape;
use crate::source::recording::times::time_of;
use crate::source::rules;
use crate::time::MonoNs;

/// Replays a file. Returns the exit code: 1 for a recording that is not whole, after what is whole
/// has been shown.
///
/// # Errors
/// When it is no recording this version can read.
pub fn run(config: &Config, path: &Path) -> Result<u8> {
    if let Show::Top(options) = &config.show {
        return player::run(config, options, path);
    }
    let name = || path.display().to_string();
    let tape = Tape::open(config, path)?;
    let (origin, mut inputs, config) = tape.inputs(config)?;
    let config = &config;
    let start = tape.from.unwrap_or(origin.start());
    let outputs = listed::outputs(config, false, None)?;
    let rules = rules(config, &needs_of(&outputs), &origin);
    let engine = Engine::new(origin, config.max_connections).with_rules(rules);
    let mut session = Session::begin(engine, outputs).context("cannot begin an output")?;
    let mut output = Stdout::start(io::stdout()).context("cannot start a thread")?;
    let (last, outcome) = feed_all(&mut inputs, tape.from, &mut session, &mut output);
    wait_for_room(&mut output);
    output.push(session.out());
    match output.finish(Duration::MAX / 4) {
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
    tell_left_out(&session);
    eprintln!("{}", summary(&session, last.since(start)));
    Ok(code)
}

/// Feeds everything that is whole, and draws and ends what there is to. Returns the time of the last input,
/// and what is wrong with the file.
fn feed_all(
    inputs: &mut Inputs,
    mut from: Option<MonoNs>,
    session: &mut Session,
    output: &mut Stdout,
) -> (MonoNs, Result<(), ReadError>) {
    let mut last = session.engine.origin().start();
    loop {
        if session.waiting() >= MUCH {
            wait_for_room(output);
            output.push(session.out());
            if output.has_ended() {
                return (last, Ok(()));
            }
        }
        if session.engine.watch().is_some_and(|watch| watch.failed().is_some()) {
            session.end(last);
            return (last, Ok(()));
        }
        match inputs.next() {
            Ok(Some(Item::Input(input))) => {
                last = last.max(time_of(&input));
                match from {
                    Some(from) if time_of(&input) < from => session.feed_unseen(&input),
                    _ => {
                        show_from(&mut from, session);
                        session.feed(&input);
                    }
                }
            }
            Ok(Some(Item::Ended(ended))) => {
                show_from(&mut from, session);
                last = ended.at;
                session.draw_last(last, true);
                session.end(last);
            }
            Ok(None) => return (last, Ok(())),
            Err(error) => {
                show_from(&mut from, session);
                session.draw_last(last, true);
                return (last, Err(error));
            }
        }
    }
}

/// What is shown begins, if it has not.
fn show_from(from: &mut Option<MonoNs>, session: &mut Session) {
    if let Some(from) = from.take() {
        session.show_from(from);
    }
}

fn wait_for_room(output: &mut Stdout) {
    while !output.has_room() && !output.has_ended() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
