//! What is remembered of segments that the kernel threw away.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::FixedState;

use crate::event::{Direction, Drop, Dropped, Event, Place, SockId, Tuple};
use crate::time::MonoNs;

/// What is nobody's waits so long: a client's SYN is sent again after a second (`TCP_TIMEOUT_INIT`), which tells its
/// port.
pub(super) const PATIENCE_NS: u64 = 1_200_000_000;
/// At most so many wait; of more, nobody is looked for.
pub(super) const MOST_WAITING: usize = 8_192;
/// At most so many connections have their drops counted by reason.
pub(super) const MOST_COUNTED: usize = 65_536;

/// At most so many kinds of drops are counted of a connection: most have one.
pub(super) const MOST_KINDS: usize = 16;

/// How many segments of a connection were dropped for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropCount {
    /// `enum skb_drop_reason`.
    pub reason: u16,
    /// Where.
    pub place: Place,
    /// What they were.
    pub segment: Dropped,
    /// Whether the connection sent them, or was to receive them.
    pub direction: Direction,
    /// How many.
    pub count: u32,
}

/// Dropped segments that belong to no connection: those of one reason to one port, within about a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclaimed {
    /// When the first was dropped.
    pub at: MonoNs,
    /// In which network namespace; 0 when the kernel does not say.
    pub netns: u32,
    /// The ends of the first: see [`What::Dropped`](crate::event::What::Dropped).
    pub tuple: Tuple,
    /// The first.
    pub drop: Drop,
    /// How many, those included that the kernel did not tell one by one.
    pub count: u64,
    /// From how many other ends they came, as far as they were told one by one.
    pub remotes: u32,
}

impl Unclaimed {
    /// Of `count` those that the kernel did not tell one by one: whose they were is not known.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.count.saturating_sub(self.remotes.into())
    }
}

/// Drops that have something in common: in which namespace, at which end, why, where, what.
type Common = (u32, SocketAddr, u16, Place, Dropped);

/// Drops that are nobody's, put together.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: Vec<Unclaimed>,
    places: HashMap<Common, usize, FixedState>,
}

impl Groups {
    pub(super) fn add(&mut self, event: &Event, drop: Drop) {
        let tuple = event.tuple;
        // Of what is sent, the other end is what many have in common.
        let end = if drop.place == Place::Output { tuple.remote() } else { tuple.local() };
        let common = (event.netns, end, drop.reason, drop.place, drop.segment);
        let untold = u64::from(drop.untold);
        if let Some(group) = self.places.get(&common).and_then(|&at| self.groups.get_mut(at)) {
            group.count += 1 + untold;
            group.remotes = group.remotes.saturating_add(1);
            return;
        }
        self.places.insert(common, self.groups.len());
        let (at, netns, count) = (event.at, event.netns, 1 + untold);
        self.groups.push(Unclaimed { at, netns, tuple, drop, count, remotes: 1 });
    }
}

/// What the table remembers of drops.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    /// Names of reasons by number, where drops are traced.
    pub(super) reasons: Option<Vec<String>>,
    /// The reason that keepalive probes have, on a kernel that has none of its own for them.
    pub(super) probes: Option<u16>,
    /// By their ends; a connection that is known by its port at last asks for its own.
    pub(super) waiting: HashMap<Tuple, Vec<Event>, FixedState>,
    pub(super) waiting_count: usize,
    /// Those for which there was no room to wait.
    pub(super) crowded: Groups,
    pub(super) counts: HashMap<SockId, Vec<DropCount>, FixedState>,
}
