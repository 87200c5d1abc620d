//! What was tried, a line each, written as soon as it is known: trying the programs takes seconds on a busy machine.

use std::io::Write;

use crate::output::json::Object;
use crate::text::{self, Paint, Row, Terminal};

/// Everything that is tried.
pub(super) struct Checks<'a> {
    out: &'a mut dyn Write,
    json: bool,
    terminal: Terminal,
    /// All that is required works.
    pub(super) works: bool,
    /// Everything works.
    pub(super) complete: bool,
}

impl<'a> Checks<'a> {
    /// None so far.
    pub(super) fn new(out: &'a mut dyn Write, json: bool, terminal: Terminal) -> Checks<'a> {
        Checks { out, json, terminal, works: true, complete: true }
    }

    /// Adds one. Without one that is `required` nothing works.
    pub(super) fn push(&mut self, name: &str, required: bool, outcome: Result<String, String>) {
        self.complete &= outcome.is_ok();
        self.works &= outcome.is_ok() || !required;
        let check = Check { name: name.to_owned(), outcome, required };
        let mut line = Vec::new();
        if self.json {
            check.json(&mut line)
        } else {
            check.text(self.terminal, &mut line)
        }
        self.write(&line);
    }

    /// A reader that has gone has seen enough.
    pub(super) fn write(&mut self, line: &[u8]) {
        let _ = self.out.write_all(line);
        let _ = self.out.flush();
    }
}

/// One thing that was tried.
struct Check {
    name: String,
    /// Works, or what is lost without it.
    outcome: Result<String, String>,
    /// Without it nothing works.
    required: bool,
}

impl Check {
    fn json(&self, out: &mut Vec<u8>) {
        let mut object = Object::event(out, "check");
        object.string("name", self.name.as_bytes()).boolean("ok", self.outcome.is_ok());
        let (Ok(detail) | Err(detail)) = &self.outcome;
        object.string("detail", detail.as_bytes()).boolean("required", self.required).end();
    }

    fn text(&self, terminal: Terminal, out: &mut Vec<u8>) {
        let (mark, paint): (&[u8], _) = match (&self.outcome, self.required) {
            (Ok(_), _) => (b"ok", Paint::Good),
            (Err(_), true) => (b"NO", Paint::Bad),
            (Err(_), false) => (b"--", Paint::Warn),
        };
        let (Ok(detail) | Err(detail)) = &self.outcome;
        let mut safe = Vec::new();
        text::name(detail.as_bytes(), &mut safe);
        let mut row = Row::new(out, terminal, 5);
        row.cell(2, paint, mark).cell(31, Paint::Plain, self.name.as_bytes());
        for word in safe.split(|&byte| byte == b' ') {
            row.cell(0, Paint::Plain, word);
        }
        row.end();
    }
}
