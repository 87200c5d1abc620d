//! What a live run and a replay have in common: the findings there were, and the page made of them.

use jiff::tz::{Offset, TimeZone};

use super::evidence::Evidence;
use super::page::{Case, Found, Looked, page};
use crate::engine::rules::{Finding, Severity, Update as Became};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::{Run, Verdict};
use crate::time::MonoNs;
use crate::time::clock::Clock;

/// Exit code when something is wrong, as of `stuck --once`.
const WRONG: u8 = 3;
/// Findings that are over, kept.
const MOST_OVER: usize = 100;

/// Findings that were there and are over; those that last are in the engine.
#[derive(Debug, Default)]
pub(super) struct Over {
    found: Vec<Found>,
}

impl Over {
    pub(super) fn update(&mut self, update: &Update<'_>) {
        let Update::Finding { at, update, finding } = update else { return };
        // One that is back is not over.
        self.found.retain(|found| found.finding.id != finding.id);
        if let Became::Clear { since } = update
            && self.found.len() < MOST_OVER
        {
            self.found.push(Found {
                finding: Finding::clone(finding),
                since: *since,
                over: Some(*at),
            });
        }
    }

    /// All findings: those that last first, by how bad they are.
    fn and_those_that_last(&self, engine: &Engine) -> Vec<Found> {
        let lasting = engine.watch().map(|watch| watch.findings()).unwrap_or_default();
        let lasting = lasting.into_iter().map(|(finding, since)| Found {
            finding: finding.clone(),
            since,
            over: None,
        });
        let mut over = self.found.clone();
        over.sort_by_key(|found| found.finding.severity);
        lasting.chain(over).collect()
    }

    /// The page.
    pub(super) fn page(
        &self,
        run: &Run<'_>,
        filter: &Filter,
        evidence: &Evidence,
        width: usize,
    ) -> String {
        let &Run { engine, totals, now } = run;
        let zone = Offset::from_seconds(evidence.about.utc_offset_s)
            .map_or(TimeZone::UTC, TimeZone::fixed);
        let mut clock = Clock::new(engine.origin().anchor(), zone);
        let mut time_of_day = |at: MonoNs| {
            let mut text = Vec::new();
            clock.time_of_day(at, &mut text);
            text.truncate("03:12:04".len());
            String::from_utf8_lossy(&text).into_owned()
        };
        let table = engine.table();
        let looked = Looked {
            sockets: table.iter().filter(|conn| filter.wants(conn) == Some(true)).count(),
            connections: totals.connections,
            events: totals.events,
            lost: totals.all_lost(),
            ended: format!("{} {}", evidence.about.date, time_of_day(now)),
        };
        let found = self.and_those_that_last(engine);
        page(&mut Case {
            found: &found,
            looked: &looked,
            evidence,
            now,
            clock: &mut time_of_day,
            width,
        })
    }
}

/// Whether something is wrong now.
pub(super) fn verdict(engine: &Engine) -> Option<Verdict> {
    let findings = engine.watch()?.findings();
    let wrong = findings.iter().any(|(finding, _)| finding.severity != Severity::Note);
    wrong.then_some(Verdict { code: WRONG, reason: None })
}
