//! Thread dumps and class histograms of the JVMs that findings are about, for `incident`.
//!
//! A JVM is asked as soon as it has a finding, or at once where `--pid` names it, and again at the end: a thread
//! that has not moved in between waits for something.

use std::collections::BTreeSet;

use crate::answer::{Answer, ENDED, NO_JVM, Question};
use crate::engine::Engine;
use crate::event::Comm;
use crate::filter::Filter;
use crate::symbolize::worker::Worker;

/// JVMs that are asked; each stops for some milliseconds when it answers.
const MOST: usize = 8;

/// Who was asked, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Dumps {
    asked: BTreeSet<u32>,
    answers: Vec<Answer>,
}

/// Its name now; empty when it has ended.
fn comm(pid: u32) -> Comm {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    Comm::new(name.strip_suffix(b"\n").unwrap_or(&name))
}

impl Dumps {
    pub(super) fn answered(&mut self, pid: u32, question: Question, text: Result<Vec<u8>, String>) {
        self.answers.push(Answer { pid, comm: comm(pid), question, text });
    }

    /// Asks each JVM that there is a reason to ask, once.
    pub(super) fn ask(&mut self, worker: &mut Worker, engine: &Engine, filter: &Filter) {
        let findings = engine.watch().map(|watch| watch.findings());
        let found = findings.into_iter().flatten().filter_map(|(finding, _)| finding.process?.pid);
        for pid in filter.pids.iter().copied().chain(found) {
            if self.asked.len() < MOST && self.asked.insert(pid) {
                worker.question(pid, Question::Threads);
            }
        }
    }

    /// The second dump and the histogram; of a JVM whose finding is new, the first, too.
    pub(super) fn ask_again(&mut self, worker: &mut Worker, engine: &Engine, filter: &Filter) {
        self.ask(worker, engine, filter);
        for &pid in &self.asked {
            worker.question(pid, Question::Threads);
            worker.question(pid, Question::Classes);
        }
    }

    /// What the JVMs said, and which did not answer.
    pub(super) fn finish(&mut self) -> Vec<Answer> {
        let Dumps { asked, mut answers } = std::mem::take(self);
        for pid in asked {
            if !answers.iter().any(|answer| answer.pid == pid) {
                let (question, text) = (Question::Threads, Err("it did not answer in time".into()));
                answers.push(Answer { pid, comm: comm(pid), question, text });
            }
        }
        // Of what is no JVM, or is gone, there is nothing to tell.
        answers.retain(|answer| {
            answer.text.as_ref().err().is_none_or(|why| why != NO_JVM && why != ENDED)
        });
        answers
    }
}
