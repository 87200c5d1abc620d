//! Sockets that a garbage collector closes, because nobody else has.

use tracer_common::TcpState;

use crate::engine::conn::change::{Change, Kind};
use crate::engine::conn::connection::Connection;
use crate::engine::conn::owner::OwnerSource;

/// Threads by which a JVM closes what became unreachable: `java.lang.ref.Cleaner`, and finalizers.
const COLLECTORS: [&[u8]; 2] = [b"Common-Cleaner", b"Finalizer"];

/// Whether this change of the connection is its closing, by a thread of the garbage collector's.
#[must_use]
pub fn closed_by_collector(conn: &Connection, change: &Change) -> bool {
    let Kind::Transition { old, new, .. } = change.kind else { return false };
    let closes = match new {
        TcpState::FinWait1 | TcpState::LastAck => true,
        // With data unread it is cut off.
        TcpState::Close => matches!(old, TcpState::Established | TcpState::CloseWait),
        _ => false,
    };
    closes
        && conn.owner.as_ref().is_some_and(|owner| {
            // The last thread of a JVM to end closes all that is open, whatever it was for.
            owner.source == OwnerSource::Close
                && !owner.task.exiting
                && COLLECTORS.contains(&owner.task.thread.bytes())
        })
}
