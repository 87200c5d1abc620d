//! What an output gets of the changes: its filter, what of it has to wait, and what has passed.

use tracer_common::TcpState;

use crate::engine::conn::{Change, ConnRef, Connection, Kind, Role, Spent, Table, Unclaimed};
use crate::filter::Filter;
use crate::names::Names;

/// A bit for each place in the table: an output's own notes on connections, at an eighth of a byte each.
#[derive(Debug, Default)]
struct Marks(Vec<u64>);

impl Marks {
    /// Sets the bit; returns whether it was clear.
    fn set(&mut self, conn: ConnRef) -> bool {
        let (word, bit) = place(conn);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else { return false };
        let clear = *word & bit == 0;
        *word |= bit;
        clear
    }

    fn has(&self, conn: ConnRef) -> bool {
        let (word, bit) = place(conn);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Clears the bit; returns whether it was set.
    fn take(&mut self, conn: ConnRef) -> bool {
        let (word, bit) = place(conn);
        let Some(word) = self.0.get_mut(word) else { return false };
        let set = *word & bit != 0;
        *word &= !bit;
        set
    }
}

fn place(conn: ConnRef) -> (usize, u64) {
    let index = conn.index();
    (index / 64, 1 << (index % 64))
}

/// The filter of one output, and what has passed it.
#[derive(Debug)]
pub(crate) struct Selection {
    filter: Filter,
    /// The filter lets everything through.
    all: bool,
    /// It is about how connections end.
    ends: bool,
    /// Connections whose first change waits until the kernel has chosen their port.
    held: Marks,
    /// Connections that are in `connections`.
    counted: Marks,
    /// Transitions, retransmits and resets of connections that the filter wants.
    pub(crate) events: u64,
    /// Connections among those.
    pub(crate) connections: u64,
    /// Of those, that had not finished when the run ended.
    pub(crate) open: u64,
    /// Dropped segments that nobody saw one by one, and of which only those that were left out would have told.
    pub(crate) left_out: u64,
}

/// What of a change is for the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    /// The change that waited comes first: see [`first`].
    pub(crate) first: bool,
    /// The change itself.
    pub(crate) change: bool,
}

impl Passed {
    const NOTHING: Passed = Passed { first: false, change: false };
    const CHANGE: Passed = Passed { first: false, change: true };
}

impl Selection {
    pub(crate) fn new(filter: Filter) -> Selection {
        Selection {
            all: filter == Filter::default(),
            ends: filter.is_of_ends(),
            filter,
            held: Marks::default(),
            counted: Marks::default(),
            events: 0,
            connections: 0,
            open: 0,
            left_out: 0,
        }
    }

    /// Connections that are in `connections` and have not finished, the oldest first.
    pub(crate) fn open_now<'a>(&self, table: &'a Table) -> Vec<&'a Connection> {
        let mut open: Vec<&Connection> = table
            .places()
            .filter(|(place, conn)| self.counted.has(*place) && !conn.is_finished())
            .map(|(_, conn)| conn)
            .collect();
        open.sort_unstable_by_key(|conn| (conn.born, conn.id));
        open
    }

    /// Takes notice of names that have come.
    pub(crate) fn learn(&self, names: &Names) {
        self.filter.learn(names);
    }

    /// Decides about one change.
    #[inline]
    pub(crate) fn pass(&mut self, conn: &Connection, change: &Change) -> Passed {
        let passed = if self.all {
            self.count(conn, change);
            Passed::CHANGE
        } else {
            self.filter(conn, change)
        };
        match change.kind {
            Kind::Gone => {
                // Its place in the table may be another's next.
                self.held.take(change.conn);
                self.counted.take(change.conn);
            }
            // Whose the others were is not known, so they may be wanted.
            Kind::Dropped { drop, .. } if !passed.change => self.left_out += u64::from(drop.untold),
            _ => {}
        }
        passed
    }

    /// Takes notice of drops that belong to no connection.
    pub(crate) fn unclaimed(&mut self, table: &Table, group: &Unclaimed) {
        if self.all {
            return;
        }
        let listener = table.listener_at(group.netns, &group.tuple);
        let owner = listener.and_then(|listener| listener.owner.as_ref());
        if !self.filter.wants_unclaimed(group, owner) {
            self.left_out += group.untold();
        }
    }

    fn filter(&mut self, conn: &Connection, change: &Change) -> Passed {
        // Until its end nobody knows.
        if self.ends && !(is_end(change) && self.filter.wants_end(conn)) {
            return Passed::NOTHING;
        }
        match self.filter.wants(conn) {
            None => {
                // Whether it is wanted turns on the port the kernel has yet to choose.
                self.held.set(change.conn);
                Passed::NOTHING
            }
            Some(false) => Passed::NOTHING,
            Some(true) => {
                let waited = self.held.take(change.conn);
                let first =
                    waited.then(|| first(conn, change.conn)).flatten().is_some_and(|first| {
                        self.count(conn, &first);
                        self.allows(conn, &first)
                    });
                self.count(conn, change);
                Passed { first, change: self.allows(conn, change) }
            }
        }
    }

    #[inline]
    fn count(&mut self, conn: &Connection, change: &Change) {
        if matches!(change.kind, Kind::Finished | Kind::Gone) {
            return;
        }
        self.events += 1;
        if conn.role != Role::Listener && self.counted.set(change.conn) {
            self.connections += 1;
        }
    }

    fn allows(&self, conn: &Connection, change: &Change) -> bool {
        let states = |state: TcpState| self.filter.wants_states(state, state);
        match change.kind {
            Kind::Transition { old, new, in_old, .. } => {
                self.filter.wants_states(old, new)
                    && (self.filter.min_ns == 0
                        || in_old.ns().is_some_and(|ns| ns >= self.filter.min_ns))
            }
            Kind::Retransmit { state, .. }
            | Kind::Reset { state, .. }
            | Kind::Dropped { state, .. } => states(state) && self.filter.min_ns == 0,
            Kind::Finished | Kind::Gone => {
                let been = self.filter.states.is_empty()
                    || self.filter.states.contains(&conn.state)
                    || self.filter.states.iter().any(|&state| conn.time_in(state) != 0);
                been && change.at.since(conn.born) >= self.filter.min_ns
            }
        }
    }
}

/// Whether the connection's end is known with this change: it is told in it, or was before.
fn is_end(change: &Change) -> bool {
    match change.kind {
        // The end of TIME_WAIT is no other end.
        Kind::Transition { old, new: TcpState::Close, .. } => old != TcpState::TimeWait,
        Kind::Transition { new, .. } => new == TcpState::TimeWait,
        Kind::Finished | Kind::Gone => true,
        Kind::Retransmit { .. } | Kind::Reset { .. } | Kind::Dropped { .. } => false,
    }
}

/// The change that waited: CLOSE->SYN_SENT, now with its port.
pub(crate) fn first(conn: &Connection, at: ConnRef) -> Option<Change> {
    let kind = Kind::Transition {
        old: TcpState::Close,
        new: TcpState::SynSent,
        in_old: Spent::Unknown,
        ages: None,
    };
    (conn.role == Role::Client).then_some(Change { at: conn.born, conn: at, kind })
}
