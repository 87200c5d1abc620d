//! `list`: what there is now: `ss` with ages and owners. `rows` chooses and sorts, `text` and `json` write, `groups`
//! counts what sockets have in common, `frame` is what `--watch` draws on a terminal.

mod frame;
mod groups;
pub(crate) mod json;
pub(crate) mod rows;
pub(crate) mod text;

use std::io::{self, Write};
use std::time::Duration;

use crate::config::Listing;
use crate::engine::conn::Connection;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::lines::{Pen, Setting};
use crate::output::{Draws, Needs, Output, Run, Totals, Until};
use crate::text::{Terminal, lines_of_stdout};
use crate::time::{Human, MonoNs};

/// The view.
#[derive(Debug)]
pub struct List {
    setting: Setting,
    listing: Listing,
    /// Again after this time.
    watch: Option<Duration>,
    /// Of a live run: its last line counts sockets.
    live: bool,
    /// Lists drawn, and sockets in the last.
    drawn: u64,
    listed: usize,
}

impl List {
    /// A list that is drawn once, or each time that `watch` has passed.
    #[must_use]
    pub fn new(setting: Setting, watch: Option<Duration>, live: bool) -> List {
        List { setting, listing: Listing::default(), watch, live, drawn: 0, listed: 0 }
    }

    /// With this order, limit and groups.
    #[must_use]
    pub fn ordered(self, listing: Listing) -> List {
        List { listing, ..self }
    }

    /// Drawn over the last one, within the screen.
    fn in_frames(&self) -> bool {
        let pen = &self.setting.pen;
        self.watch.is_some() && !pen.json && pen.terminal.width.is_some()
    }
}

impl Output for List {
    fn needs(&self) -> Needs {
        let until = if self.watch.is_none() { Until::Drawn } else { Until::Stopped };
        let draws = Draws::Walked { again: self.watch };
        Needs { executables: true, draws, until, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.begin(engine, out);
        Ok(())
    }

    fn update(&mut self, _engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        if let Update::Lost(loss) = update
            // A frame says so in its first line.
            && !self.in_frames()
        {
            self.setting.pen.loss(loss, out);
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, _last: bool, out: &mut Vec<u8>) {
        self.draw_walked(engine, now, out, &mut |_| {});
    }

    fn draw_walked(
        &mut self,
        engine: &Engine,
        now: MonoNs,
        out: &mut Vec<u8>,
        pour: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        let in_frames = self.in_frames();
        let Setting { pen, filter } = &mut self.setting;
        self.drawn += 1;
        let rows = rows::chosen(engine, filter, now);
        self.listed = rows.len();
        if in_frames {
            pen.terminal = Terminal::of_stdout(pen.terminal.color);
            let (listing, lines) = (&self.listing, lines_of_stdout());
            let frame = frame::Frame { listing, lines, again: self.watch };
            frame::draw(pen, engine, rows, now, &frame, out);
        } else if pen.json {
            objects(pen, engine, rows, &self.listing, now, &mut To { out, pour });
        } else {
            lines(pen, engine, rows, &self.listing, now, &mut To { out, pour });
        }
    }

    fn resized(&mut self, engine: &Engine, now: MonoNs, out: &mut Vec<u8>) {
        if self.in_frames() && self.drawn != 0 {
            self.draw(engine, now, false, out);
        }
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        if self.in_frames() && self.drawn != 0 {
            // Below the last frame.
            out.push(b'\n');
        }
        Ok(())
    }

    fn summary(&self, totals: &Totals, duration_ns: u64) -> Option<String> {
        let (lost, took) = (totals.all_lost(), Human(duration_ns));
        self.live.then(|| format!("tcptrail: {} sockets, {lost} lost in {took}", self.listed))
    }
}

/// Where the lines of a list go: see [`Output::draw_walked`].
struct To<'t> {
    out: &'t mut Vec<u8>,
    pour: &'t mut dyn FnMut(&mut Vec<u8>),
}

impl To<'_> {
    /// One more line, or some.
    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
        (self.pour)(self.out);
    }
}

/// Leaves out what `--top` does; returns how many rows that are.
fn top<T>(rows: &mut Vec<T>, listing: &Listing) -> usize {
    let all = rows.len();
    rows.truncate(listing.top.unwrap_or(usize::MAX));
    all - rows.len()
}

fn lines(
    pen: &mut Pen,
    engine: &Engine,
    mut conns: Vec<&Connection>,
    listing: &Listing,
    now: MonoNs,
    to: &mut To<'_>,
) {
    if listing.group_by.is_empty() {
        rows::sort(&mut conns, &listing.sort, engine, now);
        let left_out = top(&mut conns, listing);
        let keys = listing.sort.iter().map(|order| order.key);
        let columns = text::Columns::new(pen.terminal, engine, &conns, keys, now);
        if pen.header {
            to.line(|out| text::header(pen.terminal, &columns, out));
        }
        for conn in conns {
            to.line(|out| text::line(pen, engine, conn, &columns, out));
        }
        not_shown(left_out, "sockets", to.out);
    } else {
        let mut groups = groups::groups(&conns, listing, engine, now);
        let left_out = top(&mut groups, listing);
        let table = groups::Table::new(&groups, listing, engine);
        if pen.header {
            to.line(|out| table.header(pen.terminal, out));
        }
        for (index, group) in groups.iter().enumerate() {
            to.line(|out| table.line(pen, index, group, out));
        }
        not_shown(left_out, "groups", to.out);
    }
}

fn not_shown(count: usize, what: &str, out: &mut Vec<u8>) {
    if count != 0 {
        // A write to a Vec cannot fail.
        let _ = writeln!(out, "and {count} more {what} that --top leaves out");
    }
}

fn objects(
    pen: &mut Pen,
    engine: &Engine,
    mut conns: Vec<&Connection>,
    listing: &Listing,
    now: MonoNs,
    to: &mut To<'_>,
) {
    let left_out = if listing.group_by.is_empty() {
        rows::sort(&mut conns, &listing.sort, engine, now);
        let left_out = top(&mut conns, listing);
        for conn in conns {
            to.line(|out| json::object(pen, engine, conn, now, out));
        }
        left_out
    } else {
        let mut groups = groups::groups(&conns, listing, engine, now);
        let left_out = top(&mut groups, listing);
        for group in &groups {
            to.line(|out| groups::json(pen, engine, group, &listing.group_by, now, out));
        }
        left_out
    };
    if left_out != 0 {
        json::not_shown(pen, left_out, now, to.out);
    }
}
