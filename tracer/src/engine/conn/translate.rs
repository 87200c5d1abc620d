//! Takes in where connections really go, and finds other ends by it.

use crate::engine::conn::connection::Connection;
use crate::engine::conn::role::Role;
use crate::engine::conn::table::Table;
use crate::engine::conn::translated::Ends;
use crate::event::{SockId, Tuple};

/// An address and a port.
type End = ([u8; 16], u16);

impl Table {
    /// Where the connection really goes: the ends that a translation on this machine gives it, where that is known.
    #[must_use]
    pub fn translation(&self, conn: &Connection) -> Option<&Tuple> {
        self.translated.of(conn)
    }

    /// All that are known.
    pub fn translations(&self) -> impl Iterator<Item = (SockId, &Tuple)> {
        self.translated.iter()
    }

    /// Whether there is room for more of them.
    #[must_use]
    pub fn has_room_for_translations(&self) -> bool {
        !self.translated.is_full()
    }

    /// Takes in what the ends of a connection become.
    pub fn translate(&mut self, id: SockId, local: End, remote: End) {
        let index = self.by_id.get(&self.conns, id).or_else(|| self.minis.get(&self.conns, id));
        let conn = index.and_then(|index| self.conns.get_mut(index as usize));
        let Some(conn) = conn else { return };
        let socket = conn.tuple;
        let real = Tuple {
            local_addr: local.0,
            local_port: local.1,
            remote_addr: remote.0,
            remote_port: remote.1,
            family: socket.family,
        };
        if real != socket {
            // Of one that was there before: only who connects has its destination translated.
            if conn.role == Role::Unknown {
                conn.role = Role::Client;
            }
            self.translated.insert(id, Ends { socket, real });
        }
    }

    /// The connection that has the other end of a server's as its own, by a translation.
    pub(super) fn translated_peer(&self, conn: &Connection) -> Option<u32> {
        let id = self.translated.only(&conn.tuple.reversed())?;
        let index = self.by_id.get(&self.conns, id).or_else(|| self.minis.get(&self.conns, id))?;
        let peer = self.conns.get(index as usize)?;
        // Loopback addresses are one namespace's own.
        let near = peer.netns == conn.netns || !conn.tuple.is_loopback();
        (near && peer.id != conn.id && self.translated.of(peer).is_some()).then_some(index)
    }
}
