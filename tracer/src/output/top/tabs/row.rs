//! A row, and what it is about.

use std::sync::Arc;

use crate::engine::book::StackId;
use crate::event::{Comm, SockId};
use crate::output::top::model::Remote;
use crate::output::top::tabs::cell::Cell;

/// Whose sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ProcessKey {
    /// A process's.
    Process(u32),
    /// Those of one of several processes of this name, or of one that is not known.
    Name(Comm),
    /// Nobody's any more: the application has closed them, the kernel brings them to their end.
    Kernel,
    /// Nobody's yet: they wait to be accepted, or for the third ACK.
    Queue,
}

/// Where is listened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) netns: u32,
    pub(crate) addr: [u8; 16],
    pub(crate) port: u16,
}

/// Which code opened sockets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct OpenerKey {
    pub(crate) pid: u32,
    /// It accepted them, or read from them; else it connected.
    pub(crate) accepted: bool,
    pub(crate) who: Who,
}

/// As far as that is known.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Who {
    /// A method or function.
    Code(Arc<str>),
    /// A stack that has no names yet.
    Nameless(StackId),
    /// They were opened before the run began.
    Before,
    /// Nobody was seen.
    Unseen,
}

/// What a row is about, the same from one second to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RowId {
    /// A finding, by its id.
    Finding(String),
    /// A connection.
    Conn(SockId),
    /// A process.
    Process(ProcessKey),
    /// An address that is listened at.
    Listener(Place),
    /// Who is talked to.
    Remote(Remote),
    /// Which code.
    Opener(OpenerKey),
    /// Several rows: words that filter them.
    Group(String),
}

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: RowId,
    /// One for each column.
    pub(crate) cells: Vec<Cell>,
    /// Words of a filter that lets just this row's connections through.
    pub(crate) words: String,
}
