//! `stats`: how handshakes, round trips, times in each state, lives and bytes of finished connections are spread; of
//! all, or by process, service, remote or listener. `labels` names the groups, `text` and `json` write.

mod json;
mod labels;
mod text;

use std::io;

use crate::config::StatsOptions;
use crate::engine::stats::{Drops, Retransmits, Stats};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::lines::Setting;
use crate::output::{Draws, Needs, Output, Run};
use crate::time::MonoNs;

/// The view.
#[derive(Debug)]
pub struct Statistics {
    setting: Setting,
    options: StatsOptions,
    stats: Stats,
    /// Segments the kernel threw away: they belong to no group.
    drops: Drops,
    /// Nor do those that were sent again: most are of connections that go on.
    again: Retransmits,
}

impl Statistics {
    /// Figures of what passes the filter.
    #[must_use]
    pub fn new(setting: Setting, options: StatsOptions) -> Statistics {
        let stats = Stats::new(options.by.clone());
        Statistics {
            setting,
            options,
            stats,
            drops: Drops::default(),
            again: Retransmits::default(),
        }
    }
}

impl Output for Statistics {
    fn needs(&self) -> Needs {
        let draws = self.options.watch.map_or(Draws::Never, Draws::Every);
        Needs { changes: true, draws, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.begin(engine, out);
        Ok(())
    }

    #[inline]
    fn update(&mut self, engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        self.drops.update(engine, update, &self.setting.filter);
        self.again.update(update);
        match update {
            Update::Change { conn, change } => self.stats.change(conn, change),
            Update::Lost(loss) => self.setting.pen.loss(loss, out),
            _ => {}
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, last: bool, out: &mut Vec<u8>) {
        // The last comes when it is known what is still open.
        if !last {
            self.figures(engine, now, None, out);
        }
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.figures(run.engine, run.now, Some(run.totals.open), out);
        self.setting.pen.end(run, out);
        Ok(())
    }
}

impl Statistics {
    /// `open`: connections that have not finished, once that is known.
    fn figures(&mut self, engine: &Engine, now: MonoNs, open: Option<u64>, out: &mut Vec<u8>) {
        let Statistics { setting, options, stats, drops, again } = self;
        let groups = labels::groups(stats, engine.names());
        let pen = &mut setting.pen;
        let (options, stats, drops) = (&*options, &*stats, &*drops);
        let page = text::Page { now, open, options, stats, drops, again: *again };
        if pen.json {
            json::objects(pen, engine, &page, &groups, out);
        } else {
            text::page(pen, engine, &page, &groups, out);
        }
    }
}
