//! What a table is to know of the run.

use crate::time::{Jiffies, MonoNs};

/// What a table is to know of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// When the programs were attached: what is older was there before.
    pub start: MonoNs,
    /// Length of the kernel's jiffy.
    pub jiffy_ns: u64,
    /// When a jiffy began, where that is known.
    pub jiffies: Option<Jiffies>,
    /// Most connections and listeners kept.
    pub limit: usize,
    /// Rows of `iter/tcp` will come, and tell what becomes of mini-sockets.
    pub minis_are_seen: bool,
    /// Single sockets can be asked for, too.
    pub minis_are_asked_for: bool,
    /// `tcp_send_reset` is traced: a RST we send is told, even after CLOSE.
    pub resets_are_seen: bool,
}
