//! One look over the table: which sockets are stuck, in which groups, and the counts that forecasts
//! need.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Owner, Role, Spent};
use crate::engine::rules::cohort::{Left, Survival};
use crate::engine::rules::finding::Process;
use crate::engine::rules::fingerprint::End;
use crate::engine::rules::group::{Cause, Group, Key, Member, place_of, process_of, side_of};
use crate::engine::rules::place::{Place, Side};
use crate::engine::rules::progress::waits;
use crate::engine::rules::quiet::Stillness;
use crate::engine::rules::scene::{Held, InUse, Listener, Route, Scene};
use crate::engine::rules::{Look, RuleId, close_wait, give_up, merge, routes, rule, rule_of};
use crate::event::Shape;
use crate::filter::Filter;
use crate::time::MonoNs;

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

pub(crate) fn scan(scene: &Scene<'_>) -> Scan {
    let mut found = Scan::default();
    let mut groups: HashMap<Key, Group, FixedState> = HashMap::default();
    // Of CLOSE_WAIT, the young ones too: survival is of all.
    let mut present: HashMap<Place, Vec<MonoNs>, FixedState> = HashMap::default();
    let mut stills: HashMap<Place, Stillness, FixedState> = HashMap::default();
    let mut clients: HashMap<u32, u64, FixedState> = HashMap::default();
    let unfiltered = *scene.filter == Filter::default();
    // Both ends of a connection over loopback are in one namespace.
    let whole_netns = *scene.filter == Filter { netns: scene.filter.netns, ..Filter::default() };
    let mut netns = 0;
    for conn in scene.table.iter() {
        if conn.state == TcpState::Close {
            continue;
        }
        if conn.netns != netns {
            netns = conn.netns;
            found.netns.insert(netns);
        }
        if scene.counts && routes::is_clients(conn) {
            *clients.entry(conn.netns).or_default() += 1;
        }
        if !unfiltered && !wanted(scene.filter, conn) {
            continue;
        }
        found.sockets += 1;
        if let Some(count) = found.states.get_mut(usize::from(conn.state.number())) {
            *count += 1;
        }
        if scene.counts {
            hold(&mut found, conn);
        }
        if conn.role == Role::Listener {
            found.listeners.push(listener(conn));
            continue;
        }
        let Some(mut id) = rule_of(conn) else { continue };
        found.unaccepted += u64::from(id == RuleId::Unaccepted);
        if id == RuleId::Established && scene.troubles.get(conn.id).is_none() {
            let peer_counts = unfiltered || whole_netns && conn.tuple.is_loopback();
            if scene.quiet.get(conn.id).is_none() || (peer_counts && peer_tells(scene, conn)) {
                continue;
            }
            id = RuleId::EstablishedIdle;
        }
        if !unfiltered && scene.filter.min_ns != 0 {
            let age = conn.in_state(scene.now).ns().unwrap_or(0);
            if age < scene.filter.min_ns {
                continue;
            }
        }
        let first = scene.around.first_ephemeral(conn.netns);
        if let (RuleId::EstablishedIdle, Some(still)) = (id, scene.quiet.get(conn.id)) {
            let opened = conn.complete.then_some(conn.born);
            stills.entry(place_of(conn, first)).or_default().add(still, opened);
        }
        if id == RuleId::CloseWait {
            let place = place_of(conn, first);
            let came = present.entry(place).or_default();
            // What data goes over for most of the time has not come to stay.
            let busy = scene.progress.moved(conn).map_or(0, |moved| moved.since(conn.entered));
            if busy <= scene.now.since(conn.entered) / 2 {
                came.push(conn.entered);
            }
        }
        take_in(scene, conn, id, first, &mut groups);
    }
    for group in groups.values_mut() {
        group.survival = survival(scene, group, &mut present);
        group.opened.sort();
        if group.key.rule == RuleId::EstablishedIdle {
            let still = stills.remove(&group.key.place()).unwrap_or_default();
            group.survival.present = still.last_data.len() as u64;
            let (left, walked) = (group.survival.left, scene.quiet.walked());
            group.stillness = Stillness { left, walked, ..still };
        }
    }
    found.groups = merge::merged(groups.into_values().collect());
    if scene.counts {
        found.routes = routes::in_use(scene, &clients);
    }
    found
}

/// Whether a server's connection is told of at its other end, which is on this machine: who opens connections
/// and forgets them is to be named once.
fn peer_tells(scene: &Scene<'_>, conn: &Connection) -> bool {
    let is_server =
        matches!(side_of(conn, scene.around.first_ephemeral(conn.netns)), Side::Local(_));
    is_server && scene.table.peer(conn).is_some_and(|peer| peer.pid.is_some())
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

fn take_in(
    scene: &Scene<'_>,
    conn: &Connection,
    id: RuleId,
    first_ephemeral: u16,
    groups: &mut HashMap<Key, Group, FixedState>,
) {
    let Some(rule) = rule(id) else { return };
    let trouble = scene.troubles.get(conn.id);
    let look = Look {
        table: scene.table,
        conn,
        trouble,
        moved: scene.progress.moved(conn),
        still: scene.quiet.get(conn.id),
        around: scene.around,
        now: scene.now,
        threshold: scene.thresholds.of(id),
    };
    let Some(stuck) = rule.check(&look) else { return };
    let since = scene.now.before(stuck.age);
    if waits(conn.state)
        && conn.shape == Shape::Full
        && !scene.progress.confirms(conn.id, since, look.threshold, scene.now)
    {
        return;
    }
    let mut process = process_of(conn);
    let mut opened_by = None;
    let mut fd = conn.owner.as_ref().and_then(Owner::fd);
    if stuck.cause == Cause::Inherited
        && let Some(heir) = close_wait::heir(&look)
    {
        let heirs = Process { pid: Some(heir.pid), comm: heir.comm };
        opened_by = process
            .filter(|process| process.pid != heirs.pid)
            .or_else(|| listeners_process(scene, conn))
            .filter(|process| process.pid != heirs.pid);
        process = Some(heirs);
        fd = Some(heir.fd);
    }
    if conn.orphan || conn.shape != Shape::Full {
        fd = None;
    }
    let key = Key {
        rule: id,
        cause: stuck.cause,
        netns: conn.netns,
        process,
        side: side_of(conn, first_ephemeral),
        workers: None,
    };
    let group = groups.entry(key.clone()).or_insert_with(|| Group::new(key));
    if group.members.is_empty() {
        group.cgroup = conn.cgroup;
    }
    let was_there = conn.born <= scene.table.options.start;
    group.opened.add(scene.openers.of(conn.id), was_there);
    let at_latest = matches!(conn.in_state(scene.now), Spent::AtLeast(_) | Spent::Unknown);
    group.members.push(Member { id: conn.id, tuple: conn.tuple, since, at_latest, fd });
    group.opened_by = group.opened_by.or(opened_by);
    group.orphans += u64::from(conn.orphan);
    group.given_up += u64::from(id == RuleId::Unaccepted && conn.state == TcpState::CloseWait);
    let times = match id {
        RuleId::SynRecv => u32::from(conn.retransmits.synack),
        RuleId::SynSent => {
            u32::from(conn.retransmits.syn).max(trouble.map_or(0, |t| t.unanswered.times))
        }
        _ => trouble.map_or(0, |trouble| trouble.unanswered.times),
    };
    group.most_unanswered = group.most_unanswered.max(times);
    if let Some(trouble) = trouble {
        group.unsent += u64::from(trouble.send_queue);
        group.probes = group.probes.max(trouble.probes);
    }
    if let Some(end) = end_of(scene, conn, id, &look) {
        group.first_give_up = Some(group.first_give_up.map_or(end, |first| first.min(end)));
        group.last_give_up = Some(group.last_give_up.map_or(end, |last| last.max(end)));
    }
    if id == RuleId::CloseWait {
        let lived = conn.complete.then(|| conn.time_in(TcpState::Established));
        let quiet = scene.progress.sent_at(conn.id).map(|sent| since.since(sent));
        group.quiet.extend(quiet.or(lived));
    }
    if id == RuleId::CloseWait
        && let Some(fin) = scene.fins.of(conn.id)
    {
        let at = if fin.seen { fin.at } else { fin.at.min(conn.entered) };
        group.ends.push(End { at, idle_ns: at.since(fin.last_data) });
        if fin.looked_at {
            group.unread += u64::from(conn.recv_queue.saturating_sub(1));
            group.end_read += u64::from(conn.recv_queue == 0);
            group.end_not_read += u64::from(conn.recv_queue != 0);
        }
    }
}

/// When the kernel gives this one up.
fn end_of(scene: &Scene<'_>, conn: &Connection, id: RuleId, look: &Look<'_>) -> Option<MonoNs> {
    let facts = scene.around.netns(conn.netns);
    match id {
        RuleId::SynSent => {
            let retries = facts.syn_retries?;
            let spent = look.age()?;
            let whole = give_up::connect_ns(retries, facts.syn_linear_timeouts.unwrap_or(0));
            // Of one that was there before, less is known than is left.
            conn.complete.then(|| scene.now.before(spent).after(whole).max(scene.now))
        }
        RuleId::Established | RuleId::FinWait1 | RuleId::Closing | RuleId::LastAck => {
            let trouble = look.trouble?;
            let end = give_up::at(&trouble.unanswered, facts.retries(conn.orphan)?)?;
            Some(end.max(scene.now))
        }
        _ => None,
    }
}

/// Who listens where a server's connection came to.
fn listeners_process(scene: &Scene<'_>, conn: &Connection) -> Option<Process> {
    process_of(scene.table.listener_of(conn)?)
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
    found.held.entry(pid).or_insert(Held { comm, sockets: 0 }).sockets += 1;
}
