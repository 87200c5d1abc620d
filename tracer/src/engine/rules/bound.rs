//! Ports that were chosen by bind, before connect: taken once for all destinations.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Mark};
use crate::engine::rules::group::process_of;
use crate::engine::rules::scene::{InUse, Route};

/// Clients' ports by local address.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    by_address: HashMap<(u32, IpAddr), Ports, FixedState>,
}

#[derive(Debug, Default)]
struct Ports {
    all: HashSet<u16, FixedState>,
    sockets: u64,
    time_wait: u64,
    /// Of those, whose port was chosen by bind.
    bound: u64,
    in_use: InUse,
}

impl Bound {
    /// A client's socket whose port is in the range.
    pub(crate) fn count(&mut self, conn: &Connection) {
        let local = conn.tuple.local();
        let ports = self.by_address.entry((conn.netns, local.ip())).or_default();
        ports.all.insert(local.port());
        ports.sockets += 1;
        ports.time_wait += u64::from(conn.state == TcpState::TimeWait);
        if conn.mark == Mark::BoundFirst {
            ports.bound += 1;
            ports.in_use.process = process_of(conn).or(ports.in_use.process);
        }
    }

    /// Addresses most of whose sockets were bound before they connected. Where two sockets have one
    /// port, bind shares it (SO_REUSEADDR), and ports do not run out.
    pub(crate) fn routes(self) -> impl Iterator<Item = (Route, InUse)> {
        self.by_address.into_iter().filter_map(|((netns, local), ports)| {
            let shared = ports.sockets != ports.all.len() as u64;
            if shared || ports.bound * 2 < ports.sockets {
                return None;
            }
            let any = match local {
                IpAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
                IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
            };
            let in_use = InUse { ports: ports.sockets, time_wait: ports.time_wait, ..ports.in_use };
            Some((Route { netns, local, remote: any }, in_use))
        })
    }
}
