//! Processes and threads, and their names.

use std::fmt;

/// A process or thread name: bytes a stranger chose, at most 15 and a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(16);
        &self.0[..end]
    }

    /// A name out of the kernel: what stands behind its end is no part of it (see
    /// [`tracer_common::comm::until_nul`]).
    #[must_use]
    pub fn of_kernel(name: [u8; 16]) -> Comm {
        Comm::new(Comm(name).bytes())
    }

    /// From any bytes; what is beyond 15 is cut as the kernel does.
    #[must_use]
    pub fn new(name: &[u8]) -> Comm {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(name) {
            *to = *from;
        }
        Comm(comm)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

/// The task that made a transition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    /// Process (thread group) id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The process's name.
    pub comm: Comm,
    /// The thread's name.
    pub thread: Comm,
    /// It was ending: what it closed then, the kernel closed for it.
    pub exiting: bool,
}
