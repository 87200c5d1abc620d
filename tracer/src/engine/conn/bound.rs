//! Sockets that are bound to an interface; few are. Those of link-local addresses always, for an address means
//! something on one link only: the interface is its zone (RFC 4007).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::late::Spare;
use crate::engine::conn::table::Table;
use crate::event::Event;

/// Most interfaces noted at a time, to ask for their names.
const MOST: usize = 4096;

impl Connection {
    /// Index of the interface that it is bound to, 0 for none: the zone of its link-local addresses.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.late.as_ref().map_or(0, |late| late.interface)
    }

    /// The other end; an address of one link with the interface to it as its scope.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        let mut remote = self.tuple.remote();
        if let SocketAddr::V6(v6) = &mut remote
            && v6.ip().is_unicast_link_local()
        {
            v6.set_scope_id(self.interface());
        }
        remote
    }

    fn set_interface(&mut self, interface: u32, spare: &mut Spare) {
        self.late.get_or_insert_with(|| spare.get()).interface = interface;
    }
}

impl Table {
    /// An event of a socket that is bound to an interface was taken in.
    #[cold]
    pub(super) fn bound(&mut self, event: &Event) {
        let index = self.by_id.get(&self.conns, event.id);
        let index = index.or_else(|| self.minis.get(&self.conns, event.id));
        if let Some(conn) = index.and_then(|index| self.conns.get_mut(index as usize))
            && conn.interface() != event.interface
        {
            conn.set_interface(event.interface, &mut self.spare);
            if self.interfaces.len() < MOST {
                self.interfaces.insert((conn.netns, event.interface));
            }
        }
    }

    /// Interfaces, each with its network namespace, that sockets were found bound to since this was last asked.
    pub fn take_interfaces(&mut self) -> BTreeSet<(u32, u32)> {
        std::mem::take(&mut self.interfaces)
    }
}
