//! `list`: what there is now: `ss` with ages and owners.

use std::io::{self, Write};
use std::time::Duration;

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role, Spent, Table};
use crate::engine::{Engine, Update};
use crate::event::{Holder, Shape};
use crate::filter::Filter;
use crate::output::json::Object;
use crate::output::lines::{Pen, Setting, process, socket, spent, surroundings, times};
use crate::output::{Draws, Needs, Output, Run, Totals, Until};
use crate::text::{self, Paint, Row};
use crate::time::{Human, MonoNs};

const INDENT: usize = 13;

/// The view.
#[derive(Debug)]
pub struct List {
    setting: Setting,
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
        List { setting, watch, live, drawn: 0, listed: 0 }
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
        if let Update::Lost(loss) = update {
            self.setting.pen.loss(loss, out);
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, _last: bool, out: &mut Vec<u8>) {
        let Setting { pen, filter } = &mut self.setting;
        if self.drawn != 0 && !pen.json && pen.terminal.width.is_some() {
            out.extend_from_slice(b"\x1b[H\x1b[2J");
        }
        self.drawn += 1;
        self.listed = table(pen, engine, filter, now, out);
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        Ok(())
    }

    fn summary(&self, totals: &Totals, duration_ns: u64) -> Option<String> {
        let (lost, took) = (totals.all_lost(), Human(duration_ns));
        self.live.then(|| format!("tcptrail: {} sockets, {lost} lost in {took}", self.listed))
    }
}

/// The whole table, filtered: listeners first, then by state and age. Returns the number of rows.
fn table(pen: &mut Pen, engine: &Engine, filter: &Filter, now: MonoNs, out: &mut Vec<u8>) -> usize {
    let table = engine.table();
    let mut rows: Vec<&Connection> = table
        .iter()
        .filter(|conn| conn.state != TcpState::Close)
        .filter(|conn| filter.wants(conn) == Some(true))
        .filter(|conn| filter.wants_states(conn.state, conn.state))
        .filter(|conn| filter.min_ns == 0 || conn.in_state(now).ns().unwrap_or(0) >= filter.min_ns)
        .collect();
    rows.sort_by_key(|conn| {
        let age = conn.in_state(now).ns().unwrap_or(0);
        (conn.role != Role::Listener, conn.state.name(), std::cmp::Reverse(age), conn.id)
    });
    let count = rows.len();
    if pen.json {
        for conn in rows {
            json(pen, engine, conn, now, out);
        }
        return count;
    }
    let wide = pen.terminal.width.is_none_or(|width| width >= 110);
    let addr = if wide { 21 } else { 15 };
    Row::new(out, pen.terminal, INDENT)
        .cell(11, Paint::Dim, b"STATE")
        .right(8, Paint::Dim, b"FOR")
        .right(6, Paint::Dim, b"RECV-Q")
        .right(6, Paint::Dim, b"SEND-Q")
        .cell(addr, Paint::Dim, b"LOCAL")
        .cell(addr, Paint::Dim, b"REMOTE")
        .cell(0, Paint::Dim, b"HELD BY")
        .end();
    let several = rows.windows(2).any(|two| two[0].netns != two[1].netns);
    for conn in rows {
        line(pen, engine, conn, &Layout { now, addr, netns: several }, out);
    }
    count
}

/// What all lines have in common.
struct Layout {
    now: MonoNs,
    /// Width of an address.
    addr: usize,
    /// There are several network namespaces.
    netns: bool,
}

fn line(pen: &mut Pen, engine: &Engine, conn: &Connection, layout: &Layout, out: &mut Vec<u8>) {
    let &Layout { now, addr, netns } = layout;
    let cell = &mut pen.cell;
    let mut row = Row::new(out, pen.terminal, INDENT);
    row.cell(11, Paint::of_state(conn.state), conn.state.name().as_bytes());
    cell.clear();
    match conn.in_state(now) {
        // No more is known than that it was there when we came.
        Spent::AtLeast(ns) if ns < 1_000_000_000 => cell.push(b'-'),
        known => spent(known, cell),
    }
    row.right(8, Paint::Plain, cell);
    for queue in [conn.recv_queue, conn.send_queue] {
        cell.clear();
        let _ = write!(cell, "{queue}");
        row.right(6, Paint::Plain, cell);
    }
    for end in [conn.tuple.local(), conn.tuple.remote()] {
        cell.clear();
        text::endpoint(end, cell);
        row.cell(addr, Paint::Plain, cell);
    }
    cell.clear();
    holders(engine.table(), conn, cell);
    row.cell(0, Paint::Plain, cell);
    if netns {
        cell.clear();
        let _ = write!(cell, "| netns {}", conn.netns);
        row.cell(0, Paint::Dim, cell);
    }
    if let Some(id) = engine.names().cgroup(conn.cgroup).and_then(crate::names::container) {
        cell.clear();
        cell.extend_from_slice(b"| container ");
        // As container tools show it.
        text::name(&id[..id.len().min(12)], cell);
        row.cell(0, Paint::Plain, cell);
    }
    row.end();
}

/// Who has a descriptor of it. One that was closed by the peer's doing may still have a descriptor, but
/// the mini-socket that lives on in its place has none.
fn held_by<'a>(table: &'a Table, conn: &Connection) -> &'a [Holder] {
    if conn.shape == Shape::Mini || conn.orphan { &[] } else { table.holders_of(conn.id) }
}

/// Whose it is now: every process with a descriptor, or why there is none.
fn holders(table: &Table, conn: &Connection, cell: &mut Vec<u8>) {
    let holders = held_by(table, conn);
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

/// Of a half-open connection its SYN-ACKs.
fn retransmits(conn: &Connection) -> Option<u32> {
    if conn.shape == Shape::Request {
        return Some(u32::from(conn.retransmits.synack));
    }
    conn.counters().map(|counters| counters.retransmits)
}

enum Whose {
    Process,
    Kernel,
    Queue,
    Handshake,
}

fn whose(conn: &Connection) -> Whose {
    if conn.shape == Shape::Request {
        Whose::Handshake
    } else if conn.shape == Shape::Mini || conn.orphan {
        Whose::Kernel
    } else if !conn.accepted && conn.role != Role::Listener {
        Whose::Queue
    } else {
        Whose::Process
    }
}

fn json(pen: &mut Pen, engine: &Engine, conn: &Connection, now: MonoNs, out: &mut Vec<u8>) {
    let (table, names) = (engine.table(), engine.names());
    let in_state = conn.in_state(now);
    let mut object = Object::event(out, "socket");
    times(&mut object, &mut pen.clock, now);
    socket(&mut object, table, conn);
    object
        .plain("state", conn.state.name())
        .number_or_null("in_state_ns", in_state.ns())
        .boolean("exact", in_state.is_exact())
        .boolean("accepted", conn.accepted)
        .boolean("orphan", conn.orphan)
        .with("holders", |out| {
            out.push(b'[');
            for (index, holder) in held_by(table, conn).iter().enumerate() {
                if index != 0 {
                    out.push(b',');
                }
                let _ = write!(out, "{{\"pid\":{},\"comm\":", holder.pid);
                crate::output::json::string(holder.comm.bytes(), out);
                let _ = write!(out, ",\"fd\":{}}}", holder.fd);
            }
            out.push(b']');
        })
        .number("recv_queue", conn.recv_queue)
        .number("send_queue", conn.send_queue)
        .number_or_null("retransmits", retransmits(conn));
    surroundings(&mut object, names, conn);
    let owner = conn.owner.as_ref().and_then(crate::engine::conn::Owner::pid);
    object.string_or_null("executable", owner.and_then(|pid| names.executable(pid)));
    let start = held_by(table, conn).first().map(|holder| holder.start_ns);
    object.number_or_null("process_start_ns", start).end();
}
