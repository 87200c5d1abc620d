//! Connections: what there is now. There may be a hundred thousand: rows are made of those that are seen only.

use std::collections::HashMap;

use tracer_common::TcpState;

use crate::engine::Engine;
use crate::engine::conn::{Connection, Role, Spent};
use crate::event::Shape;
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, ends, figures, float, harmless, process, remote_end, spent_text,
    text_column,
};
use crate::output::top::tabs::ends::Ends;
use crate::output::top::tabs::row::{Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::tab::Order;
use crate::output::top::tabs::table::{Lazy, Table};
use crate::output::top::tabs::whose::{Whose, owner, whose};
use crate::time::MonoNs;

pub(super) const COLUMNS: &[Column] = &[
    text_column("STATE", 0, 11, Fold::Same, "the state it is in"),
    figures("FOR", 0, Fold::Most, "how long it has been in that state; >= at least, ~ by a timer"),
    text_column("LOCAL", 0, 47, Fold::Same, "our end"),
    text_column("REMOTE", 0, 47, Fold::Same, "the other end"),
    text_column("PROCESS", 0, 40, Fold::Name, "its process, or why it has none"),
    figures("RECV-Q", 2, Fold::Sum, "bytes the process has not read, as of the last walk"),
    figures("SEND-Q", 1, Fold::Sum, "bytes the peer has not acknowledged, as of the last walk"),
    figures("RETR", 3, Fold::Sum, "segments sent again"),
    figures("RTT", 4, Fold::Most, "smoothed round-trip time"),
    figures("FD", 5, Fold::Same, "its descriptor"),
    figures("SENT", 6, Fold::Sum, "payload bytes sent"),
    figures("RCVD", 6, Fold::Sum, "payload bytes received"),
    text_column("ROLE", 7, 8, Fold::Same, "which side of the handshake we were on"),
    text_column("CONTAINER", 8, 12, Fold::Same, "the container it belongs to"),
];

pub(super) const GROUP_COLUMNS: &[Column] = &[
    text_column("GROUP", 0, 60, Fold::Name, "what its connections have in common"),
    figures("SOCKETS", 0, Fold::Sum, "how many"),
    figures("ESTABLISHED", 0, Fold::Sum, "of those, established"),
    figures("CLOSE_WAIT", 0, Fold::Sum, "of those, closed by the peer and not by us"),
    figures("OTHER", 0, Fold::Sum, "of those, in any other state"),
    figures("OLDEST", 0, Fold::Most, "longest time in the present state"),
    figures("RECV-Q", 1, Fold::Sum, "bytes not read"),
    figures("SEND-Q", 1, Fold::Sum, "bytes not acknowledged"),
    figures("RETR", 2, Fold::Sum, "segments sent again"),
];

/// The wanted connections in their order, whatever text is looked for in them.
pub(super) struct Sorted {
    column: usize,
    descending: bool,
    lazy: Vec<Lazy>,
    /// Once a text was looked for.
    ends: Option<Ends>,
}

impl Sorted {
    pub(super) fn of(scene: &Scene<'_>, order: &Order<'_>) -> Sorted {
        let all = scene.scope.wants_all(scene.engine.origin().only_netns);
        let mut lazy = Vec::new();
        for (at, conn) in scene.table().places() {
            if conn.role == Role::Listener
                || conn.state == TcpState::Close
                || !(all || scene.scope.wants(conn) == Some(true))
                || !order.wanted.wants(conn, scene.now)
            {
                continue;
            }
            lazy.push(Lazy { key: key(conn, order.column, scene), id: conn.id, at });
        }
        if order.descending {
            lazy.sort_unstable_by(|one, other| other.key.cmp(&one.key).then(one.id.cmp(&other.id)));
        } else {
            lazy.sort_unstable_by(|one, other| one.key.cmp(&other.key).then(one.id.cmp(&other.id)));
        }
        Sorted { column: order.column, descending: order.descending, lazy, ends: None }
    }

    /// Whether this is the order.
    pub(super) fn is_by(&self, order: &Order<'_>) -> bool {
        (self.column, self.descending) == (order.column, order.descending)
    }

    /// A text is about to be looked for.
    pub(super) fn prepare(&mut self, scene: &Scene<'_>) {
        self.ends.get_or_insert_with(|| Ends::of(scene, &self.lazy));
    }

    /// Those with these texts in their rows.
    fn with(&mut self, scene: &Scene<'_>, texts: &[String]) -> Vec<Lazy> {
        if texts.is_empty() {
            return self.lazy.clone();
        }
        let ends = self.ends.get_or_insert_with(|| Ends::of(scene, &self.lazy));
        let found = ends.with(scene, texts);
        let has = |lazy: &&Lazy| found.get(lazy.at.index()).is_some_and(|found| *found);
        self.lazy.iter().filter(has).copied().collect()
    }
}

/// The connections of a table that have the text.
pub(super) fn table(sorted: &mut Sorted, scene: &Scene<'_>, order: &Order<'_>) -> Table {
    let lazy = sorted.with(scene, order.wanted.texts());
    let empty = "no connections";
    Table { columns: COLUMNS, rows: Vec::new(), lazy, left_out: 0, empty: empty.to_owned() }
}

/// By what a connection is sorted. What is not known is least.
fn key(conn: &Connection, column: usize, scene: &Scene<'_>) -> u128 {
    let number = |number: Option<u64>| number.map_or(0, |number| u128::from(number) + 1);
    let end = |addr: [u8; 16], port: u16| {
        // The port in place of what of an address tells least.
        (u128::from_be_bytes(addr) << 16) | u128::from(port)
    };
    let counters = || conn.counters();
    match column {
        0 => u128::from(conn.state.number()),
        1 => number(conn.in_state(scene.now).ns()),
        2 => end(conn.tuple.local_addr, conn.tuple.local_port),
        3 => end(conn.tuple.remote_addr, conn.tuple.remote_port),
        4 => name_key(conn),
        5 => u128::from(conn.recv_queue),
        6 => u128::from(conn.send_queue),
        7 => u128::from(again(conn)),
        8 => number(counters().and_then(|counters| counters.srtt_us).map(u64::from)),
        9 => number(fd(conn).map(u64::from)),
        10 => counters().map_or(0, |counters| u128::from(counters.bytes_sent)),
        11 => counters().map_or(0, |counters| u128::from(counters.bytes_received)),
        12 => conn.role as u128,
        _ => u128::from(conn.cgroup),
    }
}

/// The name, and the number after it.
fn name_key(conn: &Connection) -> u128 {
    let Some(owner) = conn.owner.as_ref().filter(|_| whose(conn) == Whose::Process) else {
        return 0;
    };
    let mut bytes = owner.task.comm.0;
    bytes[12..].copy_from_slice(&owner.task.pid.to_be_bytes());
    u128::from_be_bytes(bytes)
}

/// Segments sent again; of half-open connections SYN-ACKs.
fn again(conn: &Connection) -> u32 {
    match conn.shape {
        Shape::Request => u32::from(conn.retransmits.synack),
        _ => {
            let seen = conn.retransmits;
            let seen =
                u32::from(seen.syn) + u32::from(seen.synack) + u32::from(seen.fin) + seen.data;
            conn.counters().map_or(0, |counters| counters.retransmits).max(seen)
        }
    }
}

/// The connection of a row, if it still is.
pub(crate) fn at<'a>(scene: &Scene<'a>, lazy: &Lazy) -> Option<&'a Connection> {
    let there = scene.table().get(lazy.at).filter(|conn| conn.id == lazy.id);
    there.or_else(|| scene.table().find_any(lazy.id))
}

/// One row.
pub(crate) fn cells(scene: &Scene<'_>, conn: &Connection) -> Vec<Cell> {
    let counters = conn.counters();
    let container = scene.engine.names().place(conn.cgroup).short_container();
    let (local, remote) = ends(scene.engine, conn);
    vec![
        Cell::text(conn.state.name()).painted(Paint::of_state(conn.state)),
        age(conn, scene.now),
        Cell::text(local),
        Cell::text(remote),
        Cell::text(owner(scene.table(), conn)),
        queue(conn.recv_queue),
        queue(conn.send_queue),
        Cell::count(u64::from(again(conn))).marked(Paint::Warn),
        rtt(conn),
        fd(conn).map_or_else(Cell::unknown, |fd| Cell::keyed(fd.to_string(), f64::from(fd))),
        counters.map_or_else(Cell::unknown, |counters| Cell::bytes(counters.bytes_sent)),
        counters.map_or_else(Cell::unknown, |counters| Cell::bytes(counters.bytes_received)),
        Cell::text(conn.role.name()),
        container.map_or_else(Cell::unknown, |name| Cell::text(harmless(name))),
    ]
}

/// Its descriptor, while it has one.
fn fd(conn: &Connection) -> Option<u32> {
    conn.owner.as_ref().filter(|_| whose(conn) == Whose::Process)?.fd()
}

fn queue(bytes: u32) -> Cell {
    Cell::bytes(u64::from(bytes)).marked(Paint::Warn)
}

fn rtt(conn: &Connection) -> Cell {
    let rtt = conn.counters().and_then(|counters| counters.srtt_us);
    Cell::time(rtt.map(|us| u64::from(us) * 1_000))
}

/// How long it has been in its state.
fn age(conn: &Connection, now: MonoNs) -> Cell {
    match conn.in_state(now) {
        // No more is known than that it was there when we came.
        Spent::AtLeast(ns) if ns < 1_000_000_000 => Cell::unknown(),
        known => Cell::spent(known),
    }
}

#[derive(Default)]
struct Group {
    name: String,
    words: String,
    sockets: u64,
    established: u64,
    close_wait: u64,
    oldest: Option<Spent>,
    queues: (u64, u64),
    again: u64,
}

/// Groups of what is wanted.
pub(super) fn grouped(scene: &Scene<'_>, order: &Order<'_>, by: usize) -> Table {
    let mut groups: HashMap<(u128, u64), Group, foldhash::fast::FixedState> = HashMap::default();
    for conn in scene.wanted(order.wanted) {
        if conn.role == Role::Listener || conn.state == TcpState::Close {
            continue;
        }
        let group = groups.entry(group_key(conn, by)).or_default();
        if group.sockets == 0 {
            (group.name, group.words) = group_name(scene.engine, conn, by);
        }
        group.sockets += 1;
        group.established += u64::from(conn.state == TcpState::Established);
        group.close_wait += u64::from(conn.state == TcpState::CloseWait);
        let age = conn.in_state(scene.now);
        if age.ns() > group.oldest.and_then(Spent::ns) {
            group.oldest = Some(age);
        }
        group.queues.0 += u64::from(conn.recv_queue);
        group.queues.1 += u64::from(conn.send_queue);
        group.again += u64::from(again(conn));
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let rows = groups.into_iter().map(|group| {
        let other = group.sockets - group.established - group.close_wait;
        let oldest = group.oldest.unwrap_or(Spent::Unknown);
        let cells = vec![
            Cell::text(group.name.clone()),
            Cell::count(group.sockets),
            Cell::count(group.established),
            Cell::count(group.close_wait).marked(Paint::Warn),
            Cell::count(other),
            oldest.ns().map_or_else(Cell::unknown, |ns| Cell::keyed(spent_text(oldest), float(ns))),
            Cell::bytes(group.queues.0),
            Cell::bytes(group.queues.1),
            Cell::count(group.again).marked(Paint::Warn),
        ];
        Row { id: RowId::Group(group.words.clone()), cells, words: group.words }
    });
    Table::of(GROUP_COLUMNS, rows.collect(), "no connections")
}

fn group_key(conn: &Connection, by: usize) -> (u128, u64) {
    match by {
        0 => (name_key(conn), whose(conn) as u64),
        1 => (u128::from(conn.state.number()), 0),
        2 => {
            let port = if conn.role == Role::Client { conn.tuple.remote_port } else { 0 };
            (u128::from_be_bytes(conn.tuple.remote_addr), u64::from(port))
        }
        _ => (u128::from(conn.tuple.local_port), 0),
    }
}

/// What a group is called, and words that filter it.
fn group_name(engine: &Engine, conn: &Connection, by: usize) -> (String, String) {
    match by {
        0 => match (whose(conn), &conn.owner) {
            (Whose::Process, Some(owner)) => {
                let words = match owner.pid() {
                    Some(pid) => format!("pid:{pid}"),
                    None => format!("comm:{}", harmless(owner.task.comm.bytes())),
                };
                (process(&owner.task.comm, owner.pid()), words)
            }
            (Whose::Process, None) => ("?".to_owned(), "?".to_owned()),
            (Whose::Kernel, _) => ("kernel".to_owned(), "kernel".to_owned()),
            (Whose::Queue, _) => ("not accepted".to_owned(), "accepted not".to_owned()),
            (Whose::Handshake, _) => ("kernel (handshake)".to_owned(), "handshake".to_owned()),
        },
        1 => (conn.state.name().to_owned(), format!("state:{}", conn.state.name())),
        2 => {
            let remote = conn.tuple.remote();
            let addr = format!("addr:{}", remote.ip());
            match conn.role {
                Role::Client => {
                    (remote_end(engine, conn), format!("{addr} rport:{}", remote.port()))
                }
                _ => (format!("{} (any port)", remote.ip()), addr),
            }
        }
        _ => {
            let port = conn.tuple.local_port;
            (format!(":{port}"), format!("lport:{port}"))
        }
    }
}

/// A filter for one connection.
pub(crate) fn words(conn: &Connection) -> String {
    let (local, remote) = (conn.tuple.local(), conn.tuple.remote());
    format!("addr:{} lport:{} rport:{}", remote.ip(), local.port(), remote.port())
}
