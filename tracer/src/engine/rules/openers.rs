//! Which code opened which socket.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::event::SockId;

/// The code that opened a socket, as it is to be named: `com.acme.Crawler.fetch`.
pub type Opener = Arc<str>;

/// Which code opened which socket, where it is known. Whoever knows (stacks) fills it.
#[derive(Debug, Default)]
pub struct Openers {
    by_socket: HashMap<SockId, Opener, FixedState>,
}

impl Openers {
    /// The opener of a socket.
    #[must_use]
    pub fn of(&self, id: SockId) -> Option<&Opener> {
        if self.by_socket.is_empty() { None } else { self.by_socket.get(&id) }
    }

    /// Takes in who opened a socket.
    pub fn learn(&mut self, id: SockId, opener: Opener) {
        self.by_socket.insert(id, opener);
    }

    /// Forgets a socket that is gone.
    pub fn forget(&mut self, id: SockId) {
        if !self.by_socket.is_empty() {
            self.by_socket.remove(&id);
        }
    }
}
