//! Findings as they were told: what appears, what has changed enough to be told again, and what is over.

use std::collections::BTreeMap;

use crate::engine::rules::growth::Series;
use crate::engine::rules::judge::Before;
use crate::engine::rules::{Finding, Severity, Update};
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
/// A finding that only grows is told again after this time, then after twice that, ...
const TELL_FIRST_NS: u64 = 10 * SECOND;
/// ... up to this.
const TELL_MOST_NS: u64 = 300 * SECOND;

/// One that is found now.
#[derive(Debug)]
struct Active {
    finding: Finding,
    since: MonoNs,
    told: MonoNs,
    /// Not told again before this has passed.
    pause_ns: u64,
    /// As it was told.
    told_count: u64,
    told_left: Option<u64>,
    seen: bool,
    counts: Series,
}

/// What is found now.
#[derive(Debug, Default)]
pub(crate) struct Told {
    active: BTreeMap<String, Active>,
}

impl Told {
    /// The finding of this name as it was at the last look.
    pub(crate) fn before(&self, id: &str) -> Option<Before<'_>> {
        let active = self.active.get(id)?;
        Some(Before { finding: &active.finding, counts: &active.counts })
    }

    /// All of them, with the time since when, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Finding, MonoNs)> {
        self.active.values().map(|active| (&active.finding, active.since))
    }

    /// Whether one of them is more than a note.
    pub(crate) fn suspects(&self) -> bool {
        self.iter().any(|(finding, _)| finding.severity != Severity::Note)
    }

    /// The worst first.
    pub(crate) fn worst_first(&self) -> Vec<(&Finding, MonoNs)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by_key(|(finding, since)| {
            (finding.severity, std::cmp::Reverse(finding.count), *since)
        });
        all
    }

    /// Compares with what was found before.
    pub(crate) fn settle(
        &mut self,
        findings: Vec<Finding>,
        now: MonoNs,
        updates: &mut Vec<(Update, Finding)>,
    ) {
        for active in self.active.values_mut() {
            active.seen = false;
        }
        for finding in findings {
            match self.active.get_mut(&finding.id) {
                None => {
                    updates.push((Update::Appear, finding.clone()));
                    self.active.insert(finding.id.clone(), Active::new(finding, now));
                }
                Some(active) => {
                    if active.take_in(&finding, now) {
                        updates.push((Update::Change, finding.clone()));
                    }
                    active.finding = finding;
                }
            }
        }
        let over: Vec<String> = self
            .active
            .iter()
            .filter(|(_, active)| !active.seen)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some(active) = self.active.remove(&id) {
                updates.push((Update::Clear { since: active.since }, active.finding));
            }
        }
    }
}

impl Active {
    fn new(finding: Finding, now: MonoNs) -> Active {
        let mut counts = Series::default();
        counts.push(now, finding.count);
        Active {
            since: now,
            told: now,
            pause_ns: TELL_FIRST_NS,
            told_count: finding.count,
            told_left: left_ns(&finding),
            seen: true,
            counts,
            finding,
        }
    }

    /// Takes in what this look found, and says whether it is to be told: at once when it is worse, else
    /// after a pause.
    fn take_in(&mut self, finding: &Finding, now: MonoNs) -> bool {
        let left = left_ns(finding);
        self.seen = true;
        self.counts.push(now, finding.count);
        let half = |left: u64| self.told_left.is_some_and(|told| left <= told / 2);
        let runs_out = finding.severity == Severity::Exhaustion;
        let named = self.finding.opener.is_none() && finding.opener.is_some()
            // It became another program, and a walk has met it since.
            || finding.process != self.finding.process;
        let worse = finding.severity != self.finding.severity
            || named
            || runs_out && left.is_some_and(half) && self.told_left != Some(0)
            || finding.count >= self.told_count.saturating_mul(2);
        let other = finding.count != self.told_count || left.is_some() != self.told_left.is_some();
        let tells = worse || other && now.since(self.told) >= self.pause_ns;
        if tells {
            self.pause_ns = (self.pause_ns * 2).min(TELL_MOST_NS);
            self.told = now;
            self.told_count = finding.count;
            self.told_left = left;
        }
        tells
    }
}

/// Time until what it is about runs out.
fn left_ns(finding: &Finding) -> Option<u64> {
    finding.forecast.and_then(|forecast| forecast.left_ns)
}
