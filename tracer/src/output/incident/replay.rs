//! The page of a bundle, made anew from its recording and evidence.

use std::io;

use super::case::{Over, verdict};
use super::evidence::Evidence;
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::{Draws, Needs, Output, RulesNeed, Run, Verdict};

/// The output of `replay BUNDLE incident`.
#[derive(Debug)]
pub struct Replayed {
    evidence: Evidence,
    filter: Filter,
    width: usize,
    over: Over,
}

impl Replayed {
    /// For a page of so many columns about what the filter lets through.
    #[must_use]
    pub fn new(evidence: Evidence, filter: Filter, width: usize) -> Replayed {
        Replayed { evidence, filter, width, over: Over::default() }
    }
}

impl Output for Replayed {
    fn needs(&self) -> Needs {
        Needs { rules: RulesNeed::Looks, draws: Draws::AtEnd, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn update(&mut self, _engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        self.over.update(update);
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let page = self.over.page(run, &self.filter, &self.evidence, self.width);
        out.extend_from_slice(page.as_bytes());
        Ok(())
    }

    fn verdict(&self, engine: &Engine) -> Option<Verdict> {
        verdict(engine)
    }
}
