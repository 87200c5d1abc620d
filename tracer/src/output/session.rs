//! A run: one engine and the outputs that are told of it.

use std::io;

use crate::engine::rules::{self, Watch};
use crate::engine::{Engine, Sink, Update};
use crate::input::Input;
use crate::output::selection::{Selection, first};
use crate::output::{Asked, Draws, Needs, Output, Playback, Run, Totals, Verdict};
use crate::time::MonoNs;

/// The engine and its outputs.
pub struct Session {
    /// What is known.
    pub engine: Engine,
    outputs: Outputs,
}

/// All outputs of a run, and what they have for stdout.
struct Outputs {
    slots: Vec<Slot>,
    /// At least one takes inputs.
    inputs: bool,
    out: Vec<u8>,
    /// What went wrong with outputs, not told yet.
    failures: Vec<String>,
}

/// An output and what belongs to it.
struct Slot {
    output: Box<dyn Output>,
    needs: Needs,
    selection: Selection,
    /// It counts what passes its filter. The first always does: it speaks for the run.
    selects: bool,
    /// Its sink failed; it is told nothing more.
    failed: bool,
    next_draw: Option<MonoNs>,
}

/// What several outputs need together. `until` is the first's.
#[must_use]
pub fn needs_of(outputs: &[Box<dyn Output>]) -> Needs {
    outputs.iter().map(|output| output.needs()).reduce(Needs::and).unwrap_or_default()
}

impl Session {
    /// A run that begins now. The first output speaks for it: its totals are the run's.
    ///
    /// # Errors
    /// When an output cannot begin.
    pub fn begin(engine: Engine, outputs: Vec<Box<dyn Output>>) -> io::Result<Session> {
        let start = engine.origin().start();
        let slots = outputs.into_iter().enumerate().map(|(index, output)| {
            let needs = output.needs();
            Slot {
                selection: Selection::new(output.filter()),
                selects: needs.changes || index == 0,
                failed: false,
                next_draw: match needs.draws {
                    Draws::Every(every) => Some(start.after(nanos(every))),
                    _ => None,
                },
                needs,
                output,
            }
        });
        let slots: Vec<Slot> = slots.collect();
        let inputs = slots.iter().any(|slot| slot.needs.inputs);
        let mut outputs = Outputs { slots, inputs, out: Vec::new(), failures: Vec::new() };
        for slot in &mut outputs.slots {
            slot.output.begin(&engine, &mut outputs.out)?;
        }
        Ok(Session { engine, outputs })
    }

    /// Takes in one input and tells every output.
    #[inline]
    pub fn feed(&mut self, input: &Input<'_>) {
        self.engine.feed(input, &mut self.outputs);
        if self.outputs.inputs {
            self.outputs.input(input);
        }
    }

    /// Takes in one input that no output is told of: it is from before what a replay shows.
    pub fn feed_unseen(&mut self, input: &Input<'_>) {
        self.engine.feed(input, &mut Unseen);
    }

    /// What a replay shows begins here: outputs are told the findings there are.
    pub fn show_from(&mut self, at: MonoNs) {
        self.outputs.tell_all(&self.engine, &Update::Names);
        let findings = self.engine.watch().map(Watch::findings).unwrap_or_default();
        for (finding, _) in findings {
            let update = &rules::Update::Appear;
            self.outputs.tell_all(&self.engine, &Update::Finding { at, update, finding });
        }
    }

    /// Lines for stdout. Whoever takes them leaves the buffer empty.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.outputs.out
    }

    /// Bytes that wait for stdout.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outputs.out.len()
    }

    /// What all outputs need.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.outputs.slots.iter().map(|slot| slot.needs).reduce(Needs::and).unwrap_or_default()
    }

    /// What the first output has let through, and what was lost.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.outputs.totals(0, &self.engine)
    }

    /// Dropped segments that only those told which the first output's filter leaves out. Whose they were is not known.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.outputs.slots.first().map_or(0, |slot| slot.selection.left_out)
    }

    /// Whether the time of an output has come.
    #[must_use]
    pub fn is_draw_due(&self, now: MonoNs) -> bool {
        let due = |slot: &Slot| !slot.failed && slot.next_draw.is_some_and(|next| next <= now);
        self.outputs.slots.iter().any(due)
    }

    /// Outputs whose time has come draw.
    pub fn draw_due(&mut self, now: MonoNs) {
        for slot in &mut self.outputs.slots {
            let Draws::Every(every) = slot.needs.draws else { continue };
            if !slot.failed && slot.next_draw.is_some_and(|next| next <= now) {
                slot.next_draw = Some(now.after(nanos(every)));
                slot.output.draw(&self.engine, now, false, &mut self.outputs.out);
            }
        }
    }

    /// Somebody did something at the terminal.
    pub fn terminal(&mut self, event: &crossterm::event::Event, now: MonoNs) -> Asked {
        let mut asked = Asked::Nothing;
        for slot in self.outputs.at_terminal() {
            match slot.output.terminal(&self.engine, event, now) {
                Asked::Nothing => {}
                other => asked = other,
            }
        }
        asked
    }

    /// What was done at the terminal shows.
    pub fn redraw(&mut self, now: MonoNs) {
        let Outputs { slots, out, .. } = &mut self.outputs;
        for slot in slots.iter_mut().filter(|slot| slot.needs.terminal && !slot.failed) {
            slot.output.redraw(&self.engine, now, out);
        }
    }

    /// A replay that somebody looks at is here: everything draws.
    pub fn draw_played(&mut self, playback: Playback) {
        let Outputs { slots, out, .. } = &mut self.outputs;
        for slot in slots.iter_mut().filter(|slot| slot.needs.terminal && !slot.failed) {
            slot.output.played(playback);
            slot.output.draw(&self.engine, playback.at, false, out);
        }
    }

    /// A replay begins again, with an engine that knows nothing yet.
    pub fn restart(&mut self, engine: Engine) {
        self.engine = engine;
        for slot in &mut self.outputs.slots {
            slot.selection = Selection::new(slot.output.filter());
            slot.output.restarted(&self.engine);
        }
    }

    /// Everything was walked: outputs that wait for that draw. `pour`: see [`Output::draw_walked`].
    pub fn draw_walked(&mut self, now: MonoNs, pour: &mut dyn FnMut(&mut Vec<u8>)) {
        for slot in &mut self.outputs.slots {
            if matches!(slot.needs.draws, Draws::Walked { .. }) && !slot.failed {
                slot.output.draw_walked(&self.engine, now, &mut self.outputs.out, pour);
            }
        }
    }

    /// The last draws. In a `replay` also of those that draw when everything was walked, which in a live
    /// run they have.
    pub fn draw_last(&mut self, now: MonoNs, replay: bool) {
        let draws = |needs: &Needs| match needs.draws {
            Draws::Never => false,
            Draws::AtEnd | Draws::Every(_) => true,
            Draws::Walked { .. } => replay,
        };
        if self.outputs.slots.iter().any(|slot| draws(&slot.needs)) {
            self.engine.look_now(now, &mut self.outputs);
        }
        for slot in &mut self.outputs.slots {
            if draws(&slot.needs) && !slot.failed {
                slot.output.draw(&self.engine, now, true, &mut self.outputs.out);
            }
        }
    }

    /// The terminal at stdout has another size now.
    pub fn resized(&mut self, now: MonoNs) {
        let Outputs { slots, out, .. } = &mut self.outputs;
        for slot in slots.iter_mut().filter(|slot| !slot.failed) {
            slot.output.resized(&self.engine, now, out);
        }
    }

    /// Lets outputs make safe what they have received so far.
    pub fn flush(&mut self) {
        let flushed = |slot: &mut Slot| slot.output.flush();
        self.outputs.each(flushed);
    }

    /// Ends the run: a last tick, then every output's end.
    pub fn end(&mut self, now: MonoNs) {
        self.engine.feed(&Input::Tick(now), &mut self.outputs);
        self.engine.end(&mut self.outputs);
        self.account_for_open(now);
        for index in 0..self.outputs.slots.len() {
            let totals = self.outputs.totals(index, &self.engine);
            let run = Run { engine: &self.engine, totals: &totals, now };
            let Outputs { slots, out, failures, .. } = &mut self.outputs;
            if let Some(slot) = slots.get_mut(index).filter(|slot| !slot.failed)
                && let Err(error) = slot.output.end(&run, out)
            {
                slot.failed = true;
                failures.push(error.to_string());
            }
        }
    }

    /// Whatever has not finished is counted, and told to those who want to know.
    fn account_for_open(&mut self, now: MonoNs) {
        let Outputs { slots, out, .. } = &mut self.outputs;
        for slot in slots.iter_mut().filter(|slot| slot.selects && !slot.failed) {
            let open = slot.selection.open_now(self.engine.table());
            slot.selection.open = open.len() as u64;
            if slot.needs.changes {
                slot.output.open_at_end(&self.engine, &open, now, out);
            }
        }
    }

    /// What went wrong with outputs since this was last asked, in sentences.
    pub fn take_failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outputs.failures)
    }

    /// Whether no output is left.
    #[must_use]
    pub fn all_failed(&self) -> bool {
        self.outputs.slots.iter().all(|slot| slot.failed)
    }

    /// What the first output has found.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.outputs.slots.first()?.output.verdict(&self.engine)
    }

    /// The first output's last line, where it has one of its own.
    #[must_use]
    pub fn summary(&self, totals: &Totals, duration_ns: u64) -> Option<String> {
        self.outputs.slots.first()?.output.summary(totals, duration_ns)
    }
}

impl Outputs {
    /// Of outputs that select nothing: the first's.
    fn totals(&self, index: usize, engine: &Engine) -> Totals {
        let selects = self.slots.get(index).filter(|slot| slot.selects);
        let Some(slot) = selects.or(self.slots.first()) else {
            return Totals { lost: engine.lost(), ..Totals::default() };
        };
        Totals {
            events: slot.selection.events,
            connections: slot.selection.connections,
            open: slot.selection.open,
            lost: engine.lost(),
        }
    }

    fn at_terminal(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().filter(|slot| slot.needs.terminal && !slot.failed)
    }

    fn input(&mut self, input: &Input<'_>) {
        for slot in &mut self.slots {
            if slot.needs.inputs
                && !slot.failed
                && let Err(error) = slot.output.input(input)
            {
                slot.failed = true;
                self.failures.push(error.to_string());
            }
        }
    }

    /// What is no change of a connection, and so for all.
    #[cold]
    fn tell_all(&mut self, engine: &Engine, update: &Update<'_>) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.failed) {
            match update {
                Update::Names => slot.selection.learn(engine.names()),
                Update::Unclaimed(group) => slot.selection.unclaimed(engine.table(), group),
                _ => {}
            }
            slot.output.update(engine, update, &mut self.out);
        }
    }

    fn each(&mut self, mut work: impl FnMut(&mut Slot) -> io::Result<()>) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.failed) {
            if let Err(error) = work(slot) {
                slot.failed = true;
                self.failures.push(error.to_string());
            }
        }
    }
}

impl Sink for Outputs {
    #[inline]
    fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        let Update::Change { conn, change } = update else {
            self.tell_all(engine, update);
            return;
        };
        for slot in &mut self.slots {
            if !slot.selects {
                continue;
            }
            let passed = slot.selection.pass(conn, change);
            if slot.failed || !slot.needs.changes {
                continue;
            }
            if passed.first
                && let Some(change) = &first(conn, change.conn)
            {
                slot.output.update(engine, &Update::Change { conn, change }, &mut self.out);
            }
            if passed.change {
                slot.output.update(engine, update, &mut self.out);
            }
        }
    }
}

/// Takes what the engine tells while nothing is shown.
struct Unseen;

impl Sink for Unseen {
    fn update(&mut self, _engine: &Engine, _update: &Update<'_>) {}
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
