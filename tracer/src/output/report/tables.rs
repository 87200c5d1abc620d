//! Who did how much: by process, by listener, by remote end.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use super::histogram::Times;
use crate::engine::conn::{Change, Connection, How, Kind, Owner, Role};
use crate::event::{Comm, Direction};

/// Most rows of a table while the run goes on; what else comes is counted together.
const MOST: usize = 4_000;

/// A process; `None` where the owner is not known.
pub(super) type Who = Option<(Comm, Option<u32>)>;

/// A remote end. An address of one link is told by its interface, too, and that by its network namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Remote {
    pub(super) addr: SocketAddr,
    /// The network namespace and the interface; 0 where there is none.
    pub(super) link: (u32, u32),
}

impl Remote {
    fn of(conn: &Connection) -> Remote {
        let addr = conn.remote();
        let interface = match addr {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        Remote { addr, link: if interface == 0 { (0, 0) } else { (conn.netns, interface) } }
    }
}

/// What is counted of a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) opened: u64,
    /// Connects of ours that came to nothing.
    pub(super) failed: u64,
    pub(super) closed: u64,
    /// Of those, by how they ended: refused, timeout, ...
    pub(super) how: Vec<(&'static str, u64)>,
    pub(super) retransmits: u64,
    pub(super) resets_sent: u64,
    pub(super) resets_received: u64,
    /// Of connections that have finished.
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) handshake: Times,
    /// From ESTABLISHED to accept().
    pub(super) accept: Times,
    /// Sockets at the end of the run, by state.
    pub(super) open: Vec<(TcpState, u64)>,
    /// Of a listener: connections that wait, and the most that may.
    pub(super) queue: Option<(u32, u32)>,
}

impl Row {
    /// What the row has to do with, to put the most important first.
    pub(super) fn weight(&self) -> u64 {
        let open: u64 = self.open.iter().map(|&(_, count)| count).sum();
        self.opened + self.failed + self.closed + self.retransmits + open
    }

    fn change(&mut self, conn: &Connection, change: &Change) {
        match change.kind {
            Kind::Transition { new: TcpState::Established, .. } => {
                self.opened += 1;
                if let Some(ns) = conn.handshake_ns() {
                    self.handshake.add(ns);
                }
            }
            // It was not sent after all.
            Kind::Retransmit { again, .. } if again.error != 0 => {}
            Kind::Retransmit { .. } => self.retransmits += 1,
            Kind::Reset { direction: Direction::Sent, .. } => self.resets_sent += 1,
            Kind::Reset { direction: Direction::Received, .. } => self.resets_received += 1,
            Kind::Finished => self.finished(conn),
            Kind::Transition { .. } | Kind::Dropped { .. } | Kind::Gone => {}
        }
    }

    fn finished(&mut self, conn: &Connection) {
        if has_failed(conn) {
            self.failed += 1;
        } else {
            self.closed += 1;
        }
        if conn.how != How::Fin {
            add(&mut self.how, conn.how.name());
        }
        if let Some(counters) = conn.counters() {
            self.bytes_sent = self.bytes_sent.saturating_add(counters.bytes_sent);
            self.bytes_received = self.bytes_received.saturating_add(counters.bytes_received);
        }
        if let Some(ns) = conn.accept_ns() {
            self.accept.add(ns);
        }
    }
}

fn add<T: PartialEq>(counts: &mut Vec<(T, u64)>, what: T) {
    match counts.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += 1,
        None => counts.push((what, 1)),
    }
}

/// A connect of ours that came to nothing.
pub(super) fn has_failed(conn: &Connection) -> bool {
    conn.role == Role::Client
        && conn.complete
        && conn.time_in(TcpState::Established) == 0
        && conn.handshake_ns().is_none()
}

/// Rows by what they are about.
#[derive(Clone, Debug)]
pub(super) struct Table<K> {
    pub(super) rows: HashMap<K, Row, FixedState>,
    /// Everything that no row was left for.
    pub(super) rest: Row,
}

impl<K: Eq + Hash> Table<K> {
    fn new() -> Table<K> {
        Table { rows: HashMap::default(), rest: Row::default() }
    }

    fn row(&mut self, key: K) -> &mut Row {
        if self.rows.len() >= MOST && !self.rows.contains_key(&key) {
            return &mut self.rest;
        }
        // One figure: 2 KiB for a row that has times.
        let new = || Row { handshake: Times::new(1), accept: Times::new(1), ..Row::default() };
        self.rows.entry(key).or_insert_with(new)
    }
}

/// All three.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) processes: Table<Who>,
    pub(super) listeners: Table<u16>,
    pub(super) remotes: Table<Remote>,
}

impl Tables {
    pub(super) fn new() -> Tables {
        Tables { processes: Table::new(), listeners: Table::new(), remotes: Table::new() }
    }

    /// The rows a connection belongs to.
    fn rows(&mut self, conn: &Connection, mut work: impl FnMut(&mut Row)) {
        work(self.processes.row(who(conn)));
        match conn.role {
            Role::Server | Role::Listener => work(self.listeners.row(conn.tuple.local_port)),
            Role::Client => work(self.remotes.row(Remote::of(conn))),
            Role::Unknown => {}
        }
    }

    pub(super) fn change(&mut self, conn: &Connection, change: &Change) {
        self.rows(conn, |row| row.change(conn, change));
    }

    /// Sockets that are there at the end, or those of them in one state.
    pub(super) fn there(&self, state: Option<TcpState>) -> u64 {
        let rows = self.processes.rows.values().chain([&self.processes.rest]);
        let counts = rows.flat_map(|row| &row.open);
        counts
            .filter(|(of, _)| state.is_none_or(|state| *of == state))
            .map(|(_, count)| count)
            .sum()
    }

    /// A socket that is there at the end.
    pub(super) fn open(&mut self, conn: &Connection) {
        if conn.role == Role::Listener {
            let queue = Some((conn.recv_queue, conn.send_queue));
            self.listeners.row(conn.tuple.local_port).queue = queue;
        }
        self.rows(conn, |row| add(&mut row.open, conn.state));
    }
}

pub(super) fn who(conn: &Connection) -> Who {
    conn.owner.as_ref().map(|owner: &Owner| (owner.task.comm, owner.pid()))
}
