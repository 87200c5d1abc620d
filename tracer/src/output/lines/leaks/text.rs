//! The report for people.

use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::config::LeaksOptions;
use crate::engine::book::Book;
use crate::engine::conn::Table;
use crate::frame::{Frame, Kind, opener};
use crate::output::lines::human;
use crate::output::lines::leaks::group::{Findings, Group};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// Frames of the application shown in text, where not all are asked for.
const MOST_FRAMES: usize = 12;
const INDENT: usize = 6;

/// What the text is made from.
pub(super) struct Scene<'a> {
    pub(super) table: &'a Table,
    pub(super) book: &'a Book,
    pub(super) options: &'a LeaksOptions,
    pub(super) now: MonoNs,
    pub(super) terminal: Terminal,
}

/// The whole report.
pub(super) fn as_text(findings: &Findings<'_>, scene: &Scene<'_>, out: &mut Vec<u8>) {
    let &Scene { book, options, terminal, .. } = scene;
    let mut older = Vec::new();
    human(u64::try_from(options.older.as_nanos()).unwrap_or(u64::MAX), &mut older);
    let older = String::from_utf8_lossy(&older).into_owned();
    if findings.groups.is_empty() {
        say(
            out,
            terminal,
            0,
            Paint::Good,
            &format!("No socket has been open for {older} or longer."),
        );
    }
    for group in &findings.groups {
        group_text(group, scene, out);
        out.push(b'\n');
    }
    if findings.younger > 0 {
        let (count, are) = (findings.younger, if findings.younger == 1 { "is" } else { "are" });
        say(
            out,
            terminal,
            0,
            Paint::Dim,
            &format!("{count} open {} {are} younger than {older}.", sockets(count)),
        );
    }
    if findings.unaccepted > 0 {
        let count = findings.unaccepted;
        let text =
            format!("{count} {} not accepted yet: nobody has opened them here.", sockets(count));
        say(out, terminal, 0, Paint::Dim, &text);
    }
    if book.refused > 0 {
        let text =
            format!("{} stacks were not kept: there were too many different ones.", book.refused);
        say(out, terminal, 0, Paint::Warn, &text);
    }
}

const fn sockets(count: usize) -> &'static str {
    if count == 1 { "socket" } else { "sockets" }
}

fn group_text(group: &Group<'_>, scene: &Scene<'_>, out: &mut Vec<u8>) {
    let &Scene { book, options, terminal, .. } = scene;
    let names = group.names(book);
    let frames = names.map_or(&[][..], |names| &names.frames);
    let mut who = Vec::new();
    text::process(&group.comm, group.pid, &mut who);
    let who = String::from_utf8_lossy(&who).into_owned();
    let count = group.conns.len();
    let did = match group.first.map(|first| first.kind) {
        Some(StackKind::Connect) => "opened by",
        Some(StackKind::Accept) => "accepted by",
        Some(StackKind::Read) => "last read by",
        None if group.missed => "opened by somebody whose stack was not seen",
        None => "open since before tcptrail started; who opened them is not known",
    };
    let name = match (group.first, opener(frames)) {
        (None, _) => String::new(),
        (Some(_), Some(frame)) => frame.text(),
        (Some(first), None) => format!("thread {}", safe(first.thread.bytes())),
    };
    let title = format!("{count} {} of {who} {did} {}", sockets(count), safe(name.as_bytes()));
    say(
        out,
        terminal,
        0,
        if group.first.is_some() { Paint::Bad } else { Paint::Plain },
        title.trim_end(),
    );

    say(out, terminal, 3, Paint::Plain, &facts(group, scene).join(", "));
    if let Some(first) = group.first {
        let mut thread = format!("thread {}, tid {}", safe(first.thread.bytes()), first.tid);
        if let Some(nid) = names.and_then(|names| names.nid) {
            let _ = std::fmt::Write::write_fmt(
                &mut thread,
                format_args!(" (nid={nid:#x} in a thread dump)"),
            );
        }
        say(out, terminal, 3, Paint::Plain, &thread);
    }
    frames_text(frames, options.full, terminal, out);
    if let Some(note) = names.and_then(|names| names.note.as_deref()) {
        say(out, terminal, 3, Paint::Warn, &safe(note.as_bytes()));
    } else if group.first.is_some() && names.is_none() {
        say(
            out,
            terminal,
            3,
            Paint::Warn,
            "its frames are not known: the stack was lost, or there was no time to name it",
        );
    }
    if let Some(advice) = advice(group, frames) {
        say(out, terminal, 3, Paint::Plain, advice);
    }
}

/// States, ends, ages and numbers.
fn facts(group: &Group<'_>, scene: &Scene<'_>) -> Vec<String> {
    let &Scene { table, book, now, .. } = scene;
    let mut facts: Vec<String> = group
        .states()
        .into_iter()
        .map(|(state, count)| format!("{} {count}", state.name()))
        .collect();
    if let Some(remote) = group.common(|conn| conn.tuple.remote()) {
        facts.push(format!("to {remote}"));
    } else if let Some(port) = group.common(|conn| conn.tuple.local_port) {
        facts.push(format!("at port {port}"));
    } else if let Some(port) = group.common(|conn| conn.tuple.remote_port) {
        facts.push(format!("to port {port} of several addresses"));
    }
    let mut oldest = Vec::new();
    human(group.conns.first().map_or(0, |conn| now.since(conn.born)), &mut oldest);
    let bound = if group.conns.first().is_some_and(|conn| conn.complete) { "" } else { ">=" };
    facts.push(format!("oldest {bound}{}", String::from_utf8_lossy(&oldest)));
    if let Some(opened) = group.opened(book) {
        let closed = opened.saturating_sub(group.open(table, book));
        let closed = if closed == 0 { "none".to_owned() } else { closed.to_string() };
        facts.push(format!("{opened} opened since the start, {closed} closed"));
    }
    facts
}

/// Frames of the application one a line; what the runtime and libraries did in between as one.
fn frames_text(frames: &[Frame], full: bool, terminal: Terminal, out: &mut Vec<u8>) {
    if full {
        for frame in frames {
            let paint = if frame.kind == Kind::Application { Paint::Plain } else { Paint::Dim };
            say(out, terminal, INDENT, paint, &safe(frame.text().as_bytes()));
        }
        return;
    }
    let is_own = |frame: &Frame| frame.kind == Kind::Application;
    // Outermost ones of the runtime start threads; nobody needs to read of it.
    let mut shown = 0;
    let mut at = 0;
    while at < frames.len() {
        if is_own(&frames[at]) && shown < MOST_FRAMES {
            shown += 1;
            say(out, terminal, INDENT, Paint::Plain, &safe(frames[at].text().as_bytes()));
            at += 1;
            continue;
        }
        let run =
            frames[at..].iter().take_while(|frame| !is_own(frame) || shown >= MOST_FRAMES).count();
        let end = at + run;
        // What the application called.
        let called = (end < frames.len() || shown == 0).then(|| &frames[end - 1]);
        let left = run - usize::from(called.is_some());
        if left > 0 {
            let what = match frames[at..end].iter().all(|frame| frame.kind == Kind::Runtime) {
                true => "of the runtime",
                false if shown >= MOST_FRAMES => "more",
                false => "of the runtime and libraries",
            };
            let text = format!("... {left} frame{} {what}", if left == 1 { "" } else { "s" });
            say(out, terminal, INDENT, Paint::Dim, &text);
        }
        if let Some(frame) = called {
            say(out, terminal, INDENT, Paint::Dim, &safe(frame.text().as_bytes()));
        }
        at = end;
    }
}

/// What to do about it.
fn advice(group: &Group<'_>, frames: &[Frame]) -> Option<&'static str> {
    let first = group.first?;
    let is_java = frames.iter().any(|frame| frame.name.starts_with("java."));
    let close_wait = group.in_state(TcpState::CloseWait);
    let most = 2 * close_wait >= group.conns.len();
    Some(match (first.kind, most && close_wait > 0) {
        (StackKind::Connect, true) if !is_java => {
            "=> The other side has closed; this code has not. Close what it opened on every path, failures too."
        }
        (StackKind::Connect, true) => {
            "=> The other side has closed; this code has not. Close what it opened (of an HTTP client the response) \
             on every path, failures too: try-with-resources or finally."
        }
        (StackKind::Connect, false) if group.in_state(TcpState::SynSent) == group.conns.len() => {
            "=> Nobody answers: these are still connecting. Set a connect timeout."
        }
        (StackKind::Connect, false) => {
            "=> Open on both sides. A pool keeps some on purpose; if the number only grows, what this code \
             opens is not closed or not given back."
        }
        (_, true) => {
            "=> The other side has closed; this process has not. Whoever handles the connection must close it when \
             a read says it is at its end, and on every failure."
        }
        (_, false) => {
            "=> Open on both sides. Keep-alive keeps some on purpose; if the number only grows, the handler \
             does not close, or clients never do: set an idle timeout."
        }
    })
}

fn safe(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    text::name(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A line, broken between words where the terminal is too narrow. What strangers named has been made
/// harmless.
fn say(out: &mut Vec<u8>, terminal: Terminal, indent: usize, paint: Paint, words: &str) {
    out.resize(out.len() + indent, b' ');
    let narrower = terminal.width.map(|width| width.saturating_sub(indent).max(20));
    let mut row = Vec::new();
    let mut line = Row::new(&mut row, Terminal { width: narrower, ..terminal }, 0);
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        line.cell(0, paint, word.as_bytes());
    }
    line.end();
    // Following lines stand a little further in.
    let mut lines = row.split_inclusive(|&byte| byte == b'\n');
    if let Some(first) = lines.next() {
        out.extend_from_slice(first);
    }
    for line in lines {
        out.resize(out.len() + indent, b' ');
        out.extend_from_slice(line);
    }
}
