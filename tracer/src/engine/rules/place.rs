//! What survival is counted by.

use std::net::SocketAddr;

/// Which end of its connections a group has in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Servers' connections: the port they came to.
    Local(u16),
    /// Clients' connections: where they went.
    Remote(SocketAddr),
    /// Clients' connections to many places.
    Remotes,
}

/// Process and endpoint: what survival is counted by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) netns: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) side: Side,
}
