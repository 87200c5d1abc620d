//! `life`: one line per finished connection.

use std::io::{self, Write};

use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, How, Kind, Mark, Role};
use crate::engine::{Engine, Update};
use crate::event::{Family, Shape};
use crate::filter::Filter;
use crate::output::json::Object;
use crate::output::lines::ended;
use crate::output::lines::ends::{self, Growing};
use crate::output::lines::{
    Pen, Setting, again, beyond, drops, human, process, socket, spent, surroundings, where_room,
};
use crate::output::{Needs, Output, Run};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// From this width on columns are aligned under a header; below, cells carry their names.
const WIDE: usize = 150;
const INDENT: usize = 13;

/// The view.
#[derive(Debug)]
pub struct Life {
    /// How and what.
    pub setting: Setting,
    /// A connection is printed when its TIME_WAIT is over.
    pub with_time_wait: bool,
    /// At the end, those that have not finished, too.
    pub unfinished: bool,
    /// Both ends as text, before the row they go into.
    ends: [Vec<u8>; 2],
    columns: Growing,
}

impl Life {
    /// The view; with `with_time_wait` a connection is printed when its TIME_WAIT is over, with `unfinished` also
    /// what is still open at the end.
    #[must_use]
    pub fn new(setting: Setting, with_time_wait: bool, unfinished: bool) -> Life {
        let columns = columns(&setting);
        Life { setting, with_time_wait, unfinished, ends: Default::default(), columns }
    }

    fn line(
        &mut self,
        engine: &Engine,
        conn: &Connection,
        (at, lived): (MonoNs, u64),
        how: (&str, Paint),
        out: &mut Vec<u8>,
    ) {
        let [local, remote] = &mut self.ends;
        local.clear();
        remote.clear();
        ends::local(engine.names(), conn, local);
        ends::remote(engine.names(), conn, remote);
        let pen = &mut self.setting.pen;
        if self.columns.make_room(text::columns(local), text::columns(remote)) {
            header(pen, &self.columns, out);
        }
        let place = Place { columns: &self.columns, ends: &self.ends, at, lived };
        let place = (engine, &place);
        write_line(pen, conn, place, how, out);
    }

    /// Of one that has not finished.
    fn unfinished(&mut self, engine: &Engine, conn: &Connection, now: MonoNs, out: &mut Vec<u8>) {
        if self.setting.pen.json {
            unfinished_json(&mut self.setting.pen, engine, conn, now, out);
        } else {
            let lived = now.since(conn.born);
            self.line(engine, conn, (now, lived), (STILL_OPEN, Paint::Plain), out);
        }
    }
}

/// What a row has beside its ends: those of four states, too.
const OTHERS: usize = 157;

fn columns(setting: &Setting) -> Growing {
    let pen = &setting.pen;
    let least = if is_wide(pen) { ends::IPV4 } else { ends::SHORT };
    let long = setting.filter.family == Some(Family::V6);
    Growing::new(pen.terminal.width, least, OTHERS, long)
}

impl Output for Life {
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
        let pen = &mut self.setting.pen;
        match update {
            Update::Change { conn, change } if is_due(conn, change, self.with_time_wait) => {
                if pen.json {
                    json(pen, engine, conn, change.at, out);
                } else {
                    self.line(engine, conn, (change.at, conn.lived()), ended::how(conn), out);
                }
            }
            Update::Lost(loss) => pen.loss(loss, out),
            _ => {}
        }
    }

    fn resized(&mut self, _engine: &Engine, _now: MonoNs, out: &mut Vec<u8>) {
        let pen = &mut self.setting.pen;
        if !pen.json && pen.terminal.width.is_some() {
            pen.terminal = Terminal::of_stdout(pen.terminal.color);
            self.columns = columns(&self.setting);
            header(&mut self.setting.pen, &self.columns, out);
        }
    }

    fn open_at_end(
        &mut self,
        engine: &Engine,
        open: &[&Connection],
        now: MonoNs,
        out: &mut Vec<u8>,
    ) {
        if self.unfinished {
            for conn in open {
                self.unfinished(engine, conn, now, out);
            }
        }
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        Ok(())
    }
}

fn is_wide(pen: &Pen) -> bool {
    pen.terminal.width.is_none_or(|width| width >= WIDE)
}

/// The line of column names.
fn header(pen: &mut Pen, columns: &Growing, out: &mut Vec<u8>) {
    if !pen.header || !is_wide(pen) {
        return;
    }
    Row::new(out, pen.terminal, INDENT)
        .cell(12, Paint::Dim, b"ENDED")
        .cell(6, Paint::Dim, b"ROLE")
        .cell(columns.widths.local, Paint::Dim, b"LOCAL")
        .cell(columns.widths.remote, Paint::Dim, b"REMOTE")
        .cell(16, Paint::Dim, b"PROCESS")
        .right(8, Paint::Dim, b"TOTAL")
        .right(7, Paint::Dim, b"HANDSHK")
        .cell(13, Paint::Dim, b"HOW")
        .right(5, Paint::Dim, b"SENT")
        .right(5, Paint::Dim, b"RCVD")
        .right(3, Paint::Dim, b"RTX")
        .right(6, Paint::Dim, b"RTT")
        .cell(0, Paint::Dim, b"TIME IN EACH STATE")
        .end();
}

/// A line when the connection is finished: at once, or when its TIME_WAIT is over.
fn is_due(conn: &Connection, change: &Change, with_time_wait: bool) -> bool {
    conn.role != Role::Listener
        && match change.kind {
            Kind::Finished => !with_time_wait || conn.state == TcpState::Close,
            Kind::Gone => with_time_wait && conn.shape == Shape::Mini && conn.how == How::Fin,
            _ => false,
        }
}

fn json(pen: &mut Pen, engine: &Engine, conn: &Connection, at: MonoNs, out: &mut Vec<u8>) {
    let mut object = Object::event(out, "close");
    socket(&mut object, pen, engine, (conn, at));
    object
        .number("total_ns", conn.lived())
        .boolean("exact", conn.complete && !conn.approximate)
        .boolean("complete", conn.complete)
        .with("states", |out| states(conn, out))
        .number_or_null("handshake_ns", conn.handshake_ns())
        .plain("first_close", conn.first_close.name())
        .plain("ended_in", conn.ended_in().name());
    ended::fields(&mut object, conn);
    let reason = engine.origin().reset_reason(u32::from(conn.rst_reason));
    object.string_or_null("reset_reason", reason.map(str::as_bytes));
    let counters = conn.counters();
    object
        .number_or_null("bytes_sent", counters.map(|counters| counters.bytes_sent))
        .number_or_null("bytes_received", counters.map(|counters| counters.bytes_received))
        .number_or_null("retransmits", counters.map(|counters| counters.retransmits))
        .number_or_null("srtt_us", counters.and_then(|counters| counters.srtt_us))
        .number("syn_retransmits", conn.retransmits.syn)
        .number("synack_retransmits", conn.retransmits.synack)
        .number("fin_retransmits", conn.retransmits.fin);
    if conn.mark == Mark::TimeWaitOverflow {
        object.boolean("time_wait_overflow", true);
    }
    again::of_life(&mut object, conn);
    drops::of_life(&mut object, engine, conn);
    object.boolean("accepted", conn.accepted).number_or_null("accept_at_most_ns", conn.accept_ns());
    surroundings(&mut object, engine.names(), conn);
    object.end();
}

/// `{"ESTABLISHED":7}`: time in each state that was left.
pub(super) fn states(conn: &Connection, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (state, ns)) in conn.states().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        let _ = write!(out, "\"{}\":{ns}", state.name());
    }
    out.push(b'}');
}

const STILL_OPEN: &str = "still open";

/// What a row is written with.
struct Place<'a> {
    columns: &'a Growing,
    ends: &'a [Vec<u8>; 2],
    at: MonoNs,
    lived: u64,
}

fn write_line(
    pen: &mut Pen,
    conn: &Connection,
    (engine, place): (&Engine, &Place<'_>),
    (words, paint): (&str, Paint),
    out: &mut Vec<u8>,
) {
    let &Place { columns, ends: [local, remote], at, lived } = place;
    let wide = is_wide(pen);
    let cell = &mut pen.cell;
    let mut row = Row::new(out, pen.terminal, INDENT);
    cell.clear();
    pen.clock.time_of_day(at, cell);
    row.cell(12, Paint::Plain, cell);
    row.cell(
        6,
        Paint::Plain,
        if conn.role == Role::Unknown { b"?" } else { conn.role.name().as_bytes() },
    );
    row.cell(columns.widths.local, Paint::Plain, local);
    row.cell(columns.widths.remote, Paint::Plain, remote);
    cell.clear();
    process(conn, cell);
    row.cell(16, Paint::Plain, cell);

    cell.clear();
    if !conn.complete {
        cell.extend_from_slice(b">=");
    } else if conn.approximate {
        cell.push(b'~');
    }
    human(lived, cell);
    row.right(8, Paint::Plain, cell);
    cell.clear();
    if !wide {
        cell.extend_from_slice(b"handshake ");
    }
    match conn.handshake_ns() {
        Some(ns) => human(ns, cell),
        None => cell.push(b'-'),
    }
    row.right(if wide { 7 } else { 0 }, Paint::Plain, cell);
    row.cell(if wide { 13 } else { 0 }, paint, words.as_bytes());

    figures(&mut row, conn, wide, cell);
    for (state, ns) in conn.states() {
        cell.clear();
        cell.extend_from_slice(state.short_name().as_bytes());
        cell.push(b' ');
        human(ns, cell);
        row.cell(0, Paint::Dim, cell);
    }
    remarks(&mut row, conn, at, words == STILL_OPEN, cell);
    drops::remark(&mut row, engine, conn, cell);
    where_room(&mut row, &engine.names().place(conn.cgroup), cell);
    beyond::of_event(&mut row, engine, conn, cell);
    row.end();
}

/// What is unusual about it: it is still open, there was no room for its TIME_WAIT, why it was never established,
/// nobody accepted it.
fn remarks(row: &mut Row<'_>, conn: &Connection, at: MonoNs, open: bool, cell: &mut Vec<u8>) {
    if open {
        cell.clear();
        let _ = write!(cell, "now {} ", conn.state.name());
        spent(conn.in_state(at), cell);
        row.cell(0, Paint::of_state(conn.state), cell);
    }
    if conn.mark == Mark::TimeWaitOverflow {
        row.cell(0, Paint::Warn, b"no TIME_WAIT: table full");
    }
    if let Some(failed) = conn.failed {
        ended::remarks(row, conn, failed, cell);
    } else if conn.role == Role::Server && !conn.accepted {
        row.cell(0, Paint::Warn, b"never accepted");
    }
}

/// Bytes, retransmissions and round-trip time; below the wide layout with their names.
fn figures(row: &mut Row<'_>, conn: &Connection, wide: bool, cell: &mut Vec<u8>) {
    let counters = conn.counters().unwrap_or_default();
    let mut figure = |name: &str, width: usize, write: &dyn Fn(&mut Vec<u8>)| {
        cell.clear();
        if !wide {
            cell.extend_from_slice(name.as_bytes());
            cell.push(b' ');
        }
        if conn.counters().is_none() {
            cell.push(b'-');
        } else {
            write(cell);
        }
        row.right(if wide { width } else { 0 }, Paint::Plain, cell);
    };
    figure("sent", 5, &|cell| text::bytes(counters.bytes_sent, cell));
    figure("received", 5, &|cell| text::bytes(counters.bytes_received, cell));
    figure("rtx", 3, &|cell| again::all(conn, cell));
    figure("rtt", 6, &|cell| match counters.srtt_us {
        Some(us) => human(u64::from(us) * 1000, cell),
        None => cell.push(b'-'),
    });
}

fn unfinished_json(
    pen: &mut Pen,
    engine: &Engine,
    conn: &Connection,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let in_state = conn.in_state(now);
    let mut object = Object::event(out, "unfinished");
    socket(&mut object, pen, engine, (conn, now));
    object
        .plain("state", conn.state.name())
        .number_or_null("in_state_ns", in_state.ns())
        .number("total_ns", now.since(conn.born))
        .boolean("exact", conn.complete && !conn.approximate && in_state.is_exact())
        .with("states", |out| states(conn, out))
        .number_or_null("handshake_ns", conn.handshake_ns())
        .plain("first_close", conn.first_close.name());
    let counters = conn.counters();
    object
        .number_or_null("bytes_sent", counters.map(|counters| counters.bytes_sent))
        .number_or_null("bytes_received", counters.map(|counters| counters.bytes_received))
        .number_or_null("retransmits", counters.map(|counters| counters.retransmits))
        .boolean("accepted", conn.accepted);
    surroundings(&mut object, engine.names(), conn);
    object.end();
}
