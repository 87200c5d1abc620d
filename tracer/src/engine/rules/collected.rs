//! Sockets that only a JVM's garbage collector closes: close() is missing, though their number does not grow.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;

use foldhash::fast::FixedState;

use crate::engine::conn::Connection;
use crate::engine::rules::generations::{self, Ask, goes_on};
use crate::engine::rules::group::{place_of, process_of};
use crate::engine::rules::openers::{Opened, Openers};
use crate::engine::rules::place::{Place, Side};
use crate::engine::rules::{Code, Finding, Opener, Process, RuleId, Sample, Severity, words};
use crate::event::{SockId, Tuple};
use crate::time::MonoNs;

/// A finding is over when nothing has come for this long: a collector may come seldom.
const OVER_NS: u64 = 1_800_000_000_000;
/// Fewer may be a path that is taken once.
const LEAST: u64 = 3;
/// Most places followed.
const MOST: usize = 1_024;
/// Most closings of a place that are remembered one by one.
const KEPT: usize = 256;

/// One socket that a collector closed.
#[derive(Clone, Debug)]
struct Closing {
    /// When it was opened; how often a collector comes says nothing about how often the code forgets.
    opened: MonoNs,
    at: MonoNs,
    id: SockId,
    tuple: Tuple,
    opener: Option<Opener>,
}

#[derive(Debug)]
struct Closings {
    process: Option<Process>,
    count: u64,
    since: MonoNs,
    last: MonoNs,
    recent: VecDeque<Closing>,
    leaked: bool,
}

/// All of them, by whose they were and where to.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    by_place: HashMap<Place, Closings, FixedState>,
}

impl Collected {
    /// A collector has closed this connection.
    pub(crate) fn closed(
        &mut self,
        conn: &Connection,
        at: MonoNs,
        opener: Option<&Opener>,
        first_ephemeral: u16,
    ) {
        let place = place_of(conn, first_ephemeral);
        if self.by_place.len() >= MOST && !self.by_place.contains_key(&place) {
            return;
        }
        let closings = self.by_place.entry(place).or_insert_with(|| Closings {
            process: process_of(conn),
            count: 0,
            since: at,
            last: at,
            recent: VecDeque::new(),
            leaked: false,
        });
        closings.count += 1;
        closings.last = at;
        if closings.recent.len() >= KEPT {
            closings.recent.pop_front();
        }
        closings.recent.push_back(Closing {
            opened: conn.born,
            at,
            id: conn.id,
            tuple: conn.tuple,
            opener: opener.cloned(),
        });
    }

    /// What there is to tell. `threshold_ns`: it is a leak when such sockets are opened for this long.
    pub(crate) fn findings(
        &mut self,
        threshold_ns: u64,
        openers: &Openers,
        now: MonoNs,
        out: &mut Vec<Finding>,
    ) {
        self.by_place.retain(|_, closings| now.since(closings.last) < OVER_NS);
        let mut places: Vec<_> = self.by_place.iter_mut().collect();
        places.sort_unstable_by_key(|(place, _)| place_name(place));
        for (place, closings) in places {
            // A stack may get its names after the socket has gone.
            for one in &mut closings.recent {
                if one.opener.is_none() {
                    one.opener = openers.of(one.id).cloned();
                }
            }
            if closings.count >= LEAST {
                closings.leaked |= closings.leaks(threshold_ns);
                out.push(finding(place, closings, now));
            }
        }
    }
}

impl Closings {
    /// Whether the code went on forgetting them, up to the last that was collected.
    fn leaks(&self, threshold_ns: u64) -> bool {
        let mut opened: Vec<MonoNs> = self.recent.iter().map(|one| one.opened).collect();
        opened.sort_unstable();
        let Some(&last) = opened.last() else { return false };
        let ask =
            Ask { generations: generations::GENERATIONS, span_ns: threshold_ns, grew: self.leaked };
        goes_on(&opened, last, ask).is_some()
    }

    fn opened(&self) -> Opened {
        let mut opened = Opened::default();
        for one in &self.recent {
            opened.add(one.opener.as_ref(), false);
        }
        opened.sort();
        // Of the others nothing is remembered.
        if self.count > self.recent.len() as u64 || opened.by.len() == 1 {
            opened.unknown = 0;
        }
        opened
    }
}

fn place_name(place: &Place) -> String {
    let pid = place.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    let side = match place.side {
        Side::Local(port) => format!(":{port}"),
        Side::Remote(remote) => remote.to_string(),
        Side::Remotes => "*".to_owned(),
    };
    format!("collected/{pid}/{}/{side}", place.netns)
}

fn finding(place: &Place, closings: &Closings, now: MonoNs) -> Finding {
    let opened = closings.opened();
    let newest = closings.recent.iter().rev().take(Finding::SAMPLES);
    let mut conns: Vec<Sample> = newest
        .map(|one| Sample { id: one.id, tuple: one.tuple, age_ns: now.since(one.at), fd: None })
        .collect();
    conns.sort_by_key(|sample| (std::cmp::Reverse(sample.age_ns), sample.id));
    let (local_port, remote) = match place.side {
        Side::Local(port) => (Some(port), None),
        Side::Remote(remote) => (None, Some(remote)),
        Side::Remotes => (None, None),
    };
    Finding {
        id: place_name(place),
        rule: RuleId::Collected,
        code: Code::Collected,
        severity: if closings.leaked { Severity::Leak } else { Severity::Stuck },
        state: None,
        count: closings.count,
        in_state: 0,
        oldest_ns: Some(now.since(closings.since)),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: Some(place.netns),
        cgroup: 0,
        process: closings.process,
        workers: Vec::new(),
        local_port,
        remote,
        opener: opened.first().cloned(),
        conns,
        verdict: verdict(place, closings, &opened, now),
        advice: "close() is missing: these sockets stay open until the garbage collector runs, which it does later with a larger heap. Close them on every path (try-with-resources, finally)."
            .to_owned(),
        opened,
        forecast: None,
        idle_timeout_ns: None,
    }
}

fn verdict(place: &Place, closings: &Closings, opened: &Opened, now: MonoNs) -> String {
    let who = words::process(closings.process);
    let side = match place.side {
        Side::Local(port) => format!(" on :{port}"),
        Side::Remote(remote) => format!(" to {remote}"),
        Side::Remotes => String::new(),
    };
    let does = if closings.leaked { "leaks sockets" } else { "forgets sockets" };
    let mut text =
        format!("{who} {does}{side}: the garbage collector closed {} of them", closings.count);
    let _ = write!(text, ", the last {} ago", words::age(now.since(closings.last)));
    text.push_str(&opened.words());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn closings(opened_s: impl IntoIterator<Item = u64>) -> Closings {
        let at = MonoNs(10_000 * SECOND);
        let recent: VecDeque<Closing> = opened_s
            .into_iter()
            .enumerate()
            .map(|(index, opened)| Closing {
                opened: MonoNs(opened * SECOND),
                at,
                id: SockId(index as u64),
                tuple: Tuple {
                    local_addr: [0; 16],
                    remote_addr: [0; 16],
                    local_port: 0,
                    remote_port: 0,
                    family: crate::event::Family::V6,
                },
                opener: None,
            })
            .collect();
        let count = recent.len() as u64;
        Closings { process: None, count, since: at, last: at, recent, leaked: false }
    }

    #[test]
    fn code_that_goes_on_forgetting_leaks_and_code_that_did_once_does_not() {
        let check = |what: &str, opened: Vec<u64>, expect: bool| {
            assert_eq!(closings(opened).leaks(60 * SECOND), expect, "{what}");
        };
        check("one a second, for two minutes", (0..120).collect(), true);
        check("one each half minute", (0..10).map(|n| n * 30).collect(), true);
        check("at the start of a program", vec![1, 1, 1, 2, 2, 3], false);
        check("two bursts", vec![1, 1, 1, 600, 600, 600], false);
        check("nothing", vec![], false);
    }
}
