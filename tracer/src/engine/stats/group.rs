//! What connections are grouped by.

use std::net::{IpAddr, SocketAddr};

use crate::engine::conn::{Connection, Role};
use crate::event::Comm;

/// What the connections of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Process: name and id.
    Process,
    /// Name of the process.
    Comm,
    /// Unit of systemd, or container, or cgroup.
    Service,
    /// The other side: of a client its address and port, of a server its address.
    Remote,
    /// The address and port that a server was connected at.
    Listener,
    /// How it ended.
    How,
    /// Why it was never established.
    Failed,
}

impl By {
    /// All, with their names on the command line.
    pub const ALL: [(By, &'static str); 7] = [
        (By::Process, "process"),
        (By::Comm, "comm"),
        (By::Service, "service"),
        (By::Remote, "remote"),
        (By::Listener, "listener"),
        (By::How, "how"),
        (By::Failed, "failed"),
    ];

    /// Its name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        By::ALL.iter().find(|(by, _)| *by == self).map_or("", |(_, name)| name)
    }

    /// What a connection has.
    #[must_use]
    pub fn label(self, conn: &Connection) -> Label {
        let owner = conn.owner.as_ref();
        match self {
            By::Process => {
                owner.map_or(Label::None, |owner| Label::Process(owner.task.comm, owner.pid()))
            }
            By::Comm => owner.map_or(Label::None, |owner| Label::Comm(owner.task.comm)),
            By::Service if conn.cgroup == 0 => Label::None,
            By::Service => Label::Cgroup(conn.cgroup),
            By::Remote if conn.role == Role::Client => Label::End(conn.tuple.remote()),
            // The port of whoever connects is another each time.
            By::Remote => Label::Address(conn.tuple.remote().ip()),
            By::Listener if conn.role == Role::Server => Label::End(conn.tuple.local()),
            By::Listener => Label::None,
            By::How => Label::Word(conn.how.name()),
            By::Failed => conn.failed.map_or(Label::None, |failed| Label::Word(failed.name())),
        }
    }
}

/// What a connection has of what groups have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Label {
    /// Nothing, or it is not known.
    None,
    /// A process; without an id, one of several of that name.
    Process(Comm, Option<u32>),
    /// A name.
    Comm(Comm),
    /// A cgroup, by its id.
    Cgroup(u64),
    /// An address and port.
    End(SocketAddr),
    /// An address.
    Address(IpAddr),
    /// A word of the JSON contract.
    Word(&'static str),
}
