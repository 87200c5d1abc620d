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

/// Different stacks that are kept of what threads did after they had read from a socket.
const MOST_HANDLED: usize = 6;

/// What threads did after they had read from a socket, as long as that may be for the request they read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handled {
    /// Different ones; the oldest gives way.
    stacks: [Option<StackId>; MOST_HANDLED],
    /// When something was seen last.
    pub at: Option<MonoNs>,
}

impl Handled {
    pub(super) fn add(&mut self, sighting: &Sighting) {
        self.at = Some(sighting.at);
        let Some(stack) = sighting.stack else { return };
        // The newest stands first.
        let there = self.stacks.iter().position(|&one| one == Some(stack));
        let last = there.unwrap_or(MOST_HANDLED - 1);
        self.stacks[..=last].rotate_right(1);
        self.stacks[0] = Some(stack);
    }

    /// The stacks, the newest first.
    pub fn stacks(&self) -> impl Iterator<Item = StackId> + '_ {
        self.stacks.iter().copied().flatten()
    }
}

/// What is known of one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// What the thread that read from it did next: one of these stacks may have the method that handles the request.
    pub handled: Handled,
    /// Who connected or accepted it.
    pub opened: Option<Sighting>,
    /// Who has read from it last.
    pub read: Option<Sighting>,
}

impl Seen {
    /// Everything that was seen of threads that used the socket itself.
    pub(super) fn all(&self) -> impl Iterator<Item = &Sighting> {
        [&self.opened, &self.read].into_iter().flatten()
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
