//! Takes what the engine tells and keeps figures of it, in memory that does not grow with the run.

use tracer_common::TcpState;

use super::findings::Stories;
use super::lives::Lives;
use super::tables::{Tables, has_failed};
use super::timeline::{ByState, Fullest, Timeline};
use crate::engine::conn::{Change, Connection, Kind, Role};
use crate::engine::stats::{Drops, Retransmits};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::time::MonoNs;

/// Between two looks is a second for each so many sockets: a look takes about a hundred thousandth of that of each.
const PER_SECOND: u64 = 25_000;

/// Figures of a run.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    filter: Filter,
    pub(super) timeline: Timeline,
    pub(super) tables: Tables,
    pub(super) lives: Lives,
    pub(super) stories: Stories,
    pub(super) drops: Drops,
    pub(super) again: Retransmits,
    /// When the sockets are counted next.
    next_look: MonoNs,
}

impl Fold {
    pub(super) fn new(filter: Filter) -> Fold {
        Fold {
            filter,
            timeline: Timeline::new(MonoNs(0)),
            tables: Tables::new(),
            lives: Lives::default(),
            stories: Stories::default(),
            drops: Drops::default(),
            again: Retransmits::default(),
            next_look: MonoNs(0),
        }
    }

    pub(super) fn begin(&mut self, start: MonoNs) {
        self.timeline = Timeline::new(start);
    }

    pub(super) fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        let dropped = self.drops.all();
        self.drops.update(engine, update, &self.filter);
        self.again.update(update);
        match update {
            Update::Unclaimed(group) => {
                self.timeline.at(group.at).dropped += self.drops.all() - dropped;
            }
            Update::Change { conn, change } => self.change(conn, change),
            Update::Finding { at, update, finding } => self.stories.update(*at, update, finding),
            Update::Lost(loss) => self.timeline.at(loss.to).lost += loss.count,
            Update::Tick(now) if *now >= self.next_look => self.look(engine, *now),
            _ => {}
        }
    }

    fn change(&mut self, conn: &Connection, change: &Change) {
        if conn.role == Role::Listener {
            return;
        }
        let interval = self.timeline.at(change.at);
        match change.kind {
            Kind::Transition { new: TcpState::Established, .. } => interval.opened += 1,
            // It was not sent after all.
            Kind::Retransmit { again, .. } if again.error != 0 => return,
            Kind::Retransmit { .. } => interval.retransmits += 1,
            Kind::Reset { .. } => interval.resets += 1,
            Kind::Finished if has_failed(conn) => interval.failed += 1,
            Kind::Finished => interval.closed += 1,
            Kind::Dropped { .. } => interval.dropped += 1,
            Kind::Transition { .. } | Kind::Gone => return,
        }
        if change.kind == Kind::Finished {
            self.lives.finished(conn);
        }
        self.tables.change(conn, change);
    }

    /// Counts the sockets; once in each interval, since with a filter each socket is looked at, and less often when they
    /// are many.
    fn look(&mut self, engine: &Engine, now: MonoNs) {
        let pause = engine.table().len() as u64 / PER_SECOND * 1_000_000_000;
        self.next_look = now.after(self.timeline.width_ns.max(pause));
        let mut by_state = ByState::default();
        for (state, count) in engine.states(&self.filter) {
            if state != TcpState::Close {
                by_state[usize::from(state.number())] += count;
            }
        }
        self.timeline.sockets(now, by_state);
        if let Some(fullest) = fullest(engine) {
            self.timeline.fds(now, fullest);
        }
    }

    /// The run is over.
    pub(super) fn open_at_end(&mut self, engine: &Engine, open: &[&Connection], now: MonoNs) {
        self.next_look = MonoNs(0);
        self.look(engine, now);
        for conn in open {
            self.lives.open(conn, now);
        }
        for conn in engine.table().iter().filter(|conn| is_there(conn, &self.filter)) {
            self.tables.open(conn);
        }
    }
}

/// A socket that is there and that the report is about.
fn is_there(conn: &Connection, filter: &Filter) -> bool {
    conn.state != TcpState::Close && filter.wants(conn) == Some(true)
}

fn fullest(engine: &Engine) -> Option<Fullest> {
    let descriptors = engine.watch()?.descriptors();
    let share = |fds: u64, limit: u64| fds.saturating_mul(1_000_000) / limit.max(1);
    let (pid, fds, limit) = descriptors.max_by_key(|&(_, fds, limit)| share(fds, limit))?;
    Some(Fullest { pid, fds, limit })
}
