//! What the table tells: changes.

use tracer_common::TcpState;

use crate::engine::conn::spent::Spent;
use crate::event::{Again, Ages, Direction, Drop, Segment};
use crate::time::MonoNs;

/// A connection in the table, valid until [`Table::settle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnRef(pub(crate) u32);

impl ConnRef {
    /// Its place in the table, less than the most connections that were there at once. Another connection
    /// may have it after this one's [`Kind::Gone`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an event changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When.
    pub at: MonoNs,
    /// Of which connection.
    pub conn: ConnRef,
    /// What.
    pub kind: Kind,
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It went from one state to another.
    Transition {
        /// State left.
        old: TcpState,
        /// State entered.
        new: TcpState,
        /// Time spent in the state left.
        in_old: Spent,
        /// How long ago data went over it, where one side has closed it.
        ages: Option<Ages>,
    },
    /// A segment was sent again.
    Retransmit {
        /// What it was.
        segment: Segment,
        /// The connection's state.
        state: TcpState,
        /// Retransmits of the connection so far, this one included; `None` where not known.
        count: Option<u32>,
        /// Why, and how.
        again: Again,
    },
    /// A RST was sent or received.
    Reset {
        /// Which way.
        direction: Direction,
        /// The connection's state.
        state: TcpState,
        /// `enum sk_rst_reason`, 0 for none.
        reason: u32,
        /// How long ago data went over it; of RSTs received.
        ages: Option<Ages>,
    },
    /// The kernel threw a segment of it away.
    Dropped {
        /// Whether the connection sent it, or was to receive it.
        direction: Direction,
        /// The connection's state.
        state: TcpState,
        /// Which segment, where and why.
        drop: Drop,
    },
    /// Its closing handshake is complete, or it was cut off: nothing more is to be told but the
    /// end of TIME_WAIT.
    Finished,
    /// Nothing stands for it in the kernel any more.
    Gone,
}
