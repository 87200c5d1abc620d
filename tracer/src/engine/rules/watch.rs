//! The watch: takes in what happens, looks over the table now and then, and says what is found, what
//! has changed and what is over.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, Kind, Poll, Table};
use crate::engine::rules::accept_queue::Queues;
use crate::engine::rules::closed::{self, Closed};
use crate::engine::rules::cohort::Cohorts;
use crate::engine::rules::fingerprint::Fins;
use crate::engine::rules::gate::Shares;
use crate::engine::rules::group::place_of;
use crate::engine::rules::growth::Series;
use crate::engine::rules::idle::Idle;
use crate::engine::rules::idle_reset::IdleResets;
use crate::engine::rules::judge::{Before, Court};
use crate::engine::rules::progress::Progress;
use crate::engine::rules::quiet::Quiet;
use crate::engine::rules::scan::{Scan, scan};
use crate::engine::rules::scene::{Held, Route, Scene};
use crate::engine::rules::stale_reuse::StaleReuse;
use crate::engine::rules::time_wait_overflow::Overflows;
use crate::engine::rules::trouble::Troubles;
use crate::engine::rules::{
    Facts, Finding, Gate, Openers, RuleId, Severity, Surroundings, Thresholds, Update, fds, gate,
    ports,
};
use crate::event::{Ages, Direction, Event, Existing, Shape, SockId};
use crate::filter::Filter;
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// Looks are further apart the more there is to look at: a second more for each so many.
const PER_SECOND: u64 = 25_000;
/// Processes and destinations are counted this often.
const COUNT_EVERY_NS: u64 = 2 * SECOND;
/// A finding that only grows is told again after this time, then after twice that, ...
const TELL_FIRST_NS: u64 = 10 * SECOND;
/// ... up to this.
const TELL_MOST_NS: u64 = 300 * SECOND;
/// Processes whose descriptors are read.
const MOST_PROCESSES: usize = 256;
/// Destinations whose ports are followed.
const MOST_ROUTES: usize = 1_024;
/// A namespace whose last socket is gone for this long is not looked at any more.
const RECENT_NS: u64 = 60 * SECOND;

/// What a watch is to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// Conditions that end the run.
    pub gates: Vec<Gate>,
    /// Length of the kernel's jiffy.
    pub jiffy_ns: u64,
}

/// What a watch needs to be told: of which processes and namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Processes that hold sockets, those with the most.
    pub pids: Vec<u32>,
    /// Inodes of network namespaces with sockets.
    pub netns: Vec<u32>,
}

#[derive(Debug)]
struct Active {
    finding: Finding,
    since: MonoNs,
    told: MonoNs,
    /// Not told again before this has passed.
    pause_ns: u64,
    /// As it was told.
    told_count: u64,
    told_left: Option<u64>,
    seen: bool,
    counts: Series,
}

/// The watch.
#[derive(Debug)]
pub struct Watch {
    options: Options,
    around: Surroundings,
    /// Which code opened which socket.
    pub openers: Openers,
    troubles: Troubles,
    cohorts: Cohorts,
    progress: Progress,
    quiet: Quiet,
    /// Who used still connections again, or closed them.
    revived: Cohorts,
    idle: Idle,
    closed: Closed,
    overflows: Overflows,
    /// Namespaces that had sockets not long ago, and when.
    recent_netns: BTreeMap<u32, MonoNs>,
    closed_findings: Vec<Finding>,
    /// Sockets whose connection has gone, and whose openers are kept: their descriptors may be there.
    gone: HashSet<SockId, FixedState>,
    queues: Queues,
    /// What was known of the sockets that are in CLOSE_WAIT now when the FIN came.
    fins: Fins,
    stale_reuse: StaleReuse,
    idle_resets: IdleResets,
    /// Whose resets count.
    filter: Filter,
    active: BTreeMap<String, Active>,
    held: HashMap<u32, Held, FixedState>,
    routes: HashMap<Route, Series, FixedState>,
    port_findings: Vec<Finding>,
    needs: Needs,
    shares: Shares,
    sockets: u64,
    next: MonoNs,
    next_count: MonoNs,
    failed: Option<String>,
}

impl Watch {
    /// A new one; it knows nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Watch {
        Watch {
            options,
            around: Surroundings::default(),
            openers: Openers::default(),
            troubles: Troubles::default(),
            cohorts: Cohorts::default(),
            progress: Progress::default(),
            quiet: Quiet::default(),
            revived: Cohorts::default(),
            idle: Idle::default(),
            closed: Closed::default(),
            overflows: Overflows::default(),
            recent_netns: BTreeMap::new(),
            closed_findings: Vec::new(),
            gone: HashSet::default(),
            queues: Queues::default(),
            fins: Fins::default(),
            stale_reuse: StaleReuse::default(),
            idle_resets: IdleResets::default(),
            filter: Filter::default(),
            active: BTreeMap::new(),
            held: HashMap::default(),
            routes: HashMap::default(),
            port_findings: Vec::new(),
            needs: Needs::default(),
            shares: Shares::default(),
            sockets: 0,
            next: MonoNs(0),
            next_count: MonoNs(0),
            failed: None,
        }
    }

    /// The thresholds in force.
    #[must_use]
    pub fn thresholds(&self) -> &Thresholds {
        &self.options.thresholds
    }

    /// A change of a connection: counters only.
    pub fn change(&mut self, conn: &Connection, change: &Change) {
        if let Kind::Transition { old: TcpState::Established, .. } = change.kind
            && let Some(still_ns) = self.quiet.ended(conn.id, change.at)
        {
            self.revive(conn, still_ns, change.at);
        }
        match change.kind {
            Kind::Transition { old: TcpState::CloseWait, in_old, .. } if conn.accepted => {
                let place = place_of(conn, self.around.first_ephemeral(conn.netns));
                let threshold = self.options.thresholds.of(RuleId::CloseWait);
                let stayed = in_old.ns().unwrap_or(0).min(self.progress.still(conn.id, change.at));
                self.cohorts.left(place, stayed, threshold, change.at);
            }
            Kind::Transition {
                old: TcpState::Established,
                new: TcpState::CloseWait,
                ages: Some(ages),
                ..
            } => self.fins.closed(conn, change.at, ages, self.options.jiffy_ns),
            Kind::Reset { direction: Direction::Received, state, ages: Some(ages), .. } => {
                self.reset(conn, state, ages, change.at);
            }
            Kind::Retransmit { segment, .. } => {
                self.troubles.retransmit(conn.id, conn.netns, change.at, segment);
            }
            Kind::Gone => {
                self.troubles.gone(conn.id);
                self.progress.gone(conn.id);
                self.idle.gone(conn.id);
                if conn.orphan || conn.shape != Shape::Full {
                    self.openers.forget(conn.id);
                } else {
                    self.gone.insert(conn.id);
                }
                self.fins.gone(conn.id);
            }
            _ => {}
        }
    }

    /// A row of a walk.
    pub fn row(&mut self, event: &Event, row: &Existing) {
        let jiffy = self.options.jiffy_ns;
        self.troubles.row(event, row, jiffy);
        self.progress.row(event, row, jiffy);
        self.quiet.row(event, row, jiffy, self.options.thresholds.of(RuleId::EstablishedIdle));
        self.idle.row(event, row, jiffy, self.options.thresholds.of(RuleId::Idle));
        self.fins.row(event, row, jiffy);
    }

    /// A connection that had been still was used again, or ended.
    fn revive(&mut self, conn: &Connection, still_ns: u64, at: MonoNs) {
        let place = place_of(conn, self.around.first_ephemeral(conn.netns));
        let threshold = self.options.thresholds.of(RuleId::EstablishedIdle);
        self.revived.left(place, still_ns, threshold, at);
    }

    /// A RST came: to a connection that the peer had closed, or to one that was idle.
    fn reset(&mut self, conn: &Connection, state: TcpState, ages: Ages, at: MonoNs) {
        if self.filter.wants(conn) == Some(false) {
            return;
        }
        let opener = self.openers.of(conn.id);
        let around = (self.options.jiffy_ns, self.around.first_ephemeral(conn.netns));
        if state == TcpState::Established {
            self.idle_resets.reset(conn, ages, at, opener, around);
        } else {
            let fin = self.fins.of(conn.id);
            self.stale_reuse.reset(conn, (state, ages), at, (fin, opener), around);
        }
    }

    /// Of what has happened only what passes this filter counts.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// A walk is over.
    pub fn end_poll(&mut self, poll: &Poll) {
        self.troubles.end_poll(poll);
        self.progress.end_poll(poll);
        self.quiet.end_poll(poll);
    }

    /// What was read around.
    pub fn facts(&mut self, facts: &Facts) {
        self.around.take_in(facts);
        self.overflows.take_in(facts);
    }

    /// What should be read around.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Whether who holds what is worth another look: something is stuck.
    #[must_use]
    pub fn suspects(&self) -> bool {
        self.active.values().any(|active| active.finding.severity != Severity::Note)
    }

    /// What is found now, the worst first.
    #[must_use]
    pub fn findings(&self) -> Vec<(&Finding, MonoNs)> {
        let mut all: Vec<_> =
            self.active.values().map(|active| (&active.finding, active.since)).collect();
        all.sort_by_key(|(finding, since)| {
            (finding.severity, std::cmp::Reverse(finding.count), *since)
        });
        all
    }

    /// Findings that are a reason to act.
    #[must_use]
    pub fn stuck(&self) -> u64 {
        gate::findings(self.active.values().map(|active| &active.finding))
    }

    /// Sockets that pass the filter, as of the last look.
    #[must_use]
    pub fn sockets(&self) -> u64 {
        self.sockets
    }

    /// Why the run is to end, once a condition of `--fail-on` held.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Looks for what should be read around, before the first look proper.
    pub fn survey(&mut self, table: &Table, filter: &Filter, now: MonoNs) {
        let found = self.scan(table, filter, now, true);
        self.note_needs(&found, now);
    }

    /// The next look is not to wait until it is time to.
    pub fn hurry(&mut self) {
        (self.next, self.next_count) = (MonoNs(0), MonoNs(0));
    }

    /// Looks, when it is time to; says what appeared, changed and went.
    pub fn look(
        &mut self,
        table: &Table,
        filter: &Filter,
        now: MonoNs,
        updates: &mut Vec<(Update, Finding)>,
    ) -> bool {
        if now < self.next {
            return false;
        }
        // Ticks come every second, give or take.
        let pause = SECOND + table.len() as u64 * SECOND / PER_SECOND;
        self.next = now.after(pause - SECOND / 2);
        let counts = now >= self.next_count;
        if counts {
            self.next_count = now.after(COUNT_EVERY_NS - SECOND / 2);
        }
        for resumed in self.quiet.take_resumed() {
            if let Some(conn) = table.find_open(resumed.id) {
                self.revive(conn, resumed.still_ns, resumed.at);
            }
        }
        let found = self.scan(table, filter, now, counts);
        self.sockets = found.sockets;
        let mut findings = Vec::new();
        for group in &found.groups {
            let active = self.active.get(&group.key.id());
            let before =
                active.map(|active| Before { finding: &active.finding, counts: &active.counts });
            let court = Court { table, around: &self.around, thresholds: &self.options.thresholds };
            findings.extend(court.judge(group, before, now));
        }
        self.exhaustion(&found, counts, now, &mut findings);
        let thresholds = self.options.thresholds;
        let least = thresholds.of(RuleId::StaleReuse);
        self.stale_reuse.findings(least, &self.openers, now, &mut findings);
        self.idle_resets.findings(thresholds.of(RuleId::IdleReset), now, &mut findings);
        let scene = (filter, &self.around);
        self.idle.notes(table, scene, thresholds.of(RuleId::Idle), now, &mut findings);
        if counts {
            self.look_at_closed(table, filter, now);
            self.note_needs(&found, now);
        }
        findings.extend(self.closed_findings.iter().cloned());
        let within = self.options.thresholds.of(RuleId::TimeWaitOverflow);
        findings.extend(self.overflows.findings(within, now));
        self.settle(findings, now, updates);
        let count = self.stuck();
        let failed = self
            .options
            .gates
            .iter_mut()
            .filter_map(|gate| gate.check(&found, &self.shares, count, now))
            .next();
        self.failed = self.failed.take().or(failed);
        true
    }

    fn scan(&self, table: &Table, filter: &Filter, now: MonoNs, counts: bool) -> Scan {
        scan(&Scene {
            table,
            filter,
            around: &self.around,
            thresholds: &self.options.thresholds,
            troubles: &self.troubles,
            cohorts: &self.cohorts,
            openers: &self.openers,
            fins: &self.fins,
            progress: &self.progress,
            quiet: &self.quiet,
            revived: &self.revived,
            now,
            counts,
        })
    }

    /// Descriptors of sockets that are in CLOSE.
    fn look_at_closed(&mut self, table: &Table, filter: &Filter, now: MonoNs) {
        let openers = &mut self.openers;
        self.gone.retain(|&id| {
            let stays = table.leftover(id).is_some();
            if !stays && !table.has(id) {
                openers.forget(id);
            }
            stays
        });
        let scene = closed::Scene {
            table,
            filter,
            openers: &self.openers,
            threshold_ns: self.options.thresholds.of(RuleId::Closed),
            now,
        };
        self.closed_findings = self.closed.look(&scene);
    }

    fn note_needs(&mut self, found: &Scan, now: MonoNs) {
        let mut pids: Vec<(u64, u32)> =
            found.held.iter().map(|(&pid, held)| (held.sockets, pid)).collect();
        pids.sort_unstable_by(|one, other| other.cmp(one));
        let more = self.closed.processes().filter(|pid| !found.held.contains_key(pid));
        pids.extend(more.map(|pid| (self.closed.of(pid), pid)));
        self.needs.pids = pids.into_iter().take(MOST_PROCESSES).map(|(_, pid)| pid).collect();
        // What closes without a TIME_WAIT leaves nothing behind.
        self.recent_netns.extend(found.netns.iter().map(|&netns| (netns, now)));
        self.recent_netns.retain(|_, &mut at| now.since(at) < RECENT_NS);
        self.needs.netns = self.recent_netns.keys().copied().collect();
    }

    /// What runs out: queues, descriptors, ports.
    fn exhaustion(&mut self, found: &Scan, counts: bool, now: MonoNs, findings: &mut Vec<Finding>) {
        let thresholds = self.options.thresholds;
        let queue = thresholds.of(RuleId::AcceptQueue);
        self.queues.check(&found.listeners, &self.around, queue, now, findings);
        self.shares.accept_queue = found
            .listeners
            .iter()
            .filter(|listener| listener.backlog != 0)
            .map(|listener| u64::from(listener.waiting) * 100 / (u64::from(listener.backlog) + 1))
            .max()
            .unwrap_or(0);
        if counts {
            self.held.clone_from(&found.held);
            self.count_ports(found, now);
        }
        findings.extend(self.port_findings.iter().cloned());
        self.shares.fds = 0;
        for (pid, process) in self.around.processes() {
            let Some(held) = self.held.get(&pid).copied().or_else(|| self.closed.held(pid)) else {
                continue;
            };
            if let (Some(fds), Some(limit)) =
                (process.fds, process.limit.filter(|&limit| limit != 0))
            {
                self.shares.fds = self.shares.fds.max(fds.saturating_mul(100) / limit);
            }
            let within = thresholds.of(RuleId::Fds);
            let told = findings.iter().any(|finding| finding.is_about(pid));
            let sockets = fds::Sockets { held, closed: self.closed.of(pid), told };
            findings.extend(fds::check(pid, sockets, process, &found.listeners, within));
        }
    }

    fn count_ports(&mut self, found: &Scan, now: MonoNs) {
        let within = self.options.thresholds.of(RuleId::Ports);
        self.routes.retain(|route, _| found.routes.contains_key(route));
        self.port_findings.clear();
        self.shares.ports = 0;
        let mut routes: Vec<_> = found.routes.iter().collect();
        routes.sort_unstable_by_key(|(route, in_use)| (std::cmp::Reverse(in_use.ports), **route));
        for (route, in_use) in routes.into_iter().take(MOST_ROUTES) {
            let facts = self.around.netns(route.netns);
            let series = self.routes.entry(*route).or_default();
            series.push(now, ports::taken(in_use));
            if let Some(range) = facts.ports().filter(|&range| range != 0) {
                self.shares.ports = self.shares.ports.max(ports::taken(in_use) * 100 / range);
            }
            self.port_findings.extend(ports::check(route, in_use, series, &facts, within));
        }
    }

    /// Compares with what was found before.
    fn settle(
        &mut self,
        findings: Vec<Finding>,
        now: MonoNs,
        updates: &mut Vec<(Update, Finding)>,
    ) {
        for active in self.active.values_mut() {
            active.seen = false;
        }
        for finding in findings {
            let left = finding.forecast.and_then(|forecast| forecast.left_ns);
            match self.active.get_mut(&finding.id) {
                None => {
                    updates.push((Update::Appear, finding.clone()));
                    let mut counts = Series::default();
                    counts.push(now, finding.count);
                    let active = Active {
                        since: now,
                        told: now,
                        pause_ns: TELL_FIRST_NS,
                        told_count: finding.count,
                        told_left: left,
                        seen: true,
                        counts,
                        finding,
                    };
                    self.active.insert(active.finding.id.clone(), active);
                }
                Some(active) => {
                    active.seen = true;
                    active.counts.push(now, finding.count);
                    let half = |left: u64| active.told_left.is_some_and(|told| left <= told / 2);
                    let runs_out = finding.severity == Severity::Exhaustion;
                    let named = active.finding.opener.is_none() && finding.opener.is_some();
                    let worse = finding.severity != active.finding.severity
                        || named
                        || runs_out && left.is_some_and(half) && active.told_left != Some(0);
                    let worse = worse || finding.count >= active.told_count.saturating_mul(2);
                    let other = finding.count != active.told_count
                        || left.is_some() != active.told_left.is_some();
                    if worse || other && now.since(active.told) >= active.pause_ns {
                        active.pause_ns = (active.pause_ns * 2).min(TELL_MOST_NS);
                        active.told = now;
                        active.told_count = finding.count;
                        active.told_left = left;
                        updates.push((Update::Change, finding.clone()));
                    }
                    active.finding = finding;
                }
            }
        }
        let over: Vec<String> = self
            .active
            .iter()
            .filter(|(_, active)| !active.seen)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some(active) = self.active.remove(&id) {
                updates.push((Update::Clear { since: active.since }, active.finding));
            }
        }
    }
}
