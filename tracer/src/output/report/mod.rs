//! `report`: one HTML file that shows a run at a glance and opens anywhere.
//!
//! `aside` makes one in the midst of a run. `fold` takes [`Update`]s and keeps bounded figures of them; `collect` makes of
//! them the `data` of the page; `page` writes the HTML. The page draws its charts itself (`charts.js`, `tables.js`), from JSON that is in it:
//! a chart library would be larger than all the rest, and flame graph tools write SVG with scripts of their
//! own, which the page's Content-Security-Policy refuses.

mod aside;
mod collect;
mod data;
mod findings;
mod fold;
mod histogram;
mod lives;
mod page;
mod stacks;
mod tables;
mod timeline;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

pub use self::aside::{Aside, Draft};
pub use self::data::Shown;
use self::fold::Fold;
pub use self::stacks::Stacks;
use crate::engine::conn::Connection;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::{Draws, Needs, Output, RulesNeed, Run, StacksNeed, Totals};
use crate::time::MonoNs;

/// Sockets that have been open for so long are shown with their openers.
const OLDER: Duration = Duration::from_secs(2);

/// Where the page goes.
pub enum Place {
    /// Into a new file, which is made before the run begins.
    File(PathBuf, File),
    /// To stdout.
    Stdout,
}

/// What a report is made with.
pub struct Options {
    /// Which connections it is about.
    pub filter: Filter,
    /// Where it goes.
    pub place: Place,
    /// The run is live: stacks of openers are taken.
    pub live: bool,
    /// JVMs may be asked for names.
    pub attach: bool,
    /// Stacks of a bundle, where the report is made of one.
    pub stacks: Stacks,
    /// The time zone of its reader.
    pub zone: TimeZone,
    /// What it was made of, for its title: the name of a file, or the machine.
    pub source: String,
}

/// The output of `report`.
pub struct Report {
    options: Options,
    fold: Fold,
}

impl Report {
    /// A report that is written when the run ends.
    #[must_use]
    pub fn new(options: Options) -> Report {
        Report { fold: Fold::new(options.filter.clone()), options }
    }
}

impl Output for Report {
    fn needs(&self) -> Needs {
        let stacks = StacksNeed {
            attach: self.options.attach,
            named_at_end: Some(OLDER),
            ..StacksNeed::default()
        };
        Needs {
            changes: true,
            rules: RulesNeed::Looks,
            stacks: self.options.live.then_some(stacks),
            executables: true,
            draws: Draws::AtEnd,
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.options.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        self.fold.begin(engine.origin().start());
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        self.fold.update(engine, update);
    }

    fn open_at_end(
        &mut self,
        engine: &Engine,
        open: &[&Connection],
        now: MonoNs,
        _out: &mut Vec<u8>,
    ) {
        self.fold.open_at_end(engine, open, now);
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let stacks = std::mem::take(&mut self.options.stacks);
        let Options { filter, zone, source, live, .. } = &self.options;
        let stacks = match live {
            true => Stacks::of_live(run, filter, OLDER)?,
            false => stacks.or_openers(run, filter),
        };
        let reader = collect::Reader { zone, source };
        let data = collect::collect(&mut self.fold, run, &reader, stacks);
        let page = page::page(&data)?;
        match &mut self.options.place {
            Place::Stdout => out.extend_from_slice(page.as_bytes()),
            Place::File(path, file) => {
                let written = file.write_all(page.as_bytes()).and_then(|()| file.sync_all());
                written.map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot write {}: {error}", path.display()),
                    )
                })?;
            }
        }
        Ok(())
    }

    fn summary(&self, _totals: &Totals, _duration_ns: u64) -> Option<String> {
        match &self.options.place {
            Place::File(path, _) => {
                Some(format!("tcptrail: the report is {}; open it in a browser", path.display()))
            }
            Place::Stdout => None,
        }
    }
}
