//! Cells of tables, and columns.

use std::borrow::Cow;
use std::fmt::Write;

use crate::engine::Engine;
use crate::engine::conn::{Connection, Spent};
use crate::event::Comm;
use crate::output::lines;
use crate::text;
pub(crate) use crate::text::{Paint, thousands};
use crate::time::Human;

/// How rows of a group become one row, in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fold {
    /// The group is named by it.
    Name,
    /// They are added up.
    Sum,
    /// The largest stays.
    Most,
    /// It stays where it is the same for all.
    Same,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// In capitals.
    pub(crate) title: &'static str,
    /// Figures stand at the right.
    pub(crate) right: bool,
    /// On a narrow terminal columns go, those with the largest number first; 0 stays.
    pub(crate) rank: u8,
    /// It takes no more room than this, unless there is nothing else for it. 0: it takes what is left, and
    /// breaks its text into lines.
    pub(crate) most: u16,
    /// What a group has in it.
    pub(crate) fold: Fold,
    /// What it says, for the help.
    pub(crate) means: &'static str,
}

/// A text column.
pub(crate) const fn text_column(
    title: &'static str,
    rank: u8,
    most: u16,
    fold: Fold,
    means: &'static str,
) -> Column {
    Column { title, right: false, rank, most, fold, means }
}

/// A column of figures.
pub(crate) const fn figures(
    title: &'static str,
    rank: u8,
    fold: Fold,
    means: &'static str,
) -> Column {
    Column { title, right: true, rank, most: 12, fold, means }
}

/// By what a cell is sorted.
#[derive(Clone, PartialEq, PartialOrd, Debug)]
pub(crate) enum Key {
    /// What is not known comes last, whichever way.
    Unknown,
    /// A figure.
    Number(f64),
    /// Its text.
    Text,
}

/// One cell.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) key: Key,
    pub(crate) paint: Paint,
}

impl Cell {
    /// Nothing is known.
    pub(crate) fn unknown() -> Cell {
        Cell { text: "-".to_owned(), key: Key::Unknown, paint: Paint::Dim }
    }

    /// A text, which must be harmless.
    pub(crate) fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), key: Key::Text, paint: Paint::Plain }
    }

    /// Text with a key of its own.
    pub(crate) fn keyed(text: impl Into<String>, key: f64) -> Cell {
        Cell { text: text.into(), key: Key::Number(key), paint: Paint::Plain }
    }

    /// A count; 0 is dim.
    pub(crate) fn count(count: u64) -> Cell {
        let paint = if count == 0 { Paint::Dim } else { Paint::Plain };
        Cell { text: thousands(count), key: Key::Number(float(count)), paint }
    }

    /// A count, or nothing known.
    pub(crate) fn maybe(count: Option<u64>) -> Cell {
        count.map_or_else(Cell::unknown, Cell::count)
    }

    /// Nanoseconds.
    pub(crate) fn time(ns: Option<u64>) -> Cell {
        ns.map_or_else(Cell::unknown, |ns| Cell::keyed(Human(ns).to_string(), float(ns)))
    }

    /// A time in a state, as well as it is known.
    pub(crate) fn spent(spent: Spent) -> Cell {
        match spent.ns() {
            Some(ns) => Cell::keyed(spent_text(spent), float(ns)),
            None => Cell::unknown(),
        }
    }

    /// Bytes.
    pub(crate) fn bytes(count: u64) -> Cell {
        let mut out = Vec::new();
        text::bytes(count, &mut out);
        let paint = if count == 0 { Paint::Dim } else { Paint::Plain };
        Cell { text: lossy(&out), key: Key::Number(float(count)), paint }
    }

    /// A share, in percent.
    pub(crate) fn percent(part: u64, whole: u64) -> Cell {
        if whole == 0 {
            return Cell::unknown();
        }
        let share = float(part) * 100.0 / float(whole);
        let text =
            if share > 0.0 && share < 1.0 { "<1%".to_owned() } else { format!("{share:.0}%") };
        let paint = if part == 0 { Paint::Dim } else { Paint::Plain };
        Cell { text, key: Key::Number(share), paint }
    }

    /// Growth a minute.
    pub(crate) fn per_minute(rate: Option<f64>) -> Cell {
        let Some(rate) = rate else { return Cell::unknown() };
        let text = if rate.abs() < 0.05 {
            "0".to_owned()
        } else if rate.abs() < 10.0 {
            format!("{rate:+.1}")
        } else {
            format!("{rate:+.0}")
        };
        let paint = if rate >= 0.05 { Paint::Warn } else { Paint::Dim };
        Cell { text, key: Key::Number(rate), paint }
    }

    /// In another colour.
    pub(crate) fn painted(self, paint: Paint) -> Cell {
        Cell { paint, ..self }
    }

    /// In this colour, unless it is 0 or unknown.
    pub(crate) fn marked(self, paint: Paint) -> Cell {
        if self.paint == Paint::Dim { self } else { self.painted(paint) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "sorted by, and shown in two digits")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// `>=14m00s`, `~60.0s`, `-`.
pub(crate) fn spent_text(spent: Spent) -> String {
    match spent {
        Spent::Exactly(ns) => Human(ns).to_string(),
        Spent::About(ns) => format!("~{}", Human(ns)),
        Spent::AtLeast(ns) => format!(">={}", Human(ns)),
        Spent::Unknown => "-".to_owned(),
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A stranger's name.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    text::name(bytes, &mut out);
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => lossy(error.as_bytes()),
    }
}

/// `java[31467]`.
pub(crate) fn process(comm: &Comm, pid: Option<u32>) -> String {
    let mut text = harmless(comm.bytes());
    // A write to a String cannot fail.
    let _ = match pid {
        Some(pid) => write!(text, "[{pid}]"),
        None => write!(text, "[?]"),
    };
    text
}

/// `10.0.0.1:80`.
pub(crate) fn endpoint(addr: std::net::SocketAddr) -> String {
    let mut out = Vec::with_capacity(24);
    text::endpoint(addr, &mut out);
    lossy(&out)
}

/// Both ends of a connection, those of one link with its interface: `[fe80::1%eth0]:80`.
pub(crate) fn ends(engine: &Engine, conn: &Connection) -> (String, String) {
    (local_end(engine, conn), remote_end(engine, conn))
}

/// Our end of a connection.
pub(crate) fn local_end(engine: &Engine, conn: &Connection) -> String {
    lines::ends::named(engine.names(), conn.tuple.local(), link(conn))
}

/// The other end of a connection.
pub(crate) fn remote_end(engine: &Engine, conn: &Connection) -> String {
    lines::ends::remote_named(engine.names(), conn.tuple.remote(), link(conn))
}

fn link(conn: &Connection) -> (u32, u32) {
    (conn.netns, conn.interface())
}

/// The longer of two times.
pub(crate) fn longer(one: Spent, other: Spent) -> Spent {
    if other.ns() > one.ns() { other } else { one }
}

/// `1 socket`, `2 sockets`.
pub(crate) fn counted(count: u64, what: &str) -> Cow<'static, str> {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", thousands(count)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_honest() {
        let check = |cell: Cell, expect: &str| assert_eq!(cell.text, expect);
        check(Cell::count(1_234_567), "1,234,567");
        check(Cell::count(12), "12");
        check(Cell::percent(0, 0), "-");
        check(Cell::percent(1, 1000), "<1%");
        check(Cell::percent(0, 10), "0%");
        check(Cell::percent(795, 1000), "80%");
        check(Cell::per_minute(None), "-");
        check(Cell::per_minute(Some(0.0)), "0");
        check(Cell::per_minute(Some(3.04)), "+3.0");
        check(Cell::per_minute(Some(-12.3)), "-12");
        check(Cell::spent(Spent::AtLeast(60_000_000_000)), ">=1m00s");
        check(Cell::spent(Spent::Unknown), "-");
    }

    #[test]
    fn names_of_strangers_cannot_steer() {
        assert_eq!(process(&Comm::new(b"\x1b[2Jx"), Some(7)), "\\u{1b}[2Jx[7]");
    }
}
