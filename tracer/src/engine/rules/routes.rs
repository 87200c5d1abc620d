//! Local ports in use, by destination.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};
use crate::engine::rules::bound::Bound;
use crate::engine::rules::group::process_of;
use crate::engine::rules::scene::{InUse, Route, Scene};
use crate::event::Shape;

/// `TCP_TIMEWAIT` sockets younger than this are not used again, with `tcp_tw_reuse` either.
const REUSE_NS: u64 = 1_000_000_000;

pub(crate) fn is_clients(conn: &Connection) -> bool {
    !matches!(conn.role, Role::Server | Role::Listener) && conn.shape != Shape::Request
}

/// Counts ports by destination, in namespaces that have enough clients for it to matter.
pub(crate) fn in_use(
    scene: &Scene<'_>,
    clients: &HashMap<u32, u64, FixedState>,
) -> HashMap<Route, InUse, FixedState> {
    let mut routes: HashMap<Route, InUse, FixedState> = HashMap::default();
    let ports = |netns: u32| scene.around.netns(netns).ports();
    let many: Vec<u32> = clients
        .iter()
        .filter(|&(&netns, &count)| ports(netns).is_some_and(|ports| count * 4 > ports))
        .map(|(&netns, _)| netns)
        .collect();
    if many.is_empty() {
        return routes;
    }
    let mut bound = Bound::default();
    for conn in scene.table.iter() {
        if conn.state == TcpState::Close || !is_clients(conn) || !many.contains(&conn.netns) {
            continue;
        }
        let facts = scene.around.netns(conn.netns);
        let port = conn.tuple.local_port;
        if facts.port_range.is_none_or(|(first, last)| port < first || port > last) {
            continue;
        }
        bound.count(conn);
        let remote = conn.remote();
        let route = Route { netns: conn.netns, local: conn.tuple.local().ip(), remote };
        let in_use = routes.entry(route).or_default();
        in_use.ports += 1;
        if conn.state == TcpState::TimeWait {
            in_use.time_wait += 1;
            let reuse = match facts.tw_reuse {
                Some(1) => true,
                Some(2) => conn.tuple.is_loopback(),
                _ => false,
            };
            let old = conn.in_state(scene.now).ns().is_some_and(|ns| ns > REUSE_NS);
            in_use.reusable += u64::from(reuse && old);
        }
        if in_use.process.is_none() || conn.state != TcpState::TimeWait {
            in_use.process = process_of(conn).or(in_use.process);
        }
    }
    routes.extend(bound.routes());
    routes
}
