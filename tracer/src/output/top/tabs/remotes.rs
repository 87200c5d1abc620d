//! Remotes: who is talked to, by address and port, and how that goes.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::Connection;
use crate::event::{Family, Tuple};
use crate::output::top::model::{Figures, Remote, Side};
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, endpoint, figures, text_column, thousands,
};
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::processes::by_state;
use crate::output::top::tabs::row::{Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::table::Table;
use crate::output::top::words::Wanted;
use crate::time::Human;

pub(super) const COLUMNS: &[Column] = &[
    text_column("REMOTE", 0, 47, Fold::Name, "address; outwards with its port, inwards with any"),
    text_column(
        "WAY",
        0,
        8,
        Fold::Same,
        "out: we connect to it; to :PORT: it connects to that port",
    ),
    figures("OPEN", 0, Fold::Sum, "connections there are"),
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
    figures("RETR%", 1, Fold::Most, "share of connections that had to send something again"),
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

pub(super) fn table(scene: &Scene<'_>, wanted: &Wanted) -> Table {
    let mut open: HashMap<Remote, Open, FixedState> = HashMap::default();
    for conn in scene.wanted(wanted).filter(|conn| is_there(conn)) {
        let Some(remote) = Remote::of(conn) else { continue };
        let sum = open.entry(remote).or_default();
        sum.count += 1;
        sum.again += u64::from(again(conn));
        sum.send_queue += u64::from(conn.send_queue);
    }
    let all = wanted.is_all();
    let by_ends = wanted.is_of_ends();
    // With those that have no connection now.
    for (remote, _) in scene.model.remotes.iter() {
        if all || by_ends && wanted.wants_ends(&ends(remote)) {
            open.entry(*remote).or_default();
        }
    }
    let mut rows: Vec<Row> =
        open.into_iter().map(|(remote, open)| row(scene, remote, open)).collect();
    rows.sort_by(|one, other| one.cells[0].text.cmp(&other.cells[0].text));
    Table::of(COLUMNS, rows, "nobody is talked to")
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
    let addr = ends(remote).remote();
    match remote.side {
        Side::Out => (endpoint(addr), "out".to_owned()),
        Side::In => (addr.ip().to_string(), format!("to :{}", remote.port)),
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

fn row(scene: &Scene<'_>, remote: Remote, open: Open) -> Row {
    let (address, way) = name(&remote);
    let figures = scene.model.remotes.get(&remote);
    let count = |of: fn(&Figures) -> u64| figures.map_or(0, of);
    let ended = count(|figures| figures.ended);
    let handshake = |quantile| {
        let us = figures.and_then(|figures| figures.handshake(quantile));
        Cell::time(us.map(|us| us * 1_000))
    };
    let cells = vec![
        Cell::text(address),
        Cell::text(way),
        Cell::count(open.count),
        Cell::count(count(|figures| figures.opened)),
        Cell::count(count(|figures| figures.failed)).marked(Paint::Bad),
        Cell::count(count(|figures| figures.broken)).marked(Paint::Warn),
        handshake(0.5),
        handshake(0.99),
        Cell::percent(open.again + count(|figures| figures.again), open.count + ended)
            .marked(Paint::Warn),
        Cell::bytes(open.send_queue).marked(Paint::Warn),
    ];
    Row { id: RowId::Remote(remote), cells, words: words(&remote) }
}

pub(super) fn pane(scene: &Scene<'_>, remote: &Remote, wanted: &Wanted) -> Option<Pane> {
    let conns: Vec<&Connection> = scene
        .wanted(wanted)
        .filter(|conn| is_there(conn) && Remote::of(conn) == Some(*remote))
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
