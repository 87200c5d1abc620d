//! One thing that was tried, and its line.

use crate::output::json::Object;
use crate::text::{self, Paint, Row, Terminal};

/// One thing that was tried.
pub(super) struct Check {
    pub(super) name: String,
    /// Works, or what is lost without it.
    pub(super) outcome: Result<String, String>,
    /// Without it nothing works.
    pub(super) required: bool,
}

impl Check {
    /// Adds one.
    pub(super) fn push(
        checks: &mut Vec<Check>,
        name: &str,
        required: bool,
        outcome: Result<String, String>,
    ) {
        checks.push(Check { name: name.to_owned(), outcome, required });
    }

    pub(super) fn json(&self, out: &mut Vec<u8>) {
        let mut object = Object::event(out, "check");
        object.string("name", self.name.as_bytes()).boolean("ok", self.outcome.is_ok());
        let (Ok(detail) | Err(detail)) = &self.outcome;
        object.string("detail", detail.as_bytes()).boolean("required", self.required).end();
    }

    pub(super) fn text(&self, terminal: Terminal, out: &mut Vec<u8>) {
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
