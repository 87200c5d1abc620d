//! What is shown: the whole filter, decided on connections. The kernel decides the same earlier for
//! what it can know ([`Filter::kernel_side`]); a recording has it decided only here.

use std::net::IpAddr;

use tracer_common::TcpState;
use tracer_common::globals::{self, FILTER_SLOTS};

use crate::engine::conn::{Connection, How, Owner, Role, Unclaimed};
use crate::event::{Family, Holder, Tuple};
use crate::names::Names;
use crate::places::Places;

/// An address prefix; IPv4 stands v4-mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    net: u128,
    mask: u128,
}

impl Prefix {
    /// The first `length` bits of `addr` (of IPv4 at most 32, of IPv6 at most 128).
    #[must_use]
    pub fn new(addr: IpAddr, length: u8) -> Self {
        let (bits, length) = match addr {
            IpAddr::V4(v4) => (u128::from(v4.to_ipv6_mapped()), u32::from(length.min(32)) + 96),
            IpAddr::V6(v6) => (u128::from(v6), u32::from(length.min(128))),
        };
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        Prefix { net: bits & mask, mask }
    }

    fn holds(&self, addr: [u8; 16]) -> bool {
        u128::from_be_bytes(addr) & self.mask == self.net
    }
}

/// A range of ports, both ends in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

impl Ports {
    fn holds(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// A cgroup to be in or below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroup {
    /// Its id: the inode of its directory in the version 2 hierarchy.
    pub id: u64,
    /// Its depth below the root.
    pub level: u32,
    /// Ids of itself and of those below it when the run began.
    pub within: Vec<u64>,
}

/// Everything the command line can ask for. Within a kind the values are alternatives; all kinds
/// must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Processes.
    pub pids: Vec<u32>,
    /// Names of processes.
    pub comms: Vec<Vec<u8>>,
    /// Ports of either side.
    pub ports: Vec<Ports>,
    /// Ports of ours.
    pub local_ports: Vec<Ports>,
    /// Ports of the other side.
    pub remote_ports: Vec<Ports>,
    /// Addresses of either side.
    pub prefixes: Vec<Prefix>,
    /// Family.
    pub family: Option<Family>,
    /// States left or entered.
    pub states: Vec<TcpState>,
    /// Our side of the handshake.
    pub role: Option<Role>,
    /// Inode of the network namespace.
    pub netns: Option<u32>,
    /// Cgroup; for events decided in the kernel, for sockets older than the run here.
    pub cgroup: Option<Cgroup>,
    /// Service, container and pod; decided here.
    pub places: Places,
    /// How it ended.
    pub hows: Vec<How>,
    /// It was never established.
    pub failed: bool,
    /// Least time, nanoseconds; the view knows of what.
    pub min_ns: u64,
}

impl Filter {
    /// Takes notice of names that have come: they decide which cgroups are wanted.
    pub fn learn(&self, names: &Names) {
        self.places.learn(names);
    }

    /// Whether every connection is wanted of a run that was of this network namespace only, or of all: then none has to
    /// be asked about.
    #[must_use]
    pub fn wants_all(&self, only_netns: Option<u32>) -> bool {
        (self.netns.is_none() || self.netns == only_netns)
            && *self == Filter { netns: self.netns, ..Filter::default() }
    }

    /// Whether this connection is wanted at all; `None` while its local port is not known and
    /// decides.
    #[must_use]
    pub fn wants(&self, conn: &Connection) -> Option<bool> {
        let any_owner = self.pids.is_empty() && self.comms.is_empty();
        if !(any_owner || self.wants_owner(conn))
            || self.family.is_some_and(|family| family != conn.tuple.family)
            || self.role.is_some_and(|role| role != conn.role)
            || self.netns.is_some_and(|netns| netns != conn.netns)
            || !self.wants_address(&conn.tuple)
            || !self.wants_cgroup(conn)
            || !self.places.wants(conn.cgroup)
        {
            return Some(false);
        }
        self.wants_ports(&conn.tuple)
    }

    /// Whether a socket is wanted that is in CLOSE, of which only this is known: who holds it, and the ends
    /// of its last connection.
    #[must_use]
    pub fn wants_closed(&self, holder: &Holder, last: Option<(&Tuple, Role)>) -> bool {
        let who = (self.pids.is_empty() || self.pids.contains(&holder.pid))
            && (self.comms.is_empty() || self.wants_name(holder.comm.bytes()));
        let here = self.netns.is_none_or(|netns| netns == holder.netns);
        let in_state = self.states.is_empty() || self.states.contains(&TcpState::Close);
        let by_ends = self.family.is_some()
            || self.role.is_some()
            || self.cgroup.is_some()
            || !self.prefixes.is_empty()
            || !self.ports.is_empty()
            || !self.local_ports.is_empty()
            || !self.remote_ports.is_empty();
        let ends = match last {
            // What the kernel's side of the filter knows, it has decided.
            Some((tuple, role)) => {
                self.role.is_none_or(|wanted| wanted == role) && self.wants_tuple(tuple)
            }
            None => !by_ends,
        };
        // Of a descriptor nothing says where it runs.
        who && here && in_state && ends && self.places.is_empty()
    }

    /// Whether dropped segments of no connection are wanted; `owner` has the listener they were for.
    #[must_use]
    pub fn wants_unclaimed(&self, group: &Unclaimed, owner: Option<&Owner>) -> bool {
        let who = match owner {
            Some(owner) => {
                (self.pids.is_empty() || self.pids.contains(&owner.task.pid))
                    && (self.comms.is_empty() || self.wants_name(owner.task.comm.bytes()))
            }
            None => self.pids.is_empty() && self.comms.is_empty(),
        };
        who && self.netns.is_none_or(|netns| netns == group.netns)
            && self.role.is_none_or(|role| role == Role::Listener && owner.is_some())
            && self.states.is_empty()
            && self.places.is_empty()
            && self.min_ns == 0
            && !self.is_of_ends()
            // As in the kernel: the connection of either end may be meant.
            && (self.wants_tuple(&group.tuple) || self.wants_tuple(&group.tuple.reversed()))
    }

    /// Whether connections with these ends can be wanted: family, addresses and ports.
    #[must_use]
    pub fn wants_tuple(&self, tuple: &Tuple) -> bool {
        self.family.is_none_or(|family| family == tuple.family)
            && self.wants_address(tuple)
            && self.wants_ports(tuple) == Some(true)
    }

    fn wants_name(&self, name: &[u8]) -> bool {
        // What is longer than the kernel keeps matches by what it keeps.
        self.comms.iter().any(|comm| &comm[..comm.len().min(15)] == name)
    }

    /// Whether some of it can only be decided on connections, not on records.
    #[must_use]
    pub fn is_partly_for_views(&self) -> bool {
        let here = !self.pids.is_empty() || !self.comms.is_empty() || !self.states.is_empty();
        let here = here || !self.places.is_empty();
        here || self.role.is_some() || self.min_ns != 0 || self.is_of_ends()
    }

    /// Whether it chooses connections by their end, so that only what has one can be wanted.
    #[must_use]
    pub fn is_of_ends(&self) -> bool {
        self.failed || !self.hows.is_empty()
    }

    /// Whether the end of a connection that has one is wanted.
    #[must_use]
    pub fn wants_end(&self, conn: &Connection) -> bool {
        (!self.failed || conn.failed.is_some())
            && (self.hows.is_empty() || self.hows.contains(&conn.how))
    }

    /// The same, whatever the ends are: for an output that takes what has none.
    #[must_use]
    pub fn without_ends(&self) -> Filter {
        Filter { hows: Vec::new(), failed: false, ..self.clone() }
    }

    /// Whether a transition between these states is wanted.
    #[must_use]
    pub fn wants_states(&self, old: TcpState, new: TcpState) -> bool {
        self.states.is_empty() || self.states.contains(&old) || self.states.contains(&new)
    }

    fn wants_cgroup(&self, conn: &Connection) -> bool {
        // One that was seen from its beginning was let through by the kernel.
        self.cgroup
            .as_ref()
            .is_none_or(|cgroup| conn.complete || cgroup.within.contains(&conn.cgroup))
    }

    fn wants_owner(&self, conn: &Connection) -> bool {
        let Some(owner) = &conn.owner else { return false };
        (self.pids.is_empty() || self.pids.contains(&owner.task.pid))
            && (self.comms.is_empty()
                || self.comms.iter().any(|comm| {
                    // What is longer than the kernel keeps matches by what it keeps.
                    let kept = &comm[..comm.len().min(15)];
                    kept == owner.task.comm.bytes() || kept == owner.task.thread.bytes()
                }))
    }

    fn wants_address(&self, tuple: &Tuple) -> bool {
        self.prefixes.is_empty()
            || self
                .prefixes
                .iter()
                .any(|prefix| prefix.holds(tuple.local_addr) || prefix.holds(tuple.remote_addr))
    }

    fn wants_ports(&self, tuple: &Tuple) -> Option<bool> {
        let any = |ranges: &[Ports], port: u16| {
            ranges.is_empty() || ranges.iter().any(|range| range.holds(port))
        };
        if !any(&self.remote_ports, tuple.remote_port) {
            return Some(false);
        }
        let remote_is_either =
            self.ports.is_empty() || self.ports.iter().any(|range| range.holds(tuple.remote_port));
        if tuple.local_port == 0 {
            return if self.local_ports.is_empty() && remote_is_either { Some(true) } else { None };
        }
        Some(
            any(&self.local_ports, tuple.local_port)
                && (remote_is_either || any(&self.ports, tuple.local_port)),
        )
    }

    /// What the programs are to let through: everything that they can know. More values of a kind
    /// than they have room for are left to user space.
    #[must_use]
    pub fn kernel_side(&self) -> globals::Filter {
        let mut kernel = globals::Filter {
            family: match self.family {
                None => 0,
                Some(Family::V4) => 4,
                Some(Family::V6) => 6,
            },
            netns: self.netns.unwrap_or(0),
            cgroup: self.cgroup.as_ref().map_or(0, |cgroup| cgroup.id),
            cgroup_level: self.cgroup.as_ref().map_or(0, |cgroup| cgroup.level),
            ..globals::Filter::default()
        };
        kernel.either_count = fill(&mut kernel.either_ports, &self.ports);
        kernel.local_count = fill(&mut kernel.local_ports, &self.local_ports);
        kernel.remote_count = fill(&mut kernel.remote_ports, &self.remote_ports);
        if self.prefixes.len() <= FILTER_SLOTS {
            kernel.prefix_count = u32::try_from(self.prefixes.len()).unwrap_or(0);
            for (slot, prefix) in kernel.prefixes.iter_mut().zip(&self.prefixes) {
                *slot = globals::Prefix { net: halves(prefix.net), mask: halves(prefix.mask) };
            }
        }
        kernel.on = u32::from(kernel != globals::Filter::default());
        kernel
    }
}

fn fill(slots: &mut [globals::PortRange; FILTER_SLOTS], ports: &[Ports]) -> u32 {
    if ports.len() > FILTER_SLOTS {
        return 0;
    }
    for (slot, range) in slots.iter_mut().zip(ports) {
        *slot = globals::PortRange { first: range.first, last: range.last };
    }
    u32::try_from(ports.len()).unwrap_or(0)
}

/// As the programs load an address: two words of its bytes in memory order.
fn halves(bits: u128) -> [u64; 2] {
    let bytes = bits.to_be_bytes();
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_they_say() {
        let check = |net: &str, length, addr: &str, expect| {
            let prefix = Prefix::new(net.parse().expect("an address"), length);
            let addr = match addr.parse().expect("an address") {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            assert_eq!(prefix.holds(addr), expect, "{net}/{length} {addr:?}");
        };
        check("10.0.0.0", 8, "10.255.1.2", true);
        check("10.0.0.0", 8, "11.0.0.1", false);
        check("0.0.0.0", 0, "203.0.113.9", true);
        check("0.0.0.0", 0, "2001:db8::1", false);
        check("::", 0, "2001:db8::1", true);
        check("::", 0, "192.0.2.1", true);
        check("2001:db8::", 32, "2001:db8:1::1", true);
        check("2001:db8::", 32, "2001:db9::1", false);
        check("127.0.0.1", 32, "127.0.0.1", true);
        check("127.0.0.1", 32, "127.0.0.2", false);
    }

    #[test]
    fn more_than_the_kernel_holds_is_left_to_user_space() {
        let ports = |n: u16| (0..n).map(|port| Ports { first: port, last: port }).collect();
        let eight = Filter { ports: ports(8), ..Filter::default() };
        assert_eq!((eight.kernel_side().on, eight.kernel_side().either_count), (1, 8));
        let nine = Filter { ports: ports(9), ..Filter::default() };
        assert_eq!((nine.kernel_side().on, nine.kernel_side().either_count), (0, 0));
        assert_eq!(Filter::default().kernel_side(), globals::Filter::default());
    }
}
