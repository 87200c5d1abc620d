//! The table: events in, changes out. What each kind of event does is in the modules beside this one;
//! here is what they share.

use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::by_state::ByState;
use crate::engine::conn::change::{Change, ConnRef};
use crate::engine::conn::connection::Connection;
use crate::engine::conn::drops::Drops;
use crate::engine::conn::ends::Ends;
use crate::engine::conn::how::How;
use crate::engine::conn::ids::{Conns, Ids, Tuples};
use crate::engine::conn::late::Spare;
use crate::engine::conn::learned::Learned;
use crate::engine::conn::leftover::{Leftover, Leftovers};
use crate::engine::conn::options::Options;
use crate::engine::conn::role::Role;
use crate::engine::conn::shared::Tasks;
use crate::engine::conn::spent::Known;
use crate::engine::conn::translated::Translated;
use crate::event::{Event, Holder, SockId, Tuple, What};

/// From so many on, room for a little more is made at a time, not for as many again; the allocator moves
/// pages then (mremap), no bytes.
const FEW: usize = 65_536;

/// All connections and listeners that are known.
#[derive(Debug)]
pub struct Table {
    pub(crate) conns: Conns,
    pub(crate) by_id: Ids,
    /// Mini-sockets have their socket's cookie, and the socket may connect again while they live.
    pub(crate) minis: Ids,
    pub(super) by_tuple: Tuples,
    pub(super) by_state: ByState,
    pub(super) listeners: HashMap<(u32, u16), Vec<u32>, FixedState>,
    /// Of the last walk over descriptors, sorted by socket.
    pub(crate) holders: Vec<Holder>,
    /// While a walk over sockets is under way: those that went since it began, whose rows are
    /// older than their end.
    pub(crate) gone_since: HashSet<SockId, FixedState>,
    /// More than those.
    pub(crate) too_many_gone: bool,
    pub(crate) polling: bool,
    /// Removed from the indices, kept until the views have seen the changes.
    pub(super) dead: Vec<u32>,
    pub(crate) options: Options,
    pub(crate) poll: u16,
    /// Request sockets: only a look tells of their end.
    pub(crate) requests: HashSet<u32, FixedState>,
    /// Mini-sockets of which only a look may tell what becomes of them: FIN_WAIT2, and those that may not be there.
    pub(super) looked_for: HashSet<u32, FixedState>,
    /// In TIME_WAIT, and something says that it may not end with its timer.
    pub(super) suspected: HashSet<u32, FixedState>,
    /// Those in TIME_WAIT, by the end of their timer.
    pub(super) ends: Ends,
    /// Used again from tick to tick.
    pub(super) due: Vec<u32>,
    /// Servers' connections that were established under our eyes and not accepted yet.
    pub(crate) unaccepted: HashSet<u32, FixedState>,
    /// Mini-sockets of which it is not known whether there are any: at most so many.
    pub(super) doubts: usize,
    /// In CLOSE, with the RST that closed them, and its reason, still to be told.
    pub(super) resetting: Vec<u32>,
    /// Connections that were not taken in because the table was full.
    pub(crate) refused: u64,
    /// A connection of unknown role, or a listener, came since roles were last looked for.
    pub(super) roles_may_show: bool,
    /// A walk met sockets that were there before, since ages were last looked for.
    pub(super) ages_may_show: bool,
    pub(super) tasks: Tasks,
    pub(super) spare: Spare,
    pub(super) leftovers: Leftovers,
    pub(super) learned: Learned,
    pub(super) drops: Drops,
    pub(super) translated: Translated,
    /// See [`Table::take_interfaces`].
    pub(super) interfaces: BTreeSet<(u32, u32)>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Table {
            conns: Conns::new(),
            by_id: Ids::default(),
            minis: Ids::default(),
            by_tuple: Tuples::default(),
            by_state: ByState::default(),
            listeners: HashMap::default(),
            holders: Vec::new(),
            gone_since: HashSet::default(),
            too_many_gone: false,
            polling: false,
            dead: Vec::new(),
            options,
            poll: 0,
            requests: HashSet::default(),
            looked_for: HashSet::default(),
            suspected: HashSet::default(),
            ends: Ends::default(),
            due: Vec::new(),
            unaccepted: HashSet::default(),
            doubts: 0,
            resetting: Vec::new(),
            refused: 0,
            roles_may_show: false,
            ages_may_show: false,
            tasks: Tasks::default(),
            spare: Spare::default(),
            leftovers: Leftovers::default(),
            learned: Learned::default(),
            drops: Drops::default(),
            translated: Translated::default(),
            interfaces: BTreeSet::new(),
        }
    }

    /// The connection of a change.
    #[must_use]
    pub fn get(&self, conn: ConnRef) -> Option<&Connection> {
        self.conns.get(conn.0 as usize)
    }

    /// Whether it has a socket, or a mini-socket, of this identity.
    #[must_use]
    pub fn has(&self, id: SockId) -> bool {
        self.by_id.get(&self.conns, id).or_else(|| self.minis.get(&self.conns, id)).is_some()
    }

    /// The full socket or request of this identity.
    #[must_use]
    pub fn find_open(&self, id: SockId) -> Option<&Connection> {
        self.conns.get(self.by_id.get(&self.conns, id)? as usize)
    }

    /// The socket or request of this identity, else its mini-socket.
    #[must_use]
    pub fn find_any(&self, id: SockId) -> Option<&Connection> {
        let index = self.by_id.get(&self.conns, id).or_else(|| self.minis.get(&self.conns, id))?;
        self.conns.get(index as usize)
    }

    /// Everything in the table, listeners too, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.conns.iter().map(|(_, conn)| conn)
    }

    /// As [`Table::iter`], with where each is.
    pub fn places(&self) -> impl Iterator<Item = (ConnRef, &Connection)> {
        self.conns
            .iter()
            .filter_map(|(index, conn)| Some((ConnRef(u32::try_from(index).ok()?), conn)))
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

    /// Connections and listeners in each state, mini-sockets and requests among them.
    pub fn states(&self) -> impl Iterator<Item = (TcpState, u32)> {
        let states = TcpState::ALL.into_iter().chain([TcpState::NewSynRecv]);
        states.map(|state| (state, self.by_state.of(state)))
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Processes that had a descriptor of this socket when last looked at.
    #[must_use]
    pub fn holders_of(&self, id: SockId) -> &[Holder] {
        let from = self.holders.partition_point(|holder| holder.id < id);
        let count = self.holders[from..].partition_point(|holder| holder.id == id);
        &self.holders[from..from + count]
    }

    /// From here on, how connections ended whose sockets were not closed is remembered.
    pub fn remember_leftovers(&mut self) {
        self.leftovers.want();
    }

    /// How the last connection of a socket ended that is in CLOSE and was not closed; `None` when that was
    /// not seen.
    #[must_use]
    pub fn leftover(&self, id: SockId) -> Option<&Leftover> {
        self.leftovers.of(id)
    }

    /// All of those, and some that were closed since the last walk over descriptors.
    pub fn leftovers(&self) -> impl Iterator<Item = (SockId, &Leftover)> {
        self.leftovers.ids()
    }

    /// Descriptors of TCP sockets, as of the last walk over them; sorted by socket.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// After the views have seen the changes: forgets what is gone.
    pub fn settle(&mut self) {
        while let Some(index) = self.dead.pop() {
            self.unindex_tuple(index);
            if let Some(conn) = self.conns.try_remove(index as usize) {
                self.by_state.remove(&conn);
                self.forget_drops(conn.id);
                self.translated.forget(conn.id);
                conn.recycle(&mut self.spare);
            }
        }
    }

    /// Takes in one event; what it changes is appended to `changes`.
    pub fn apply(&mut self, event: &Event, changes: &mut Vec<Change>) {
        match event.what {
            What::Transition { old, new, actor } => {
                self.transition(event, old, new, actor, changes);
            }
            What::Retransmit { segment, state, times, again } => {
                self.retransmit(event, (segment, again), state, times, changes);
            }
            What::Reset { direction, state, reason } => {
                self.reset(event, direction, state, reason, changes);
            }
            What::Error { .. } => self.error(event),
            What::Dropped(drop) => self.dropped(event, drop, changes),
            What::Socket(existing) => self.existing(event, &existing, changes),
        }
        if event.interface != 0 {
            self.bound(event);
        }
    }

    /// The full socket or request of an event or row that tells of `state`. A listener is another
    /// life than a connection, though the same socket may lead both: the end of the other was lost.
    pub(crate) fn find(
        &mut self,
        event: &Event,
        state: TcpState,
        changes: &mut Vec<Change>,
    ) -> Option<u32> {
        let index = self.by_id.get(&self.conns, event.id)?;
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

    /// The socket of an event that is not its first; one we have never seen was there before us.
    pub(super) fn find_or_take_in(
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
        if self.conns.len() == self.conns.capacity() && self.conns.len() >= FEW {
            self.conns.reserve_exact(self.conns.len() / 64);
        }
        self.roles_may_show |= role == Role::Unknown;
        let conn = Connection::new(event, state, role, known, self.poll);
        self.by_state.add(&conn);
        let index = u32::try_from(self.conns.insert(conn)).ok()?;
        self.by_id.insert(&self.conns, event.id, index);
        self.index_tuple(index);
        self.learned.note(index);
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
        self.claim_waiting(fuller, changes);
        if listens {
            self.add_listener(index);
        }
    }
}
