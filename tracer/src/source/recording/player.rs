//! A recording that somebody looks at: time goes as fast as they want, stands still, and goes back.
//!
//! Going back is reading again from the beginning, up to the place: nothing is kept that could be wrong.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep_until;

use crate::config::{Config, TopOptions};
use crate::engine::Engine;
use crate::output::session::{Session, needs_of};
use crate::output::writer::Stdout;
use crate::output::{Asked, Play, Playback, listed};
use crate::source::recording::held::Held;
use crate::source::recording::inputs::Inputs;
use crate::source::recording::reader::Item;
use crate::source::recording::tape::{Tape, length};
use crate::source::recording::times::time_of;
use crate::source::rules;
use crate::source::terminal::{self, Keys};
use crate::time::MonoNs;

/// From one frame to the next.
const FRAME: Duration = Duration::from_secs(1);
/// Longest that inputs are fed without a look at keys.
const SLICE: Duration = Duration::from_millis(15);
/// Inputs fed between two looks at the clock.
const BATCH: usize = 256;

/// A replay under way.
struct Player {
    tape: Tape,
    config: Config,
    session: Session,
    reader: Inputs,
    /// The next input, read and not due.
    held: Option<Held>,
    /// Everything was read.
    over: bool,
    playback: Playback,
}

/// Replays a file for somebody who looks at it. Returns the exit code: 1 for a recording that is not whole.
///
/// # Errors
/// When it is no recording this version can read, or there is no terminal to draw on.
pub(super) fn run(config: &Config, options: &TopOptions, path: &Path) -> Result<u8> {
    let name = || path.display().to_string();
    let tape = Tape::open(config, path)?;
    let outputs = listed::outputs(config, false, None)?;
    let (origin, reader, watched) = tape.inputs(config)?;
    let (end, wrong) = length(reader, origin.start());
    let start = tape.from.unwrap_or(origin.start());
    let (origin, reader, _) = tape.inputs(config)?;
    let rules = rules(&watched, &needs_of(&outputs), &origin);
    let engine = Engine::new(origin, watched.max_connections).with_rules(rules);
    let playback = Playback::new(start, end, options.speed);
    let session = Session::begin(engine, outputs).context("cannot begin an output")?;
    let mut player =
        Player { tape, config: watched, session, reader, held: None, over: false, playback };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stdout = Stdout::start(io::stdout()).context("cannot start a thread")?;
    let outcome = runtime.block_on(player.run(&mut stdout));
    player.session.end(player.playback.at);
    stdout.push(player.session.out());
    let _ = stdout.finish(Duration::from_secs(2));
    outcome?;
    match wrong {
        Some(error) => {
            eprintln!("tcptrail: {}: {error}", name());
            Ok(1)
        }
        None => Ok(0),
    }
}

impl Player {
    async fn run(&mut self, stdout: &mut Stdout) -> Result<()> {
        let mut keys = Some(Keys::start().context("cannot start a thread")?);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut before, mut next_frame) = (Instant::now(), Instant::now());
        let mut more = true;
        loop {
            // While there is more to feed, keys are looked at and nothing is waited for.
            let wake = if more { Instant::now() } else { next_frame };
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                event = terminal::next(&mut keys) => {
                    let mut event = Some(event);
                    while let Some(this) = event {
                        match self.session.terminal(&this, self.playback.at) {
                            Asked::End => return Ok(()),
                            Asked::Play(play) => self.play(play)?,
                            Asked::Nothing => {}
                        }
                        event = keys.as_mut().and_then(Keys::try_next);
                    }
                    self.feed()?;
                    self.show(stdout);
                }
                () = sleep_until(wake.into()) => {}
            }
            let now = Instant::now();
            let passed = now.duration_since(before);
            before = now;
            self.playback.advance(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
            more = self.feed()?;
            if now >= next_frame && stdout.is_idle() {
                next_frame = now + FRAME;
                self.show(stdout);
            }
            if stdout.has_ended() {
                return Ok(());
            }
        }
    }

    fn show(&mut self, stdout: &mut Stdout) {
        if stdout.is_idle() {
            self.session.draw_played(self.playback);
            stdout.push(self.session.out());
        }
    }

    fn play(&mut self, play: Play) -> Result<()> {
        let before = self.playback.at;
        self.playback.play(play);
        if self.playback.at < before {
            self.begin_again()?;
        }
        Ok(())
    }

    fn begin_again(&mut self) -> Result<()> {
        let (origin, reader, _) = self.tape.inputs(&self.config)?;
        let needs = self.session.needs();
        let rules = rules(&self.config, &needs, &origin);
        let engine = Engine::new(origin, self.config.max_connections).with_rules(rules);
        self.session.restart(engine);
        (self.reader, self.held, self.over) = (reader, None, false);
        Ok(())
    }

    /// Feeds what is due, for a short time. Returns whether more is due.
    fn feed(&mut self) -> Result<bool> {
        let until = self.playback.at;
        let began = Instant::now();
        loop {
            for _ in 0..BATCH {
                if !self.feed_one(until) {
                    self.playback.seeking = false;
                    return Ok(false);
                }
            }
            if began.elapsed() >= SLICE {
                self.playback.seeking = true;
                return Ok(true);
            }
        }
    }

    /// Feeds the next input, if it is due.
    fn feed_one(&mut self, until: MonoNs) -> bool {
        if let Some(held) = self.held.take() {
            if held.at() > until {
                self.held = Some(held);
                return false;
            }
            self.session.feed(&held.input());
            return true;
        }
        if self.over {
            return false;
        }
        match self.reader.next() {
            Ok(Some(Item::Input(input))) if time_of(&input) > until => {
                self.held = Some(Held::of(&input));
                false
            }
            Ok(Some(Item::Input(input))) => {
                self.session.feed(&input);
                true
            }
            // What is wrong with it is said at the end; it was found before.
            Ok(Some(Item::Ended(_)) | None) | Err(_) => {
                self.over = true;
                false
            }
        }
    }
}
