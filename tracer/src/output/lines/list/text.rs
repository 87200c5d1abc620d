//! Rows of `list` for people.

use std::io::Write;

use crate::config::Key;
use crate::engine::Engine;
use crate::engine::conn::{Connection, Spent};
use crate::output::lines::beyond;
use crate::output::lines::ends::{self, Widths, fit};
use crate::output::lines::list::rows::{held_by, retransmits};
use crate::output::lines::whose::{Whose, whose};
use crate::output::lines::{Pen, human, process, spent, whereabouts};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

const INDENT: usize = 13;
/// Columns of state, time and queues.
const BEFORE: usize = 35;
/// What the column of holders has where it can: `java[31467] fd 1017`.
const HOLDERS: usize = 22;
/// Width of each further column.
const FURTHER: usize = 7;

/// What all rows of a list have in common.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    now: MonoNs,
    widths: Widths,
    /// There are several network namespaces.
    netns: bool,
    /// What it is sorted by that has no column else.
    further: Vec<Key>,
}

impl Columns {
    /// For these rows, sorted by these keys.
    pub(crate) fn new(
        terminal: Terminal,
        engine: &Engine,
        rows: &[&Connection],
        sorted_by: impl Iterator<Item = Key>,
        now: MonoNs,
    ) -> Columns {
        let mut cell = Vec::new();
        let mut length = |write: fn(&crate::names::Names, &Connection, &mut Vec<u8>), conn| {
            cell.clear();
            write(engine.names(), conn, &mut cell);
            text::columns(&cell)
        };
        let local = rows.iter().map(|conn| length(ends::local, conn)).collect();
        let remote = rows.iter().map(|conn| length(ends::remote, conn)).collect();
        let mut further: Vec<Key> =
            sorted_by.filter(|key| matches!(key, Key::Rtt | Key::Retransmits)).collect();
        further.dedup();
        let before = BEFORE + further.len() * (FURTHER + 1);
        let room = terminal.width.map(|width| {
            let alone = width.saturating_sub(before);
            [alone.saturating_sub(HOLDERS + 1), alone]
        });
        Columns {
            now,
            widths: fit(local, remote, room),
            netns: rows.windows(2).any(|two| two[0].netns != two[1].netns),
            further,
        }
    }
}

/// The line of column names.
pub(crate) fn header(terminal: Terminal, columns: &Columns, out: &mut Vec<u8>) {
    let mut row = Row::new(out, terminal, INDENT);
    row.cell(11, Paint::Dim, b"STATE")
        .right(8, Paint::Dim, b"FOR")
        .right(6, Paint::Dim, b"RECV-Q")
        .right(6, Paint::Dim, b"SEND-Q");
    for key in &columns.further {
        row.right(FURTHER, Paint::Dim, if *key == Key::Rtt { b"RTT" } else { b"RTX" });
    }
    row.cell(columns.widths.local, Paint::Dim, b"LOCAL")
        .cell(columns.widths.remote, Paint::Dim, b"REMOTE")
        .cell(0, Paint::Dim, b"HELD BY")
        .end();
}

/// A socket.
pub(crate) fn line(
    pen: &mut Pen,
    engine: &Engine,
    conn: &Connection,
    columns: &Columns,
    out: &mut Vec<u8>,
) {
    let cell = &mut pen.cell;
    let mut row = Row::new(out, pen.terminal, INDENT);
    row.cell(11, Paint::of_state(conn.state), conn.state.name().as_bytes());
    cell.clear();
    age(conn.in_state(columns.now), cell);
    row.right(8, Paint::Plain, cell);
    for queue in [conn.recv_queue, conn.send_queue] {
        cell.clear();
        // A write to a Vec cannot fail.
        let _ = write!(cell, "{queue}");
        row.right(6, Paint::Plain, cell);
    }
    for key in &columns.further {
        cell.clear();
        further(*key, conn, cell);
        row.right(FURTHER, Paint::Plain, cell);
    }
    cell.clear();
    ends::local(engine.names(), conn, cell);
    row.cell(columns.widths.local, Paint::Plain, cell);
    cell.clear();
    ends::remote(engine.names(), conn, cell);
    row.cell(columns.widths.remote, Paint::Plain, cell);
    cell.clear();
    holders(engine, conn, cell);
    row.cell(0, Paint::Plain, cell);
    if columns.netns {
        cell.clear();
        let _ = write!(cell, "| netns {}", conn.netns);
        row.cell(0, Paint::Dim, cell);
    }
    let place = engine.names().place(conn.cgroup);
    if place.is_known() {
        cell.clear();
        cell.extend_from_slice(b"| ");
        whereabouts(&place, cell);
        // A service is said where there is room, a container in any case.
        if place.container.is_some() || row.has_room(text::columns(cell)) {
            row.cell(0, Paint::Plain, cell);
        }
    }
    beyond::where_room(&mut row, engine, conn, cell);
    row.end();
}

/// How long it has been in its state.
pub(super) fn age(spent_there: Spent, cell: &mut Vec<u8>) {
    match spent_there {
        // No more is known than that it was there when we came.
        Spent::AtLeast(ns) if ns < 1_000_000_000 => cell.push(b'-'),
        known => spent(known, cell),
    }
}

fn further(key: Key, conn: &Connection, cell: &mut Vec<u8>) {
    let srtt_us = conn.counters().and_then(|counters| counters.srtt_us);
    match (key, srtt_us, retransmits(conn)) {
        (Key::Rtt, Some(us), _) => human(u64::from(us) * 1000, cell),
        (Key::Retransmits, _, Some(count)) => {
            let _ = write!(cell, "{count}");
        }
        _ => cell.push(b'-'),
    }
}

/// Whose it is now: every process with a descriptor, or why there is none.
fn holders(engine: &Engine, conn: &Connection, cell: &mut Vec<u8>) {
    let holders = held_by(engine.table(), conn);
    for (index, holder) in holders.iter().enumerate() {
        if index != 0 {
            cell.push(b' ');
        }
        text::process(&holder.comm, Some(holder.pid), cell);
        let _ = write!(cell, " fd {}", holder.fd);
        if index + 1 < holders.len() {
            cell.push(b',');
        }
    }
    if !holders.is_empty() {
        return;
    }
    match whose(conn) {
        Whose::Kernel => {
            cell.extend_from_slice(b"kernel");
            if conn.owner.is_some() {
                cell.extend_from_slice(b" (closed by ");
                process(conn, cell);
                cell.push(b')');
            }
        }
        Whose::Queue => {
            cell.extend_from_slice(b"not accepted yet");
            if conn.owner.is_some() {
                cell.extend_from_slice(b" by ");
                process(conn, cell);
            }
        }
        Whose::Handshake => cell.extend_from_slice(b"kernel (handshake)"),
        Whose::Process => process(conn, cell),
    }
}
