//! The connections there are, and what becomes of them.
//!
//! Pure: no IO, no clock, no aya. Events come in with their times, changes go out. A socket is its
//! [`SockId`](crate::event::SockId); the 4-tuple is a label.
//!
//! `table` takes the tracepoints' events, `existing` the iterators' rows; `ending` says how a
//! connection ended.

mod connection;
mod ending;
mod existing;
mod table;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Ends, Owner, OwnerSource, Peer, Retransmits, Role, Spent};
pub use ending::{How, errno_name};
pub use existing::{Poll, PollKind};
pub use table::{Change, ConnRef, Kind, Options, Table};
