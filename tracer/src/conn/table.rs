//! The table: events in, changes out.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use slab::Slab;
use tracer_common::TcpState;

use crate::conn::connection::{
    Connection, Ends, Known, Owner, OwnerSource, Peer, Retransmits, Role, Spent, TIMED, timed_index,
};
use crate::conn::ending::{How, ending};
use crate::event::{Actor, Direction, Event, Holder, Segment, Shape, SockId, Tuple, What};
use crate::time::MonoNs;

/// How long a mini-socket stays in TIME_WAIT (`TCP_TIMEWAIT_LEN`).
pub(crate) const TIME_WAIT_NS: u64 = 60_000_000_000;

/// A connection in the table, valid until [`Table::settle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnRef(pub(crate) u32);

/// What an event changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub at: MonoNs,
    /// Of which connection.
    pub conn: ConnRef,
    /// What.
    pub kind: Kind,
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It went from one state to another.
    Transition {
        /// State left.
        old: TcpState,
        /// State entered.
        new: TcpState,
        /// Time spent in the state left.
        in_old: Spent,
    },
    /// A segment was sent again.
    Retransmit {
        /// What it was.
        segment: Segment,
        /// The connection's state.
        state: TcpState,
        /// Retransmits of the connection so far, this one included; `None` where not known.
        count: Option<u32>,
    },
    /// A RST was sent or received.
    Reset {
        /// Which way.
        direction: Direction,
        /// The connection's state.
        state: TcpState,
        /// `enum sk_rst_reason`, 0 for none.
        reason: u32,
    },
    /// Its closing handshake is complete, or it was cut off: nothing more is to be told but the
    /// end of TIME_WAIT.
    Finished,
    /// Nothing stands for it in the kernel any more.
    Gone,
}

/// What a table is to know of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// When the programs were attached: what is older was there before.
    pub start: MonoNs,
    /// Length of the kernel's jiffy.
    pub jiffy_ns: u64,
    /// Most connections and listeners kept.
    pub limit: usize,
    /// Rows of `iter/tcp` will come, and tell what becomes of mini-sockets.
    pub minis_are_seen: bool,
    /// `tcp_send_reset` is traced: a RST we send is told, even after CLOSE.
    pub resets_are_seen: bool,
}

/// All connections and listeners that are known.
#[derive(Debug)]
pub struct Table {
    pub(crate) conns: Slab<Connection>,
    pub(crate) by_id: HashMap<SockId, u32, FixedState>,
    /// Mini-sockets have their socket's cookie, and the socket may connect again while they live.
    pub(crate) minis: HashMap<SockId, u32, FixedState>,
    /// By namespace and tuple.
    by_tuple: HashMap<u64, u32, FixedState>,
    /// By tuple alone, but for loopback's: how many connections have it, and the exclusive or of their
    /// indices, which of one is its index. Of two nobody knows whose peer they are.
    across: HashMap<u64, (u32, u32), FixedState>,
    listeners: HashMap<(u32, u16), Vec<u32>, FixedState>,
    /// Of the last walk over descriptors, sorted by socket.
    pub(crate) holders: Vec<Holder>,
    /// While a walk over sockets is under way: those that went since it began, whose rows are
    /// older than their end.
    pub(crate) gone_since: HashSet<SockId, FixedState>,
    pub(crate) polling: bool,
    /// Removed from the indices, kept until the views have seen the changes.
    dead: Vec<u32>,
    hasher: FixedState,
    pub(crate) options: Options,
    pub(crate) poll: u32,
    /// Request sockets: as of mini-sockets, only polling tells of their end.
    pub(crate) requests: usize,
    /// Servers' connections that were established under our eyes and not accepted yet.
    pub(crate) unaccepted: HashSet<u32, FixedState>,
    /// In CLOSE, with the RST that closed them, and its reason, still to be told.
    resetting: Vec<u32>,
    /// Connections that were not taken in because the table was full.
    pub(crate) refused: u64,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Table {
            conns: Slab::new(),
            by_id: HashMap::default(),
            minis: HashMap::default(),
            by_tuple: HashMap::default(),
            across: HashMap::default(),
            listeners: HashMap::default(),
            holders: Vec::new(),
            gone_since: HashSet::default(),
            polling: false,
            dead: Vec::new(),
            hasher: FixedState::default(),
            options,
            poll: 0,
            requests: 0,
            unaccepted: HashSet::default(),
            resetting: Vec::new(),
            refused: 0,
        }
    }

    /// The connection of a change.
    #[must_use]
    pub fn get(&self, conn: ConnRef) -> Option<&Connection> {
        self.conns.get(conn.0 as usize)
    }

    /// The connection of a change, for what belongs to the view.
    pub fn get_mut(&mut self, conn: ConnRef) -> Option<&mut Connection> {
        self.conns.get_mut(conn.0 as usize)
    }

    /// Everything in the table, listeners too, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.conns.iter().map(|(_, conn)| conn)
    }

    /// Connections not taken in because the table was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Connections and listeners in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// The other end of this connection, when it is on this machine, or was until it ended.
    #[must_use]
    pub fn peer(&self, conn: &Connection) -> Option<Peer> {
        let peer = self.peer_index(conn).and_then(|index| self.conns.get(index as usize));
        peer.map(Peer::of).or(conn.last_peer)
    }

    fn peer_index(&self, conn: &Connection) -> Option<u32> {
        if conn.role == Role::Listener || conn.tuple.remote_port == 0 {
            return None;
        }
        let wanted = conn.tuple.reversed();
        let in_netns = self.by_tuple.get(&self.tuple_key(&wanted, conn.netns)).copied();
        // Loopback addresses are one namespace's own; others may be met across a veth, unless
        // several namespaces have them.
        let index = in_netns.or_else(|| {
            let only_one = |tuple: &Tuple| match self.across.get(&self.tuple_key(tuple, 0)) {
                Some(&(1, index)) => Some(index),
                _ => None,
            };
            only_one(&conn.tuple).and_then(|_| only_one(&wanted))
        })?;
        let peer = self.conns.get(index as usize)?;
        let same = peer.tuple == wanted && (peer.netns == conn.netns || !wanted.is_loopback());
        (same && peer.id != conn.id).then_some(index)
    }

    /// Processes that had a descriptor of this socket when last looked at.
    #[must_use]
    pub fn holders_of(&self, id: SockId) -> &[Holder] {
        let from = self.holders.partition_point(|holder| holder.id < id);
        let count = self.holders[from..].partition_point(|holder| holder.id == id);
        &self.holders[from..from + count]
    }

    /// After the views have seen the changes: forgets what is gone.
    pub fn settle(&mut self) {
        while let Some(index) = self.dead.pop() {
            self.unindex_tuple(index);
            self.conns.try_remove(index as usize);
        }
    }

    /// Takes in one event; what it changes is appended to `changes`.
    pub fn apply(&mut self, event: &Event, changes: &mut Vec<Change>) {
        match event.what {
            What::Transition { old, new, actor } => {
                self.transition(event, old, new, actor, changes);
            }
            What::Retransmit { segment, state, times } => {
                self.retransmit(event, segment, state, times, changes);
            }
            What::Reset { direction, state, reason } => {
                self.reset(event, direction, state, reason, changes);
            }
            What::Error { .. } => self.error(event),
            What::Socket(existing) => self.existing(event, &existing, changes),
        }
    }

    fn transition(
        &mut self,
        event: &Event,
        old: TcpState,
        new: TcpState,
        actor: Option<Actor>,
        changes: &mut Vec<Change>,
    ) {
        let begins = matches!(
            (old, new),
            (TcpState::Close, TcpState::SynSent)
                | (_, TcpState::Listen)
                | (TcpState::Listen, TcpState::SynRecv)
        );
        if event.flags.maybe_repeated && self.is_known(event.id, new) {
            return;
        }
        if old == new {
            self.closed_again(event, old, actor, changes);
            return;
        }
        let Some(index) = (if begins {
            self.begin(event, new, changes)
        } else {
            self.find_or_take_in(event, old, changes)
        }) else {
            return;
        };

        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let half_open = conn.shape == Shape::Request;
        if half_open {
            // Whatever has transitions is a full socket.
            conn.shape = Shape::Full;
            conn.expires = MonoNs(0);
            self.requests -= 1;
        }
        let in_old = if begins {
            Spent::Unknown
        } else {
            if conn.state != old {
                // A transition in between was lost.
                conn.complete = false;
                conn.state = old;
                conn.entered_known = Known::Not;
            }
            leave(conn, event, new)
        };
        conn.state = new;
        // A request has been in SYN_RECV all along; the child that takes its place goes on with it.
        if !(begins && half_open) {
            conn.entered = event.at;
            conn.entered_known = Known::Exactly;
        }
        conn.last = event.at;
        if event.counters.is_some() {
            conn.counters = event.counters;
        }
        conn.orphan = event.flags.dead;
        if new == TcpState::Established && conn.role == Role::Server && !conn.accepted {
            conn.established = event.at;
            self.unaccepted.insert(index);
        }
        if event.flags.has_socket && !conn.accepted {
            self.accepted(index, event.at);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if let Some(task) = actor {
            let source = match new {
                TcpState::SynSent => OwnerSource::Connect,
                TcpState::Listen => OwnerSource::Listen,
                _ => OwnerSource::Close,
            };
            conn.learn_owner(Owner { task, fd: None, source });
        }
        self.fill_in(index, event, changes);
        match new {
            TcpState::Listen => self.add_listener(index),
            TcpState::SynRecv if begins => self.inherit_owner(index),
            TcpState::Close => {
                self.closed(index, event, old, in_old, changes);
                return;
            }
            _ => {}
        }
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Transition { old, new, in_old },
        });
    }

    /// The application has it; since when, is not told.
    pub(crate) fn accepted(&mut self, index: u32, at: MonoNs) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.accepted = true;
            if self.unaccepted.remove(&index) {
                conn.accept_ns = Some(at.since(conn.established));
            }
        }
    }

    /// close() of a socket that was shut down before sets the state it has (`tcp_close_state`): no
    /// transition, but the application has let go of it.
    fn closed_again(
        &mut self,
        event: &Event,
        state: TcpState,
        actor: Option<Actor>,
        changes: &mut Vec<Change>,
    ) {
        let index = match self.find(event, state, changes) {
            Some(index) => index,
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.last = event.at;
        if let Some(task) = actor {
            conn.learn_owner(Owner { task, fd: None, source: OwnerSource::Close });
        }
    }

    /// Whether a transition to this state has been taken in already. Of a socket that is not in the
    /// table only CLOSE can have been.
    fn is_known(&self, id: SockId, new: TcpState) -> bool {
        match self.by_id.get(&id).and_then(|&index| self.conns.get(index as usize)) {
            Some(conn) => conn.state == new && conn.shape != Shape::Request,
            None => new == TcpState::Close,
        }
    }

    /// A socket starts a life: CLOSE->SYN_SENT, CLOSE->LISTEN or LISTEN->SYN_RECV.
    fn begin(&mut self, event: &Event, new: TcpState, changes: &mut Vec<Change>) -> Option<u32> {
        if let Some(&index) = self.by_id.get(&event.id) {
            let conn = self.conns.get_mut(index as usize)?;
            if new == TcpState::SynRecv && conn.shape == Shape::Request {
                // The request's third ACK came: the child has its cookie.
                return Some(index);
            }
            if conn.resetting {
                self.reset_told(index, changes);
            } else {
                // Its end was lost.
                self.vanish(index, event.at, How::Unknown, changes);
            }
        }
        let role = match new {
            TcpState::SynSent => Role::Client,
            TcpState::Listen => Role::Listener,
            _ => Role::Server,
        };
        self.replace_mini(event.tuple, event.netns, event.at, changes);
        self.insert(event, new, role, Known::Exactly)
    }

    /// The socket of an event that is not its first; one we have never seen was there before us.
    fn find_or_take_in(
        &mut self,
        event: &Event,
        state: TcpState,
        changes: &mut Vec<Change>,
    ) -> Option<u32> {
        if let Some(index) = self.find(event, state, changes) {
            return Some(index);
        }
        let role = match state {
            TcpState::SynSent => Role::Client,
            TcpState::SynRecv => Role::Server,
            TcpState::Listen => Role::Listener,
            _ => Role::Unknown,
        };
        let index = self.insert(event, state, role, Known::AtLatest)?;
        let start = self.options.start;
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.entered = start;
            conn.born = start;
            conn.complete = false;
        }
        if role == Role::Listener {
            self.add_listener(index);
        }
        Some(index)
    }

    /// The full socket or request of an event or row that tells of `state`. A listener is another
    /// life than a connection, though the same socket may lead both: the end of the other was lost.
    pub(crate) fn find(
        &mut self,
        event: &Event,
        state: TcpState,
        changes: &mut Vec<Change>,
    ) -> Option<u32> {
        let index = *self.by_id.get(&event.id)?;
        let conn = self.conns.get(index as usize)?;
        if conn.resetting {
            // Only its RST was waited for.
            self.reset_told(index, changes);
            return None;
        }
        let listens = conn.role == Role::Listener;
        if listens != (state == TcpState::Listen) {
            self.vanish(index, event.at, How::Unknown, changes);
            return None;
        }
        Some(index)
    }

    pub(crate) fn insert(
        &mut self,
        event: &Event,
        state: TcpState,
        role: Role,
        known: Known,
    ) -> Option<u32> {
        if self.conns.len() >= self.options.limit {
            self.refused += 1;
            return None;
        }
        let index = u32::try_from(self.conns.insert(Connection {
            id: event.id,
            tuple: event.tuple,
            netns: event.netns,
            cgroup: event.cgroup,
            state,
            role,
            shape: Shape::Full,
            owner: None,
            born: event.at,
            complete: known == Known::Exactly,
            first_close: Ends::None,
            counters: None,
            handshake_ns: None,
            retransmits: Retransmits::default(),
            how: How::Unknown,
            error: 0,
            orphan: false,
            accepted: false,
            accept_ns: None,
            established: MonoNs(0),
            recv_queue: 0,
            send_queue: 0,
            rst_sent: false,
            rst_received: false,
            rst_reason: 0,
            entered: event.at,
            entered_known: known,
            last: event.at,
            expires: MonoNs(0),
            seen: self.poll,
            missed: 0,
            last_peer: None,
            held: false,
            counted: false,
            resetting: false,
            approximate: false,
            spent: [0; TIMED.len()],
        }))
        .ok()?;
        self.by_id.insert(event.id, index);
        self.index_tuple(index);
        Some(index)
    }

    /// The tuple is complete at ESTABLISHED: before, a client has no port and on older kernels a
    /// child still has its listener's address.
    pub(crate) fn fill_in(&mut self, index: u32, event: &Event, changes: &mut Vec<Change>) {
        let tuple = event.tuple;
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let known = conn.tuple;
        // At ->CLOSE the kernel may have forgotten the port.
        let fuller = Tuple {
            local_port: if tuple.local_port == 0 { known.local_port } else { tuple.local_port },
            remote_port: if tuple.remote_port == 0 { known.remote_port } else { tuple.remote_port },
            ..tuple
        };
        if fuller == known || conn.state == TcpState::Close && known.local_port != 0 {
            return;
        }
        let (netns, listens) = (conn.netns, conn.role == Role::Listener);
        if listens {
            // One that listens without bind has its port only then.
            self.remove_listener(index);
        }
        self.unindex_tuple(index);
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.tuple = fuller;
        }
        self.replace_mini(fuller, netns, event.at, changes);
        self.index_tuple(index);
        if listens {
            self.add_listener(index);
        }
    }

    /// A new connection with a mini-socket's ports: the kernel has ended it early (tcp_tw_reuse,
    /// or a SYN to a TIME_WAIT, `tcp_timewait_state_process`).
    fn replace_mini(&mut self, tuple: Tuple, netns: u32, at: MonoNs, changes: &mut Vec<Change>) {
        let Some(&other) = self.by_tuple.get(&self.tuple_key(&tuple, netns)) else { return };
        let Some(mini) = self.conns.get(other as usize) else { return };
        let lives = mini.shape == Shape::Mini && mini.state != TcpState::Close;
        if lives && mini.tuple == tuple && mini.netns == netns {
            self.end_mini(other, at, How::Unknown, changes);
        }
    }

    fn closed(
        &mut self,
        index: u32,
        event: &Event,
        old: TcpState,
        in_old: Spent,
        changes: &mut Vec<Change>,
    ) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.error = event.error;
        conn.how = ending(conn, old, event.error, event.flags);
        if conn.first_close == Ends::None {
            conn.first_close = match conn.how {
                How::RstSent | How::Aborted => Ends::Local,
                How::RstReceived | How::Refused => Ends::Remote,
                _ => Ends::None,
            };
        }
        let at = event.at;
        let transition =
            |new| Change { at, conn: ConnRef(index), kind: Kind::Transition { old, new, in_old } };
        if old == TcpState::Listen {
            self.remove_listener(index);
            changes.push(transition(TcpState::Close));
            self.remove(index, at, changes);
            return;
        }
        // tcp_time_wait makes the mini-socket, then tcp_done says CLOSE.
        let becomes_mini =
            conn.how == How::Fin && matches!(old, TcpState::FinWait2 | TcpState::Closing);
        let fin_is_in = old == TcpState::Closing || event.flags.fin_received;
        if becomes_mini && !fin_is_in && !self.options.minis_are_seen {
            conn.how = How::Unknown;
        }
        if !becomes_mini || !fin_is_in && !self.options.minis_are_seen {
            changes.push(transition(TcpState::Close));
            let how = conn.how;
            // To data that comes after close() the kernel does as to a RST (tcp_reset), and then
            // sends one.
            let data_after_close = how == How::RstReceived && event.flags.dead;
            if data_after_close {
                conn.how = How::Unknown;
            }
            let may_reset = how == How::RstSent && !conn.rst_sent || data_after_close;
            if may_reset && self.options.resets_are_seen {
                // __tcp_close and tcp_disconnect set the state, then send the RST: its event, with
                // the reason, is right behind this one.
                conn.resetting = true;
                self.resetting.push(index);
                // Whom this is the end of too keeps its place until then: it will be named.
                return;
            } else {
                conn.how = how;
                changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
                self.remove(index, at, changes);
            }
            self.tell_peer(index, at, how, changes);
            return;
        }
        if fin_is_in {
            conn.state = TcpState::TimeWait;
            // Without rows its end is taken to come with its timer.
            conn.expires = at.after(TIME_WAIT_NS);
            changes.push(transition(TcpState::TimeWait));
            changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        } else {
            // Not the end of FIN_WAIT2: the mini-socket waits for the peer's FIN. What was added
            // to its time is taken back, and its beginning restored.
            conn.state = TcpState::FinWait2;
            if let (Some(slot), Some(ns)) = (timed_index(TcpState::FinWait2), in_old.ns()) {
                conn.spent[slot] = conn.spent[slot].saturating_sub(ns);
                conn.entered = at.before(ns);
            }
            conn.entered_known = match in_old {
                Spent::Exactly(_) => Known::Exactly,
                Spent::About(_) => Known::About,
                Spent::AtLeast(_) => Known::AtLatest,
                Spent::Unknown => Known::Not,
            };
        }
        self.make_mini(index, at, changes);
    }

    /// From here on a mini-socket stands for it.
    pub(crate) fn make_mini(&mut self, index: u32, at: MonoNs, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        self.requests -= usize::from(conn.shape == Shape::Request);
        self.unaccepted.remove(&index);
        conn.shape = Shape::Mini;
        conn.orphan = true;
        let id = conn.id;
        if self.polling {
            self.gone_since.insert(id);
        }
        self.by_id.remove(&id);
        if let Some(stale) = self.minis.insert(id, index) {
            self.end_mini(stale, at, How::Unknown, changes);
            self.minis.insert(id, index);
        }
    }

    /// What the end of this one says of the other end, where that is a mini-socket of this machine:
    /// the ACK of our FIN means that it got it a moment ago, our RST that it is gone.
    fn tell_peer(&mut self, index: u32, at: MonoNs, how: How, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let Some(peer) = self.peer_index(conn) else { return };
        let Some(other) = self.conns.get(peer as usize) else { return };
        if other.shape != Shape::Mini || other.state != TcpState::FinWait2 {
            return;
        }
        match how {
            // A FIN sent again: was it lost, or its ACK? Then the peer has had it since.
            How::Fin => {
                let again =
                    self.conns.get(index as usize).is_none_or(|conn| conn.retransmits.fin != 0);
                let known = if again { Known::About } else { Known::Exactly };
                self.fin_received(peer, at, known, changes);
            }
            How::RstSent => self.end_mini(peer, at, How::RstReceived, changes),
            _ => {}
        }
    }

    /// What time alone tells: connections whose RST should have been told by now end without it,
    /// and mini-sockets with their timer where no walk tells of them.
    pub fn tick(&mut self, now: MonoNs, changes: &mut Vec<Change>) {
        self.expire(now, changes);
        for index in std::mem::take(&mut self.resetting) {
            self.reset_told(index, changes);
        }
    }

    fn reset_told(&mut self, index: u32, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if !std::mem::take(&mut conn.resetting) {
            return;
        }
        if conn.how == How::Unknown {
            conn.how = How::RstReceived;
        }
        let (at, how) = (conn.entered, conn.how);
        // Few wait at a time, and its place will be another's.
        self.resetting.retain(|&other| other != index);
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        self.remove(index, at, changes);
        self.tell_peer(index, at, how, changes);
    }

    /// A mini-socket goes from FIN_WAIT2 to TIME_WAIT.
    pub(crate) fn fin_received(
        &mut self,
        index: u32,
        at: MonoNs,
        known: Known,
        changes: &mut Vec<Change>,
    ) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let in_old = match (conn.spent_until(at), known) {
            (Spent::Exactly(ns), Known::About) => Spent::About(ns),
            (other, _) => other,
        };
        add(conn, TcpState::FinWait2, in_old);
        conn.state = TcpState::TimeWait;
        conn.entered = at;
        conn.entered_known = known;
        conn.last = at;
        conn.how = How::Fin;
        conn.expires = at.after(TIME_WAIT_NS);
        changes.push(Change {
            at,
            conn: ConnRef(index),
            kind: Kind::Transition { old: TcpState::FinWait2, new: TcpState::TimeWait, in_old },
        });
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
    }

    /// A mini-socket is gone.
    pub(crate) fn end_mini(&mut self, index: u32, at: MonoNs, how: How, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let old = conn.state;
        // Nobody saw it go, by a timer or between two looks; but for a RST sent on this machine.
        let seen = matches!(how, How::RstSent | How::RstReceived);
        let in_old = match conn.spent_until(at) {
            Spent::Exactly(ns) if !seen => Spent::About(ns),
            other => other,
        };
        add(conn, old, in_old);
        conn.state = TcpState::Close;
        conn.entered = at;
        conn.last = at;
        let transition = Kind::Transition { old, new: TcpState::Close, in_old };
        changes.push(Change { at, conn: ConnRef(index), kind: transition });
        if old == TcpState::FinWait2 {
            conn.how = how;
            changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        }
        self.remove(index, at, changes);
    }

    /// A socket is gone and its last transition was not seen.
    pub(crate) fn vanish(&mut self, index: u32, at: MonoNs, how: How, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.shape == Shape::Mini {
            self.end_mini(index, at, how, changes);
            return;
        }
        let old = conn.state;
        // A request ends by its timer; of others nobody knows when.
        let timer = conn.shape == Shape::Request && how == How::Timeout;
        let end = if timer { at } else { conn.last };
        let in_old = match conn.spent_until(end) {
            spent if timer => spent,
            Spent::Exactly(ns) | Spent::About(ns) | Spent::AtLeast(ns) => Spent::at_least(ns),
            Spent::Unknown => Spent::Unknown,
        };
        add(conn, old, in_old);
        conn.complete = false;
        conn.state = TcpState::Close;
        // It may have ended any time since.
        conn.entered = end;
        conn.how = how;
        let is_listener = conn.role == Role::Listener;
        let transition = Kind::Transition { old, new: TcpState::Close, in_old };
        changes.push(Change { at, conn: ConnRef(index), kind: transition });
        if is_listener {
            self.remove_listener(index);
        } else {
            changes.push(Change { at, conn: ConnRef(index), kind: Kind::Finished });
        }
        self.remove(index, at, changes);
    }

    fn remove(&mut self, index: u32, at: MonoNs, changes: &mut Vec<Change>) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let (id, shape) = (conn.id, conn.shape);
        self.requests -= usize::from(shape == Shape::Request);
        self.unaccepted.remove(&index);
        let map = if shape == Shape::Mini { &mut self.minis } else { &mut self.by_id };
        if map.get(&id) == Some(&index) {
            map.remove(&id);
        }
        if self.polling {
            self.gone_since.insert(id);
        }
        // Its place among the tuples it keeps until the views have seen it: they name the peer.
        self.dead.push(index);
        let peer = Peer::of(conn);
        if let Some(other) =
            self.peer_index(conn).and_then(|other| self.conns.get_mut(other as usize))
        {
            other.last_peer = Some(peer);
        }
        changes.push(Change { at, conn: ConnRef(index), kind: Kind::Gone });
    }

    fn retransmit(
        &mut self,
        event: &Event,
        segment: Segment,
        state: TcpState,
        times: u32,
        changes: &mut Vec<Change>,
    ) {
        let index = match self.find(event, state, changes) {
            Some(index) => index,
            None if segment == Segment::SynAck => {
                let Some(index) = self.request(event, times) else { return };
                index
            }
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        conn.last = event.at;
        let count = match segment {
            Segment::SynAck => {
                conn.retransmits.synack = u8::try_from(times).unwrap_or(u8::MAX);
                if conn.shape == Shape::Request {
                    conn.expires = event.at.after(1_000_000_000 << times.min(16));
                }
                Some(times)
            }
            Segment::Syn => {
                conn.retransmits.syn = conn.retransmits.syn.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
            Segment::Fin => {
                conn.retransmits.fin = conn.retransmits.fin.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
            Segment::Data => {
                conn.retransmits.data = conn.retransmits.data.saturating_add(1);
                event.counters.map(|counters| counters.retransmits)
            }
        };
        if event.counters.is_some() {
            conn.counters = event.counters;
        }
        self.fill_in(index, event, changes);
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Retransmit { segment, state, count },
        });
    }

    /// A request socket, known since its SYN-ACK is sent again.
    ///
    /// The timer is 1 s and doubles (`reqsk_timer_handler`), so the `times`-th retransmit is
    /// 2^times - 1 s after the first SYN-ACK.
    pub(crate) fn request(&mut self, event: &Event, times: u32) -> Option<u32> {
        let index = self.insert(event, TcpState::SynRecv, Role::Server, Known::About)?;
        let age = ((1u64 << times.min(16)) - 1).saturating_mul(1_000_000_000);
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.shape = Shape::Request;
            self.requests += 1;
            conn.entered = event.at.before(age);
            conn.born = conn.entered;
            conn.complete = true;
        }
        self.inherit_owner(index);
        Some(index)
    }

    fn reset(
        &mut self,
        event: &Event,
        direction: Direction,
        state: TcpState,
        reason: u32,
        changes: &mut Vec<Change>,
    ) {
        // A RST from a listener answers a segment of no connection of its own.
        if state == TcpState::Listen {
            return;
        }
        let resetting = self
            .by_id
            .get(&event.id)
            .copied()
            .filter(|&index| self.conns.get(index as usize).is_some_and(|conn| conn.resetting));
        let known = resetting
            .or_else(|| self.find(event, state, changes))
            .or_else(|| self.minis.get(&event.id).copied());
        let index = match known {
            Some(index) => index,
            // After ->CLOSE (tcp_disconnect sets the state before it sends) it is known no more.
            None if state == TcpState::Close => return,
            None => {
                let Some(index) = self.find_or_take_in(event, state, changes) else { return };
                index
            }
        };
        if direction == Direction::Sent || state != TcpState::Close {
            self.fill_in(index, event, changes);
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match direction {
            Direction::Sent => {
                conn.rst_sent = true;
                conn.rst_reason = u16::try_from(reason).unwrap_or(0);
            }
            Direction::Received => conn.rst_received = true,
        }
        if conn.shape != Shape::Mini {
            conn.last = event.at;
            if event.counters.is_some() {
                conn.counters = event.counters;
            }
        }
        changes.push(Change {
            at: event.at,
            conn: ConnRef(index),
            kind: Kind::Reset { direction, state, reason },
        });
        if direction == Direction::Sent && conn.shape == Shape::Mini {
            // Data came after close(): what looked like the making of a mini-socket was the end
            // (tcp_rcv_state_process, TCPABORTONDATA). Mini-sockets themselves have no such event.
            self.end_mini(index, event.at, How::RstSent, changes);
        } else if conn.resetting && direction == Direction::Sent {
            conn.how = How::RstSent;
            self.reset_told(index, changes);
        }
    }

    fn error(&mut self, event: &Event) {
        if let Some(conn) =
            self.by_id.get(&event.id).and_then(|&index| self.conns.get_mut(index as usize))
        {
            conn.error = event.error;
        }
    }

    fn add_listener(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let key = (conn.netns, conn.tuple.local_port);
        let list = self.listeners.entry(key).or_default();
        if !list.contains(&index) {
            list.push(index);
        }
    }

    pub(crate) fn note_listener(&mut self, index: u32) {
        self.add_listener(index);
    }

    fn remove_listener(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let key = (conn.netns, conn.tuple.local_port);
        if let Some(list) = self.listeners.get_mut(&key) {
            list.retain(|&other| other != index);
            if list.is_empty() {
                self.listeners.remove(&key);
            }
        }
    }

    /// The listener a server's connection came from, when there is just one it can be.
    pub(crate) fn listener_of(&self, conn: &Connection) -> Option<&Connection> {
        let list = self.listeners.get(&(conn.netns, conn.tuple.local_port))?;
        let mut exact = None;
        let mut wildcard = None;
        for listener in list.iter().filter_map(|&index| self.conns.get(index as usize)) {
            let slot = if listener.tuple.local_addr == conn.tuple.local_addr {
                &mut exact
            } else if listener.tuple.local().ip().is_unspecified() {
                &mut wildcard
            } else {
                continue;
            };
            // SO_REUSEPORT: several listeners, and the kernel's choice is not told. The same
            // process's are as good as one.
            match slot {
                None => *slot = Some(Some(listener)),
                Some(Some(other)) if same_process(other, listener) => {}
                Some(choice) => *choice = None,
            }
        }
        exact.or(wildcard).flatten()
    }

    pub(crate) fn inherit_owner(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let Some(listener) = self.listener_of(conn) else { return };
        let Some(mut owner) = listener.owner else { return };
        // Workers that share a listener: which of them accepts is not told.
        let holders = self.holders_of(listener.id);
        if holders.iter().any(|holder| holder.pid != owner.task.pid) {
            owner.task.pid = 0;
            owner.task.tid = 0;
        }
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.learn_owner(Owner { fd: None, source: OwnerSource::Listener, ..owner });
        }
    }

    fn tuple_key(&self, tuple: &Tuple, netns: u32) -> u64 {
        self.hasher.hash_one((
            u128::from_ne_bytes(tuple.local_addr),
            u128::from_ne_bytes(tuple.remote_addr),
            tuple.local_port,
            tuple.remote_port,
            netns,
        ))
    }

    fn index_tuple(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if conn.tuple.remote_port != 0 && conn.tuple.local_port != 0 {
            let key = self.tuple_key(&conn.tuple, conn.netns);
            let across = (!conn.tuple.is_loopback()).then(|| self.tuple_key(&conn.tuple, 0));
            let before = self.by_tuple.insert(key, index);
            if let Some(key) = across {
                let (count, indices) = self.across.entry(key).or_default();
                *count += u32::from(before.is_none());
                *indices ^= index ^ before.unwrap_or(0);
            }
        }
    }

    fn unindex_tuple(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let key = self.tuple_key(&conn.tuple, conn.netns);
        if self.by_tuple.get(&key) != Some(&index) {
            return;
        }
        self.by_tuple.remove(&key);
        let key = self.tuple_key(&conn.tuple, 0);
        if let Some((count, indices)) = self.across.get_mut(&key) {
            *count -= 1;
            *indices ^= index;
            if *count == 0 {
                self.across.remove(&key);
            }
        }
    }
}

fn same_process(one: &Connection, other: &Connection) -> bool {
    match (one.owner, other.owner) {
        (Some(one), Some(other)) => one.task.pid == other.task.pid,
        _ => false,
    }
}

/// Accounts for the state left, and for what leaving it tells.
fn leave(conn: &mut Connection, event: &Event, new: TcpState) -> Spent {
    let old = conn.state;
    let mut in_old = conn.spent_until(event.at);
    if new == TcpState::Established {
        match conn.role {
            // From the first SYN on, also when both sides opened at once (SYN_SENT->SYN_RECV).
            Role::Client if conn.complete => conn.handshake_ns = Some(event.at.since(conn.born)),
            // The child socket is made when the third ACK comes: its microseconds in SYN_RECV are
            // no handshake. The first RTT sample is (tcp_synack_rtt_meas); without timestamps there
            // is none when the SYN-ACK was sent again or with a SYN cookie.
            Role::Server => {
                let sample = event.counters.and_then(|counters| counters.srtt_us);
                match (in_old, sample) {
                    // With timestamps there is a sample even then, of the last SYN-ACK. The
                    // request's age is known to a jiffy.
                    (Spent::About(ns), _) if conn.retransmits.synack != 0 => {
                        conn.handshake_ns = Some(ns);
                    }
                    (Spent::Exactly(_) | Spent::About(_), Some(rtt_us)) => {
                        let rtt = u64::from(rtt_us) * 1_000;
                        conn.born = event.at.before(rtt);
                        conn.handshake_ns = Some(rtt);
                        in_old = Spent::Exactly(rtt);
                    }
                    (Spent::About(ns), None) => conn.handshake_ns = Some(ns),
                    (Spent::Exactly(ns), None) => in_old = Spent::AtLeast(ns),
                    (Spent::AtLeast(_) | Spent::Unknown, _) => {}
                }
            }
            Role::Client | Role::Listener | Role::Unknown => {}
        }
    }
    match (old, new) {
        (TcpState::Established | TcpState::SynRecv, TcpState::FinWait1)
            if conn.first_close == Ends::None =>
        {
            conn.first_close = Ends::Local;
        }
        (_, TcpState::CloseWait) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Remote;
        }
        // Before us one side had closed already.
        (TcpState::FinWait1 | TcpState::FinWait2, _) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Local;
        }
        (TcpState::CloseWait | TcpState::LastAck, _) if conn.first_close == Ends::None => {
            conn.first_close = Ends::Remote;
        }
        _ => {}
    }
    add(conn, old, in_old);
    in_old
}

fn add(conn: &mut Connection, state: TcpState, spent: Spent) {
    conn.approximate |= !spent.is_exact();
    if let (Some(slot), Some(ns)) = (timed_index(state), spent.ns()) {
        conn.spent[slot] = conn.spent[slot].saturating_add(ns);
    }
}

#[cfg(test)]
impl Table {
    /// Panics unless the indices and counts agree with the connections. Only after
    /// [`settle`](Table::settle).
    pub(crate) fn check(&self) {
        assert!(self.dead.is_empty(), "not settled");
        for (what, map, is_mini) in [("by_id", &self.by_id, false), ("minis", &self.minis, true)] {
            for (id, &index) in map {
                let conn = self.conns.get(index as usize);
                let conn = conn.unwrap_or_else(|| panic!("{what}: {id:?} points to nothing"));
                assert_eq!(conn.id, *id, "{what}: {conn:?}");
                assert_eq!(conn.shape == Shape::Mini, is_mini, "{what}: {conn:?}");
            }
        }
        // Each connection is under its id once, so none is out of reach of events and walks.
        assert_eq!(self.by_id.len() + self.minis.len(), self.conns.len());
        for (key, &index) in &self.by_tuple {
            let conn = self.conns.get(index as usize).expect("by_tuple points to nothing");
            assert_eq!(self.tuple_key(&conn.tuple, conn.netns), *key, "by_tuple: {conn:?}");
        }
        let beyond = self.by_tuple.values().filter_map(|&index| self.conns.get(index as usize));
        let beyond = beyond.filter(|conn| !conn.tuple.is_loopback()).count();
        let counted: u32 = self.across.values().map(|&(count, _)| count).sum();
        assert_eq!(counted as usize, beyond, "across");
        let mut listed = 0;
        for (key, list) in &self.listeners {
            assert!(!list.is_empty(), "{key:?}: an empty list of listeners");
            listed += list.len();
            for &index in list {
                let conn = self.conns.get(index as usize).expect("listeners point to nothing");
                assert_eq!((conn.netns, conn.tuple.local_port), *key, "listeners: {conn:?}");
                assert_eq!(conn.role, Role::Listener, "listeners: {conn:?}");
            }
        }
        let count = |wanted: &dyn Fn(&Connection) -> bool| {
            self.conns.iter().filter(|(_, conn)| wanted(conn)).count()
        };
        assert_eq!(listed, count(&|conn| conn.role == Role::Listener), "listeners not listed");
        assert_eq!(
            self.requests,
            count(&|conn| conn.shape == Shape::Request && conn.state != TcpState::Close),
            "requests"
        );
        for &index in &self.resetting {
            let conn = self.conns.get(index as usize).expect("resetting points to nothing");
            assert!(conn.resetting && conn.state == TcpState::Close, "resetting: {conn:?}");
        }
        assert_eq!(self.resetting.len(), count(&|conn| conn.resetting), "resetting");
        for &index in &self.unaccepted {
            let conn = self.conns.get(index as usize).expect("unaccepted points to nothing");
            assert!(!conn.accepted && conn.shape == Shape::Full, "unaccepted: {conn:?}");
        }
    }
}
