//! A recording instead of a kernel: the same inputs into the same session.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::config::{Config, Show};
use crate::engine::conn::Table;
use crate::engine::rules::Watch;
use crate::input::Input;
use crate::output::lines::View;
use crate::output::writer::{Ended, Output};
use crate::privileges;
use crate::record::{Item, Reader};
use crate::session::Session;
use crate::source::live::{pen, stuck_code, summary, view};
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
    let table = Table::new(origin.table_options(config.max_connections));
    let rules = Watch::new(config.rules(origin.jiffy_ns));
    let mut view = view(config.show);
    if let View::Stuck { frames, .. } = &mut view {
        // Nobody could read screens that pass as fast as a file is read.
        *frames = false;
    }
    let mut session: Session<io::Sink> =
        Session::new(table, config.filter.clone(), view, pen(config, origin), None);
    if matches!(config.show, Show::Stuck { .. }) {
        session = session.with_rules(rules);
    }
    let mut output = Output::start(io::stdout()).context("cannot start a thread")?;
    let mut last = start;
    let outcome = loop {
        if session.out.len() >= 64 << 10 {
            while !output.has_room() && !output.has_ended() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            output.push(&mut session.out);
        }
        if output.has_ended() {
            break Ok(());
        }
        if session.rules().is_some_and(|rules| rules.failed().is_some()) {
            session.end(last)?;
            break Ok(());
        }
        match reader.next() {
            Ok(Some(Item::Input(input))) => {
                last = last.max(time_of(&input));
                session.feed(&input)?;
            }
            Ok(Some(Item::Ended(ended))) => {
                last = ended.at;
                show_at_end(config.show, &mut session, last);
                session.end(last)?;
            }
            Ok(None) => break Ok(()),
            Err(error) => {
                show_at_end(config.show, &mut session, last);
                break Err(error);
            }
        }
    };
    while !output.has_room() && !output.has_ended() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    output.push(&mut session.out);
    let totals = session.totals();
    match output.finish(std::time::Duration::MAX / 4) {
        Ended::Closed => return Ok(0),
        Ended::Done | Ended::Stalled => {}
        Ended::Failed(error) => return Err(error).context("cannot write the output"),
    }
    let code = match outcome {
        Ok(()) => stuck_code(config, &session),
        Err(error) => {
            eprintln!("tcptrail: {}: {error}", name());
            1
        }
    };
    eprintln!("{}", summary(&totals, last.since(start)));
    Ok(code)
}

fn show_at_end(show: Show, session: &mut Session<io::Sink>, now: MonoNs) {
    match show {
        Show::List { .. } => {
            session.list(now);
        }
        Show::Stuck { once: true } => session.stuck_now(now),
        _ => {}
    }
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
