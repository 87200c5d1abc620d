//! Where connections really go: destinations that this machine translates (DNAT), as conntrack has them. The other end
//! of such a connection knows it by other addresses.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::role::Role;
use crate::engine::conn::table::Table;
use crate::event::{SockId, Tuple};

/// Most that are kept: about 8 MB.
const MOST: usize = 65_536;

/// Both ends of one connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// Of the socket. It may connect again, to elsewhere.
    socket: Tuple,
    /// As the other end has them, the other way round.
    real: Tuple,
}

/// The translations that are known.
#[derive(Debug, Default)]
pub(super) struct Translated {
    by_id: HashMap<SockId, Ends, FixedState>,
    /// By what they become: how many, and the exclusive or of their identities, which of one is its identity.
    by_real: HashMap<Tuple, (u32, u64), FixedState>,
}

impl Translated {
    fn insert(&mut self, id: SockId, ends: Ends) {
        self.forget(id);
        if self.by_id.len() < MOST {
            self.by_id.insert(id, ends);
            let (count, mixed) = self.by_real.entry(ends.real).or_default();
            *count += 1;
            *mixed ^= id.0;
        }
    }

    pub(super) fn forget(&mut self, id: SockId) {
        if self.by_id.is_empty() {
            return;
        }
        let Some(ends) = self.by_id.remove(&id) else { return };
        if let Some((count, mixed)) = self.by_real.get_mut(&ends.real) {
            *count -= 1;
            *mixed ^= id.0;
            if *count == 0 {
                self.by_real.remove(&ends.real);
            }
        }
    }

    /// What the connection's ends become.
    pub(super) fn of(&self, conn: &Connection) -> Option<&Tuple> {
        if self.by_id.is_empty() {
            return None;
        }
        let ends = self.by_id.get(&conn.id).filter(|ends| ends.socket == conn.tuple)?;
        Some(&ends.real)
    }

    /// The only connection that becomes this.
    pub(super) fn only(&self, real: &Tuple) -> Option<SockId> {
        if self.by_id.is_empty() {
            return None;
        }
        let (count, mixed) = self.by_real.get(real)?;
        (*count == 1).then_some(SockId(*mixed))
    }
}

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
        self.translated.by_id.iter().map(|(id, ends)| (*id, &ends.real))
    }

    /// Whether there is room for more of them.
    #[must_use]
    pub fn has_room_for_translations(&self) -> bool {
        self.translated.by_id.len() < MOST
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
