//! What `top` keeps beside the engine: figures folded from [`Update`]s, over time where the engine knows only
//! now. Pure: no clock, no IO; the time is an argument.

mod accepts;
mod counts;
mod growth;
mod history;
mod marks;
mod remotes;

pub(super) use accepts::Accepts;
pub(super) use counts::{Cost, Rates};
pub(super) use growth::Growths;
pub(super) use history::{History, Shown};
pub(super) use marks::{Mark, MarkKind, Marks};
pub(super) use remotes::{Figures, Remote, Remotes, Side, percentile};

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::conn::{Connection, Kind, Owner, PollKind, Role, Table};
use crate::engine::open::is_open;
use crate::engine::stats::Drops;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::time::MonoNs;

/// Without a tick for so long, there will be none.
const PULSE_NS: u64 = 1_500_000_000;

/// Everything that is folded.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Opened, closed and so on, a second.
    pub(super) rates: Rates,
    /// Sockets by state over the last minutes.
    pub(super) history: History,
    /// Retransmits and resets of connections that are there.
    pub(super) marks: Marks,
    /// Who was talked to, and how that went.
    pub(super) remotes: Remotes,
    /// How long connections waited to be accepted.
    pub(super) accepts: Accepts,
    /// Sockets of processes over time.
    pub(super) growths: Growths,
    /// Segments that the kernel threw away.
    pub(super) drops: Drops,
    /// What the run costs itself; unknown in a replay.
    pub(super) cost: Option<Cost>,
    /// When every socket was last walked: queues and round-trip times are not younger.
    pub(super) walked: Option<MonoNs>,
    /// Time of the last tick.
    pub(super) ticked: Option<MonoNs>,
}

impl Model {
    /// Takes in one update. Of connections only those in `scope` count.
    pub(super) fn update(&mut self, engine: &Engine, update: &Update<'_>, scope: &Filter) {
        self.drops.update(engine, update, scope);
        match update {
            Update::Change { conn, change } => {
                self.change(engine.table(), conn, change.kind, change.at);
            }
            Update::Walked { poll, now } if poll.kind == PollKind::All => {
                self.walked = Some(*now);
            }
            Update::Tick(now) => self.tick(engine, *now, scope),
            _ => {}
        }
    }

    /// Time has passed for who looks: a recording without ticks has none of its own.
    pub(super) fn pulse(&mut self, engine: &Engine, now: MonoNs, scope: &Filter) {
        if self.ticked.is_none_or(|ticked| now.since(ticked) >= PULSE_NS) {
            self.tick(engine, now, scope);
        }
    }

    fn change(&mut self, table: &Table, conn: &Connection, kind: Kind, at: MonoNs) {
        self.rates.count(conn, &kind);
        match kind {
            Kind::Transition { old, new, .. } => {
                if conn.role != Role::Listener {
                    self.remotes.transition((table, conn), (old, new), at);
                }
            }
            Kind::Retransmit { .. } | Kind::Reset { .. } => self.marks.add(conn.id, &kind, at),
            Kind::Finished => {
                self.remotes.finished(table, conn, at);
                self.accepts.finished(conn);
            }
            Kind::Dropped { .. } => {}
            Kind::Gone => self.marks.gone(conn.id),
        }
    }

    fn tick(&mut self, engine: &Engine, now: MonoNs, scope: &Filter) {
        self.rates.tick(now);
        self.history.sample(engine, scope, now);
        self.remotes.tidy(now);
        self.marks.sample(engine.table(), now);
        if self.growths.is_due(now) {
            self.growths.sample(by_process(engine, scope).into_iter(), now);
        }
        self.ticked = Some(now);
    }
}

/// How many sockets each process has.
fn by_process(engine: &Engine, scope: &Filter) -> HashMap<u32, u32, FixedState> {
    let mut counts = HashMap::default();
    let all = scope.wants_all(engine.origin().only_netns);
    let wanted = |conn: &&Connection| is_open(conn) && (all || scope.wants(conn) == Some(true));
    for conn in engine.table().iter().filter(wanted) {
        if let Some(pid) = conn.owner.as_ref().and_then(Owner::pid) {
            *counts.entry(pid).or_default() += 1;
        }
    }
    counts
}
