//! A recording instead of a kernel: the same inputs into the same engine.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::config::{Config, Show};
use crate::engine::Engine;
use crate::output::listed;
use crate::output::session::{Session, needs_of};
use crate::output::writer::{Ended, Stdout};
use crate::privileges;
use crate::source::outcome::{exit_code, summary};
use crate::source::recording::error::ReadError;
use crate::source::recording::opened::{as_watched, opened};
use crate::source::recording::player;
use crate::source::recording::reader::{Item, Reader};
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
    let file = File::open(path).with_context(name)?;
    // It may come from a stranger, and be made to do harm.
    privileges::keep_only(&[]);
    let (recording, about) = opened(file, path).with_context(name)?;
    let config = &as_watched(config, &about).with_context(name)?;
    let (origin, mut reader) = Reader::open(recording).with_context(name)?;
    let start = origin.start();
    let outputs = listed::outputs(config, false, None)?;
    let rules = rules(config, &needs_of(&outputs), &origin);
    let engine = Engine::new(origin, config.max_connections).with_rules(rules);
    let mut session = Session::begin(engine, outputs).context("cannot begin an output")?;
    let mut output = Stdout::start(io::stdout()).context("cannot start a thread")?;
    let (last, outcome) = feed_all(&mut reader, &mut session, &mut output);
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
    eprintln!("{}", summary(&session, last.since(start)));
    Ok(code)
}

/// Feeds everything that is whole, and draws and ends what there is to. Returns the time of the last input,
/// and what is wrong with the file.
fn feed_all(
    reader: &mut Reader<Box<dyn Read>>,
    session: &mut Session,
    output: &mut Stdout,
) -> (MonoNs, Result<(), ReadError>) {
    let mut last = session.engine.origin().start();
    loop {
        if session.waiting() >= 64 << 10 {
            wait_for_room(output);
            output.push(session.out());
        }
        if output.has_ended() {
            return (last, Ok(()));
        }
        if session.engine.watch().is_some_and(|watch| watch.failed().is_some()) {
            session.end(last);
            return (last, Ok(()));
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
            Ok(None) => return (last, Ok(())),
            Err(error) => {
                session.draw_last(last, true);
                return (last, Err(error));
            }
        }
    }
}

fn wait_for_room(output: &mut Stdout) {
    while !output.has_room() && !output.has_ended() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
