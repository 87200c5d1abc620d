//! Remotes: who is talked to, by address and port, and how that goes.

use std::collections::HashMap;
use std::io::Write;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::Connection;
use crate::event::{Family, Tuple};
use crate::output::top::model::{Figures, Remote, Side};
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, counted, figures, lossy, text_column, thousands,
};
use crate::output::top::tabs::line_search::Lines;
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::processes::by_state;
use crate::output::top::tabs::row::{Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::tab::Order;
use crate::output::top::tabs::table::Table;
use crate::output::top::words::Wanted;
use crate::text;
use crate::time::Human;

pub(super) const COLUMNS: &[Column] = &[
    text_column("REMOTE", 0, 47, Fold::Name, "address; outwards with its port, inwards with any"),
    text_column(
        "WAY",
        0,
        8,
        Fold::Same,
        "out: this machine connects to it; to :PORT: it connects to that port",
    ),
    figures("OPEN", 0, Fold::Sum, "connections that exist now"),
    figures("OPENED", 1, Fold::Sum, "connections begun since the run began"),
    figures("FAILED", 0, Fold::Sum, "of those that ended: never established (refused, timed out)"),
    figures(
        "BROKEN",
        2,
        Fold::Sum,
        "of those that ended: by a RST, a timeout or an error, after they were established",
    ),
    figures("HS p50", 0, Fold::Most, "half of the handshakes took no longer"),
    figures("HS p99", 0, Fold::Most, "99 of 100 handshakes took no longer"),
    figures("RETR%", 1, Fold::Most, "share of connections with a retransmit"),
    figures("SEND-Q", 3, Fold::Sum, "bytes it has not acknowledged, as of the last walk"),
];

/// What is open with one.
#[derive(Clone, Copy, Default)]
struct Open {
    count: u64,
    again: u64,
    send_queue: u64,
}

fn again(conn: &Connection) -> bool {
    let seen = conn.retransmits;
    let counted = conn.counters().is_some_and(|counters| counters.retransmits != 0);
    counted || seen.syn != 0 || seen.synack != 0 || seen.fin != 0 || seen.data != 0
}

/// Rows that are made. There may be a hundred thousand remotes: of more, those that come first.
const MOST_ROWS: usize = 2_000;

/// What is known of one, or of all with one address.
#[derive(Clone)]
struct Sum {
    remote: Remote,
    /// Remotes that it is about, and those of them whose way is another than the first's.
    members: u64,
    others: u64,
    open: Open,
    opened: u64,
    failed: u64,
    broken: u64,
    ended: u64,
    /// Half of the handshakes took no longer, and 99 of 100; microseconds.
    p50: Option<u64>,
    p99: Option<u64>,
}

impl Sum {
    fn of(scene: &Scene<'_>, remote: Remote, open: Open) -> Sum {
        let figures = scene.model.remotes.get(&remote);
        let count = |of: fn(&Figures) -> u64| figures.map_or(0, of);
        let again = open.again + count(|figures| figures.again);
        Sum {
            remote,
            members: 1,
            others: 0,
            open: Open { again, ..open },
            opened: count(|figures| figures.opened),
            failed: count(|figures| figures.failed),
            broken: count(|figures| figures.broken),
            ended: count(|figures| figures.ended),
            p50: figures.and_then(|figures| figures.handshake(0.5)),
            p99: figures.and_then(|figures| figures.handshake(0.99)),
        }
    }

    fn add(&mut self, other: &Sum) {
        let way =
            |sum: &Sum| (sum.remote.side, (sum.remote.side == Side::In).then_some(sum.remote.port));
        self.others += u64::from(way(self) != way(other));
        self.members += 1;
        self.open.count += other.open.count;
        self.open.again += other.open.again;
        self.open.send_queue += other.open.send_queue;
        self.opened += other.opened;
        self.failed += other.failed;
        self.broken += other.broken;
        self.ended += other.ended;
        self.p50 = self.p50.max(other.p50);
        self.p99 = self.p99.max(other.p99);
    }

    /// Connections that may have had to send something again.
    fn seen(&self) -> u64 {
        self.open.count + self.ended
    }

    /// By what it is sorted; `None` is not known.
    fn key(&self, column: usize) -> Option<u128> {
        Some(match column {
            0 => u128::from_be_bytes(self.remote.addr),
            1 => u128::from(self.remote.side == Side::In) << 16 | u128::from(self.remote.port),
            2 => self.open.count.into(),
            3 => self.opened.into(),
            4 => self.failed.into(),
            5 => self.broken.into(),
            6 => self.p50?.into(),
            7 => self.p99?.into(),
            8 => (u128::from(self.open.again) << 64).checked_div(self.seen().into())?,
            _ => self.open.send_queue.into(),
        })
    }
}

/// Figures of all that are wanted.
pub(super) struct Sums {
    all: Vec<Sum>,
    /// Their names on a line each, in lower case, once a text was looked for.
    names: Option<Lines>,
}

impl Sums {
    pub(super) fn of(scene: &Scene<'_>, wanted: &Wanted) -> Sums {
        let mut open: HashMap<Remote, Open, FixedState> = HashMap::default();
        for conn in scene.wanted(wanted).filter(|conn| is_there(conn)) {
            let Some(remote) = Remote::of(scene.table(), conn) else { continue };
            let sum = open.entry(remote).or_default();
            sum.count += 1;
            sum.again += u64::from(again(conn));
            sum.send_queue += u64::from(conn.send_queue);
        }
        let by_ends = wanted.is_of_ends();
        // With those that have no connection now.
        for (remote, _) in scene.model.remotes.iter() {
            if by_ends && wanted.wants_ends(&ends(remote)) {
                open.entry(*remote).or_default();
            }
        }
        let sums = open.into_iter().map(|(remote, open)| Sum::of(scene, remote, open));
        Sums { all: sums.collect(), names: None }
    }

    /// Those with these texts in their address or way.
    fn with(&mut self, texts: &[String]) -> Vec<&Sum> {
        if texts.is_empty() {
            return self.all.iter().collect();
        }
        let names = self.names.get_or_insert_with(|| {
            // Both cells on one line: a text has no blanks, so none is found across them.
            Lines::of(&self.all, |sum, line| {
                address_into(&sum.remote, line);
                line.push(b' ');
                way_into(&sum.remote, line);
            })
        });
        names.with(texts).into_iter().filter_map(|at| self.all.get(at)).collect()
    }
}

/// Remotes that are wanted, or their addresses, in their order.
pub(super) fn table(sums: &mut Sums, order: &Order<'_>) -> Table {
    let mut sums = sums.with(order.wanted.texts());
    let groups: Vec<Sum>;
    if order.group.is_some() {
        groups = by_address(sums);
        sums = groups.iter().collect();
    }
    let left_out = sums.len().saturating_sub(MOST_ROWS);
    sort(&mut sums, order);
    let row = |sum| row(sum, order.group.is_some());
    let rows = sums.into_iter().map(row).collect();
    Table { left_out, ..Table::of(COLUMNS, rows, "there are no connections") }
}

fn by_address(mut sums: Vec<&Sum>) -> Vec<Sum> {
    sums.sort_unstable_by_key(|sum| sum.remote);
    let mut groups: Vec<Sum> = Vec::new();
    for sum in sums {
        let place = |sum: &Sum| (sum.remote.addr, sum.remote.v6);
        match groups.last_mut().filter(|last| place(last) == place(sum)) {
            Some(group) => group.add(sum),
            None => groups.push(sum.clone()),
        }
    }
    groups
}

/// Those that come first, in their order; what is not known comes last.
fn sort(sums: &mut Vec<&Sum>, order: &Order<'_>) {
    let compare = |one: &&Sum, other: &&Sum| {
        let (less, more) = (one.key(order.column), other.key(order.column));
        let by_key = if order.descending { more.cmp(&less) } else { less.cmp(&more) };
        let unknown_last = less.is_none().cmp(&more.is_none());
        unknown_last.then(by_key).then_with(|| one.remote.cmp(&other.remote))
    };
    if sums.len() > MOST_ROWS {
        sums.select_nth_unstable_by(MOST_ROWS, compare);
        sums.truncate(MOST_ROWS);
    }
    sums.sort_unstable_by(compare);
}

fn is_there(conn: &Connection) -> bool {
    !matches!(conn.state, TcpState::Close | TcpState::Listen)
}

/// As ends of a connection.
fn ends(remote: &Remote) -> Tuple {
    let (local_port, remote_port) = match remote.side {
        Side::Out => (0, remote.port),
        Side::In => (remote.port, 0),
    };
    let family = if remote.v6 { Family::V6 } else { Family::V4 };
    Tuple {
        local_addr: remote.addr,
        remote_addr: remote.addr,
        // Not known is not wanted: a port that no filter has.
        local_port: local_port.max(1),
        remote_port: remote_port.max(1),
        family,
    }
}

fn name(remote: &Remote) -> (String, String) {
    let (mut address, mut way) = (Vec::new(), Vec::new());
    address_into(remote, &mut address);
    way_into(remote, &mut way);
    (lossy(&address), lossy(&way))
}

fn address_into(remote: &Remote, out: &mut Vec<u8>) {
    let addr = ends(remote).remote();
    match remote.side {
        Side::Out => text::endpoint(addr, out),
        // Into memory: it does not fail.
        Side::In => _ = write!(out, "{}", addr.ip()),
    }
}

fn way_into(remote: &Remote, out: &mut Vec<u8>) {
    match remote.side {
        Side::Out => out.extend_from_slice(b"out"),
        Side::In => {
            out.extend_from_slice(b"to :");
            out.extend_from_slice(itoa::Buffer::new().format(remote.port).as_bytes());
        }
    }
}

/// A filter for its connections.
fn words(remote: &Remote) -> String {
    let ip = ends(remote).remote().ip();
    match remote.side {
        Side::Out => format!("addr:{ip} rport:{}", remote.port),
        Side::In => format!("addr:{ip} lport:{}", remote.port),
    }
}

fn row(sum: &Sum, grouped: bool) -> Row {
    let (address, way) = name(&sum.remote);
    let ip = ends(&sum.remote).remote().ip();
    let handshake = |us: Option<u64>| Cell::time(us.map(|us| us * 1_000));
    let address = if grouped { format!("{ip} ({})", thousands(sum.members)) } else { address };
    let way = match sum.others {
        0 => way,
        others => format!("{way} and {}", counted(others, "other")),
    };
    let cells = vec![
        Cell::text(address),
        Cell::text(way),
        Cell::count(sum.open.count),
        Cell::count(sum.opened),
        Cell::count(sum.failed).marked(Paint::Bad),
        Cell::count(sum.broken).marked(Paint::Warn),
        handshake(sum.p50),
        handshake(sum.p99),
        Cell::percent(sum.open.again, sum.seen()).marked(Paint::Warn),
        Cell::bytes(sum.open.send_queue).marked(Paint::Warn),
    ];
    if grouped {
        return Row { id: RowId::Group(ip.to_string()), cells, words: format!("addr:{ip}") };
    }
    Row { id: RowId::Remote(sum.remote), cells, words: words(&sum.remote) }
}

pub(super) fn pane(scene: &Scene<'_>, remote: &Remote, wanted: &Wanted) -> Option<Pane> {
    let conns: Vec<&Connection> = scene
        .wanted(wanted)
        .filter(|conn| is_there(conn) && Remote::of(scene.table(), conn) == Some(*remote))
        .collect();
    let figures = scene.model.remotes.get(remote);
    if conns.is_empty() && figures.is_none() {
        return None;
    }
    let (address, way) = name(remote);
    let mut pane = Pane::new(format!("{address} ({way})"));
    pane.words = words(remote);
    if let Some(figures) = figures {
        pane.fact("opened", format!("{} since the run began", thousands(figures.opened)));
        pane.fact("ended", thousands(figures.ended));
        let failed = format!("{} never established", thousands(figures.failed));
        let paint = if figures.failed == 0 { Paint::Plain } else { Paint::Bad };
        pane.painted("failed", paint, failed);
        let broken = format!("{} ended by a RST, a timeout or an error", thousands(figures.broken));
        pane.fact("broken", broken);
        pane.fact("sent again", format!("{} of those that ended", thousands(figures.again)));
        for (name, quantile) in [
            ("handshake p50", 0.5),
            ("handshake p90", 0.9),
            ("handshake p99", 0.99),
            ("handshake max", 1.0),
        ] {
            let us = figures.handshake(quantile);
            pane.maybe(name, us.map(|us| Human(us * 1_000).to_string()));
        }
    }
    pane.heading("Connections by state");
    by_state(&mut pane, &conns);
    Some(pane)
}
