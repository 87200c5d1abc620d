//! What a look over the table reads, and what it counts by process and destination.

use std::net::IpAddr;

use crate::engine::conn::Table;
use crate::engine::rules::cohort::Cohorts;
use crate::engine::rules::finding::Process;
use crate::engine::rules::fingerprint::Fins;
use crate::engine::rules::openers::Openers;
use crate::engine::rules::progress::Progress;
use crate::engine::rules::quiet::Quiet;
use crate::engine::rules::trouble::Troubles;
use crate::engine::rules::{Surroundings, Thresholds};
use crate::event::{Comm, SockId};
use crate::filter::Filter;
use crate::time::MonoNs;

/// What a scan reads.
pub(crate) struct Scene<'a> {
    pub(crate) table: &'a Table,
    pub(crate) filter: &'a Filter,
    pub(crate) around: &'a Surroundings,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) troubles: &'a Troubles,
    pub(crate) cohorts: &'a Cohorts,
    pub(crate) openers: &'a Openers,
    /// What was known of what is in CLOSE_WAIT now when the FIN came.
    pub(crate) fins: &'a Fins,
    pub(crate) progress: &'a Progress,
    pub(crate) quiet: &'a Quiet,
    /// Who used still connections again, or closed them.
    pub(crate) revived: &'a Cohorts,
    pub(crate) now: MonoNs,
    /// Also count by process and destination, which is dearer.
    pub(crate) counts: bool,
}

/// A listener and its queue, as of the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) id: SockId,
    pub(crate) netns: u32,
    pub(crate) port: u16,
    pub(crate) process: Option<Process>,
    pub(crate) waiting: u32,
    pub(crate) backlog: u32,
}

/// Sockets of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) comm: Comm,
    pub(crate) sockets: u64,
    /// Id of its cgroup, 0 when unknown.
    pub(crate) cgroup: u64,
}

/// A local address and the destination its ports are used up for; one of port 0 stands for all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Route {
    pub(crate) netns: u32,
    pub(crate) local: IpAddr,
    pub(crate) remote: std::net::SocketAddr,
}

/// Local ports in use for a route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InUse {
    pub(crate) ports: u64,
    /// Of those, in TIME_WAIT.
    pub(crate) time_wait: u64,
    /// Of those, such as a new connection may take over (`tcp_tw_reuse`).
    pub(crate) reusable: u64,
    /// One of those who use them.
    pub(crate) process: Option<Process>,
}
