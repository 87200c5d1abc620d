//! Where connections really go: destinations that this machine translates (DNAT), as conntrack has them. The other end
//! of such a connection knows it by other addresses.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::conn::connection::Connection;
use crate::event::{SockId, Tuple};

/// Most that are kept: about 8 MB.
const MOST: usize = 65_536;

/// Both ends of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// Of the socket. It may connect again, to elsewhere.
    pub(super) socket: Tuple,
    /// As the other end has them, the other way round.
    pub(super) real: Tuple,
}

/// The translations that are known.
#[derive(Debug, Default)]
pub(super) struct Translated {
    by_id: HashMap<SockId, Ends, FixedState>,
    /// By what they become: how many, and the exclusive or of their identities, which of one is its identity.
    by_real: HashMap<Tuple, (u32, u64), FixedState>,
}

impl Translated {
    pub(super) fn insert(&mut self, id: SockId, ends: Ends) {
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

    pub(super) fn iter(&self) -> impl Iterator<Item = (SockId, &Tuple)> {
        self.by_id.iter().map(|(id, ends)| (*id, &ends.real))
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= MOST
    }
}
