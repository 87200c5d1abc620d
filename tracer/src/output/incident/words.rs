//! Words and lines of the page.

use std::fmt::Write;

use crate::text;
use crate::time::Human;

/// Where the words of a finding begin.
const INDENT: usize = 17;

/// `3 sockets`.
pub(super) fn sockets(count: u64) -> String {
    counted(count, "socket")
}

/// `1 thread`, `2 threads`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Without what nobody needs of a long time.
pub(super) fn round(ns: u64) -> String {
    let human = Human(if ns >= 1_000_000_000 { ns / 1_000_000_000 * 1_000_000_000 } else { ns });
    human.to_string().replace(".00s", "s").replace(".0s", "s")
}

/// What strangers named, made harmless.
pub(super) fn safe(text: &str) -> String {
    let mut out = Vec::new();
    text::name(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A line of a finding: its name, then its words.
pub(super) fn field(name: &str, text: &str, width: usize, out: &mut String) {
    let label = format!("   {name}");
    let mut lines = String::new();
    wrap(text, INDENT, INDENT, width, &mut lines);
    let _ = write!(out, "{label:<INDENT$}{}", lines.get(INDENT..).unwrap_or_default());
}

/// Words in lines of at most `width` columns; the first begins at `first`, the others at `rest`.
pub(super) fn wrap(text: &str, first: usize, rest: usize, width: usize, out: &mut String) {
    let mut column = first;
    let _ = write!(out, "{:first$}", "");
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width {
            let _ = write!(out, "\n{:rest$}", "");
            column = rest;
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        fresh = false;
    }
    out.push('\n');
}
