//! What goes out: each output takes [`Update`]s with read access to the engine, and makes something of
//! them. Several run at once, each with its filter.
//!
//! A new output is a folder here, and a line in `listed`.

mod cost;
pub mod incident;
pub mod json;
pub mod kill;
pub mod lines;
pub mod listed;
mod needs;
mod playback;
pub mod record;
pub mod recorder;
pub mod report;
mod selection;
pub mod serve;
pub mod session;
pub mod stats;
pub mod top;
pub mod writer;

use std::io;

pub use needs::{Draws, Needs, RulesNeed, StacksNeed, Until};
pub use playback::{Play, Playback};

use crate::engine::conn::Connection;
use crate::engine::{Engine, Update};
use crate::event::LossCause;
use crate::filter::Filter;
use crate::input::Input;
use crate::time::MonoNs;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transitions, retransmits and resets that passed the filter.
    pub events: u64,
    /// Connections met.
    pub connections: u64,
    /// Of those, that had not finished when the run ended; before its end 0.
    pub open: u64,
    /// Lost, by [`LossCause::ALL`].
    pub lost: [u64; LossCause::ALL.len()],
}

impl Totals {
    /// Lost for any cause.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.iter().sum()
    }
}

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What is known at its end.
    pub engine: &'a Engine,
    /// What it came to.
    pub totals: &'a Totals,
    /// When it ended.
    pub now: MonoNs,
}

/// How a run ends that found what it was to look for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The exit code.
    pub code: u8,
    /// Why, to be said on stderr.
    pub reason: Option<String>,
}

/// What somebody at the terminal asks of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Asked {
    /// Nothing: what changed shows.
    #[default]
    Nothing,
    /// The run is to end.
    End,
    /// A replay is to go on otherwise.
    Play(Play),
}

/// One way to tell what happens. Everything but `needs` has a default, so an output says only what it does.
///
/// What goes to stdout is appended to `out`, in whole lines; an output with a sink of its own leaves `out`
/// alone. Nothing here may wait: the thread that calls also takes events from the kernel.
pub trait Output {
    /// What it needs of the run. Asked once, before the run begins.
    fn needs(&self) -> Needs;

    /// Which connections its changes are about.
    fn filter(&self) -> Filter {
        Filter::default()
    }

    /// The run begins. An error ends it.
    ///
    /// # Errors
    /// When its sink cannot be written.
    fn begin(&mut self, _engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    /// Something happened. Changes of connections come only when [`Needs::changes`] asks for them, and only
    /// those that pass the filter; all other updates always come.
    fn update(&mut self, _engine: &Engine, _update: &Update<'_>, _out: &mut Vec<u8>) {}

    /// An input, as it came in, after its updates. Only when [`Needs::inputs`] asks for it.
    ///
    /// # Errors
    /// When its sink cannot be written. The output is dropped then, and the run goes on.
    fn input(&mut self, _input: &Input<'_>) -> io::Result<()> {
        Ok(())
    }

    /// It is time to draw: see [`Needs::draws`]. `last` at the end of the run.
    fn draw(&mut self, _engine: &Engine, _now: MonoNs, _last: bool, _out: &mut Vec<u8>) {}

    /// As [`Output::draw`], after a walk. What may be long hands itself to `pour` line by line, which takes what there is
    /// in `out` when it is much and stdout has room: then it is written while the rest is made, and takes no memory.
    fn draw_walked(
        &mut self,
        engine: &Engine,
        now: MonoNs,
        out: &mut Vec<u8>,
        _pour: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        self.draw(engine, now, false, out);
    }

    /// Somebody did something at the terminal. Only when [`Needs::terminal`] asks for it; what it changed is
    /// drawn by [`Output::redraw`], once for all that came together.
    fn terminal(
        &mut self,
        _engine: &Engine,
        _event: &crossterm::event::Event,
        _now: MonoNs,
    ) -> Asked {
        Asked::Nothing
    }

    /// Draws what [`Output::terminal`] changed. Between draws, and only with [`Needs::terminal`].
    fn redraw(&mut self, _engine: &Engine, _now: MonoNs, _out: &mut Vec<u8>) {}

    /// Where the replay is that somebody looks at; before every draw of one.
    fn played(&mut self, _playback: Playback) {}

    /// The replay begins again: this engine knows nothing yet.
    fn restarted(&mut self, _engine: &Engine) {}

    /// The terminal at stdout has another size now.
    fn resized(&mut self, _engine: &Engine, _now: MonoNs, _out: &mut Vec<u8>) {}

    /// At least once a second: what was received so far is to be safe.
    ///
    /// # Errors
    /// As [`Output::input`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The run is over: connections of those it was told changes of that have not finished, the oldest
    /// first. Comes before [`Output::end`], and only to outputs that ask for changes.
    fn open_at_end(
        &mut self,
        _engine: &Engine,
        _open: &[&Connection],
        _now: MonoNs,
        _out: &mut Vec<u8>,
    ) {
    }

    /// The run is over; the last tick and the last draw have been.
    ///
    /// # Errors
    /// As [`Output::input`].
    fn end(&mut self, _run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    /// Whether it has found what the run was for. Asked of the first output.
    fn verdict(&self, _engine: &Engine) -> Option<Verdict> {
        None
    }

    /// The last line on stderr, where the usual one does not do; none when it is empty. Asked of the first output.
    fn summary(&self, _totals: &Totals, _duration_ns: u64) -> Option<String> {
        None
    }
}
