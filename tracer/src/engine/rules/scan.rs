//! One look over the table: which sockets are stuck, in which groups, and the counts that forecasts
//! need.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Owner, Role};
use crate::engine::rules::cohort::{Left, Survival};
use crate::engine::rules::group::{Cause, Group, Key, place_of, process_of, side_of};
use crate::engine::rules::place::{Place, Side};
use crate::engine::rules::quiet::Stillness;
use crate::engine::rules::scene::{Held, InUse, Listener, Route, Scene};
use crate::engine::rules::{RuleId, member, merge, routes, rule_of};
use crate::event::Shape;
use crate::filter::Filter;
use crate::time::MonoNs;

/// So many established connections are looked at closer at a time: they are in the processor's caches still.
const PIECE: usize = 1_024;

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) groups: Vec<Group>,
    /// Sockets, by state's number; of SYN_RECV requests too.
    pub(crate) states: [u64; 16],
    pub(crate) unaccepted: u64,
    pub(crate) sockets: u64,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) netns: BTreeSet<u32>,
    /// By process, when asked for.
    pub(crate) held: HashMap<u32, Held, FixedState>,
    /// By route, when asked for, where they are many.
    pub(crate) routes: HashMap<Route, InUse, FixedState>,
}

impl Scan {
    pub(crate) fn in_state(&self, state: TcpState) -> u64 {
        self.states.get(usize::from(state.number())).copied().unwrap_or(0)
    }
}

impl Scan {
    /// See [`crate::engine::rules::Watch::calm`].
    pub(crate) fn is_calm(&self) -> bool {
        const CALM: [TcpState; 3] = [TcpState::Listen, TcpState::Established, TcpState::TimeWait];
        let calm: u64 = CALM.map(|state| self.in_state(state)).iter().sum();
        self.groups.is_empty() && self.unaccepted == 0 && calm == self.states.iter().sum::<u64>()
    }
}

/// Looks over the table once.
pub(crate) fn scan(scene: &Scene<'_>) -> Scan {
    let mut scanner = Scanner::new(scene);
    for conn in scene.table.iter() {
        scanner.visit(conn);
    }
    scanner.finish()
}

/// A look under way.
struct Scanner<'a> {
    scene: &'a Scene<'a>,
    found: Scan,
    groups: HashMap<Key, Group, FixedState>,
    /// Of CLOSE_WAIT, the young ones too: survival is of all.
    present: HashMap<Place, Vec<MonoNs>, FixedState>,
    stills: HashMap<Place, Stillness, FixedState>,
    /// Established, not looked at closer yet: see [`Scanner::settle`].
    established: Vec<&'a Connection>,
    /// Idle ones of servers, which may be told of at their other end: see [`Scanner::ask_peers`].
    asked: Vec<&'a Connection>,
    /// Clients' connections, by network namespace.
    clients: HashMap<u32, u64, FixedState>,
    unfiltered: bool,
    /// Nothing but the network namespace is filtered on: both ends of a connection over loopback are in one.
    whole_netns: bool,
    /// Network namespace of the last connection.
    netns: u32,
}

impl<'a> Scanner<'a> {
    fn new(scene: &'a Scene<'a>) -> Scanner<'a> {
        let whole_netns = Filter { netns: scene.filter.netns, ..Filter::default() };
        Scanner {
            scene,
            found: Scan::default(),
            groups: HashMap::default(),
            present: HashMap::default(),
            stills: HashMap::default(),
            established: Vec::new(),
            asked: Vec::new(),
            clients: HashMap::default(),
            unfiltered: *scene.filter == Filter::default(),
            whole_netns: *scene.filter == whole_netns,
            netns: 0,
        }
    }

    fn visit(&mut self, conn: &'a Connection) {
        if conn.state == TcpState::Close || !self.count(conn) {
            return;
        }
        if let Some(id) = self.rule_of(conn) {
            self.take_in(conn, id);
        }
    }

    fn take_in(&mut self, conn: &Connection, id: RuleId) {
        let scene = self.scene;
        if !self.unfiltered && scene.filter.min_ns != 0 {
            let age = conn.in_state(scene.now).ns().unwrap_or(0);
            if age < scene.filter.min_ns {
                return;
            }
        }
        let first = scene.around.first_ephemeral(conn.netns);
        if let (RuleId::EstablishedIdle, Some(still)) = (id, scene.quiet.get(conn.id)) {
            let opened = conn.complete.then_some(conn.born);
            self.stills.entry(place_of(conn, first)).or_default().add(still, opened);
        }
        if id == RuleId::CloseWait {
            let place = place_of(conn, first);
            let came = self.present.entry(place).or_default();
            // What data goes over for most of the time has not come to stay.
            let busy = scene.progress.moved(conn).map_or(0, |moved| moved.since(conn.entered));
            if busy <= scene.now.since(conn.entered) / 2 {
                came.push(conn.entered);
            }
        }
        member::take_in(scene, conn, id, first, &mut self.groups);
    }

    /// Counts a socket. False: it does not pass the filter.
    fn count(&mut self, conn: &Connection) -> bool {
        let (scene, found) = (self.scene, &mut self.found);
        if conn.netns != self.netns {
            self.netns = conn.netns;
            found.netns.insert(conn.netns);
        }
        if scene.counts && routes::is_clients(conn) {
            *self.clients.entry(conn.netns).or_default() += 1;
        }
        if !self.unfiltered && !wanted(scene.filter, conn) {
            return false;
        }
        found.sockets += 1;
        if let Some(count) = found.states.get_mut(usize::from(conn.state.number())) {
            *count += 1;
        }
        if scene.counts {
            hold(found, conn);
        }
        true
    }

    /// The rule to check a socket by, unless it is a listener, healthy at first sight, or that is found out later.
    fn rule_of(&mut self, conn: &'a Connection) -> Option<RuleId> {
        if conn.role == Role::Listener {
            self.found.listeners.push(listener(conn));
            return None;
        }
        let scene = self.scene;
        let id = rule_of(conn)?;
        self.found.unaccepted += u64::from(id == RuleId::Unaccepted);
        if id != RuleId::Established || scene.troubles.get(conn.id).is_some() {
            return Some(id);
        }
        self.established.push(conn);
        if self.established.len() == PIECE {
            self.settle();
        }
        None
    }

    /// Takes in the idle ones of those that are established. What is kept beside the table is asked about many of them,
    /// one question after the other: the processor waits for memory once for several of them then, not once for each.
    fn settle(&mut self) {
        let mut idle = std::mem::take(&mut self.established);
        idle.retain(|conn| self.scene.quiet.get(conn.id).is_some());
        for conn in idle.drain(..) {
            if self.peer_counts(conn) {
                self.asked.push(conn);
            } else {
                self.take_in(conn, RuleId::EstablishedIdle);
            }
        }
        self.established = idle;
    }

    /// Takes in those that are told of nowhere else. All were visited: the other ends are in the processor's caches.
    fn ask_peers(&mut self) {
        let mut untold = std::mem::take(&mut self.asked);
        untold.retain(|conn| !peer_tells(self.scene, conn));
        for conn in untold {
            self.take_in(conn, RuleId::EstablishedIdle);
        }
    }

    /// A server's connection, whose other end this look is about, too, when it is on this machine.
    fn peer_counts(&self, conn: &Connection) -> bool {
        let in_scope = self.unfiltered || self.whole_netns && conn.tuple.is_loopback();
        let first = || self.scene.around.first_ephemeral(conn.netns);
        in_scope && matches!(side_of(conn, first()), Side::Local(_))
    }

    /// What came of all of them.
    fn finish(mut self) -> Scan {
        self.settle();
        self.ask_peers();
        let scene = self.scene;
        for group in self.groups.values_mut() {
            group.survival = survival(scene, group, &mut self.present);
            group.opened.sort();
            if group.key.rule == RuleId::EstablishedIdle {
                let still = self.stills.remove(&group.key.place()).unwrap_or_default();
                group.survival.present = still.last_data.len() as u64;
                let (left, walked) = (group.survival.left, scene.quiet.walked());
                group.stillness = Stillness { left, walked, ..still };
            }
        }
        self.found.groups = merge::merged(self.groups.into_values().collect());
        if scene.counts {
            self.found.routes = routes::in_use(scene, &self.clients);
        }
        self.found
    }
}

/// Whether a server's connection is told of at its other end, which is on this machine: who opens connections
/// and forgets them is to be named once.
fn peer_tells(scene: &Scene<'_>, conn: &Connection) -> bool {
    scene.table.peer(conn).is_some_and(|peer| peer.pid.is_some())
}

/// What became of those at the group's place.
fn survival(
    scene: &Scene<'_>,
    group: &Group,
    present: &mut HashMap<Place, Vec<MonoNs>, FixedState>,
) -> Survival {
    let place = group.key.place();
    let is_counted = group.key.rule == RuleId::CloseWait;
    let mut came = Vec::new();
    if is_counted && group.key.cause == Cause::Plain {
        came = present.remove(&place).unwrap_or_default();
    }
    let left = match group.key.rule {
        RuleId::CloseWait => scene.cohorts.leavers(&place, scene.now),
        RuleId::EstablishedIdle => scene.revived.leavers(&place, scene.now),
        _ => Left::default(),
    };
    let old = group.count();
    if (came.len() as u64) < old {
        came = group.members.iter().map(|member| member.since).collect();
    }
    came.sort_unstable();
    Survival { present: came.len() as u64, old, came, left }
}

fn wanted(filter: &Filter, conn: &Connection) -> bool {
    filter.wants(conn) == Some(true) && filter.wants_states(conn.state, conn.state)
}

fn listener(conn: &Connection) -> Listener {
    Listener {
        id: conn.id,
        netns: conn.netns,
        port: conn.tuple.local_port,
        process: process_of(conn),
        waiting: conn.recv_queue,
        backlog: conn.send_queue,
    }
}

fn hold(found: &mut Scan, conn: &Connection) {
    let nobodys = conn.orphan || conn.shape != Shape::Full;
    let waits = !conn.accepted && conn.role != Role::Listener;
    if nobodys || waits {
        return;
    }
    let Some(owner) = &conn.owner else { return };
    let Some(pid) = Owner::pid(owner) else { return };
    let comm = owner.task.comm;
    let none = Held { comm, sockets: 0, cgroup: conn.cgroup };
    found.held.entry(pid).or_insert(none).sockets += 1;
}
