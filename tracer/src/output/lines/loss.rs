//! Losses, in all views.

use std::io::Write;

use crate::event::{Loss, LossCause};
use crate::output::lines::Pen;
use crate::text::{Paint, Row};

/// Continued lines begin under the second column.
const INDENT: usize = 13;

/// A line for a loss.
pub(super) fn line(pen: &mut Pen, loss: &Loss, out: &mut Vec<u8>) {
    let cell = &mut pen.cell;
    let mut row = Row::new(out, pen.terminal, INDENT);
    cell.clear();
    pen.clock.time_of_day(loss.to, cell);
    row.cell(12, Paint::Plain, cell);
    cell.clear();
    let (why, remedy) = match loss.cause {
        LossCause::Ring => ("the ring buffer was full", "a larger --ring-size or a filter helps"),
        LossCause::Recursion => ("the kernel skipped a program that was already running", ""),
        LossCause::Table => ("the connection table is full", "raise --max-connections"),
        LossCause::Malformed => ("records made no sense", ""),
    };
    let events = if loss.count == 1 { "event" } else { "events" };
    let _ = write!(cell, "*** {} {events} lost:", loss.count);
    row.cell(0, Paint::Bad, cell);
    // In cells, so that a narrow terminal has them on lines of their own.
    cell.clear();
    let _ = write!(cell, "{why}{}", if remedy.is_empty() { " ***" } else { ";" });
    row.cell(0, Paint::Bad, cell);
    if !remedy.is_empty() {
        cell.clear();
        let _ = write!(cell, "{remedy} ***");
        row.cell(0, Paint::Bad, cell);
    }
    row.end();
}
