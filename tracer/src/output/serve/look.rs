//! A look over what there is: sockets by state, queues, descriptors, ports, findings.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::config::Extra;
use crate::engine::Engine;
use crate::engine::conn::{Connection, Role};
use crate::engine::rules::{Finding, Severity, What};
use crate::filter::Filter;
use crate::output::serve::fingerprint;
use crate::output::serve::histogram::seconds;
use crate::output::serve::snapshot::{Gauges, Values};
use crate::output::serve::workloads::{Key, UNKNOWN, Workloads};
use crate::text;
use crate::time::MonoNs;

/// Leaks that metrics tell one by one: those of the most sockets.
pub(super) const MOST_LEAKS: usize = 20;

const ROLES: [Role; 4] = [Role::Client, Role::Server, Role::Listener, Role::Unknown];
/// One more than the largest number of a state.
const STATES: usize = 13;

/// What one workload has, by role and state.
type Open = [[u32; STATES]; ROLES.len()];

/// What is looked at, and what is asked for.
pub(super) struct Scene<'a> {
    pub(super) engine: &'a Engine,
    pub(super) filter: &'a Filter,
    /// Labels that findings have beside workload and rule.
    pub(super) labels: &'a [Extra],
    pub(super) now: MonoNs,
}

/// What a look over the sockets has found, by place of the workload.
#[derive(Default)]
struct Seen {
    open: Vec<Open>,
    /// Fullest listener: waiting, and room.
    queues: HashMap<usize, (u64, u64), FixedState>,
    by_pid: HashMap<u32, usize, FixedState>,
}

/// Looks.
pub(super) fn look(scene: &Scene<'_>, workloads: &mut Workloads) -> Gauges {
    let seen = sockets(scene, workloads);
    // What is met here for the first time has a name now, where it has one.
    workloads.settle(scene.engine.names(), scene.now);
    let mut gauges = Gauges::default();
    for (place, open) in seen.open.iter().enumerate() {
        let Some(name) = workloads.name(place) else { continue };
        count(name, open, &mut gauges);
    }
    for (&place, &(waiting, room)) in &seen.queues {
        if let Some(name) = workloads.name(place) {
            largest(&mut gauges.accept_queue, name, share(waiting, room));
        }
    }
    let Some(watch) = scene.engine.watch() else { return gauges };
    let of_pid = |pid: u32| workloads.name(*seen.by_pid.get(&pid)?);
    for (pid, fds, limit) in watch.descriptors() {
        let Some(name) = of_pid(pid) else { continue };
        let worst = gauges.fds.entry(name.into()).or_insert((fds, limit));
        if share(fds, limit) > share(worst.0, worst.1) {
            *worst = (fds, limit);
        }
    }
    for (pid, ports) in watch.port_use() {
        if let Some(name) = of_pid(pid) {
            largest(&mut gauges.ports, name, share(ports.taken, ports.limit));
        }
    }
    let names = |finding: &Finding| workload(finding, scene.engine, workloads, &of_pid);
    findings(scene, &names, &mut gauges);
    gauges
}

fn sockets(scene: &Scene<'_>, workloads: &mut Workloads) -> Seen {
    let mut seen = Seen::default();
    for conn in scene.engine.table().iter() {
        if conn.state == TcpState::Close || scene.filter.wants(conn) != Some(true) {
            continue;
        }
        let place = workloads.place(Key::of(conn), scene.now);
        if seen.open.len() <= place {
            seen.open.resize(place + 1, [[0; STATES]; ROLES.len()]);
        }
        let role = ROLES.iter().position(|role| *role == conn.role).unwrap_or_default();
        let states = seen.open.get_mut(place).and_then(|roles| roles.get_mut(role));
        let state = usize::from(conn.state.number());
        if let Some(count) = states.and_then(|states| states.get_mut(state)) {
            *count += 1;
        }
        if let Some(pid) = conn.owner.as_ref().and_then(|owner| owner.pid()) {
            seen.by_pid.insert(pid, place);
        }
        if conn.role == Role::Listener {
            queue(conn, place, &mut seen);
        }
    }
    seen
}

/// `sk_acceptq_is_full`: there is room for one more than the backlog.
fn queue(conn: &Connection, place: usize, seen: &mut Seen) {
    let (waiting, room) = (u64::from(conn.recv_queue), u64::from(conn.send_queue) + 1);
    let fullest = seen.queues.entry(place).or_insert((waiting, room));
    if share(waiting, room) > share(fullest.0, fullest.1) {
        *fullest = (waiting, room);
    }
}

fn count(name: &str, open: &Open, gauges: &mut Gauges) {
    for (role, states) in ROLES.iter().zip(open) {
        for (number, &count) in states.iter().enumerate().filter(|(_, count)| **count != 0) {
            let state =
                TcpState::ALL.into_iter().find(|state| usize::from(state.number()) == number);
            let state = state.map_or("", TcpState::name);
            *gauges.open.entry((name.into(), role.name(), state)).or_default() += u64::from(count);
        }
    }
}

fn findings<'n>(
    scene: &Scene<'_>,
    name: &impl Fn(&Finding) -> std::borrow::Cow<'n, str>,
    gauges: &mut Gauges,
) {
    let Some(watch) = scene.engine.watch() else { return };
    let mut leaked: BTreeMap<Values, (u64, &Finding, String)> = BTreeMap::new();
    for (finding, _) in watch.findings() {
        let workload = name(finding).into_owned();
        let extra = scene.labels.iter().map(|label| extra(*label, finding));
        let extra: Values = extra.collect();
        let first = [workload.clone(), finding.rule.name().to_owned()];
        let found = gauges.findings.entry([&first[..], &extra].concat()).or_default();
        found.count += 1;
        found.oldest_ns = found.oldest_ns.max(finding.oldest_ns.unwrap_or(0));
        if let Some(forecast) = finding.forecast.filter(|forecast| forecast.what == What::Fds)
            && let Some(left) = forecast.left_ns
        {
            let left = seconds(u128::from(left));
            let least = gauges.fds_left.entry(workload.as_str().into()).or_insert(left);
            *least = least.min(left);
        }
        if finding.severity == Severity::Leak {
            let mark = fingerprint::of(finding);
            let values = [&[workload, mark.clone()][..], &extra].concat();
            leaked.entry(values).or_insert((0, finding, mark)).0 += finding.count;
        }
    }
    let mut leaked: Vec<_> = leaked.into_iter().collect();
    leaked.sort_by_key(|(_, (count, ..))| std::cmp::Reverse(*count));
    for (values, (count, finding, mark)) in leaked.into_iter().take(MOST_LEAKS) {
        gauges.leaked.insert(values, count);
        let opener = finding.opener.as_deref().map(fingerprint::plain).unwrap_or_default();
        gauges.leaks.insert(mark, (finding.rule.name(), safe(opener.as_bytes())));
    }
}

/// Whose sockets a finding is about: by one of them, else by the process.
fn workload<'w>(
    finding: &Finding,
    engine: &Engine,
    workloads: &'w Workloads,
    of_pid: &impl Fn(u32) -> Option<&'w str>,
) -> std::borrow::Cow<'w, str> {
    let found = finding.conns.iter().find_map(|sample| engine.table().find_any(sample.id));
    let by_socket = found.and_then(|conn| workloads.find(&Key::of(conn)));
    let process = finding.process;
    let by_pid = || of_pid(process?.pid?);
    match by_socket.or_else(by_pid) {
        Some(name) => name.into(),
        None => process.map_or(UNKNOWN.to_owned(), |process| safe(process.comm.bytes())).into(),
    }
}

fn extra(label: Extra, finding: &Finding) -> String {
    match label {
        Extra::Pid => finding.process.and_then(|process| process.pid).map(|pid| pid.to_string()),
        Extra::Port => finding.local_port.map(|port| port.to_string()),
        Extra::Remote => finding.remote.map(|remote| remote.to_string()),
    }
    .unwrap_or_default()
}

fn largest(by: &mut BTreeMap<Box<str>, f64>, name: &str, share: f64) {
    let most = by.entry(name.into()).or_insert(share);
    *most = most.max(share);
}

#[expect(clippy::cast_precision_loss, reason = "a share of numbers far below 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A name that a stranger chose.
pub(super) fn safe(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    text::name(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
