//! Established connections that die by a RST after they were idle: a load balancer, firewall or NAT on the
//! way has forgotten them, or the peer ends them.
//!
//! There are two kinds. Some devices send the RST when their timer runs out: then each dies after the
//! same time without data. Others say nothing, and send the RST in answer to the first data after that:
//! then each was idle for at least so long, and the shortest is the best that is known.
//!
//! What looks like it and is not:
//!
//! - A peer that crashes or gives up while an answer is awaited. Whose turn it was tells: a client that
//!   has sent and not received waits.
//! - A restart. It resets all at one moment, or whatever was idle at that moment at its next use. So either
//!   a timer must show (see `fingerprint`), or one of them must have been heard of after another had died.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};
use crate::engine::rules::fingerprint::{End, idle_timeout};
use crate::engine::rules::group::{process_of, side_of};
use crate::engine::rules::openers::Opener;
use crate::engine::rules::place::{Place, Side};
use crate::engine::rules::stale_reuse::OVER_NS;
use crate::engine::rules::{Code, Finding, Process, RuleId, Sample, Severity, words};
use crate::event::{Ages, SockId, Tuple};
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// Most places followed.
const MOST: usize = 1_024;
/// Most resets of a place that are remembered one by one.
const KEPT: usize = 64;
/// Fewer may be chance.
const LEAST: usize = 3;
/// An ACK may be delayed by this much.
const DELAYED_NS: u64 = SECOND / 5;

/// For how long a connection was idle when the RST came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Idleness {
    /// Nanoseconds.
    pub(crate) ns: u64,
    /// Data was sent just before: the RST is the answer to it.
    pub(crate) answered: bool,
}

#[derive(Clone, Debug)]
struct Died {
    at: MonoNs,
    id: SockId,
    tuple: Tuple,
    idle: Idleness,
    keepalive: bool,
    opener: Option<Opener>,
}

#[derive(Debug)]
struct Deaths {
    process: Option<Process>,
    last: MonoNs,
    recent: VecDeque<Died>,
    /// Of connections that were not idle, as far back as `recent` goes.
    busy: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct IdleResets {
    by_place: HashMap<Place, Deaths, FixedState>,
}

/// What a RST in ESTABLISHED says of the time before it; `None` when it was no idle connection.
pub(crate) fn idleness(conn: &Connection, ages: Ages, jiffy_ns: u64) -> Option<Idleness> {
    let ns = |jiffies: u32| u64::from(jiffies).saturating_mul(jiffy_ns);
    let (sent, received, acked) =
        (ns(ages.since_sent), ns(ages.since_received), ns(ages.since_ack));
    let heard = received.min(acked);
    let counters = conn.counters()?;
    if heard > sent.saturating_add(DELAYED_NS) {
        // What was sent last has no ACK. Sent again and again, it says nothing about the time before.
        let idle = Idleness { ns: heard - sent, answered: true };
        return (conn.retransmits.data == 0).then_some(idle);
    }
    let waits = match conn.role {
        // Who never receives anything does not wait for it. When a question followed the last answer within
        // a jiffy, its ACK tells, where that was not as quick.
        Role::Client => {
            let asked = received > sent || received == sent && acked < received;
            counters.bytes_received != 0 && asked
        }
        Role::Server => counters.bytes_sent != 0 && sent > received,
        Role::Listener | Role::Unknown => false,
    };
    (!waits).then_some(Idleness { ns: sent.min(received), answered: false })
}

impl IdleResets {
    /// A RST came to an established connection.
    pub(crate) fn reset(
        &mut self,
        conn: &Connection,
        ages: Ages,
        at: MonoNs,
        opener: Option<&Opener>,
        (jiffy_ns, first_ephemeral): (u64, u16),
    ) {
        let process = process_of(conn);
        let place = Place {
            netns: conn.netns,
            pid: process.and_then(|process| process.pid),
            side: side_of(conn, first_ephemeral),
        };
        if self.by_place.len() >= MOST && !self.by_place.contains_key(&place) {
            return;
        }
        let deaths = self.by_place.entry(place).or_insert_with(|| Deaths {
            process,
            last: at,
            recent: VecDeque::new(),
            busy: 0,
        });
        deaths.process = process.or(deaths.process);
        deaths.last = at;
        let idle = idleness(conn, ages, jiffy_ns).filter(|idle| idle.ns >= SECOND);
        let Some(idle) = idle else {
            deaths.busy = deaths.busy.saturating_add(1);
            return;
        };
        if deaths.recent.len() >= KEPT {
            deaths.recent.pop_front();
            deaths.busy /= 2;
        }
        deaths.recent.push_back(Died {
            at,
            id: conn.id,
            tuple: conn.tuple,
            idle,
            keepalive: ages.keepalive,
            opener: opener.cloned(),
        });
    }

    /// What there is to tell of those that were idle for at least `threshold`.
    pub(crate) fn findings(&mut self, threshold: u64, now: MonoNs, out: &mut Vec<Finding>) {
        self.by_place.retain(|_, deaths| now.since(deaths.last) < OVER_NS);
        let mut found: Vec<Finding> = self
            .by_place
            .iter()
            .filter_map(|(place, deaths)| {
                let pattern = pattern(deaths, threshold)?;
                Some(finding(place, deaths, &pattern, now))
            })
            .collect();
        found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        out.append(&mut found);
    }
}

/// What the deaths at a place have in common.
struct Pattern {
    /// The time without data after which they die, nanoseconds.
    ns: u64,
    /// Some may have been forgotten sooner: they died when they were used.
    at_most: bool,
    dead: Vec<Died>,
    answered: usize,
}

fn pattern(deaths: &Deaths, threshold: u64) -> Option<Pattern> {
    let old = || deaths.recent.iter().filter(|died| died.idle.ns >= threshold.max(SECOND));
    let ends = |answered: bool| -> Vec<End> {
        old()
            .filter(|died| died.idle.answered == answered)
            .map(|died| End { at: died.at, idle_ns: died.idle.ns, farewell: false })
            .collect()
    };
    let timer = idle_timeout(&ends(false));
    let used = ends(true);
    let shortest = used.iter().map(|end| end.idle_ns).min();
    let several = used.len() >= LEAST && not_one_event(&used);
    let (ns, at_most) = match (timer, shortest) {
        (Some(timer), _) => (timer.ns, false),
        (None, Some(shortest)) if several => (shortest, true),
        _ => return None,
    };
    // Those that died in answer have not died sooner than the timer.
    let dead: Vec<Died> = old()
        .filter(|died| {
            let follows = timer
                .is_some_and(|timer| died.idle.ns.abs_diff(timer.ns) <= timer.ns / 10 + SECOND);
            if died.idle.answered { died.idle.ns + SECOND >= ns } else { follows }
        })
        .cloned()
        .collect();
    let all = deaths.recent.len() + deaths.busy as usize;
    let answered = dead.iter().filter(|died| died.idle.answered).count();
    (dead.len() >= LEAST && dead.len() * 2 >= all).then_some(Pattern {
        ns,
        at_most,
        dead,
        answered,
    })
}

/// Whether one of them was heard of after another had died.
fn not_one_event(ends: &[End]) -> bool {
    let first = ends.iter().map(|end| end.at).min();
    let heard = ends.iter().map(|end| end.at.before(end.idle_ns)).max();
    first.zip(heard).is_some_and(|(first, heard)| heard > first)
}

fn finding(place: &Place, deaths: &Deaths, pattern: &Pattern, now: MonoNs) -> Finding {
    let pid = place.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    let (side, local_port, remote) = match place.side {
        Side::Local(port) => (format!(":{port}"), Some(port), None),
        Side::Remote(remote) => (remote.to_string(), None, Some(remote)),
        Side::Remotes => ("*".to_owned(), None, None),
    };
    let conns = pattern.dead.iter().rev().take(Finding::SAMPLES).map(|died| Sample {
        id: died.id,
        tuple: died.tuple,
        age_ns: now.since(died.at),
        fd: None,
    });
    let mut conns: Vec<Sample> = conns.collect();
    conns.sort_by_key(|sample| (std::cmp::Reverse(sample.age_ns), sample.id));
    let first = pattern.dead.iter().map(|died| died.at).min();
    Finding {
        id: format!("idle_reset/{pid}/{}/{side}", place.netns),
        rule: RuleId::IdleReset,
        code: Code::IdleReset,
        severity: Severity::Stuck,
        state: Some(TcpState::Established),
        count: pattern.dead.len() as u64,
        in_state: 0,
        oldest_ns: first.map(|first| now.since(first)),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: Some(place.netns),
        cgroup: 0,
        process: deaths.process,
        local_port,
        remote,
        opener: common_opener(pattern),
        opened: crate::engine::rules::Opened::default(),
        workers: Vec::new(),
        conns,
        verdict: verdict(place, deaths, pattern, now),
        advice: advice(place, pattern),
        forecast: None,
        idle_timeout_ns: (!pattern.at_most).then_some(pattern.ns),
    }
}

/// The opener, when all that are known have the same.
fn common_opener(pattern: &Pattern) -> Option<Opener> {
    let mut openers = pattern.dead.iter().filter_map(|died| died.opener.as_ref());
    let first = openers.next()?;
    openers.all(|opener| opener == first).then(|| first.clone())
}

fn verdict(place: &Place, deaths: &Deaths, pattern: &Pattern, now: MonoNs) -> String {
    let who = words::process(deaths.process);
    let side = match place.side {
        Side::Local(port) => format!("on :{port}"),
        Side::Remote(remote) => format!("to {remote}"),
        Side::Remotes => "to many addresses".to_owned(),
    };
    let count = pattern.dead.len();
    let time = words::age(pattern.ns);
    let mut text =
        format!("{who} loses idle connections {side}: {count} were reset, each after {time}");
    text.push_str(if pattern.at_most { " or more without data" } else { " without data" });
    if pattern.answered == count {
        text.push_str(", when they were used again");
    } else if pattern.answered != 0 {
        let _ = write!(text, ", {} of them when they were used again", pattern.answered);
    }
    let ago = now.since(deaths.last);
    if ago >= 10 * SECOND {
        let _ = write!(text, ", the last {} ago", words::age(ago));
    }
    text
}

fn advice(place: &Place, pattern: &Pattern) -> String {
    let time = words::age(pattern.ns);
    let mut text = if pattern.at_most {
        format!(
            "A load balancer, firewall or NAT on the path, or the peer, forgets them after at most {time} without data."
        )
    } else {
        format!(
            "A load balancer, firewall or NAT on the path, or the peer, ends them after {time} without data."
        )
    };
    let on = pattern.dead.iter().filter(|died| died.keepalive).count();
    let (is, what) = if on == 0 {
        ("SO_KEEPALIVE is off.", "it, with TCP_KEEPIDLE")
    } else if on == pattern.dead.len() {
        ("SO_KEEPALIVE is on, but its first probe comes too late.", "TCP_KEEPIDLE")
    } else {
        ("SO_KEEPALIVE is off on some of them.", "it, with TCP_KEEPIDLE")
    };
    let _ = write!(text, " {is} Set {what} below {time}, or close sooner.");
    if matches!(place.side, Side::Local(_)) {
        text.push_str(" nginx: so_keepalive=on.");
    }
    text
}
