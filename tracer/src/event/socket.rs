//! Which socket: its identity and its ends.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The identity of a socket: its cookie, which `ss -e` prints as `sk:` in hexadecimal. On kernels
/// without cookies in tracing programs (before 5.12) a number that [`crate::engine::conn::Identities`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SockId(pub u64);

/// Family as people see it: v4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4, or IPv6 with v4-mapped addresses.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// `ipv4` or `ipv6`, as in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// Both ends of a connection. Addresses stand as IPv6, those of IPv4 v4-mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tuple {
    /// Our address.
    pub local_addr: [u8; 16],
    /// The other side's address; unspecified for a listener.
    pub remote_addr: [u8; 16],
    /// Our port; 0 when the kernel has not chosen it.
    pub local_port: u16,
    /// The other side's port; 0 for a listener.
    pub remote_port: u16,
    /// What the addresses are shown as.
    pub family: Family,
}

impl Tuple {
    /// Our end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        socket_addr(self.local_addr, self.local_port, self.family)
    }

    /// The other end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        socket_addr(self.remote_addr, self.remote_port, self.family)
    }

    /// The same connection seen from the other end.
    #[must_use]
    pub fn reversed(&self) -> Tuple {
        Tuple {
            local_addr: self.remote_addr,
            remote_addr: self.local_addr,
            local_port: self.remote_port,
            remote_port: self.local_port,
            family: self.family,
        }
    }

    /// Whether both ports are known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.local_port != 0 && self.remote_port != 0
    }

    /// Whether our address is of this host's loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.local().ip().is_loopback()
    }
}

fn socket_addr(addr: [u8; 16], port: u16, family: Family) -> SocketAddr {
    let ip = match family {
        // The unspecified address of a dual-stack socket that turned out to be IPv4 is 0.0.0.0.
        Family::V4 => IpAddr::from([addr[12], addr[13], addr[14], addr[15]]),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(addr)),
    };
    SocketAddr::new(ip, port)
}
