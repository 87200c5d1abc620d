//! `tail`: every transition, retransmit and reset as it happens.

use std::io::{self, Write};

use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, How, Kind, Mark, Spent, Unclaimed};
use crate::engine::{Engine, Update};
use crate::event::{Direction, Family, Segment};
use crate::filter::Filter;
use crate::output::json::{Object, key};
use crate::output::lines::ended;
use crate::output::lines::ends::{self, Growing};
use crate::output::lines::{
    Pen, Setting, again, beyond, direction, drops, process, socket, spent, times, where_room,
};
use crate::output::{Needs, Output, Run};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// From this width on names are whole; below they are short.
const WIDE: usize = 110;
/// Continued lines begin under the second column.
const INDENT: usize = 13;

/// The view.
#[derive(Debug)]
pub struct Tail {
    setting: Setting,
    columns: Columns,
    ends: ends::Kept,
    /// Both ends of a segment that belongs to no connection, as text.
    segment: [Vec<u8>; 2],
}

impl Tail {
    /// The view.
    #[must_use]
    pub fn new(setting: Setting) -> Tail {
        let columns = Columns::new(&setting);
        Tail { setting, columns, ends: ends::Kept::default(), segment: Default::default() }
    }

    fn line(&mut self, engine: &Engine, conn: &Connection, change: &Change, out: &mut Vec<u8>) {
        let ends = self.ends.of(engine.names(), conn);
        let pen = &mut self.setting.pen;
        let [local, remote] = ends.columns;
        if self.columns.ends.make_room(local, remote) {
            header(pen, &self.columns, out);
        }
        line(pen, engine, (conn, change), (&self.columns, ends), out);
    }

    /// Segments that the kernel dropped and that belong to no connection.
    fn unclaimed(&mut self, engine: &Engine, group: &Unclaimed, out: &mut Vec<u8>) {
        let listener = engine.table().listener_at(group.netns, &group.tuple);
        let owner = listener.and_then(|listener| listener.owner.as_ref());
        if !self.setting.filter.wants_unclaimed(group, owner) {
            return;
        }
        let Setting { pen, .. } = &mut self.setting;
        if pen.json {
            let mut object = Object::event(out, "drop");
            times(&mut object, &mut pen.clock, group.at);
            drops::unclaimed_json(&mut object, engine, group, listener);
            object.end();
            return;
        }
        let [local, remote] = &mut self.segment;
        local.clear();
        remote.clear();
        // A write to a Vec cannot fail.
        let _ = write!(local, "{}", group.tuple.local());
        let _ = write!(remote, "{}", group.tuple.remote());
        if self.columns.ends.make_room(local.len(), remote.len()) {
            header(pen, &self.columns, out);
        }
        let columns = &self.columns;
        let cell = &mut pen.cell;
        let mut row = Row::new(out, pen.terminal, INDENT);
        cell.clear();
        pen.clock.time_of_day(group.at, cell);
        row.cell(TIME, Paint::Plain, cell);
        row.cell(columns.old, Paint::Dim, b"-").right(columns.after, Paint::Plain, b"");
        let word = drops::word(group.drop.segment, columns.wide);
        row.cell(columns.new, Paint::Bad, word.as_bytes());
        row.cell(columns.ends.widths.local, Paint::Plain, local);
        row.cell(columns.ends.widths.remote, Paint::Plain, remote);
        cell.clear();
        match listener {
            Some(listener) => process(listener, cell),
            None => cell.push(b'-'),
        }
        row.cell(0, Paint::Plain, cell);
        cell.clear();
        drops::unclaimed_note(engine, group, listener.is_some(), cell);
        row.cell(0, Paint::Bad, cell).end();
    }
}

impl Output for Tail {
    fn needs(&self) -> Needs {
        Needs { changes: true, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        let pen = &mut self.setting.pen;
        pen.begin(engine, out);
        if !pen.json {
            header(pen, &self.columns, out);
        }
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        match update {
            Update::Change { conn, change } => match change.kind {
                Kind::Finished | Kind::Gone => {}
                _ if self.setting.pen.json => {
                    json(&mut self.setting.pen, engine, conn, change, out);
                }
                _ => self.line(engine, conn, change, out),
            },
            Update::Unclaimed(group) => self.unclaimed(engine, group, out),
            Update::Lost(loss) => self.setting.pen.loss(loss, out),
            _ => {}
        }
    }

    fn resized(&mut self, _engine: &Engine, _now: MonoNs, out: &mut Vec<u8>) {
        let pen = &mut self.setting.pen;
        if !pen.json && pen.terminal.width.is_some() {
            pen.terminal = Terminal::of_stdout(pen.terminal.color);
            self.columns = Columns::new(&self.setting);
            header(&mut self.setting.pen, &self.columns, out);
        }
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        Ok(())
    }
}

/// Width of the column of times.
const TIME: usize = 12;
/// Width that a process takes: `java[31467]`, and where there is room something of what follows.
const PROCESS: usize = 24;

/// Widths of the columns in one of the two layouts.
#[derive(Debug)]
struct Columns {
    old: usize,
    new: usize,
    after: usize,
    ends: Growing,
    wide: bool,
}

impl Columns {
    fn new(setting: &Setting) -> Columns {
        let width = setting.pen.terminal.width;
        let wide = width.is_none_or(|width| width >= WIDE);
        let (old, new, after) = if wide { (11, 11, 8) } else { (7, 7, 6) };
        // With the spaces between them.
        let others = TIME + old + after + new + PROCESS + 6;
        let least = if wide { ends::IPV4 } else { ends::SHORT };
        let long = setting.filter.family == Some(Family::V6);
        let ends = Growing::new(width, least, others, long);
        Columns { old, new, after, ends, wide }
    }
}

/// The line of column names.
fn header(pen: &mut Pen, columns: &Columns, out: &mut Vec<u8>) {
    if !pen.header {
        return;
    }
    let widths = columns.ends.widths;
    Row::new(out, pen.terminal, INDENT)
        .cell(TIME, Paint::Dim, b"TIME")
        .cell(columns.old, Paint::Dim, if columns.wide { b"OLD STATE" } else { b"OLD" })
        .right(columns.after, Paint::Dim, b"AFTER")
        .cell(columns.new, Paint::Dim, if columns.wide { b"NEW STATE" } else { b"NEW" })
        .cell(widths.local, Paint::Dim, b"LOCAL")
        .cell(widths.remote, Paint::Dim, b"REMOTE")
        .cell(0, Paint::Dim, b"PROCESS")
        .end();
}

fn json(pen: &mut Pen, engine: &Engine, conn: &Connection, change: &Change, out: &mut Vec<u8>) {
    match change.kind {
        Kind::Transition { old, new, in_old, ages } => {
            let mut object = Object::event(out, "transition");
            socket(&mut object, pen, engine, (conn, change.at));
            object
                .plain(key!("old"), old.name())
                .plain(key!("new"), new.name())
                .number_or_null(key!("in_old_ns"), in_old.ns())
                .boolean(key!("exact"), in_old.is_exact());
            let closes = matches!(new, TcpState::CloseWait | TcpState::FinWait1);
            if closes && old == TcpState::Established {
                let jiffy_ns = engine.origin().jiffy_ns;
                object.number_or_null(key!("idle_ns"), ages.map(|ages| ages.idle_ns(jiffy_ns)));
            }
            if new == TcpState::Close && conn.how != How::Unknown {
                object.plain(key!("how"), conn.how.name());
            }
            if let Some(failed) = conn.failed.filter(|_| new == TcpState::Close) {
                object.plain(key!("failed"), failed.name());
            }
            if new == TcpState::Close && conn.mark == Mark::TimeWaitOverflow {
                object.boolean(key!("time_wait_overflow"), true);
            }
            object.end();
        }
        Kind::Retransmit { segment, state, count, again: how } => {
            let mut object = Object::event(out, "retransmit");
            socket(&mut object, pen, engine, (conn, change.at));
            object.plain(key!("kind"), segment.name()).plain(key!("state"), state.name());
            again::json(&mut object, engine, count, how);
            object.end();
        }
        Kind::Reset { direction: way, state, reason, ages } => {
            let mut object = Object::event(out, "reset");
            socket(&mut object, pen, engine, (conn, change.at));
            object
                .plain(key!("direction"), direction(way))
                .plain(key!("state"), state.name())
                .string_or_null(
                    key!("reason"),
                    engine.origin().reset_reason(reason).map(str::as_bytes),
                );
            if way == Direction::Received {
                let jiffy_ns = engine.origin().jiffy_ns;
                object.number_or_null(key!("idle_ns"), ages.map(|ages| ages.idle_ns(jiffy_ns)));
            }
            object.end();
        }
        Kind::Dropped { direction: way, state, drop } => {
            let mut object = Object::event(out, "drop");
            socket(&mut object, pen, engine, (conn, change.at));
            object.plain(key!("state"), state.name());
            drops::json(&mut object, engine, &drop, way);
            object.number(key!("count"), 1 + drop.untold).end();
        }
        Kind::Finished | Kind::Gone => {}
    }
}

/// A line for a transition, retransmit or reset.
fn line(
    pen: &mut Pen,
    engine: &Engine,
    (conn, change): (&Connection, &Change),
    (columns, ends): (&Columns, &ends::Texts),
    out: &mut Vec<u8>,
) {
    let cell = &mut pen.cell;
    let mut row = Row::new(out, pen.terminal, INDENT);
    cell.clear();
    pen.clock.time_of_day(change.at, cell);
    row.cell(TIME, Paint::Plain, cell);

    what(&mut row, columns, conn, change, cell);
    row.cell(columns.ends.widths.local, Paint::Plain, &ends.local);
    row.cell(columns.ends.widths.remote, Paint::Plain, &ends.remote);
    cell.clear();
    process(conn, cell);
    row.cell(0, Paint::Plain, cell);
    if columns.wide
        && let Some(peer) = engine.table().peer(conn)
        && let Some(comm) = peer.comm
    {
        cell.clear();
        cell.extend_from_slice(b"<-> ");
        text::process(&comm, peer.pid, cell);
        row.cell(0, Paint::Dim, cell);
    }
    cell.clear();
    note(engine, conn, change, cell);
    if !cell.is_empty() {
        row.cell(0, Paint::Bad, cell);
    }
    if columns.wide {
        where_room(&mut row, &engine.names().place(conn.cgroup), cell);
        beyond::of_event(&mut row, engine, conn, cell);
    }
    row.end();
}

/// The columns of what happened: state left, time there, state entered or segment.
fn what(
    row: &mut Row<'_>,
    columns: &Columns,
    conn: &Connection,
    change: &Change,
    cell: &mut Vec<u8>,
) {
    let name = |state: TcpState| {
        if columns.wide { state.name().as_bytes() } else { state.short_name().as_bytes() }
    };
    match change.kind {
        Kind::Transition { old, new, in_old, .. } => {
            row.cell(columns.old, Paint::Dim, name(old));
            cell.clear();
            if in_old != Spent::Unknown || old == TcpState::Established {
                spent(in_old, cell);
            }
            row.right(columns.after, Paint::Plain, cell);
            let bad = new == TcpState::Close && !matches!(conn.how, How::Fin | How::Unknown);
            row.cell(columns.new, if bad { Paint::Bad } else { Paint::of_state(new) }, name(new));
        }
        Kind::Retransmit { segment, state, .. } => {
            row.cell(columns.old, Paint::Dim, name(state));
            row.right(columns.after, Paint::Plain, b"");
            cell.clear();
            cell.extend_from_slice(retransmit(segment, columns.wide).as_bytes());
            row.cell(columns.new, Paint::Warn, cell);
        }
        Kind::Reset { direction, state, .. } => {
            row.cell(columns.old, Paint::Dim, name(state));
            row.right(columns.after, Paint::Plain, b"");
            let word: &[u8] = match direction {
                Direction::Sent if columns.wide => b"RST sent",
                Direction::Received if columns.wide => b"RST rcvd",
                Direction::Sent => b"RST out",
                Direction::Received => b"RST in",
            };
            row.cell(columns.new, Paint::Bad, word);
        }
        Kind::Dropped { state, drop, .. } => {
            row.cell(columns.old, Paint::Dim, name(state));
            row.right(columns.after, Paint::Plain, b"");
            row.cell(columns.new, Paint::Bad, drops::word(drop.segment, columns.wide).as_bytes());
        }
        Kind::Finished | Kind::Gone => {}
    }
}

/// In the width of the column of new states.
const fn retransmit(segment: Segment, wide: bool) -> &'static str {
    match (segment, wide) {
        (Segment::Syn, _) => "SYN rtx",
        (Segment::SynAck, true) => "SYN-ACK rtx",
        (Segment::SynAck, false) => "S/A rtx",
        (Segment::Data, true) => "data rtx",
        (Segment::Data, false) => "dat rtx",
        (Segment::Fin, _) => "FIN rtx",
    }
}

/// What the states do not say: why it went to CLOSE, why a RST was sent.
fn note(engine: &Engine, conn: &Connection, change: &Change, cell: &mut Vec<u8>) {
    match change.kind {
        Kind::Transition { new: TcpState::Close, .. } => {
            if conn.mark == Mark::TimeWaitOverflow {
                cell.extend_from_slice(b"no TIME_WAIT: table full");
                return;
            }
            if let Some(failed) = conn.failed {
                cell.extend_from_slice(ended::word(failed).as_bytes());
                cell.extend_from_slice(b": ");
                ended::why(conn, failed, cell);
                return;
            }
            let word = match conn.how {
                How::Fin | How::Unknown => return,
                How::RstSent => "reset by us",
                How::RstReceived => "reset by peer",
                How::Timeout => "timed out",
                How::Refused => "refused",
                How::Unreachable => "unreachable",
                How::Aborted => "aborted",
            };
            cell.extend_from_slice(word.as_bytes());
        }
        Kind::Retransmit { count, again: how, .. } => again::note(engine, count, how, cell),
        Kind::Reset { reason, .. } => {
            if let Some(reason) = engine.origin().reset_reason(reason) {
                // A recording may have any.
                text::name(reason.as_bytes(), cell);
            }
        }
        Kind::Dropped { direction, drop, .. } => {
            if direction == Direction::Received {
                cell.extend_from_slice(b"received: ");
            }
            drops::note(engine, &drop, cell);
        }
        _ => {}
    }
}
