//! The fingerprint of an idle timeout: connections that the other side ends, each after the same time
//! without data.
//!
//! Three things look like one and are none:
//!
//! - A server that closes after each answer: the time without data is next to nothing.
//! - A restart: all end at one moment. When all of them were idle for as long, because they were used
//!   together, a restart can look like a timeout. A timeout ends each at its own time; so either they end
//!   at several moments, or the times without data agree better with each other than the moments of the
//!   ends do, or they are a whole number of seconds, as timeouts are and chance seldom is.
//! - A limit on age, or on requests: the times without data differ.
//!
//! Some servers say why before they close (PostgreSQL: "terminating connection due to idle-session timeout"), and
//! nobody reads it. Those words are no data that goes over the connection. But a server that is stopped says
//! something, too, so where all end at one moment a whole number of seconds tells nothing.
//!
//! Servers that look for idle connections now and then (Tomcat's poller does once a second) end them up
//! to a second late. So times count as the same within a tenth of them, or a second where that is more.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::TcpState;

use crate::engine::conn::{Change, Connection, Kind};
use crate::event::{Ages, Event, Existing, Shape, SockId};
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// Shorter than this is a reply that ended, not idleness.
const LEAST_NS: u64 = SECOND;
/// Last words come no longer than this before the FIN, and are no longer than that.
const FAREWELL_NS: u64 = SECOND / 4;
const FAREWELL_BYTES: u32 = 512;
/// Fewer agree by chance.
const LEAST: usize = 3;
/// Most sockets whose end is remembered.
const MOST: usize = 65_536;

/// One connection that the other side ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// When.
    pub(crate) at: MonoNs,
    /// For how long no data had gone over it, nanoseconds; [`Fin::idle_ns`].
    pub(crate) idle_ns: u64,
    /// The peer said something before it closed, which does not count as data.
    pub(crate) farewell: bool,
}

/// An idle timeout, read off the ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timeout {
    /// How long it is, nanoseconds.
    pub(crate) ns: u64,
    /// How many ends follow it.
    pub(crate) followers: u64,
}

/// The idle timeout that most of these ends follow, if there is one.
pub(crate) fn idle_timeout(ends: &[End]) -> Option<Timeout> {
    let mut sorted: Vec<End> = ends.iter().copied().filter(|end| end.idle_ns >= LEAST_NS).collect();
    sorted.sort_unstable_by_key(|end| end.idle_ns);
    let mut best: &[End] = &[];
    let mut last = 0;
    for first in 0..sorted.len() {
        let from = sorted[first].idle_ns;
        let until = from.saturating_add(same_within(from));
        while sorted.get(last).is_some_and(|end| end.idle_ns <= until) {
            last += 1;
        }
        if last - first > best.len() {
            best = &sorted[first..last];
        }
    }
    if best.len() < LEAST || best.len() * 2 < ends.len() || !is_a_timer(best) {
        return None;
    }
    // Timers are late, never early: near the lower end, without the first few, which a clock of whole
    // jiffies may have made too short.
    let ns = best[best.len() / 4].idle_ns;
    Some(Timeout { ns, followers: best.len() as u64 })
}

/// How far apart times may be that count as the same.
pub(crate) fn same_within(ns: u64) -> u64 {
    if ns < 2 * SECOND { ns / 2 } else { (ns / 10).max(SECOND + SECOND / 10) }
}

/// Whether these ends were made by a timer of each connection, and not by one event that ended all.
fn is_a_timer(ends: &[End]) -> bool {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return false };
    let idle_spread = last.idle_ns - first.idle_ns;
    let at = || ends.iter().map(|end| end.at);
    let (Some(soonest), Some(latest)) = (at().min(), at().max()) else { return false };
    // Data went over one of them after another had ended: one event cannot have ended both.
    let heard = ends.iter().map(|end| end.at.before(end.idle_ns)).max();
    if heard.is_some_and(|heard| heard > soonest.after(SECOND / 10)) {
        return true;
    }
    let spread = latest.since(soonest);
    if spread > SECOND / 20 && idle_spread * 2 < spread {
        return true;
    }
    let middle = ends[ends.len() / 2].idle_ns;
    let beyond = middle % SECOND;
    let off = beyond.min(SECOND - beyond);
    let said_why = ends.iter().any(|end| end.farewell);
    !said_why && off <= SECOND / 50 && idle_spread <= SECOND / 10
}

/// What is known of a connection whose peer has closed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fin {
    /// When the FIN came; at the latest where `seen` is false.
    pub(crate) at: MonoNs,
    /// The FIN was seen to come.
    pub(crate) seen: bool,
    /// When data last went over it before that.
    pub(crate) last_data: MonoNs,
    /// When data last came from the peer.
    pub(crate) last_received: MonoNs,
    /// When we last sent data.
    last_sent: MonoNs,
    /// What the peer sent before the FIN and nobody has read, bytes; 0 until a row says so.
    unread: u32,
    /// Bytes sent up to the FIN, or to the first row after it.
    pub(crate) sent: Option<u64>,
    /// A row was seen since the FIN came: what waits to be read is known.
    pub(crate) looked_at: bool,
}

impl Fin {
    /// Whether what the peer said last was said because it was about to close, and nobody has read it.
    fn is_farewell(&self) -> bool {
        (1..=FAREWELL_BYTES).contains(&self.unread)
            && self.last_sent < self.last_received
            && self.at.since(self.last_received) < FAREWELL_NS
    }

    /// The same with what is unread by now.
    pub(crate) fn with_unread(self, unread: u32) -> Fin {
        Fin { unread, ..self }
    }

    /// How the peer ended the connection, at this time, as far as known.
    pub(crate) fn end(&self, at: MonoNs) -> End {
        let farewell = self.is_farewell();
        let last_data = if farewell { self.last_sent } else { self.last_data };
        End { at, idle_ns: at.since(last_data), farewell }
    }
}

/// The connections whose peer has closed and the application has not.
#[derive(Debug, Default)]
pub(crate) struct Fins {
    by_id: HashMap<SockId, Fin, FixedState>,
}

impl Fins {
    /// What happened to a connection, as far as it is its peer's FIN, or its end.
    pub(crate) fn change(&mut self, conn: &Connection, change: &Change, jiffy_ns: u64) {
        match change.kind {
            Kind::Transition { new: TcpState::CloseWait, ages: Some(ages), .. } => {
                self.closed(conn, change.at, ages, jiffy_ns);
            }
            Kind::Gone => self.gone(conn.id),
            _ => {}
        }
    }

    /// The peer's FIN has come.
    pub(crate) fn closed(&mut self, conn: &Connection, at: MonoNs, ages: Ages, jiffy_ns: u64) {
        if self.by_id.len() >= MOST {
            return;
        }
        let before =
            |jiffies: u32| at.before(u64::from(jiffies).saturating_mul(jiffy_ns)).max(conn.born);
        let fin = Fin {
            at,
            seen: true,
            last_data: before(ages.since_sent.min(ages.since_received)),
            last_received: before(ages.since_received),
            last_sent: before(ages.since_sent),
            unread: 0,
            sent: conn.counters().map(|counters| counters.bytes_sent),
            looked_at: false,
        };
        self.by_id.insert(conn.id, fin);
    }

    /// A row of a socket whose FIN may have come before we looked.
    pub(crate) fn row(&mut self, event: &Event, row: &Existing, jiffy_ns: u64) {
        if row.state != TcpState::CloseWait || row.shape != Shape::Full {
            return;
        }
        if let Some(known) = self.by_id.get_mut(&event.id) {
            known.looked_at = true;
            // The FIN counts as one.
            known.unread = row.recv_queue.saturating_sub(1);
            return;
        }
        if self.by_id.len() >= MOST {
            return;
        }
        let since = |jiffies: u32| event.at.before(u64::from(jiffies).saturating_mul(jiffy_ns));
        let fin = Fin {
            // The FIN carried an ACK, so the last ACK is not older.
            at: since(row.since_ack),
            seen: false,
            last_data: since(row.since_received.min(row.since_sent)),
            last_received: since(row.since_received),
            last_sent: since(row.since_sent),
            unread: row.recv_queue.saturating_sub(1),
            sent: event.counters.map(|counters| counters.bytes_sent),
            looked_at: true,
        };
        self.by_id.insert(event.id, fin);
    }

    pub(crate) fn of(&self, id: SockId) -> Option<&Fin> {
        if self.by_id.is_empty() { None } else { self.by_id.get(&id) }
    }

    pub(crate) fn gone(&mut self, id: SockId) {
        if !self.by_id.is_empty() {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000 * SECOND;
    const MS: u64 = SECOND / 1_000;

    /// Ends, each as (milliseconds from the start, idle milliseconds).
    fn ends(of: &[(u64, u64)]) -> Vec<End> {
        of.iter()
            .map(|&(at, idle)| End {
                at: MonoNs(START + at * MS),
                idle_ns: idle * MS,
                farewell: false,
            })
            .collect()
    }

    #[test]
    fn a_timeout_is_told_from_what_looks_like_one() {
        let check = |what: &str, of: &[(u64, u64)], expect: Option<(u64, u64)>| {
            let got = idle_timeout(&ends(of)).map(|found| (found.ns / MS, found.followers));
            assert_eq!(got, expect, "{what}");
        };
        check(
            "each at its own time",
            &[(0, 30_000), (900, 30_004), (5_000, 30_000)],
            Some((30_000, 3)),
        );
        check(
            "a pool used together",
            &[(0, 4_000), (1, 4_000), (3, 4_004), (9, 4_000)],
            Some((4_000, 4)),
        );
        check(
            "a poller that looks once a second",
            &[(0, 20_100), (3_000, 20_900), (7_000, 20_400), (9_500, 20_000)],
            Some((20_100, 4)),
        );
        check(
            "some were ended otherwise",
            &[(0, 5_000), (700, 5_000), (2_000, 900), (3_000, 5_004), (4_000, 2_500)],
            Some((5_000, 3)),
        );
        check(
            "most were ended otherwise",
            &[
                (0, 5_000),
                (700, 5_000),
                (2_000, 900),
                (3_000, 5_004),
                (4_000, 2_500),
                (5_000, 0),
                (6_000, 10),
            ],
            None,
        );
        check("closed after each answer", &[(0, 0), (10, 4), (20, 0), (30, 1)], None);
        check("slow answers, then closed", &[(0, 400), (1_000, 396), (2_000, 404)], None);
        check("two", &[(0, 4_000), (900, 4_000)], None);
        check("idle for different times", &[(0, 4_000), (900, 9_000), (1_500, 14_000)], None);
        check(
            "a restart: each idle since its own last use",
            &[(0, 31_000), (2, 17_002), (3, 44_103), (5, 3_005)],
            None,
        );
        check(
            "a restart of a pool that was used together, at no whole second",
            &[(0, 17_340), (1, 17_341), (3, 17_344), (5, 17_345)],
            None,
        );
        check(
            "a keep-alive of one second",
            &[(0, 1_000), (300, 1_004), (650, 1_000)],
            Some((1_000, 3)),
        );
        check("nothing", &[], None);
    }

    proptest! {
        /// Whatever the timeout and however much up to a second it is late: it is found, and not more
        /// than a second off.
        #[test]
        fn a_timeout_with_jitter_is_found(
            idle in 2_000u64..600_000,
            late in proptest::collection::vec(0u64..1_000, 6..40),
            gap in 1_100u64..5_000,
        ) {
            let of: Vec<(u64, u64)> = late
                .iter()
                .enumerate()
                .map(|(index, late)| (index as u64 * gap + late, idle + late))
                .collect();
            let found = idle_timeout(&ends(&of));
            prop_assert!(found.is_some());
            let ns = found.map_or(0, |found| found.ns);
            prop_assert!(ns >= idle * MS && ns <= (idle + 1_000) * MS, "{ns}");
        }

        #[test]
        fn no_ends_panic(of in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..40)) {
            let ends: Vec<End> =
                of.iter()
                    .map(|&(at, idle_ns)| End { at: MonoNs(at), idle_ns, farewell: false })
                    .collect();
            let _ = idle_timeout(&ends);
        }
    }
}
