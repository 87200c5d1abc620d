//! Sockets whose connection has ended and that the application has not closed: the kernel keeps them in
//! CLOSE for as long as a descriptor leads to them, and no walk over sockets shows them.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::how::How;
use crate::engine::conn::role::Role;
use crate::event::{Event, Holder, SockId, Tuple};
use crate::time::MonoNs;

/// Most of them remembered between two walks over descriptors; of others it is not known how they ended.
const MOST: usize = 65_536;

/// How the last connection of such a socket ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// How.
    pub how: How,
    /// When.
    pub at: MonoNs,
    /// Its ends.
    pub tuple: Tuple,
    /// Which side we were.
    pub role: Role,
    /// When the connection began, as far as known.
    pub born: MonoNs,
    /// Id of the cgroup the socket was made in, 0 where it is not known.
    pub cgroup: u64,
}

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Whether anybody wants to know.
    wanted: bool,
    by_id: HashMap<SockId, Leftover, FixedState>,
}

impl Leftovers {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn of(&self, id: SockId) -> Option<&Leftover> {
        if self.by_id.is_empty() { None } else { self.by_id.get(&id) }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = (SockId, &Leftover)> {
        self.by_id.iter().map(|(&id, left)| (id, left))
    }

    /// A connection has gone to CLOSE. Where the application did that, or had closed it before, there is
    /// no descriptor of it any more.
    pub(super) fn closed(&mut self, conn: &Connection, event: &Event, by_application: bool) {
        let held = event.flags.has_socket && !event.flags.dead;
        let full = self.by_id.len() >= MOST;
        if !self.wanted || !held || full || by_application && event.error == 0 {
            return;
        }
        let Connection { how, tuple, role, born, cgroup, .. } = *conn;
        self.by_id.insert(event.id, Leftover { how, at: event.at, tuple, role, born, cgroup });
    }

    /// The socket is used anew.
    pub(super) fn forget(&mut self, id: SockId) {
        if !self.by_id.is_empty() {
            self.by_id.remove(&id);
        }
    }

    /// A walk over descriptors, sorted by socket: what it has not met, and is older, was closed.
    pub(super) fn met(&mut self, holders: &[Holder]) {
        if self.by_id.is_empty() {
            return;
        }
        let began = holders.iter().map(|holder| holder.at).min().unwrap_or(MonoNs(0));
        self.by_id.retain(|&id, left| {
            left.at >= began
                || holders
                    .binary_search_by_key(&id, |holder| holder.id)
                    .is_ok_and(|at| holders[at].state.is_none_or(|it| it == TcpState::Close))
        });
    }
}
