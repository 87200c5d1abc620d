//! What runs out: accept queues, descriptors, ports.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::accept_queue::Queues;
use crate::engine::rules::closed::Closed;
use crate::engine::rules::gate::Shares;
use crate::engine::rules::growth::Series;
use crate::engine::rules::scan::Scan;
use crate::engine::rules::scene::{Held, Listener, Route};
use crate::engine::rules::{Finding, RuleId, Surroundings, Thresholds, fds, fds_workers, ports};
use crate::time::MonoNs;

/// Destinations whose ports are followed.
const MOST_ROUTES: usize = 1_024;

/// Local ports towards one destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortUse {
    /// In use, and not to be had for a new connection.
    pub taken: u64,
    /// How many there are.
    pub limit: u64,
}

/// What is followed of them from look to look.
#[derive(Debug, Default)]
pub(crate) struct Exhaustion {
    queues: Queues,
    /// Sockets by process, as of the last time they were counted.
    held: HashMap<u32, Held, FixedState>,
    routes: HashMap<Route, Series, FixedState>,
    port_findings: Vec<Finding>,
    /// By process, its destination that has most of its ports in use.
    port_use: HashMap<u32, PortUse, FixedState>,
    shares: Shares,
}

/// What it reads of the watch.
pub(crate) struct Scene<'a> {
    pub(crate) around: &'a Surroundings,
    pub(crate) closed: &'a Closed,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) now: MonoNs,
    /// This look has counted by process and destination.
    pub(crate) counts: bool,
}

impl Exhaustion {
    /// How much of each is in use.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Ports in use by process: of the destination that it has most of them in use for, as of the last count. Only of
    /// one of those processes that share a destination.
    pub(crate) fn port_use(&self) -> impl Iterator<Item = (u32, PortUse)> {
        self.port_use.iter().map(|(&pid, &port_use)| (pid, port_use))
    }

    /// Looks at what a scan found, and adds what runs out to the findings.
    pub(crate) fn look(&mut self, found: &Scan, scene: &Scene<'_>, findings: &mut Vec<Finding>) {
        let queue = scene.thresholds.of(RuleId::AcceptQueue);
        self.queues.check(&found.listeners, scene.around, queue, scene.now, findings);
        self.shares.accept_queue = fullest(&found.listeners);
        if scene.counts {
            self.held.clone_from(&found.held);
            self.count_ports(found, scene);
        }
        findings.extend(self.port_findings.iter().cloned());
        self.count_descriptors(&found.listeners, scene, findings);
    }

    fn count_descriptors(
        &mut self,
        listeners: &[Listener],
        scene: &Scene<'_>,
        findings: &mut Vec<Finding>,
    ) {
        let within = scene.thresholds.of(RuleId::Fds);
        self.shares.fds = 0;
        let mut of_processes = Vec::new();
        for (pid, process) in scene.around.processes() {
            let held = self.held.get(&pid).copied().or_else(|| scene.closed.held(pid));
            let Some(held) = held else { continue };
            if let (Some(fds), Some(limit)) =
                (process.fds, process.limit.filter(|&limit| limit != 0))
            {
                self.shares.fds = self.shares.fds.max(fds.saturating_mul(100) / limit);
            }
            let told = findings.iter().any(|finding| finding.is_about(pid));
            let sockets = fds::Sockets { held, closed: scene.closed.of(pid), told };
            let finding = fds::check(pid, sockets, process, listeners, within);
            of_processes.extend(
                finding.map(|finding| (held.cgroup, Finding { cgroup: held.cgroup, ..finding })),
            );
        }
        findings.extend(fds_workers::merged(of_processes));
    }

    fn count_ports(&mut self, found: &Scan, scene: &Scene<'_>) {
        let within = scene.thresholds.of(RuleId::Ports);
        self.routes.retain(|route, _| found.routes.contains_key(route));
        self.port_findings.clear();
        self.port_use.clear();
        self.shares.ports = 0;
        let mut routes: Vec<_> = found.routes.iter().collect();
        routes.sort_unstable_by_key(|(route, in_use)| (std::cmp::Reverse(in_use.ports), **route));
        for (route, in_use) in routes.into_iter().take(MOST_ROUTES) {
            let facts = scene.around.netns(route.netns);
            let series = self.routes.entry(*route).or_default();
            series.push(scene.now, ports::taken(in_use));
            if let Some(range) = facts.ports().filter(|&range| range != 0) {
                let taken = ports::taken(in_use);
                self.shares.ports = self.shares.ports.max(taken * 100 / range);
                if let Some(pid) = in_use.process.and_then(|process| process.pid) {
                    let now = PortUse { taken, limit: range };
                    let known = self.port_use.entry(pid).or_insert(now);
                    if now.taken * known.limit > known.taken * now.limit {
                        *known = now;
                    }
                }
            }
            self.port_findings.extend(ports::check(route, in_use, series, &facts, within));
        }
    }
}

/// Percent in use of the fullest accept queue.
fn fullest(listeners: &[Listener]) -> u64 {
    listeners
        .iter()
        .filter(|listener| listener.backlog != 0)
        .map(|listener| u64::from(listener.waiting) * 100 / (u64::from(listener.backlog) + 1))
        .max()
        .unwrap_or(0)
}
