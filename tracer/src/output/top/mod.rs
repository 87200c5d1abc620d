//! `top`: look around, sort, filter, open, step by step: live, and over recordings.
//!
//! `model` folds updates into what the engine does not keep; `tabs` makes rows and panes of both; `state` is what
//! was chosen, `keys` what keys do, `words` the filter that is typed; `view` draws. `panel` ties them together,
//! and knows no terminal; `terminal` is that.

mod command_line;
mod cost;
mod ending;
mod keys;
mod model;
mod panel;
mod save;
mod state;
mod tabs;
mod terminal;
mod view;
mod words;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::Event;
use crossterm::queue;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

pub use ending::Hands;
pub use panel::Options;
pub use terminal::check;

use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::top::panel::Panel;
use crate::output::top::terminal::Guard;
use crate::output::{Asked, Draws, Needs, Output, Playback, RulesNeed, Run, StacksNeed};
use crate::time::MonoNs;

/// From one frame to the next, while no key is pressed.
const EVERY: Duration = Duration::from_secs(1);
/// Queues and round-trip times are to be no older than this, where that is cheap enough.
const FRESH: Duration = Duration::from_secs(2);

/// The view.
pub struct Top {
    panel: Panel,
    /// Taken when the run begins.
    guard: Option<Guard>,
    terminal: Option<Terminal<CrosstermBackend<Shared>>>,
    bytes: Shared,
    /// Who accepts and reads is to be known, too.
    accepted: bool,
    /// Which code opened sockets is to be known.
    openers: bool,
    live: bool,
}

/// Bytes for the terminal, on their way to the thread that writes them.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Top {
    /// The view. `openers`: stacks are taken where sockets are opened; `accepted`: where they are accepted and
    /// read, too.
    #[must_use]
    pub fn new(options: Options, openers: bool, accepted: bool) -> Top {
        let live = options.replay.is_none();
        Top {
            panel: Panel::new(options),
            guard: None,
            terminal: None,
            bytes: Shared::default(),
            accepted,
            openers,
            live,
        }
    }

    /// Draws what has changed.
    fn frame(&mut self, engine: &Engine, now: MonoNs, out: &mut Vec<u8>) {
        let Some(terminal) = &mut self.terminal else { return };
        if std::mem::take(&mut self.panel.anew) {
            // A terminal that does not know its size keeps the last.
            let _ = terminal.clear();
        }
        let panel = &mut self.panel;
        // Into memory: nothing there can fail. A size that cannot be read leaves the frame out.
        let _ = terminal.draw(|frame| panel.draw(frame, engine, now));
        if let Some(text) = self.panel.copied.take() {
            let _ = queue!(self.bytes, CopyToClipboard::to_clipboard_from(text));
        }
        out.append(&mut self.bytes.0.borrow_mut());
    }
}

impl Output for Top {
    fn needs(&self) -> Needs {
        let stacks = StacksNeed { accepted: self.accepted, ..StacksNeed::default() };
        Needs {
            changes: true,
            rules: RulesNeed::Looks,
            stacks: (self.openers || self.accepted).then_some(stacks),
            executables: true,
            draws: Draws::Every(EVERY),
            fresh: Some(FRESH),
            terminal: true,
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.panel.scope().clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        self.panel.begin(engine);
        let terminal = Terminal::new(CrosstermBackend::new(self.bytes.clone()))?;
        self.guard = Some(Guard::take()?);
        self.terminal = Some(terminal);
        // The first frame at once: walks take their time.
        self.panel.anew = true;
        let mut out = Vec::new();
        self.frame(engine, engine.origin().start(), &mut out);
        let mut stdout = io::stdout();
        stdout.write_all(&out)?;
        stdout.flush()
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        self.panel.update(engine, update);
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, last: bool, out: &mut Vec<u8>) {
        if last {
            return;
        }
        if self.live {
            self.panel.costs(cost::now(now));
        }
        self.panel.second(engine, now);
        self.frame(engine, now, out);
    }

    fn terminal(&mut self, engine: &Engine, event: &Event, now: MonoNs) -> Asked {
        self.panel.event(engine, event, now)
    }

    fn redraw(&mut self, engine: &Engine, now: MonoNs, out: &mut Vec<u8>) {
        self.frame(engine, now, out);
    }

    fn played(&mut self, playback: Playback) {
        self.panel.played(playback);
    }

    fn restarted(&mut self, engine: &Engine) {
        self.panel.begin(engine);
    }

    fn end(&mut self, _run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(guard) = &self.guard {
            guard.give_back(out);
        }
        Ok(())
    }
}
