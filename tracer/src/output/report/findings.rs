//! What the rules found over time.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::engine::rules::{Finding, Update as Became};
use crate::time::MonoNs;

/// Findings kept.
const MOST: usize = 300;
/// Counts kept of one; when they do not suffice, every second is dropped.
const MOST_POINTS: usize = 200;

/// A finding and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) finding: Finding,
    pub(super) since: MonoNs,
    /// When it was over, where it is.
    pub(super) until: Option<MonoNs>,
    /// How many sockets it was about, and when.
    pub(super) points: Vec<(MonoNs, u64)>,
}

impl Story {
    fn point(&mut self, at: MonoNs, count: u64) {
        if self.points.len() >= MOST_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.points.push((at, count));
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stories {
    by_id: BTreeMap<String, Story>,
    /// Findings that there was no room for.
    pub(super) left_out: u64,
}

impl Stories {
    pub(super) fn update(&mut self, at: MonoNs, update: &Became, finding: &Finding) {
        if let Some(story) = self.by_id.get_mut(&finding.id) {
            story.point(at, finding.count);
            story.finding = finding.clone();
            story.until = matches!(update, Became::Clear { .. }).then_some(at);
            return;
        }
        if self.by_id.len() >= MOST {
            self.left_out += 1;
            return;
        }
        let since = if let Became::Clear { since } = update { *since } else { at };
        let until = matches!(update, Became::Clear { .. }).then_some(at);
        let points = vec![(at, finding.count)];
        let story = Story { finding: finding.clone(), since, until, points };
        self.by_id.insert(finding.id.clone(), story);
    }

    /// At the end of the run: those that last as they are now; they come first, the worst before the others.
    pub(super) fn at_end(&mut self, engine: &Engine, now: MonoNs) -> Vec<&Story> {
        let lasting = engine.watch().map(|watch| watch.findings()).unwrap_or_default();
        for (finding, since) in lasting {
            self.update(now, &Became::Change, finding);
            if let Some(story) = self.by_id.get_mut(&finding.id) {
                story.since = story.since.min(since);
            }
        }
        let mut all: Vec<&Story> = self.by_id.values().collect();
        all.sort_by_key(|story| {
            let finding = &story.finding;
            (story.until.is_some(), finding.severity, std::cmp::Reverse(finding.count), story.since)
        });
        all
    }
}
