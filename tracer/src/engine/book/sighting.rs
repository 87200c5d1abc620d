//! What threads did with a socket.

use tracer_common::stack::StackKind;

use crate::engine::book::stack::StackId;
use crate::event::Comm;
use crate::time::MonoNs;

/// A thread did something with a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// What it did.
    pub kind: StackKind,
    /// With which stack; `None` when that was lost.
    pub stack: Option<StackId>,
    /// When.
    pub at: MonoNs,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// The process's name.
    pub comm: Comm,
    /// The thread's name.
    pub thread: Comm,
}

/// What is known of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// What the thread that read from it did next with another socket: its stack may have the method that handles
    /// the request.
    pub handled: Option<Sighting>,
    /// Who connected or accepted it.
    pub opened: Option<Sighting>,
    /// Who has read from it last.
    pub read: Option<Sighting>,
}

impl Seen {
    /// Everything that was seen.
    pub(super) fn all(&self) -> impl Iterator<Item = &Sighting> {
        [&self.opened, &self.read, &self.handled].into_iter().flatten()
    }

    /// Who has used a connection last that we opened: whoever has read from it.
    #[must_use]
    pub fn user(&self) -> Option<&Sighting> {
        self.read.as_ref().filter(|_| self.is_opened_by(StackKind::Connect))
    }

    pub(super) fn is_opened_by(&self, kind: StackKind) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.kind == kind)
    }

    /// Who is to be named for it: who connected; of an accepted socket rather who handles it than who
    /// accepts for all.
    #[must_use]
    pub fn opener(&self) -> Option<&Sighting> {
        match &self.opened {
            Some(opened) if opened.kind == StackKind::Connect => Some(opened),
            opened => self.read.as_ref().or(opened.as_ref()),
        }
    }
}
