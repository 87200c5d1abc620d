//! Who has a socket, and how that is known.

use std::sync::Arc;

use crate::event::Actor;

/// How the owner is known; later in this list is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OwnerSource {
    /// The owner of the listener it came from: right but for servers that hand sockets to others.
    Listener,
    /// The task that called connect.
    Connect,
    /// The task that called listen.
    Listen,
    /// A descriptor of the process, from `iter/task_file`.
    Files,
    /// The task that closed it.
    Close,
}

impl OwnerSource {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OwnerSource::Listener => "listener",
            OwnerSource::Connect => "connect",
            OwnerSource::Listen => "listen",
            OwnerSource::Files => "files",
            OwnerSource::Close => "close",
        }
    }
}

/// Who has the socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Process, thread, names; see [`Owner::pid`].
    pub task: Arc<Actor>,
    /// Descriptor and 1, or 0.
    fd: u32,
    /// How this is known.
    pub source: OwnerSource,
}

impl Owner {
    /// An owner whose descriptor may be known.
    pub(crate) fn new(task: Arc<Actor>, fd: Option<u32>, source: OwnerSource) -> Owner {
        Owner { task, fd: fd.map_or(0, |fd| fd.saturating_add(1)), source }
    }

    /// Descriptor, when `iter/task_file` has seen it.
    #[must_use]
    pub fn fd(&self) -> Option<u32> {
        self.fd.checked_sub(1)
    }

    /// The process; `None` while it can be any of several that share the listener.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        (self.task.pid != 0).then_some(self.task.pid)
    }

    /// Better knowledge replaces worse; a descriptor once seen is kept.
    pub(super) fn learn(&mut self, other: Owner) {
        if self.source > other.source {
            return;
        }
        let fd = match other.fd {
            0 if self.task.pid == other.task.pid => self.fd,
            fd => fd,
        };
        *self = Owner { fd, ..other };
    }
}
