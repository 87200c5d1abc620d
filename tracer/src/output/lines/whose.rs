//! Whose a connection is, by what the kernel and its side of the handshake say.

use crate::engine::conn::{Connection, Role};
use crate::event::Shape;

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// A process has it.
    Process,
    /// The application has closed it.
    Kernel,
    /// It is not accepted.
    Queue,
    /// The third ACK has not come.
    Handshake,
}

/// Whose it is; listeners are always a process's.
pub(crate) fn whose(conn: &Connection) -> Whose {
    if conn.shape == Shape::Request {
        Whose::Handshake
    } else if conn.shape == Shape::Mini || conn.orphan {
        Whose::Kernel
    } else if !conn.accepted && conn.role != Role::Listener {
        Whose::Queue
    } else {
        Whose::Process
    }
}
