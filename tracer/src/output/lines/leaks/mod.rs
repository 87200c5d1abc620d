//! `leaks`: sockets that were opened and not closed, by who opened them. `find` groups them, the others write:
//! `text` with `advice`, `json`, `folded`. `collected` counts those that only the garbage collector closed,
//! `closed` has those whose connection has ended and that were not given back.

mod advice;
mod closed;
mod collected;
mod find;
mod folded;
mod json;
mod text;

use std::io;
use std::time::Duration;

use crate::config::LeaksOptions;
use crate::engine::rules::fingerprint::Fins;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::lines::Setting;
use crate::output::lines::leaks::collected::Collected;
use crate::output::lines::leaks::find::find;
use crate::output::lines::leaks::folded::folded;
use crate::output::lines::leaks::json::as_json;
use crate::output::lines::leaks::text::{Scene, as_text};
use crate::output::{Draws, Needs, Output, Run, StacksNeed};
use crate::time::MonoNs;

/// A report on a terminal is made again after this time.
const REDRAW_EVERY: Duration = Duration::from_secs(5);

/// The view.
#[derive(Debug)]
pub struct Leaks {
    /// How and what.
    pub setting: Setting,
    /// What the report has.
    pub options: LeaksOptions,
    /// Stdout is a terminal: reports are drawn over one another.
    pub on_terminal: bool,
    /// What was closed so far by nobody but a garbage collector.
    collected: Collected,
    /// What the FINs have told of connections that the other side has closed.
    fins: Fins,
}

impl Leaks {
    /// The view; nothing has been closed so far.
    #[must_use]
    pub fn new(setting: Setting, options: LeaksOptions, on_terminal: bool) -> Leaks {
        Leaks {
            setting,
            options,
            on_terminal,
            collected: Collected::default(),
            fins: Fins::default(),
        }
    }

    /// Writes the report.
    fn report(&mut self, engine: &Engine, now: MonoNs, out: &mut Vec<u8>) {
        let (table, book) = (engine.table(), &engine.book);
        let (options, Setting { pen, filter }) = (&self.options, &mut self.setting);
        let findings = find(engine, (&self.collected, &self.fins), filter, options.older, now);
        let closed = closed::find(engine, filter, options.older, now);
        if options.folded {
            folded(&findings, book, out);
        } else if pen.json {
            for group in &findings.groups {
                as_json(pen, group, engine, now, out);
            }
            for group in &closed {
                closed::as_json(pen, group, engine, now, out);
            }
        } else {
            let names = engine.names();
            let scene = Scene { table, book, names, options, now, terminal: pen.terminal };
            for group in &closed {
                closed::as_text(pen, group, engine, options, now, out);
                out.push(b'\n');
            }
            if closed.is_empty() || !findings.groups.is_empty() {
                as_text(&findings, &scene, out);
            }
        }
    }

    fn draws_over(&self) -> bool {
        !self.setting.pen.json && !self.options.folded && self.on_terminal
    }
}

impl Output for Leaks {
    fn needs(&self) -> Needs {
        let options = &self.options;
        let every = options.watch.or(self.draws_over().then_some(REDRAW_EVERY));
        let named_at_end = Some(options.older);
        Needs {
            stacks: Some(StacksNeed {
                attach: options.attach,
                accepted: true,
                named_at_end,
                dumps: false,
            }),
            // The collector's closings.
            changes: true,
            draws: every.map_or(Draws::AtEnd, Draws::Every),
            // What nobody has read may be the last words of a server that closes idle connections.
            fresh: Some(every.map_or(REDRAW_EVERY, |every| every.min(REDRAW_EVERY))),
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        let mut nothing = Vec::new();
        // Folded: nothing but stacks goes out.
        self.setting.pen.begin(engine, if self.options.folded { &mut nothing } else { out });
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        match update {
            Update::Lost(loss) if !self.options.folded => self.setting.pen.loss(loss, out),
            Update::Change { conn, change } => {
                self.collected.count(conn, change, &engine.book, &self.setting.filter);
                self.fins.change(conn, change, engine.table().options.jiffy_ns);
            }
            _ => {}
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, last: bool, out: &mut Vec<u8>) {
        if !last && self.draws_over() {
            out.extend_from_slice(b"\x1b[H\x1b[2J");
        }
        self.report(engine, now, out);
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        Ok(())
    }
}
