//! Groups of stuck sockets: by process, state, and local port or remote endpoint.
//!
//! Not by opener: of some sockets of a leak the opener is known, of others (older than the tracer, or
//! their stack was lost) it is not, and it is one leak all the same. Two openers that leak at one place are
//! one finding with both names, too. Nobody can say which of them has the sockets without a name, and
//! who opened a pooled connection need not be who forgot it.

use crate::engine::conn::{Connection, Owner, Role};
use crate::engine::rules::cohort::Survival;
use crate::engine::rules::finding::Process;
use crate::engine::rules::fingerprint::{End, Timeout, idle_timeout};
use crate::engine::rules::id::RuleId;
use crate::engine::rules::openers::Opened;
use crate::engine::rules::place::{Place, Side};
use crate::engine::rules::quiet::Stillness;
use crate::event::{SockId, Tuple};
use crate::time::MonoNs;

/// Why they are stuck, where one state has several reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Cause {
    /// The state's own.
    Plain,
    /// A process that began after the connection has it, by inheritance.
    Inherited,
    /// Its segments are sent again and not acknowledged.
    Retransmitting,
    /// The peer's window is closed.
    ZeroWindow,
    /// TCP_DEFER_ACCEPT waits for data.
    Deferred,
}

impl Cause {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Cause::Plain => "",
            Cause::Inherited => "/inherited",
            Cause::Retransmitting => "/retransmitting",
            Cause::ZeroWindow => "/zero_window",
            Cause::Deferred => "/deferred",
        }
    }
}

/// What the sockets of a group have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The rule.
    pub rule: RuleId,
    pub(crate) cause: Cause,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Whose they are.
    pub process: Option<Process>,
    /// Where.
    pub side: Side,
    /// Of the workers of a service that are one group: their cgroup, or 0 where they share a listener.
    pub(crate) workers: Option<u64>,
}

impl Key {
    pub(crate) fn place(&self) -> Place {
        Place {
            netns: self.netns,
            pid: self.process.and_then(|process| process.pid),
            side: self.side,
        }
    }

    /// The finding's name: stable, and readable.
    pub(crate) fn id(&self) -> String {
        let pid = match (self.process.and_then(|process| process.pid), self.workers) {
            (Some(pid), _) => pid.to_string(),
            (None, Some(0)) => "*".to_owned(),
            (None, Some(cgroup)) => format!("*@{cgroup}"),
            (None, None) => "?".to_owned(),
        };
        let side = match self.side {
            Side::Local(port) => format!(":{port}"),
            Side::Remote(addr) => addr.to_string(),
            Side::Remotes => "*".to_owned(),
        };
        format!("{}{}/{pid}/{}/{side}", self.rule.name(), self.cause.name(), self.netns)
    }
}

/// A stuck socket of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) id: SockId,
    pub(crate) tuple: Tuple,
    /// Since when it has been stuck, at the latest.
    pub(crate) since: MonoNs,
    /// It was there before; `since` is the latest it can be.
    pub(crate) at_latest: bool,
    pub(crate) fd: Option<u32>,
}

/// A group under way.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: Key,
    pub(crate) members: Vec<Member>,
    /// Id of the cgroup of its first member, 0 when unknown.
    pub(crate) cgroup: u64,
    /// The processes, when the group is of several workers of a service.
    pub(crate) workers: Vec<u32>,
    pub(crate) survival: Survival,
    /// Of established ones, those over which no data goes.
    pub(crate) stillness: Stillness,
    /// Who opened them, as far as known.
    pub(crate) opened: Opened,
    /// Who else has them, by fork: opener and heirs.
    pub(crate) opened_by: Option<Process>,
    /// Of members in CLOSE_WAIT that nobody has accepted.
    pub(crate) given_up: u64,
    /// Bytes nobody has read, of members in CLOSE_WAIT without the FIN, which counts as one.
    pub(crate) unread: u64,
    /// Members in CLOSE_WAIT that have read the end, and that have not.
    pub(crate) end_read: u64,
    pub(crate) end_not_read: u64,
    /// Bytes not acknowledged.
    pub(crate) unsent: u64,
    /// Most retransmissions without an answer of one of them, and its last.
    pub(crate) most_unanswered: u32,
    /// Window probes without an answer, most.
    pub(crate) probes: u8,
    /// When the kernel gives the first of them up.
    pub(crate) first_give_up: Option<MonoNs>,
    /// When the kernel gives the last of them up.
    pub(crate) last_give_up: Option<MonoNs>,
    /// The application has closed them.
    pub(crate) orphans: u64,
    /// When the peer closed members, and for how long they had been idle.
    pub(crate) ends: Vec<End>,
    /// How long nothing had been sent to the peer when it closed, nanoseconds, where known.
    pub(crate) quiet: Vec<u64>,
    /// Without keepalive.
    pub(crate) without_keepalive: u64,
}

impl Group {
    pub(crate) fn new(key: Key) -> Group {
        Group {
            key,
            members: Vec::new(),
            cgroup: 0,
            workers: Vec::new(),
            survival: Survival::default(),
            stillness: Stillness::default(),
            opened: Opened::default(),
            opened_by: None,
            given_up: 0,
            unread: 0,
            end_read: 0,
            end_not_read: 0,
            unsent: 0,
            most_unanswered: 0,
            probes: 0,
            first_give_up: None,
            last_give_up: None,
            orphans: 0,
            ends: Vec::new(),
            quiet: Vec::new(),
            without_keepalive: 0,
        }
    }

    /// Takes another group in, whose endpoint no longer matters.
    pub(crate) fn merge(&mut self, other: Group) {
        self.members.extend(other.members);
        self.survival.merge(other.survival);
        self.stillness.merge(other.stillness);
        self.opened.merge(other.opened);
        self.opened_by = self.opened_by.or(other.opened_by);
        self.given_up += other.given_up;
        self.unread += other.unread;
        self.end_read += other.end_read;
        self.end_not_read += other.end_not_read;
        self.unsent += other.unsent;
        self.most_unanswered = self.most_unanswered.max(other.most_unanswered);
        self.probes = self.probes.max(other.probes);
        self.first_give_up = [self.first_give_up, other.first_give_up].into_iter().flatten().min();
        self.last_give_up = self.last_give_up.max(other.last_give_up);
        self.orphans += other.orphans;
        self.ends.extend(other.ends);
        self.quiet.extend(other.quiet);
        self.without_keepalive += other.without_keepalive;
    }

    pub(crate) fn count(&self) -> u64 {
        self.members.len() as u64
    }

    /// The idle timeout that the peers' FINs follow.
    pub(crate) fn idle_timeout(&self) -> Option<Timeout> {
        if (self.ends.len() as u64) * 2 < self.count() { None } else { idle_timeout(&self.ends) }
    }

    pub(crate) fn oldest_ns(&self, now: MonoNs) -> u64 {
        self.members.iter().map(|member| now.since(member.since)).max().unwrap_or(0)
    }

    /// The age of the oldest is a lower bound.
    pub(crate) fn oldest_is_at_least(&self) -> bool {
        self.members.iter().min_by_key(|member| member.since).is_some_and(|oldest| oldest.at_latest)
    }

    /// Different remote addresses, up to `most`.
    pub(crate) fn remotes(&self, most: usize) -> Vec<std::net::IpAddr> {
        let mut found = Vec::new();
        for member in &self.members {
            let addr = member.tuple.remote().ip();
            if !found.contains(&addr) {
                found.push(addr);
                if found.len() >= most {
                    break;
                }
            }
        }
        found
    }

    /// Whether all peers are on this machine, by their loopback addresses.
    pub(crate) fn is_local(&self) -> bool {
        self.members.iter().all(|member| member.tuple.remote().ip().is_loopback())
    }
}

/// Which end of a connection says what it is for. One whose listener is gone is told by its port:
/// below `first_ephemeral` it was a server's.
pub(crate) fn side_of(conn: &Connection, first_ephemeral: u16) -> Side {
    let tuple = &conn.tuple;
    let server = match conn.role {
        Role::Server | Role::Listener => true,
        Role::Client => false,
        Role::Unknown => tuple.local_port < first_ephemeral && tuple.remote_port >= first_ephemeral,
    };
    if server { Side::Local(tuple.local_port) } else { Side::Remote(conn.remote()) }
}

pub(crate) fn process_of(conn: &Connection) -> Option<Process> {
    let owner = conn.owner.as_ref()?;
    Some(Process { pid: Owner::pid(owner), comm: owner.task.comm })
}

pub(crate) fn place_of(conn: &Connection, first_ephemeral: u16) -> Place {
    let pid = process_of(conn).and_then(|process| process.pid);
    Place { netns: conn.netns, pid, side: side_of(conn, first_ephemeral) }
}
