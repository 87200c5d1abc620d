//! The watch: takes in what happens, looks over the table now and then, and says what is found, what
//! has changed and what is over.

use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, Kind, Poll, Table, closed_by_collector};
use crate::engine::rules::closed::{self, Closed};
use crate::engine::rules::cohort::Cohorts;
use crate::engine::rules::collected::Collected;
use crate::engine::rules::exhaustion::{self, Exhaustion, PortUse};
use crate::engine::rules::fingerprint::Fins;
use crate::engine::rules::group::place_of;
use crate::engine::rules::idle::Idle;
use crate::engine::rules::idle_reset::IdleResets;
use crate::engine::rules::judge::Court;
use crate::engine::rules::needs::{Needs, Wanted};
use crate::engine::rules::progress::Progress;
use crate::engine::rules::quiet::Quiet;
use crate::engine::rules::scan::{Scan, scan};
use crate::engine::rules::scene::Scene;
use crate::engine::rules::stale_reuse::StaleReuse;
use crate::engine::rules::time_wait_overflow::Overflows;
use crate::engine::rules::told::Told;
use crate::engine::rules::trouble::Troubles;
use crate::engine::rules::zones::Zones;
use crate::engine::rules::{
    Facts, Finding, Gate, Openers, RuleId, Surroundings, Thresholds, Update, gate,
};
use crate::event::{Ages, Direction, Event, Existing, Shape};
use crate::filter::Filter;
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// Looks are further apart the more there is to look at: a second more for each so many.
const PER_SECOND: u64 = 25_000;
/// Processes and destinations are counted this often.
const COUNT_EVERY_NS: u64 = 2 * SECOND;

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
    collected: Collected,
    overflows: Overflows,
    closed_findings: Vec<Finding>,
    /// What was known of the sockets that are in CLOSE_WAIT now when the FIN came.
    fins: Fins,
    stale_reuse: StaleReuse,
    idle_resets: IdleResets,
    /// Whose resets count.
    filter: Filter,
    exhaustion: Exhaustion,
    told: Told,
    zones: Zones,
    wanted: Wanted,
    sockets: u64,
    calm: bool,
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
            collected: Collected::default(),
            overflows: Overflows::default(),
            closed_findings: Vec::new(),
            fins: Fins::default(),
            stale_reuse: StaleReuse::default(),
            idle_resets: IdleResets::default(),
            filter: Filter::default(),
            exhaustion: Exhaustion::default(),
            told: Told::default(),
            zones: Zones::default(),
            wanted: Wanted::default(),
            sockets: 0,
            calm: false,
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
        if closed_by_collector(conn, change) && self.filter.wants(conn) != Some(false) {
            let first = self.around.first_ephemeral(conn.netns);
            self.collected.closed(conn, change.at, self.openers.of(conn.id), first);
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
                // Else its descriptor may be there.
                if conn.orphan || conn.shape != Shape::Full {
                    self.openers.forget(conn.id);
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

    /// What was read around so far.
    #[must_use]
    pub fn surroundings(&self) -> &Surroundings {
        &self.around
    }

    /// What should be read around.
    #[must_use]
    pub fn needs(&self) -> &Needs {
        self.wanted.needs()
    }

    /// Whether who holds what is worth another look: something is stuck.
    #[must_use]
    pub fn suspects(&self) -> bool {
        self.told.suspects()
    }

    /// Whether the last look met only listeners, connections that neither side has closed, and TIME_WAIT, all of them well.
    #[must_use]
    pub fn calm(&self) -> bool {
        self.calm
    }

    /// What is found now, the worst first.
    #[must_use]
    pub fn findings(&self) -> Vec<(&Finding, MonoNs)> {
        self.told.worst_first()
    }

    /// Descriptors in use and the limit, of processes where both are known; with their pids.
    pub fn descriptors(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let known = self.around.processes();
        known.filter_map(|(pid, process)| Some((pid, process.fds?, process.limit?)))
    }

    /// Local ports in use by process, as of the last count: of its destination that has most in use.
    pub fn port_use(&self) -> impl Iterator<Item = (u32, PortUse)> {
        self.exhaustion.port_use()
    }

    /// Findings that are a reason to act.
    #[must_use]
    pub fn stuck(&self) -> u64 {
        gate::findings(self.told.iter().map(|(finding, _)| finding))
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

    /// An interface of a network namespace is called this.
    pub(crate) fn name_interface(&mut self, interface: (u32, u32), name: &[u8]) {
        self.zones.learn(interface, name);
    }

    /// Looks for what should be read around, before the first look proper.
    pub fn survey(&mut self, table: &Table, filter: &Filter, now: MonoNs) {
        let found = self.scan(table, filter, now, true);
        self.wanted.note(&found, &self.closed, now);
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
        self.calm = found.is_calm();
        let mut findings = Vec::new();
        for group in &found.groups {
            let before = self.told.before(&group.key.id());
            let court = Court { table, around: &self.around, thresholds: &self.options.thresholds };
            findings.extend(court.judge(group, before, now));
        }
        let thresholds = self.options.thresholds;
        let scene = exhaustion::Scene {
            around: &self.around,
            closed: &self.closed,
            thresholds: &thresholds,
            now,
            counts,
        };
        self.exhaustion.look(&found, &scene, &mut findings);
        let of = |rule| thresholds.of(rule);
        self.stale_reuse.findings(of(RuleId::StaleReuse), &self.openers, now, &mut findings);
        self.idle_resets.findings(of(RuleId::IdleReset), now, &mut findings);
        self.collected.findings(of(RuleId::Collected), &self.openers, now, &mut findings);
        let scene = (filter, &self.around);
        self.idle.notes(table, scene, of(RuleId::Idle), now, &mut findings);
        if counts {
            self.look_at_closed(table, filter, now);
            self.wanted.note(&found, &self.closed, now);
        }
        findings.extend(self.closed_findings.iter().cloned());
        findings.extend(self.overflows.findings(of(RuleId::TimeWaitOverflow), now));
        findings.iter_mut().for_each(|finding| self.zones.put_into(finding));
        self.told.settle(findings, now, updates);
        let (count, shares) = (self.stuck(), self.exhaustion.shares());
        let mut gates = self.options.gates.iter_mut();
        let failed = gates.find_map(|gate| gate.check(&found, shares, count, now));
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
        self.openers.tidy(|id| table.has(id) || table.leftover(id).is_some());
        let scene = closed::Scene {
            table,
            filter,
            openers: &self.openers,
            threshold_ns: self.options.thresholds.of(RuleId::Closed),
            now,
        };
        self.closed_findings = self.closed.look(&scene);
    }
}
