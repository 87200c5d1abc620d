//! Listeners: how full their queues are, and how long connections wait to be accepted.

use std::collections::BTreeMap;

use crate::engine::conn::{Connection, Role, Spent};
use crate::event::Shape;
use crate::output::top::model::percentile;
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, counted, figures, local_end, longer, process, spent_text,
    text_column, thousands,
};
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::processes::{by_state, fill};
use crate::output::top::tabs::row::{Place, Row, RowId};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::table::Table;
use crate::output::top::tabs::whose::{Whose, whose};
use crate::output::top::words::Wanted;
use crate::time::Human;

pub(super) const COLUMNS: &[Column] = &[
    text_column("LISTENS AT", 0, 47, Fold::Same, "address and port"),
    text_column("PROCESS", 0, 28, Fold::Name, "who listens; +N: as many others with it"),
    figures("UNACCEPTED", 0, Fold::Sum, "connections in its queue, as of the last walk"),
    figures("BACKLOG", 0, Fold::Sum, "how many the queue holds"),
    figures("FULL", 0, Fold::Most, "share of the queue that is taken"),
    figures("OLDEST", 1, Fold::Most, "how long the first in the queue has waited"),
    figures("HALF-OPEN", 2, Fold::Sum, "connections without their third ACK"),
    figures("OPEN", 1, Fold::Sum, "accepted connections"),
    figures("ACCEPT p50", 2, Fold::Most, "half of its connections waited no longer to be accepted"),
    figures("p99", 2, Fold::Most, "99 of 100 waited no longer"),
];

#[derive(Default)]
struct Sum<'a> {
    listeners: Vec<&'a Connection>,
    waiting: u64,
    backlog: u64,
    half_open: u64,
    open: u64,
    oldest: Option<Spent>,
    /// Waits of those that are open, nanoseconds.
    waits: Vec<u64>,
}

type Sums<'a> = BTreeMap<Place, Sum<'a>>;

fn sums<'a>(scene: &Scene<'a>, wanted: &'a Wanted) -> Sums<'a> {
    let mut sums: Sums<'_> = BTreeMap::new();
    for conn in scene.wanted(wanted).filter(|conn| conn.role == Role::Listener) {
        let sum = sums.entry(place(conn)).or_default();
        sum.listeners.push(conn);
        sum.waiting += u64::from(conn.recv_queue);
        sum.backlog += u64::from(conn.send_queue);
    }
    // Most connections came from the same listener as the one before.
    let mut last: Option<(Place, Option<Place>)> = None;
    for conn in scene.table().iter().filter(|conn| conn.role == Role::Server) {
        let at = place(conn);
        let found = match &last {
            Some((before, found)) if *before == at => *found,
            _ => listener_of(&sums, at),
        };
        last = Some((at, found));
        let Some(sum) = found.and_then(|place| sums.get_mut(&place)) else { continue };
        match whose(conn) {
            Whose::Handshake => sum.half_open += 1,
            Whose::Queue => {
                let age = conn.in_state(scene.now);
                sum.oldest = Some(sum.oldest.map_or(age, |oldest| longer(oldest, age)));
            }
            Whose::Process => {
                sum.open += u64::from(conn.shape == Shape::Full);
                sum.waits.extend(conn.accept_ns());
            }
            Whose::Kernel => {}
        }
    }
    sums
}

fn place(listener: &Connection) -> Place {
    Place {
        netns: listener.netns,
        addr: listener.tuple.local_addr,
        port: listener.tuple.local_port,
    }
}

/// The listener that a connection came from: with its address, else with any.
fn listener_of(sums: &Sums<'_>, exact: Place) -> Option<Place> {
    // 0.0.0.0 stands v4-mapped, :: as it is.
    let mut any_v4 = [0; 16];
    any_v4[10..12].fill(0xff);
    let any = [any_v4, [0; 16]].map(|addr| Place { addr, ..exact });
    [exact, any[0], any[1]].into_iter().find(|place| sums.contains_key(place))
}

/// The wait that this share of connections had no longer, nanoseconds: of those that ended, and of those that
/// are open.
fn wait(scene: &Scene<'_>, place: &Place, sum: &Sum<'_>, quantile: f64) -> Option<u64> {
    let ended = scene.model.accepts.at(place.netns, place.port);
    let mut all = match ended {
        Some(ended) => ended.clone(),
        None => hdrhistogram::Histogram::new_with_bounds(1, 3_600_000_000, 1).ok()?,
    };
    for ns in &sum.waits {
        all.saturating_record((ns / 1_000).max(1));
    }
    percentile(&all, quantile).map(|us| us * 1_000)
}

fn who(sum: &Sum<'_>) -> String {
    let mut names: Vec<String> = sum
        .listeners
        .iter()
        .filter_map(|conn| conn.owner.as_ref())
        .map(|owner| process(&owner.task.comm, owner.pid()))
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.split_first() {
        None => "?".to_owned(),
        Some((first, [])) => first.clone(),
        Some((first, more)) => format!("{first} +{}", more.len()),
    }
}

/// A listener's queue takes one more than its backlog.
fn full(sum: &Sum<'_>) -> Cell {
    let room = sum.backlog + sum.listeners.len() as u64;
    Cell::percent(sum.waiting, room).marked(fill(sum.waiting, room))
}

pub(super) fn table(scene: &Scene<'_>, wanted: &Wanted) -> Table {
    let rows = sums(scene, wanted).into_iter().map(|(place, sum)| {
        let at = sum.listeners.first().map(|conn| local_end(scene.engine, conn));
        let cells = vec![
            Cell::text(at.unwrap_or_default()),
            Cell::text(who(&sum)),
            Cell::count(sum.waiting).marked(Paint::Warn),
            Cell::count(sum.backlog),
            full(&sum),
            Cell::spent(sum.oldest.unwrap_or(Spent::Unknown)),
            Cell::count(sum.half_open),
            Cell::count(sum.open),
            Cell::time(wait(scene, &place, &sum, 0.5)),
            Cell::time(wait(scene, &place, &sum, 0.99)),
        ];
        let words = format!("lport:{}", place.port);
        Row { id: RowId::Listener(place), cells, words }
    });
    Table::of(COLUMNS, rows.collect(), "nobody listens")
}

pub(super) fn pane(scene: &Scene<'_>, place: &Place, wanted: &Wanted) -> Option<Pane> {
    let mut sums = sums(scene, wanted);
    let sum = sums.remove(place)?;
    let first = sum.listeners.first()?;
    let mut pane = Pane::new(format!("listens at {}", local_end(scene.engine, first)));
    pane.words = format!("lport:{}", place.port);
    for listener in &sum.listeners {
        let since = Cell::spent(listener.in_state(scene.now)).text;
        let queue = format!(
            "{} of {} in its queue",
            thousands(u64::from(listener.recv_queue)),
            thousands(u64::from(listener.send_queue) + 1)
        );
        let who = listener.owner.as_ref();
        let who = who.map_or_else(|| "?".to_owned(), |o| process(&o.task.comm, o.pid()));
        pane.fact("listener", format!("{who}, for {since}, {queue}"));
        for holder in scene.table().holders_of(listener.id).iter().take(10) {
            pane.fact("", format!("{} fd {}", process(&holder.comm, Some(holder.pid)), holder.fd));
        }
    }
    if let Some(at) = scene.model.walked {
        pane.painted(
            "queues",
            Paint::Dim,
            format!("as of a walk {} ago", Human(scene.now.since(at))),
        );
    }
    pane.maybe("oldest waits", sum.oldest.map(spent_text));
    pane.fact("half-open", counted(sum.half_open, "connection"));
    for (name, quantile) in [("accept p50", 0.5), ("accept p99", 0.99), ("accept max", 1.0)] {
        pane.maybe(name, wait(scene, place, &sum, quantile).map(|ns| Human(ns).to_string()));
    }
    pane.heading("Its connections by state");
    let conns: Vec<&Connection> = scene
        .table()
        .iter()
        .filter(|conn| conn.role == Role::Server && conn.netns == place.netns)
        .filter(|conn| conn.tuple.local_port == place.port)
        .collect();
    by_state(&mut pane, &conns);
    Some(pane)
}
