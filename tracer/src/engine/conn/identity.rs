//! Which connection an event is about, on kernels that do not say it by cookie.
//!
//! Two gaps are closed here, so that the table need not know of them:
//!
//! - Up to some kernel after 6.1 the kernel says LISTEN->SYN_RECV before the child has its addresses and its cookie
//!   (`inet_csk_clone_lock`). That event waits for the socket's next one, microseconds later, which
//!   has them, and goes before it.
//! - Before 5.12 there are no cookies: an event names the address of the kernel's struct. A later
//!   socket may have the same one, and the request socket and the mini-socket of a connection have
//!   others. Here each connection gets a number: an address stands for it from its first event to the
//!   next one's, and requests and mini-sockets are found by their ports and addresses.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::event::{Direction, Event, Holder, Segment, Shape, SockId, Tuple, What};
use crate::time::MonoNs;

/// What nothing was heard of for so long is forgotten: longer than any request or mini-socket lives
/// between two walks.
const FORGOTTEN_NS: u64 = 150_000_000_000;

/// A connection's ports and addresses, within a network namespace.
type Key = (u32, Tuple);

/// Gives events the identity of their connection.
#[derive(Debug, Default)]
pub struct Identities {
    /// By address: LISTEN->SYN_RECV of children whose next event is to come.
    children: HashMap<u64, Event, FixedState>,
    /// By address: who lives there.
    lives: HashMap<u64, Life, FixedState>,
    requests: HashMap<Key, Named, FixedState>,
    /// Connections that have their ports, until their mini-socket is gone.
    connections: HashMap<Key, Named, FixedState>,
    last: u64,
    pruned: MonoNs,
}

/// Who has an address of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Living {
    /// The connection.
    pub id: SockId,
    /// When it was first heard of there.
    pub since: MonoNs,
    /// What was first heard of it is that it connects.
    pub connected: bool,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    id: SockId,
    key: Option<Key>,
    old: TcpState,
    state: TcpState,
    since: MonoNs,
    /// It began then, and was not merely heard of.
    begun: bool,
    connected: bool,
    at: MonoNs,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    id: SockId,
    /// When it was last heard of, once it has no full socket.
    seen: MonoNs,
    lives: bool,
}

impl Identities {
    /// Whether the event's own identity will do.
    #[must_use]
    pub fn is_settled(event: &Event) -> bool {
        event.address == 0
    }

    /// Hands out the event with its identity: after one that waited for it, or not at all if it is to
    /// wait itself.
    pub fn resolve(&mut self, mut event: Event, mut out: impl FnMut(&Event)) {
        if self.is_stale(&event) {
            return;
        }
        let what = event.what;
        let child =
            matches!(what, What::Transition { old: TcpState::Listen, new: TcpState::SynRecv, .. });
        let unknown = event.tuple.remote_port == 0;
        if child && unknown && event.flags.id_is_address {
            // The program that covers for the first has nothing to add.
            let again = event.flags.maybe_repeated && self.children.contains_key(&event.address);
            if !again {
                self.children.insert(event.address, event);
            }
            return;
        }
        let waiting = self.children.remove(&event.address).filter(|_| may_follow(&event));
        if event.flags.id_is_address {
            event.id = self.named(&event, waiting.is_some());
        }
        if let Some(mut child) = waiting {
            child.id = event.id;
            child.tuple = event.tuple;
            out(&child);
        }
        out(&event);
    }

    /// The holder's socket, by its identity; `None` when there is no such socket any more.
    #[must_use]
    pub fn resolve_holder(&self, mut holder: Holder) -> Option<Holder> {
        if holder.address != 0 {
            let life = self
                .lives
                .get(&holder.address)
                .filter(|life| !life.begun || life.since <= holder.at)?;
            holder.id = life.id;
        }
        Some(holder)
    }

    /// The connection whose socket stands at an address of the kernel's now.
    #[must_use]
    pub fn living(&self, address: u64) -> Option<Living> {
        let life = self.lives.get(&address).filter(|life| life.state != TcpState::Close)?;
        Some(Living { id: life.id, since: life.since, connected: life.connected })
    }

    /// Forgets what is gone.
    pub fn tick(&mut self, now: MonoNs) {
        if now.since(self.pruned) < FORGOTTEN_NS / 8 {
            return;
        }
        self.pruned = now;
        let fresh = |at: MonoNs| now.since(at) < FORGOTTEN_NS;
        self.children.retain(|_, child| fresh(child.at));
        self.requests.retain(|_, request| fresh(request.seen));
        self.connections.retain(|_, named| named.lives || fresh(named.seen));
        self.lives.retain(|_, life| life.state != TcpState::Close || fresh(life.at));
    }

    /// Whether a row tells of who had an address, or ports, before their connection of now. What a walk found
    /// comes when the walk is over, after events that are younger.
    fn is_stale(&self, event: &Event) -> bool {
        let What::Socket(row) = event.what else { return false };
        if self.children.get(&event.address).is_some_and(|child| event.at < child.at) {
            return true;
        }
        if !event.flags.id_is_address {
            return false;
        }
        let key = (event.netns, event.tuple);
        match row.shape {
            Shape::Full => self
                .lives
                .get(&event.address)
                .is_some_and(|it| event.at < it.since && (it.begun || it.key != Some(key))),
            Shape::Request => {
                !self.requests.contains_key(&key)
                    && self.connections.get(&key).is_some_and(|named| event.at < named.seen)
            }
            Shape::Mini => false,
        }
    }

    /// Everything that is remembered.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.children.len() + self.lives.len() + self.requests.len() + self.connections.len()
    }

    fn new_id(&mut self) -> SockId {
        self.last += 1;
        SockId(self.last)
    }

    /// The number of the connection that an event with an address is about.
    fn named(&mut self, event: &Event, child: bool) -> SockId {
        let key = (event.netns, event.tuple);
        match event.what {
            What::Socket(row) if row.shape == Shape::Mini => self.mini(key, event.at),
            What::Socket(row) if row.shape == Shape::Request => self.request(key, event.at),
            What::Retransmit { segment: Segment::SynAck, .. } => self.request(key, event.at),
            What::Socket(row) => self.full(event, row.state, row.state, child),
            What::Transition { old, new, .. } => self.full(event, old, new, child),
            What::Retransmit { state, .. } | What::Reset { state, .. } | What::Error { state } => {
                self.full(event, state, state, child)
            }
            // Kernels that tell of drops have cookies, and the record never has an address.
            What::Dropped(_) => event.id,
        }
    }

    fn request(&mut self, key: Key, at: MonoNs) -> SockId {
        if let Some(request) = self.requests.get_mut(&key) {
            request.seen = at;
            return request.id;
        }
        let id = self.new_id();
        self.requests.insert(key, Named { id, seen: at, lives: false });
        id
    }

    fn mini(&mut self, key: Key, at: MonoNs) -> SockId {
        if let Some(named) = self.connections.get_mut(&key) {
            named.seen = at;
            return named.id;
        }
        let id = self.new_id();
        self.connections.insert(key, Named { id, seen: at, lives: false });
        id
    }

    fn full(&mut self, event: &Event, old: TcpState, new: TcpState, child: bool) -> SockId {
        let whole = event.tuple.local_port != 0 && event.tuple.remote_port != 0;
        let key = whole.then_some((event.netns, event.tuple));
        let known =
            self.lives.get(&event.address).filter(|life| !begins(life, event, old, new, key));
        let id = match (known, key) {
            (Some(life), _) if !child => life.id,
            // The request's place is taken by the child.
            (_, Some(key)) if old == TcpState::SynRecv || old == TcpState::Listen => {
                let request = self.requests.remove(&key).map(|request| request.id);
                request.unwrap_or_else(|| self.new_id())
            }
            _ => self.new_id(),
        };
        let transition = matches!(event.what, What::Transition { .. });
        let before = self.lives.get(&event.address).filter(|life| life.id == id);
        if !transition && before.is_some_and(|life| life.state == TcpState::Close) {
            // What is told of a closed socket does not revive it.
            return id;
        }
        let key = key.or_else(|| before.and_then(|life| life.key));
        let closed = transition && new == TcpState::Close;
        if let Some(key) = key {
            // Its mini-socket may go on with it. Another's with the same ports has been replaced.
            self.connections.insert(key, Named { id, seen: event.at, lives: !closed });
        }
        let since = before.map_or(event.at, |life| life.since);
        let begun = before.map_or(child || transition && is_first(old, new), |life| life.begun);
        let connected = before.map_or(new == TcpState::SynSent, |life| life.connected);
        let life = Life { id, key, old, state: new, since, begun, connected, at: event.at };
        match self.lives.get_mut(&event.address) {
            Some(known) if known.id == id && !transition => known.key = key,
            _ => {
                let before = self.lives.insert(event.address, life).filter(|life| life.id != id);
                let before = before.and_then(|life| Some((life.id, life.key?)));
                // Its end was lost, if it has not ended.
                if let Some((id, key)) = before
                    && let Some(named) = self.connections.get_mut(&key)
                    && named.id == id
                {
                    named.lives = false;
                }
            }
        }
        id
    }
}

/// Whether the event can be the next of a child that waits.
fn may_follow(event: &Event) -> bool {
    match event.what {
        What::Transition { old, .. } => old == TcpState::SynRecv,
        What::Socket(row) => row.shape == Shape::Full && row.state != TcpState::Listen,
        What::Retransmit { .. } | What::Reset { .. } | What::Error { .. } => true,
        What::Dropped(_) => false,
    }
}

/// Whether a socket begins with this transition.
fn is_first(old: TcpState, new: TcpState) -> bool {
    matches!(
        (old, new),
        (TcpState::Close, TcpState::SynSent)
            | (TcpState::Close, TcpState::Listen)
            | (TcpState::Listen, TcpState::SynRecv)
    )
}

/// Whether an event at an address is another connection's than the one known there.
fn begins(life: &Life, event: &Event, old: TcpState, new: TcpState, key: Option<Key>) -> bool {
    let differs = matches!((life.key, key), (Some(known), Some(key)) if known != key);
    match event.what {
        What::Transition { .. } => {
            let first = is_first(old, new);
            let repeated = event.flags.maybe_repeated && (life.old, life.state) == (old, new);
            if first || life.state == TcpState::Close {
                // Also an end that is told twice.
                return !(repeated || old == new || new == TcpState::Close && !first);
            }
            differs
        }
        // The RST of a socket that was closed comes after its end.
        What::Reset { direction: Direction::Sent, .. } => differs,
        // A row may be older than the end.
        What::Socket(row) if life.state == TcpState::Close => {
            event.at > life.at && row.state != TcpState::Close
        }
        _ => differs,
    }
}
