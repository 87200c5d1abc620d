//! Single connections that are worth a look, and how long connections stay in each state.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tracer_common::TcpState;

use super::histogram::Times;
use super::tables::{Who, who};
use crate::engine::conn::{Connection, Role};
use crate::event::{SockId, Tuple};
use crate::time::MonoNs;

/// Connections kept of each kind.
pub(super) const MOST: usize = 50;

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) tuple: Tuple,
    /// The network namespace, and the interface it was bound to; 0 for none.
    pub(super) link: (u32, u32),
    pub(super) role: Role,
    pub(super) who: Who,
    pub(super) born: MonoNs,
    pub(super) states: Vec<(TcpState, u64)>,
    pub(super) handshake_ns: Option<u64>,
    /// How it ended; `None` while it has not.
    pub(super) how: Option<&'static str>,
    pub(super) retransmits: u64,
    /// All of its times are between events of the kernel.
    pub(super) exact: bool,
}

impl Life {
    fn of(conn: &Connection) -> Life {
        let again = conn.retransmits;
        let few = u64::from(again.syn) + u64::from(again.synack) + u64::from(again.fin);
        Life {
            tuple: conn.tuple,
            link: (conn.netns, conn.interface()),
            role: conn.role,
            who: who(conn),
            born: conn.born,
            states: conn.states().collect(),
            handshake_ns: conn.handshake_ns(),
            how: Some(conn.how.name()),
            retransmits: few + u64::from(again.data),
            exact: conn.complete && !conn.approximate,
        }
    }

    /// One that is still there: its present state with the time so far.
    fn of_open(conn: &Connection, now: MonoNs) -> Life {
        let mut life = Life { how: None, ..Life::of(conn) };
        if let Some(ns) = conn.in_state(now).ns() {
            life.states.push((conn.state, ns));
        }
        life.exact &= conn.in_state(now).is_exact();
        life
    }
}

/// The longest of something, at most [`MOST`].
#[derive(Clone, Debug, Default)]
struct Longest {
    heap: BinaryHeap<Reverse<(u64, SockId)>>,
    lives: Vec<(SockId, Life)>,
}

impl Longest {
    fn offer(&mut self, ns: u64, id: SockId, life: impl FnOnce() -> Life) {
        let full = self.heap.len() >= MOST;
        if ns == 0 || full && self.heap.peek().is_some_and(|Reverse((least, _))| *least >= ns) {
            return;
        }
        if full && let Some(Reverse((_, gone))) = self.heap.pop() {
            self.lives.retain(|(id, _)| *id != gone);
        }
        self.heap.push(Reverse((ns, id)));
        self.lives.push((id, life()));
    }

    /// The longest first.
    fn sorted(&self) -> Vec<(u64, &Life)> {
        let mut order: Vec<(u64, SockId)> = self.heap.iter().map(|Reverse(entry)| *entry).collect();
        order.sort_unstable_by_key(|&(ns, id)| (Reverse(ns), id));
        let find = |id: SockId| self.lives.iter().find(|(known, _)| *known == id);
        order.into_iter().filter_map(|(ns, id)| Some((ns, &find(id)?.1))).collect()
    }
}

/// How long connections stay in one state.
#[derive(Clone, Debug)]
pub(super) struct InState {
    pub(super) state: TcpState,
    pub(super) times: Times,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    handshakes: Longest,
    closings: Longest,
    pub(super) in_states: Vec<InState>,
    /// Finished connections that are not in `in_states`: their beginning was not seen.
    pub(super) left_out: u64,
}

/// States in which a connection is being closed.
const CLOSING: [TcpState; 5] = [
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::CloseWait,
    TcpState::LastAck,
];

impl Lives {
    /// A connection is finished.
    pub(super) fn finished(&mut self, conn: &Connection) {
        if let Some(ns) = conn.handshake_ns() {
            self.handshakes.offer(ns, conn.id, || Life::of(conn));
        }
        let closing = CLOSING.iter().map(|&state| conn.time_in(state)).sum();
        self.closings.offer(closing, conn.id, || Life::of(conn));
        if !conn.complete || conn.approximate {
            self.left_out += 1;
            return;
        }
        for (state, ns) in conn.states() {
            let known = self.in_states.iter().position(|one| one.state == state);
            let at = known.unwrap_or_else(|| {
                self.in_states.push(InState { state, times: Times::new(2) });
                self.in_states.len() - 1
            });
            self.in_states[at].times.add(ns);
        }
    }

    /// A connection is still there when the run ends.
    pub(super) fn open(&mut self, conn: &Connection, now: MonoNs) {
        let so_far = if CLOSING.contains(&conn.state) { conn.in_state(now).ns() } else { None };
        let closing: u64 = CLOSING.iter().map(|&state| conn.time_in(state)).sum();
        let ns = closing.saturating_add(so_far.unwrap_or(0));
        self.closings.offer(ns, conn.id, || Life::of_open(conn, now));
        if let Some(ns) = conn.handshake_ns() {
            self.handshakes.offer(ns, conn.id, || Life::of_open(conn, now));
        }
    }

    /// The slowest handshakes first.
    pub(super) fn handshakes(&self) -> Vec<(u64, &Life)> {
        self.handshakes.sorted()
    }

    /// Those that took longest to close first.
    pub(super) fn closings(&self) -> Vec<(u64, &Life)> {
        self.closings.sorted()
    }
}
