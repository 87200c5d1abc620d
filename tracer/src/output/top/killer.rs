//! Ending sockets: whoever can do it is given to `top` from outside. Nothing here waits.

use crate::event::{SockId, Tuple};

/// One socket that is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Victim {
    /// Its cookie.
    pub id: SockId,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Its ends.
    pub tuple: Tuple,
}

/// Ends sockets, on a thread of its own.
pub trait Killer {
    /// Begins to end these.
    fn kill(&mut self, sockets: Vec<Victim>);

    /// What became of those asked for last, in a sentence, once that is known.
    fn outcome(&mut self) -> Option<String>;
}
