//! The connections there are, and what becomes of them.
//!
//! Pure: no IO, no clock, no aya. Events come in with their times, changes go out. A socket is its
//! [`SockId`](crate::event::SockId); the 4-tuple is a label.
//!
//! `table` keeps them and hands each event to its module: `transition`, `segment` (retransmits, RSTs) or
//! `existing` (the iterators' rows). `closed` is what follows from CLOSE, `mini` follows mini-sockets to their
//! end, `expiry` ends them by their timer (`ends` has them in order),
//! `poll` begins and ends walks over sockets, `questions` are those about single ones, `holders` takes in those over descriptors, `ending` says how a
//! connection ended, `identity` says which connection an event is about where the kernel does not, `index`
//! finds peers and listeners, `ids` is how, `shared` is what many have in common, `late` what few have, `by_state` counts,
//! `again` why segments were sent again (`causes` counts them), `dropped` whose segments the kernel dropped (`drops` what
//! is kept of them), `bound` who is bound to an interface, `how` the ways to end and to fail, `failed` says which of these
//! it was, `collector` those that a garbage collector makes, `translate` takes in where connections really go
//! (`translated` keeps it), `change` is what comes out.

mod again;
mod ages;
mod bound;
mod by_state;
mod causes;
mod change;
mod closed;
mod collector;
mod connection;
mod doubt;
mod dropped;
mod drops;
mod ending;
mod ends;
mod existing;
mod expiry;
mod failed;
mod holders;
mod how;
mod identity;
mod ids;
mod index;
mod late;
mod learned;
mod leftover;
mod mini;
mod options;
mod owner;
mod poll;
mod questions;
mod role;
mod segment;
mod shared;
mod spent;
mod table;
mod transition;
mod translate;
mod translated;

#[cfg(test)]
mod tests;

pub use causes::Causes;
pub use change::{Change, ConnRef, Kind};
pub use collector::closed_by_collector;
pub use connection::{Connection, Mark, Retransmits};
pub use drops::{DropCount, Unclaimed};
pub use how::{Failed, How, errno_name};
pub use identity::{Identities, Living};
pub use late::Peer;
pub use leftover::Leftover;
pub use options::Options;
pub use owner::{Owner, OwnerSource};
pub use poll::{Poll, PollKind};
pub use questions::Question;
pub use role::{Ends, Role};
pub use spent::Spent;
pub use table::Table;
