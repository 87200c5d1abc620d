//! What the engine tells its outputs.

use crate::engine::conn::{Change, Connection, Poll, Unclaimed};
use crate::engine::rules::{self, Finding};
use crate::event::Loss;
use crate::time::MonoNs;

/// One thing that happened. What it is about can be read from the engine while the update is handled.
#[derive(Clone, Copy, Debug)]
pub enum Update<'a> {
    /// Something happened to a connection or listener: it changed its state, a segment was sent again, a
    /// RST passed, it finished, or nothing stands for it in the kernel any more.
    Change {
        /// The connection, as it is now.
        conn: &'a Connection,
        /// What happened.
        change: &'a Change,
    },
    /// A finding of the rules appeared, changed or cleared.
    Finding {
        /// When the rules looked.
        at: MonoNs,
        /// Whether it appeared, changed or cleared.
        update: &'a rules::Update,
        /// The finding; a cleared one as it was last.
        finding: &'a Finding,
    },
    /// The rules have looked over the table; their findings are as of this time.
    Looked(MonoNs),
    /// The kernel threw segments away that belong to no connection.
    Unclaimed(&'a Unclaimed),
    /// Events were lost, in the kernel or here.
    Lost(&'a Loss),
    /// A walk over the sockets is in the table.
    Walked {
        /// The walk.
        poll: &'a Poll,
        /// When its last row was taken in.
        now: MonoNs,
    },
    /// A walk over the descriptors of processes is in the table.
    Holders,
    /// Names of cgroups, executables or openers were taken in.
    Names,
    /// What processes and network namespaces are like was taken in.
    Facts,
    /// Time has passed: about once a second, after everything up to then.
    Tick(MonoNs),
}
