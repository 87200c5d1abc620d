//! A request sent on a connection that the server had closed already.
//!
//! The server's FIN came, the pool kept the connection, and gave it out again. The server's kernel answers the
//! request with a RST, and the application gets an error. Told from the RST: it comes in CLOSE_WAIT, or in
//! LAST_ACK when the application was quick to close, and data was sent since the FIN.
//!
//! What looks like it and is not:
//!
//! - A client that goes away while its answer is on the way. So only connections we made count.
//! - A server that answers and closes while the request is still being sent. There, data had gone over the
//!   connection just before the FIN, and the RST comes at once.
//! - A pool that tests a database's connection before it gives it out, and finds that it is closed: no request is
//!   lost. A test is always the same few bytes. So where each of those that were reset had sent the same few, of two
//!   pools at most, to what is a database by its port or its last words, it is a note.
//! - A farewell: TLS (close_notify), databases and Redis say goodbye when a connection is closed, also to a
//!   peer that is gone. Those have well-known sizes and are left out.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::net::SocketAddr;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};
use crate::engine::rules::fingerprint::{End, Fin, Timeout, idle_timeout};
use crate::engine::rules::group::{process_of, side_of};
use crate::engine::rules::openers::{Opener, Openers};
use crate::engine::rules::place::Side;
use crate::engine::rules::pools;
use crate::engine::rules::{Code, Finding, Process, RuleId, Sample, Severity, words};
use crate::event::{Ages, SockId, Tuple};
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// A finding is over when nothing has come for this long.
pub(crate) const OVER_NS: u64 = 600 * SECOND;
/// Most places followed.
const MOST: usize = 1_024;
/// Most uses of a place that are remembered one by one.
const KEPT: usize = 64;
/// What is sent within this time of a FIN that came while data was going over was already on its way.
const UNDER_WAY_NS: u64 = SECOND;
/// Who was silent for less than this before the FIN had not left the connection idle.
const IDLE_NS: u64 = SECOND / 2;

/// What a pool sends to test a database's connection has no more bytes.
const TEST_BYTES: u64 = 96;
/// Pools of one process that use one database.
const POOLS: usize = 2;
/// Where databases listen: PostgreSQL and PgBouncer, MySQL, Oracle, SQL Server, Redis, MongoDB.
const DATABASES: [u16; 7] = [5432, 6432, 3306, 1521, 1433, 6379, 27017];

/// Whose requests, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct From {
    pub(crate) netns: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) remote: SocketAddr,
}

/// One request that was lost.
#[derive(Clone, Debug)]
struct Use {
    at: MonoNs,
    id: SockId,
    tuple: Tuple,
    /// From the FIN to the request; `None` when they crossed on the way.
    after: Option<u64>,
    /// The FIN was seen, so `after` is exact.
    exact: bool,
    /// Bytes sent since the FIN.
    sent: u64,
    end: End,
    opener: Option<Opener>,
}

#[derive(Debug)]
struct Uses {
    process: Option<Process>,
    count: u64,
    crossed: u64,
    since: MonoNs,
    last: MonoNs,
    recent: VecDeque<Use>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct StaleReuse {
    by_place: HashMap<From, Uses, FixedState>,
}

/// Whether so many bytes are a farewell rather than a request: what TLS, PostgreSQL, MySQL, SMTP, FTP,
/// WebSocket and Redis send when a connection is closed.
fn is_farewell(bytes: u64) -> bool {
    // close_notify: TLS 1.3 24, TLS 1.2 31 (GCM), 23 (ChaCha20), 53 to 85 (CBC); 51 and 65 with a
    // database's Terminate before it. Redis' QUIT is 14.
    matches!(bytes, 1..=8 | 14 | 23 | 24 | 31 | 51 | 53 | 57 | 65 | 69 | 85)
}

/// What a RST on a connection whose peer had closed tells: from the FIN to the last data we sent, or that
/// they crossed. `None` when no request was lost.
fn lost_request(
    fin: &Fin,
    at: MonoNs,
    ages: Ages,
    sent: u64,
    jiffy_ns: u64,
) -> Option<Option<u64>> {
    let used = at.before(u64::from(ages.since_sent).saturating_mul(jiffy_ns));
    let more = sent.saturating_sub(fin.sent?);
    let idle = fin.at.since(fin.last_data);
    if more == 0 {
        // Nothing was sent since. A request that was under way then, after a long silence, met the FIN; the
        // RST is its answer.
        let silent = fin.last_data.since(fin.last_received);
        let crossed = fin.seen && idle < SECOND / 4 && silent >= IDLE_NS;
        return (crossed && at.since(fin.at) < UNDER_WAY_NS).then_some(None);
    }
    let after = used.since(fin.at);
    let under_way = idle < IDLE_NS && after < UNDER_WAY_NS;
    (!is_farewell(more) && !under_way).then_some(Some(after))
}

/// How the server ended the connection. A request that crossed its FIN is not what it had waited for.
fn end_of(fin: &Fin) -> End {
    let end = fin.end(fin.at);
    let without_request = fin.at.since(fin.last_data.min(fin.last_received));
    if end.farewell { end } else { End { idle_ns: without_request, ..end } }
}

impl StaleReuse {
    /// A RST came in this state.
    pub(crate) fn reset(
        &mut self,
        conn: &Connection,
        (state, ages): (TcpState, Ages),
        at: MonoNs,
        known: (Option<&Fin>, Option<&Opener>),
        (jiffy_ns, first_ephemeral): (u64, u16),
    ) {
        let (Some(fin), opener) = known else { return };
        if !matches!(state, TcpState::CloseWait | TcpState::LastAck) || conn.role == Role::Server {
            return;
        }
        let Side::Remote(remote) = side_of(conn, first_ephemeral) else { return };
        let Some(counters) = conn.counters() else { return };
        let Some(after) = lost_request(fin, at, ages, counters.bytes_sent, jiffy_ns) else {
            return;
        };
        let process = process_of(conn);
        let from = From { netns: conn.netns, pid: process.and_then(|process| process.pid), remote };
        if self.by_place.len() >= MOST && !self.by_place.contains_key(&from) {
            return;
        }
        let uses = self.by_place.entry(from).or_insert_with(|| Uses {
            process,
            count: 0,
            crossed: 0,
            since: at,
            last: at,
            recent: VecDeque::new(),
        });
        uses.process = process.or(uses.process);
        uses.count += 1;
        uses.crossed += u64::from(after.is_none());
        uses.last = at;
        if uses.recent.len() >= KEPT {
            uses.recent.pop_front();
        }
        uses.recent.push_back(Use {
            at,
            id: conn.id,
            tuple: conn.tuple,
            after,
            exact: fin.seen,
            sent: counters.bytes_sent.saturating_sub(fin.sent.unwrap_or(0)),
            end: end_of(fin),
            opener: opener.cloned(),
        });
    }

    /// What there is to tell. `threshold`: who sent sooner after the FIN does not count.
    pub(crate) fn findings(
        &mut self,
        threshold: u64,
        openers: &Openers,
        now: MonoNs,
        out: &mut Vec<Finding>,
    ) {
        self.by_place.retain(|_, uses| now.since(uses.last) < OVER_NS);
        // A stack may get its names after the socket has gone.
        for one in self.by_place.values_mut().flat_map(|uses| &mut uses.recent) {
            if one.opener.is_none() {
                one.opener = openers.of(one.id).cloned();
            }
        }
        let mut places: Vec<_> = self.by_place.iter().collect();
        places.sort_unstable_by_key(|(from, _)| **from);
        for (from, uses) in places {
            let counts = |one: &Use| one.after.unwrap_or(0) >= threshold;
            if uses.recent.iter().any(counts) {
                out.push(finding(from, uses, now));
            }
        }
    }
}

fn finding(from: &From, uses: &Uses, now: MonoNs) -> Finding {
    let ends: Vec<End> = uses.recent.iter().map(|one| one.end).collect();
    let timeout = idle_timeout(&ends);
    let mut conns: Vec<Sample> = uses
        .recent
        .iter()
        .rev()
        .take(Finding::SAMPLES)
        .map(|one| Sample { id: one.id, tuple: one.tuple, age_ns: now.since(one.at), fd: None })
        .collect();
    conns.sort_by_key(|sample| (std::cmp::Reverse(sample.age_ns), sample.id));
    Finding {
        id: format!(
            "stale_reuse/{}/{}/{}",
            from.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
            from.netns,
            from.remote
        ),
        rule: RuleId::StaleReuse,
        code: Code::StaleReuse,
        severity: if tests(uses).is_some() { Severity::Note } else { Severity::Stuck },
        state: Some(TcpState::CloseWait),
        count: uses.count,
        in_state: 0,
        oldest_ns: Some(now.since(uses.since)),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: Some(from.netns),
        cgroup: 0,
        process: uses.process,
        local_port: None,
        remote: Some(from.remote),
        opener: opener(uses),
        opened: crate::engine::rules::Opened::default(),
        workers: Vec::new(),
        conns,
        verdict: verdict(from, uses, timeout, now),
        advice: advice(from, uses, timeout),
        forecast: None,
        idle_timeout_ns: timeout.map(|timeout| timeout.ns),
    }
}

/// How many bytes each had sent, where these may have been the tests of a pool or two of their connections.
fn tests(uses: &Uses) -> Option<Vec<u64>> {
    // HTTP's servers close without a word.
    let is_database = |one: &Use| one.end.farewell || DATABASES.contains(&one.tuple.remote_port);
    let may_be = |one: &Use| one.sent <= TEST_BYTES && is_database(one);
    if uses.crossed != 0 || !uses.recent.iter().all(may_be) {
        return None;
    }
    let mut sizes: Vec<u64> = uses.recent.iter().map(|one| one.sent).collect();
    sizes.sort_unstable();
    sizes.dedup();
    (1..=POOLS).contains(&sizes.len()).then_some(sizes)
}

/// The opener that most of those remembered have.
fn opener(uses: &Uses) -> Option<Opener> {
    let mut counts: HashMap<&Opener, usize> = HashMap::new();
    for opener in uses.recent.iter().filter_map(|one| one.opener.as_ref()) {
        *counts.entry(opener).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(opener, count)| (count, opener))
        .map(|(opener, _)| opener.clone())
}

fn verdict(from: &From, uses: &Uses, timeout: Option<Timeout>, now: MonoNs) -> String {
    let who = words::process(uses.process);
    let remote = from.remote;
    let mut text = if uses.count == 1 {
        format!(
            "{who} sent a request on a connection that {remote} had closed already, and it was reset"
        )
    } else {
        format!(
            "{who} sends requests on connections that {remote} has closed already: {} were reset",
            uses.count
        )
    };
    let after = || uses.recent.iter().filter_map(|one| Some((one.after?, one.exact)));
    if let (Some((least, _)), Some((most, _))) = (after().min(), after().max()) {
        let bound = if after().all(|(_, exact)| exact) { "" } else { ">=" };
        let (least, most) = (words::age(least), words::age(most));
        if least == most {
            let _ = write!(text, ", {bound}{least} after the FIN");
        } else {
            let _ = write!(text, ", {bound}{least} to {most} after the FIN");
        }
    }
    match uses.crossed {
        0 => {}
        crossed if crossed == uses.count => {
            text.push_str(", the request and the FIN crossed on the way")
        }
        crossed => {
            let _ = write!(text, ", {crossed} crossed the FIN on the way");
        }
    }
    let ago = now.since(uses.last);
    if ago >= 10 * SECOND {
        let _ = write!(text, ", the last {} ago", words::age(ago));
    }
    if let Some(sizes) = tests(uses) {
        let each = match sizes.as_slice() {
            [one, other] => format!("each of {one} or {other} bytes"),
            [one, ..] if uses.count > 1 => format!("each of the same {}", words::bytes(*one)),
            [one, ..] => format!("of {}", words::bytes(*one)),
            [] => String::new(),
        };
        let _ = write!(text, ", {each}: perhaps a pool's test, which loses nothing");
    }
    if let Some(timeout) = timeout {
        let _ = write!(text, "; {remote} closes after {} idle", words::age(timeout.ns));
    }
    if let Some(opener) = opener(uses) {
        let _ = write!(text, "; opened by {opener}");
    }
    text
}

fn advice(from: &From, uses: &Uses, timeout: Option<Timeout>) -> String {
    let mut text = String::from(match tests(uses) {
        Some(_) => {
            "A pool that tests connections before use lost no request. Without a test each failed. "
        }
        None => "Each request failed, unless the library sent it again. ",
    });
    match timeout {
        Some(timeout) => {
            let time = words::age(timeout.ns);
            let _ = write!(text, "Let the pool drop idle connections sooner than {time}.");
        }
        None => text.push_str("Let the pool drop idle connections sooner than the server."),
    }
    let _ = write!(text, " {}", pools::advice(uses.process, from.remote.port()));
    text
}
