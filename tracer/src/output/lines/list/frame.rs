//! What `list --watch` draws on a terminal: as much as fits, and what does not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Listing;
use crate::engine::Engine;
use crate::engine::conn::Connection;
use crate::output::lines::Pen;
use crate::output::lines::list::{groups, rows, text, top};
use crate::output::lines::screen::{Screen, paint_over};
use crate::text::{Paint, Row};
use crate::time::MonoNs;

/// What is drawn, on how many lines, and when the next one comes.
pub(super) struct Frame<'l> {
    pub(super) listing: &'l Listing,
    pub(super) lines: usize,
    pub(super) again: Option<Duration>,
}

pub(super) fn draw(
    pen: &mut Pen,
    engine: &Engine,
    mut conns: Vec<&Connection>,
    now: MonoNs,
    frame: &Frame<'_>,
    out: &mut Vec<u8>,
) {
    let listing = frame.listing;
    // The last line is for what is left out.
    let mut screen = Screen::new(pen.terminal, frame.lines.saturating_sub(1));
    let mut lines = Vec::new();
    title(pen, engine, &conns, frame.again, now, &mut lines);
    screen.add(&lines);
    if listing.group_by.is_empty() {
        rows::sort(&mut conns, &listing.sort, engine, now);
        let left_out = top(&mut conns, listing);
        // No more than fit decide how wide columns are.
        let visible = conns.get(..screen.room()).unwrap_or(&conns);
        let keys = listing.sort.iter().map(|order| order.key);
        let columns = text::Columns::new(pen.terminal, engine, visible, keys, now);
        if pen.header {
            add(&mut screen, |lines| text::header(pen.terminal, &columns, lines));
        }
        let shown = conns.iter().take_while(|conn| {
            add(&mut screen, |lines| text::line(pen, engine, conn, &columns, lines))
        });
        let shown = shown.count();
        let hidden = conns.get(shown..).unwrap_or_default();
        let what = states(hidden);
        last_line(pen, &mut screen, hidden.len() + left_out, "sockets", &what);
    } else {
        let mut groups = groups::groups(&conns, listing, engine, now);
        let left_out = top(&mut groups, listing);
        let table = groups::Table::new(&groups, listing, engine);
        if pen.header {
            add(&mut screen, |lines| table.header(pen.terminal, lines));
        }
        let shown = groups.iter().enumerate().take_while(|(index, group)| {
            add(&mut screen, |lines| table.line(pen, *index, group, lines))
        });
        let hidden = groups.len() - shown.count() + left_out;
        last_line(pen, &mut screen, hidden, "groups", "");
    }
    paint_over(screen.text(), frame.lines, out);
}

fn add(screen: &mut Screen, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut lines = Vec::new();
    write(&mut lines);
    screen.add(&lines)
}

/// `tcptrail list 13:07:08 918 sockets: 512 ESTABLISHED, 365 TIME_WAIT; every 2s`.
fn title(
    pen: &mut Pen,
    engine: &Engine,
    conns: &[&Connection],
    again: Option<Duration>,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    pen.cell.clear();
    pen.clock.time_of_day(now, &mut pen.cell);
    let time = pen.cell.get(..8).unwrap_or_default().to_vec();
    let mut words =
        if conns.len() == 1 { "1 socket".to_owned() } else { format!("{} sockets", conns.len()) };
    if conns.len() > 1 {
        words.push_str(&format!(": {}", states(conns)));
    }
    let lost: u64 = engine.lost().iter().sum();
    let mut terminal = pen.terminal;
    // One line, whatever it takes; what is too much is cut.
    terminal.width = None;
    let mut row = Row::new(out, terminal, 0);
    row.cell(0, Paint::Dim, b"tcptrail list").cell(0, Paint::Dim, &time);
    if lost != 0 {
        row.cell(0, Paint::Bad, format!("{lost} events lost").as_bytes());
    }
    row.cell(0, Paint::Dim, words.as_bytes());
    if let Some(again) = again {
        let every = humantime::format_duration(again);
        row.cell(0, Paint::Dim, format!("(every {every})").as_bytes());
    }
    row.end();
}

/// `512 ESTABLISHED, 365 TIME_WAIT`: the most first.
fn states(conns: &[&Connection]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for conn in conns {
        *counts.entry(conn.state.name()).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    words.join(", ")
}

/// What there was no room for.
fn last_line(pen: &Pen, screen: &mut Screen, count: usize, what: &str, states: &str) {
    if count == 0 {
        return;
    }
    let states = if states.is_empty() { String::new() } else { format!(" ({states})") };
    let text = format!(
        "and {count} more {what}{states}: --sort, --top, --state and --group-by choose what is shown"
    );
    let mut terminal = pen.terminal;
    terminal.width = None;
    let mut line = Vec::new();
    Row::new(&mut line, terminal, 0).cell(0, Paint::Warn, text.as_bytes()).end();
    // The line that was kept free for it.
    screen.add_last(&line);
}
