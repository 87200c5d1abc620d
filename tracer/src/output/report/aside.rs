//! A report in the midst of a run: whoever gathers its figures beside something else can have it at any time.

use std::io;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::collect::{self, Reader};
use super::data::{Data, Shown};
use super::fold::Fold;
use super::page;
use super::stacks::Stacks;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::selection::Selection;
use crate::output::{Run, Totals};
use crate::time::MonoNs;

/// Figures of a run that goes on. They take at most 60 MB, of 4,000 processes, ports and remote ends each.
pub struct Aside {
    filter: Filter,
    fold: Fold,
    /// Counts what came; it came through the filter already.
    counted: Selection,
}

/// Everything of a page that is still to be written.
pub struct Draft(Data);

impl Aside {
    /// Of a run, or a replay, that begins now.
    #[must_use]
    pub fn new(filter: Filter, start: MonoNs) -> Aside {
        let mut fold = Fold::new(filter.clone());
        fold.begin(start);
        Aside { filter, fold, counted: Selection::new(Filter::default()) }
    }

    /// Takes in an update that passed the filter.
    #[inline]
    pub fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        if let Update::Change { conn, change } = update {
            self.counted.pass(conn, change);
        }
        self.fold.update(engine, update);
    }

    /// The report as things are now, with a table that somebody looks at. `live`: stacks were taken.
    ///
    /// # Errors
    /// When the stacks cannot be written out.
    pub fn draft(
        &self,
        engine: &Engine,
        now: MonoNs,
        (zone, source, live): (&TimeZone, &str, bool),
        shown: Shown,
    ) -> io::Result<Draft> {
        let mut fold = self.fold.clone();
        let open = self.counted.open_now(engine.table());
        fold.open_at_end(engine, &open, now);
        let totals = Totals {
            events: self.counted.events,
            connections: self.counted.connections,
            open: open.len() as u64,
            lost: engine.lost(),
        };
        let run = Run { engine, totals: &totals, now };
        let mut stacks = Stacks::default();
        if live {
            stacks = Stacks::of_live(&run, &self.filter, Duration::ZERO)?;
        }
        let stacks = stacks.or_openers(&run, &self.filter);
        let data = collect::collect(&mut fold, &run, &Reader { zone, source }, stacks);
        Ok(Draft(Data { shown: Some(shown), ..data }))
    }
}

impl Draft {
    /// Writes it; may take a second, and needs nothing of the run.
    ///
    /// # Errors
    /// When the data cannot be written as JSON.
    pub fn page(&self) -> io::Result<String> {
        page::page(&self.0)
    }
}
