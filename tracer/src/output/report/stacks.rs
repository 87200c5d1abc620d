//! Who opened what is still open, as folded stacks: `process;thread;outermost;...;innermost 12`.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::LeaksOptions;
use crate::engine::open::{is_open, survivors};
use crate::filter::Filter;
use crate::output::lines::{Leaks, Pen, Setting};
use crate::output::{Output, Run};
use crate::text::{self, Terminal};

/// Stacks that the page shows.
pub(super) const MOST: usize = 2_000;

/// Folded stacks and how many sockets each opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// Frames, joined by semicolons, the outermost first; and sockets.
    pub(super) folded: Vec<(String, u64)>,
}

impl Stacks {
    /// From text as `leaks --folded` writes it. Lines that are none are left out.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Stacks {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter_map(|line| {
            let (stack, count) = line.rsplit_once(' ')?;
            Some((stack.to_owned(), count.parse().ok()?))
        });
        Stacks { folded: lines.collect() }
    }

    /// Of a live run.
    pub(super) fn of_live(run: &Run<'_>, filter: &Filter, older: Duration) -> io::Result<Stacks> {
        let terminal = Terminal { width: None, color: false };
        let pen = Pen::new(false, terminal, TimeZone::UTC);
        let setting = Setting { pen, filter: filter.clone() };
        let options = LeaksOptions { watch: None, attach: false, older, folded: true, full: true };
        let mut leaks = Leaks::new(setting, options, false);
        let mut bytes = Vec::new();
        leaks.begin(run.engine, &mut bytes)?;
        leaks.draw(run.engine, run.now, true, &mut bytes);
        leaks.end(run, &mut bytes)?;
        Ok(Stacks::parse(&bytes))
    }

    /// These; where there are none, the names of openers that a recording holds.
    pub(super) fn or_openers(self, run: &Run<'_>, filter: &Filter) -> Stacks {
        if !self.folded.is_empty() {
            return self;
        }
        let Some(watch) = run.engine.watch() else { return self };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for conn in survivors(run.engine.table(), filter, Duration::ZERO, run.now) {
            let Some(opener) = watch.openers.of(conn.id).filter(|_| is_open(conn)) else {
                continue;
            };
            let mut line = Vec::new();
            if let Some(owner) = &conn.owner {
                text::name(owner.task.comm.bytes(), &mut line);
                line.push(b';');
            }
            text::name(opener.as_bytes(), &mut line);
            *counts.entry(String::from_utf8_lossy(&line).into_owned()).or_default() += 1;
        }
        Stacks { folded: counts.into_iter().collect() }
    }
}
