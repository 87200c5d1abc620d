//! Processes: who has how many sockets in which state, and how many descriptors are left.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role, Spent};
use crate::event::Comm;
use crate::output::top::model::{Remote, Side};
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, counted, figures, harmless, local_end, longer, process, remote_end,
    text_column, thousands,
};
use crate::output::top::tabs::findings::name_word;
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::row::{ProcessKey, Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::table::Table;
use crate::output::top::tabs::whose::{Whose, whose};
use crate::output::top::words::Wanted;

pub(super) const COLUMNS: &[Column] = &[
    text_column("PROCESS", 0, 32, Fold::Name, "name and id"),
    figures("SOCKETS", 0, Fold::Sum, "its TCP sockets, listeners left out"),
    figures("GROWTH", 0, Fold::Sum, "growth per minute, over the last five minutes"),
    figures("ESTABLISHED", 2, Fold::Sum, "of those, established"),
    figures("CLOSE_WAIT", 0, Fold::Sum, "of those, closed by the peer and not by the process"),
    figures("SYN_SENT", 3, Fold::Sum, "of those, without an answer to their SYN"),
    figures("OTHER", 3, Fold::Sum, "of those, in any other state"),
    figures("OLDEST", 4, Fold::Most, "longest time in the present state"),
    figures("FDS", 0, Fold::Sum, "file descriptors in use, of all kinds"),
    figures("LIMIT", 1, Fold::Same, "its limit of file descriptors"),
    figures("USED", 0, Fold::Most, "share of that limit in use"),
    figures("LISTENS", 5, Fold::Sum, "sockets it listens with"),
];

/// What one process has.
#[derive(Default)]
struct Sum {
    comm: Comm,
    sockets: u64,
    listeners: u64,
    established: u64,
    close_wait: u64,
    syn_sent: u64,
    oldest: Option<Spent>,
}

impl Sum {
    fn add(&mut self, conn: &Connection, now: crate::time::MonoNs) {
        if conn.role == Role::Listener {
            self.listeners += 1;
            return;
        }
        self.sockets += 1;
        match conn.state {
            TcpState::Established => self.established += 1,
            TcpState::CloseWait => self.close_wait += 1,
            TcpState::SynSent => self.syn_sent += 1,
            _ => {}
        }
        let age = conn.in_state(now);
        self.oldest = Some(self.oldest.map_or(age, |oldest| longer(oldest, age)));
    }
}

fn key(conn: &Connection) -> ProcessKey {
    match (whose(conn), &conn.owner) {
        (Whose::Process, Some(owner)) => match owner.pid() {
            Some(pid) => ProcessKey::Process(pid),
            None => ProcessKey::Name(owner.task.comm),
        },
        (Whose::Process, None) => ProcessKey::Name(Comm::new(b"?")),
        (Whose::Kernel, _) => ProcessKey::Kernel,
        (Whose::Queue | Whose::Handshake, _) => ProcessKey::Queue,
    }
}

pub(super) fn table(scene: &Scene<'_>, wanted: &Wanted) -> Table {
    let mut sums: HashMap<ProcessKey, Sum, FixedState> = HashMap::default();
    for conn in scene.wanted(wanted).filter(|conn| conn.state != TcpState::Close) {
        let sum = sums.entry(key(conn)).or_default();
        if sum.sockets + sum.listeners == 0
            && let Some(owner) = &conn.owner
        {
            sum.comm = owner.task.comm;
        }
        sum.add(conn, scene.now);
    }
    let mut rows: Vec<Row> = sums.into_iter().map(|(key, sum)| row(scene, key, &sum)).collect();
    rows.sort_by(|one, other| one.cells[0].text.cmp(&other.cells[0].text));
    Table::of(COLUMNS, rows, "no process has a socket")
}

fn name(key: ProcessKey, comm: &Comm) -> String {
    match key {
        ProcessKey::Process(pid) => process(comm, Some(pid)),
        ProcessKey::Name(comm) if comm.bytes() == b"?" => "unknown".to_owned(),
        ProcessKey::Name(comm) => process(&comm, None),
        ProcessKey::Kernel => "kernel: closed by its process".to_owned(),
        ProcessKey::Queue => "kernel: not accepted yet".to_owned(),
    }
}

/// A filter for what it has.
fn words(key: ProcessKey) -> String {
    match key {
        ProcessKey::Process(pid) => format!("pid:{pid}"),
        ProcessKey::Name(comm) => name_word(&comm).unwrap_or_default(),
        ProcessKey::Kernel => "kernel".to_owned(),
        ProcessKey::Queue => "accepted".to_owned(),
    }
}

/// Descriptors in use, and how many there may be.
fn descriptors(scene: &Scene<'_>, key: ProcessKey) -> (Option<u64>, Option<u64>) {
    let ProcessKey::Process(pid) = key else { return (None, None) };
    match scene.engine.watch().and_then(|watch| watch.surroundings().process(pid)) {
        Some(process) => (process.fds, process.limit),
        None => (None, None),
    }
}

/// How full.
pub(crate) fn fill(in_use: u64, limit: u64) -> Paint {
    match in_use.saturating_mul(100).checked_div(limit) {
        Some(90..) => Paint::Bad,
        Some(70..) => Paint::Warn,
        _ => Paint::Plain,
    }
}

fn row(scene: &Scene<'_>, key: ProcessKey, sum: &Sum) -> Row {
    let (fds, limit) = descriptors(scene, key);
    let growth = match key {
        ProcessKey::Process(pid) => scene.model.growths.per_minute(pid),
        _ => None,
    };
    let other = sum.sockets - sum.established - sum.close_wait - sum.syn_sent;
    let used = match (fds, limit) {
        (Some(fds), Some(limit)) => Cell::percent(fds, limit).marked(fill(fds, limit)),
        _ => Cell::unknown(),
    };
    let cells = vec![
        Cell::text(name(key, &sum.comm)),
        Cell::count(sum.sockets),
        Cell::per_minute(growth),
        Cell::count(sum.established),
        Cell::count(sum.close_wait).marked(Paint::Warn),
        Cell::count(sum.syn_sent),
        Cell::count(other),
        Cell::spent(sum.oldest.unwrap_or(Spent::Unknown)),
        Cell::maybe(fds),
        Cell::maybe(limit),
        used,
        Cell::count(sum.listeners),
    ];
    Row { id: RowId::Process(key), cells, words: words(key) }
}

pub(super) fn pane(scene: &Scene<'_>, key: ProcessKey, wanted: &Wanted) -> Option<Pane> {
    let conns: Vec<&Connection> = scene
        .wanted(wanted)
        .filter(|conn| conn.state != TcpState::Close && self::key(conn) == key)
        .collect();
    let owner = conns.first()?.owner.as_ref();
    let comm = owner.map(|owner| owner.task.comm).unwrap_or_default();
    let mut pane = Pane::new(name(key, &comm));
    pane.words = words(key);
    if let ProcessKey::Process(pid) = key {
        let executable = scene.engine.names().executable(pid).map(harmless);
        pane.maybe("runs", executable);
        about(&mut pane, scene, pid);
    }
    pane.heading("Sockets by state");
    by_state(&mut pane, &conns);
    let listeners = conns.iter().filter(|conn| conn.role == Role::Listener);
    let listeners: Vec<String> = listeners.map(|conn| local_end(scene.engine, conn)).collect();
    if !listeners.is_empty() {
        pane.heading("Listens at");
        pane.words(Paint::Plain, listeners.join("  "));
    }
    remotes(&mut pane, scene, &conns);
    Some(pane)
}

fn about(pane: &mut Pane, scene: &Scene<'_>, pid: u32) {
    if let (Some(fds), Some(limit)) = descriptors(scene, ProcessKey::Process(pid)) {
        let text = format!("{} of {} in use", thousands(fds), thousands(limit));
        pane.painted("descriptors", fill(fds, limit), text);
    } else {
        pane.maybe("descriptors", None);
    }
    let growth = scene.model.growths.per_minute(pid);
    pane.maybe("growth", growth.map(|rate| format!("{rate:+.1} sockets a minute")));
    let findings = scene.engine.watch().map(|watch| watch.findings()).unwrap_or_default();
    for (finding, _) in findings {
        let its = finding.process.and_then(|process| process.pid) == Some(pid);
        if its || finding.workers.contains(&pid) {
            pane.words(super::findings::paint(finding.severity), finding.verdict.clone());
        }
    }
}

pub(super) fn by_state(pane: &mut Pane, conns: &[&Connection]) {
    for state in TcpState::ALL {
        let count = conns.iter().filter(|conn| conn.state == state).count() as u64;
        if count != 0 {
            pane.line(Paint::of_state(state), format!("{:>8}  {}", thousands(count), state.name()));
        }
    }
}

/// Who it talks to most.
fn remotes(pane: &mut Pane, scene: &Scene<'_>, conns: &[&Connection]) {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for conn in conns.iter().filter(|conn| conn.role != Role::Listener) {
        let remote = conn.tuple.remote();
        let name = match Remote::of(scene.table(), conn).map(|remote| remote.side) {
            Some(Side::In) => format!("{} to :{}", remote.ip(), conn.tuple.local_port),
            _ => remote_end(scene.engine, conn),
        };
        *counts.entry(name).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
    if counts.is_empty() {
        return;
    }
    pane.heading("Talks to");
    for (name, count) in counts.iter().take(10) {
        pane.line(Paint::Plain, format!("{:>8}  {name}", thousands(*count)));
    }
    if counts.len() > 10 {
        let more = (counts.len() - 10) as u64;
        pane.line(Paint::Dim, format!("{:>8}  and {}", "", counted(more, "other")));
    }
}

/// The process with the largest share of its descriptors in use, as the header shows it.
pub(crate) fn fullest(scene: &Scene<'_>) -> Option<(String, u64, u64)> {
    let around = scene.engine.watch()?.surroundings();
    let (pid, fds, limit) = around
        .processes()
        .filter_map(|(pid, process)| Some((pid, process.fds?, process.limit?)))
        .filter(|(_, _, limit)| *limit != 0)
        .max_by_key(|(pid, fds, limit)| (fds.saturating_mul(1000) / limit, *fds, *pid))?;
    let owners = scene.table().iter().filter_map(|conn| conn.owner.as_ref());
    let mut its = owners.filter(|owner| owner.pid() == Some(pid)).map(|owner| owner.task.comm);
    let name =
        its.next().map_or_else(|| format!("process {pid}"), |comm| process(&comm, Some(pid)));
    Some((name, fds, limit))
}
