//! A live run under way: the one `select!` over wake-ups, looks at the ring, walks and signals, and what is
//! due in between.
//!
//! One thread takes records out of the ring and feeds the outputs; a second writes to stdout, a third
//! walks the iterators. When the writer falls behind, records wait in the ring: that is what it is for. When it is slow for
//! longer, they wait in memory ([`MOST_FOR_OUTPUT`](super::backlog::MOST_FOR_OUTPUT)).

use anyhow::{Context, Result};
use crossterm::event::Event;
use tokio::signal::unix::Signal;

use crate::config::Config;
use crate::input::Input;
use crate::kernel::alarm::Alarm;
use crate::kernel::loader::{DebugMessages, Programs};
use crate::kernel::poller::Answer;
use crate::output::session::Session;
use crate::output::writer::{MUCH, Stdout};
use crate::output::{Asked, Needs, Until};
use crate::source::live::backlog::MOST;
use crate::source::live::duties::{Duties, Duty};
use crate::source::live::intake::Intake;
use crate::source::live::looks::{Looks, TICK_NS};
use crate::source::live::losses::Losses;
use crate::source::live::naming::Naming;
use crate::source::live::remotes::Remotes;
use crate::source::live::stacks::Stacks;
use crate::source::live::walks::Walks;
use crate::source::terminal::{self, Keys};
use crate::time::MonoNs;

/// Between two turns where nothing more has come.
const LEAST_NS: u64 = 1_000_000;

/// How many records had been taken when something was done that is done again only after others have come.
#[derive(Debug, Default)]
pub(super) struct TakenAtLast {
    names: u64,
    flush: u64,
    skipped: u64,
}

/// A live run.
pub(super) struct Live<'a> {
    pub(super) config: &'a Config,
    pub(super) session: Session,
    /// What all outputs need.
    pub(super) needs: Needs,
    pub(super) programs: Programs,
    pub(super) intake: Intake,
    pub(super) walks: Walks,
    /// Who opened what, where this run wants to know.
    pub(super) stacks: Option<Stacks>,
    pub(super) stdout: Stdout,
    pub(super) debug: Option<DebugMessages>,
    pub(super) signals: [Signal; 3],
    /// The terminal has another size (SIGWINCH).
    pub(super) resized: Signal,
    pub(super) start: MonoNs,
    pub(super) duties: Duties,
    /// When it ends by itself.
    pub(super) deadline: Option<MonoNs>,
    pub(super) losses: Losses,
    pub(super) taken_at_last: TakenAtLast,
    pub(super) naming: Naming,
    pub(super) remotes: Remotes,
    /// An output could not go on.
    pub(super) output_failed: bool,
    pub(super) looks: Looks,
    pub(super) alarm: Alarm,
    /// What somebody does at the terminal, where an output wants to know.
    pub(super) keys: Option<Keys>,
    /// A frame waits until the terminal has taken the last one.
    pub(super) redraw: bool,
}

impl Live<'_> {
    /// Runs until the time is up, a signal comes, nobody reads any more, or it is done.
    pub(super) async fn run(&mut self) -> Result<()> {
        let mut next_look = MonoNs::now();
        loop {
            let wake = self.deadline.map_or(next_look, |deadline| next_look.min(deadline));
            let [interrupt, terminate, hangup] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                event = terminal::next(&mut self.keys) => {
                    if self.typed(event) == Asked::End {
                        break;
                    }
                }
                Some(answer) = self.walks.answer() => self.answered(answer),
                news = self.remotes.news() => self.remotes.take(news, &mut self.session),
                () = self.stdout.progress(), if self.intake.blocked || self.redraw => {}
                _ = self.resized.recv() => {
                    self.session.resized(MonoNs::now());
                    self.stdout.push(self.session.out());
                }
                woken = self.intake.ring.woken() => {
                    woken.context("the ring buffer cannot be watched")?;
                    self.looks.woken(MonoNs::now());
                    if self.stacks.is_some() {
                        // They come a moment after the event that wakes us.
                        self.looks.expect_stacks();
                    }
                }
                rung = self.alarm.until(wake) => rung.context("there is no timer to wait for")?,
            }
            if self.deadline.is_some_and(|deadline| deadline <= MonoNs::now()) {
                break;
            }
            let more = self.turn();
            next_look = self.next_look(more, MonoNs::now());
            if self.stdout.has_ended() || self.is_done() {
                break;
            }
        }
        Ok(())
    }

    /// When to look at the ring again, and for what is due, if no program wakes us before.
    fn next_look(&mut self, more: bool, now: MonoNs) -> MonoNs {
        if more {
            return now;
        }
        self.looks.looked(now, self.intake.taken, !self.intake.blocked);
        if !self.is_quiet(now) {
            return self.looks.next(now);
        }
        let engine = &self.session.engine;
        let walks = engine.watch().is_some() || engine.table().wants_poll();
        let questions = engine.table().has_questions();
        let looks = [walks.then_some(Duty::Walk), questions.then_some(Duty::Questions)];
        let wake_up = self.duties.wake_up(looks, TICK_NS);
        // What was received is to be written in time.
        let unwritten = self.came_to_write() != 0;
        let flush = self.duties.next(Duty::Flush);
        let next = if unwritten { wake_up.min(flush) } else { wake_up };
        // What is due and cannot be done yet must not keep a processor busy.
        next.max(now.after(LEAST_NS))
    }

    /// Somebody did something at the terminal; whatever came with it is taken, too, and shown at once.
    fn typed(&mut self, first: Event) -> Asked {
        let mut event = Some(first);
        while let Some(this) = event {
            if self.session.terminal(&this, MonoNs::now()) == Asked::End {
                return Asked::End;
            }
            event = self.keys.as_mut().and_then(Keys::try_next);
        }
        self.redraw = true;
        self.redraw();
        Asked::Nothing
    }

    /// Draws what was done at the terminal, unless the last frame is still on its way.
    fn redraw(&mut self) {
        if self.redraw && self.stdout.is_idle() {
            self.redraw = false;
            self.session.redraw(MonoNs::now());
            self.stdout.push(self.session.out());
        }
    }

    /// Takes what has come, and does what is due. Returns whether more may have come.
    fn turn(&mut self) -> bool {
        if let Some(stacks) = &mut self.stacks
            && stacks.take(&mut self.session.engine.book)
        {
            self.looks.expect_stacks();
        }
        let more = self.take_records();
        if self.stacks.is_some() && !more {
            self.session.engine.settle_book(MonoNs::now());
        }
        self.housekeeping(MonoNs::now());
        self.tell_failures();
        if let Some(debug) = &mut self.debug {
            debug.flush();
        }
        let waits = self.intake.blocked || self.walks.events_wait(&self.intake);
        more || !waits && self.intake.has_backlog()
    }

    /// Takes records out of the ring, unless they are to wait. Returns whether there may be more.
    pub(super) fn take_records(&mut self) -> bool {
        if self.walks.events_wait(&self.intake) {
            // The ring must not fill while what was there at the start is walked.
            self.intake.keep(MOST);
            return false;
        }
        // What was there at the start is shown only as a whole.
        let at_once = !self.walks.is_settled();
        let more = self.intake.take(&mut self.session, &mut self.stdout, at_once);
        // A busy ring wakes us hundreds of times a second; nobody reads that fast.
        if !self.intake.blocked && self.duties.take(Duty::Push, MonoNs::now()) {
            self.stdout.push(self.session.out());
        }
        more
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let (duties, session) = (&mut self.duties, &mut self.session);
        if self.walks.answered(answer, duties, session, &mut self.intake) {
            self.take_records();
            self.walks.settle();
        }
    }

    /// What is due.
    fn housekeeping(&mut self, now: MonoNs) {
        if self.duties.take(Duty::Losses, now) {
            let second = self.duties.take(Duty::Second, now);
            let came = self.intake.taken != self.taken_at_last.skipped;
            let skipped = second && (came || self.duties.is_due(Duty::Skipped, now));
            if skipped {
                self.taken_at_last.skipped = self.intake.taken;
                self.duties.done(Duty::Skipped, now, 0);
            }
            self.read_losses(skipped);
            let taken = self.intake.taken;
            if taken != self.taken_at_last.names && self.duties.take(Duty::Names, now) {
                self.taken_at_last.names = taken;
                self.name_things();
            }
            if second {
                let tick = Input::Tick(MonoNs::now());
                let came = self.came_to_write();
                self.intake.while_writing(&mut self.session, came, |session| session.feed(&tick));
                if let Some(stacks) = &mut self.stacks {
                    stacks.tend(&mut self.session, &self.config.filter);
                }
                self.flush(now);
            }
            self.stdout.push(self.session.out());
        }
        if self.needs.inputs && self.duties.is_due(Duty::Flush, now) {
            self.flush(now);
        }
        let due = self.duties.is_due(Duty::Remotes, now) || self.remotes.is_urgent();
        if self.walks.is_settled() && due {
            self.look_at_remotes(now);
        }
        self.redraw();
        // Whoever draws on a terminal that is slow leaves frames out, and no event waits for it.
        let takes = self.keys.is_none() || self.stdout.is_idle();
        if self.walks.is_settled() && takes && self.session.is_draw_due(now) {
            self.intake.meanwhile(&mut self.session, |session| session.draw_due(now));
        }
        self.walks.make(&mut self.duties, &mut self.session, &self.intake, now);
    }

    pub(super) fn read_losses(&mut self, recursion: bool) {
        let losses = self.losses.read(&mut self.programs, recursion, MonoNs::now());
        for loss in losses.into_iter().flatten() {
            self.walks.repair();
            self.session.feed(&Input::Lost(loss));
        }
    }

    fn flush(&mut self, now: MonoNs) {
        self.duties.done(Duty::Flush, now, 0);
        let came = self.came_to_write();
        self.taken_at_last.flush = self.intake.taken;
        self.intake.while_writing(&mut self.session, came, Session::flush);
    }

    /// Records that came since outputs last wrote what they have, where one of them writes files.
    fn came_to_write(&self) -> u64 {
        if self.needs.inputs { self.intake.taken - self.taken_at_last.flush } else { 0 }
    }

    pub(super) fn name_things(&mut self) {
        let names = self.naming.all(&self.session.engine);
        self.session.feed(&Input::Names(&names));
    }

    /// Asks for what is not known of remote ends, unless rows of a walk are still to come.
    fn look_at_remotes(&mut self, now: MonoNs) {
        if self.intake.has_rows() {
            return;
        }
        self.remotes.read(&mut self.session);
        if self.remotes.are_asked() {
            self.remotes.look(&self.session.engine, self.config, now);
        }
        let took_ns = MonoNs::now().since(now);
        self.duties.done(Duty::Remotes, now, took_ns);
    }

    /// Nothing comes and nothing is under way: until a program wakes us, once a second is enough.
    fn is_quiet(&self, now: MonoNs) -> bool {
        let unwritten = self.intake.blocked || self.session.waiting() != 0;
        let under_way = self.walks.are_busy() || self.intake.has_rows() || unwritten;
        let may_sleep = self.needs.may_sleep() && self.looks.may_sleep(now);
        may_sleep && self.walks.is_settled() && !under_way
    }

    /// A list that is not watched is done when it is printed, a recording when it failed, and a run with
    /// conditions when one of them holds.
    fn is_done(&mut self) -> bool {
        let watch = self.session.engine.watch();
        if self.session.all_failed() || watch.is_some_and(|watch| watch.failed().is_some()) {
            return true;
        }
        let waits = self.walks.is_settled() && self.remotes.hold_back(MonoNs::now());
        if self.needs.until == Until::Facts && self.walks.facts_were_read() {
            return self.deadline.is_none() && !waits;
        }
        let drawn = !waits && self.walks.take_draw(&self.intake, MonoNs::now());
        if drawn {
            self.name_things();
            let now = MonoNs::now();
            let stdout = &mut self.stdout;
            let mut pour = |out: &mut Vec<u8>| {
                if out.len() >= MUCH && stdout.has_room() {
                    stdout.push(out);
                }
            };
            let draw = |session: &mut Session| session.draw_walked(now, &mut pour);
            self.intake.meanwhile(&mut self.session, draw);
            self.stdout.push(self.session.out());
        }
        drawn && self.needs.until == Until::Drawn
    }

    /// Says what went wrong with outputs. The run goes on without them.
    pub(super) fn tell_failures(&mut self) {
        for failure in self.session.take_failures() {
            eprintln!("tcptrail: {failure}");
            self.output_failed = true;
        }
    }
}
