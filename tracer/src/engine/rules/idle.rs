//! What cannot be known: whether the other host of an idle connection without keepalive is still there, and
//! whether the way to it still knows the connection.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Table};
use crate::engine::rules::group::{process_of, side_of};
use crate::engine::rules::place::Side;
use crate::engine::rules::surroundings::Surroundings;
use crate::engine::rules::{Code, Finding, Process, RuleId, Sample, Severity, words};
use crate::event::{Event, Existing, Shape, SockId};
use crate::filter::Filter;
use crate::time::MonoNs;

/// Most sockets kept.
const MOST: usize = 65_536;
/// Most notes: those with the most connections.
const MOST_NOTES: usize = 32;
/// A process with idle connections to more addresses than this has one note.
const MANY_REMOTES: usize = 8;

/// Established sockets without keepalive, and since when nothing came from the peer.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    silent_since: HashMap<SockId, MonoNs, FixedState>,
}

/// Connections of one owner to one place.
#[derive(Debug, Default)]
struct Silent {
    process: Option<Process>,
    count: u64,
    oldest: u64,
    conns: Vec<Sample>,
}

/// Network namespace, process, and its name for the finding; and where.
type Owner = (u32, Option<u32>);

impl Idle {
    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64, threshold: u64) {
        if row.shape != Shape::Full {
            return;
        }
        let silent = u64::from(row.since_received.min(row.since_ack)).saturating_mul(jiffy_ns);
        let (local, remote) = (event.tuple.local().ip(), event.tuple.remote().ip());
        let matters = row.state == TcpState::Established
            && !event.flags.keepalive
            && event.flags.has_socket
            && silent >= threshold
            // Nothing between here and here forgets.
            && !local.is_loopback()
            && local != remote;
        if !matters {
            self.gone(event.id);
        } else if self.silent_since.len() < MOST {
            self.silent_since.insert(event.id, event.at.before(silent));
        }
    }

    pub(crate) fn gone(&mut self, id: SockId) {
        if !self.silent_since.is_empty() {
            self.silent_since.remove(&id);
        }
    }

    /// A note for each owner and place.
    pub(crate) fn notes(
        &self,
        table: &Table,
        (filter, around): (&Filter, &Surroundings),
        threshold: u64,
        now: MonoNs,
        out: &mut Vec<Finding>,
    ) {
        if self.silent_since.is_empty() {
            return;
        }
        let conns = || {
            self.silent_since.iter().filter_map(|(&id, &since)| {
                let conn = table.find_open(id)?;
                let other_host = table.peer(conn).is_none();
                let wanted = other_host && filter.wants(conn) == Some(true);
                let side = side_of(conn, around.first_ephemeral(conn.netns));
                wanted.then_some((conn, since, side))
            })
        };
        let mut remotes: HashMap<Owner, Vec<Side>, FixedState> = HashMap::default();
        for (conn, _, side) in conns() {
            let known = remotes.entry(owner(conn)).or_default();
            let is_remote = matches!(side, Side::Remote(_));
            if is_remote && known.len() <= MANY_REMOTES && !known.contains(&side) {
                known.push(side);
            }
        }
        let mut places: BTreeMap<String, (Owner, Side, Silent)> = BTreeMap::new();
        for (conn, since, side) in conns() {
            let owner = owner(conn);
            let many = remotes.get(&owner).is_some_and(|known| known.len() > MANY_REMOTES);
            let side = if many && matches!(side, Side::Remote(_)) { Side::Remotes } else { side };
            let place =
                places.entry(id(owner, side)).or_insert_with(|| (owner, side, Silent::default()));
            add(&mut place.2, conn, now.since(since));
        }
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_by_key(|(_, (_, _, silent))| std::cmp::Reverse(silent.count));
        for (id, ((netns, _), side, silent)) in places.into_iter().take(MOST_NOTES) {
            out.push(finding(id, netns, side, silent, threshold));
        }
    }
}

fn owner(conn: &Connection) -> Owner {
    (conn.netns, process_of(conn).and_then(|process| process.pid))
}

fn id((netns, pid): Owner, side: Side) -> String {
    let pid = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    match side {
        Side::Local(port) => format!("idle/{pid}/{netns}/:{port}"),
        Side::Remote(remote) => format!("idle/{pid}/{netns}/{remote}"),
        Side::Remotes => format!("idle/{pid}/{netns}/*"),
    }
}

fn add(silent: &mut Silent, conn: &Connection, age_ns: u64) {
    silent.process = silent.process.or(process_of(conn));
    silent.count += 1;
    silent.oldest = silent.oldest.max(age_ns);
    silent.conns.push(Sample {
        id: conn.id,
        tuple: conn.tuple,
        age_ns,
        fd: conn.owner.as_ref().and_then(crate::engine::conn::Owner::fd),
    });
    // The oldest, without keeping all there are.
    if silent.conns.len() > 4 * Finding::SAMPLES {
        oldest(&mut silent.conns);
    }
}

fn oldest(conns: &mut Vec<Sample>) {
    conns.sort_unstable_by_key(|sample| (std::cmp::Reverse(sample.age_ns), sample.id));
    conns.truncate(Finding::SAMPLES);
}

fn finding(id: String, netns: u32, side: Side, mut silent: Silent, threshold: u64) -> Finding {
    oldest(&mut silent.conns);
    let (place, local_port, remote) = match side {
        Side::Local(port) => (format!("on :{port}"), Some(port), None),
        Side::Remote(remote) => (format!("to {remote}"), None, Some(remote)),
        Side::Remotes => ("to many addresses".to_owned(), None, None),
    };
    let connections = if silent.count == 1 { "connection" } else { "connections" };
    let verdict = format!(
        "{} has {} idle {connections} {place} without keepalive, silent for more than {} (up to {}): nobody can tell \
         whether the other side is still there",
        words::process(silent.process),
        silent.count,
        words::age(threshold),
        words::age(silent.oldest),
    );
    Finding {
        id,
        rule: RuleId::Idle,
        code: Code::Idle,
        severity: Severity::Note,
        state: Some(TcpState::Established),
        count: silent.count,
        in_state: silent.count,
        oldest_ns: Some(silent.oldest),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: Some(netns),
        cgroup: 0,
        process: silent.process,
        local_port,
        remote,
        opener: None,
        opened: crate::engine::rules::Opened::default(),
        workers: Vec::new(),
        conns: silent.conns,
        verdict,
        advice: "Load balancers and NATs forget idle connections (AWS NLB after 350 s), and a crashed peer sends nothing. Set \
                 SO_KEEPALIVE with TCP_KEEPIDLE below that, or let the pool drop idle connections sooner."
            .to_owned(),
        forecast: None,
        idle_timeout_ns: None,
    }
}
