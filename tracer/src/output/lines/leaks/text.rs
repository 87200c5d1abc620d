//! The report as text.

use tracer_common::stack::StackKind;

use crate::config::LeaksOptions;
use crate::engine::book::{Book, Sighting};
use crate::engine::conn::Table;
use crate::frame::{Frame, Kind, Named, opener};
use crate::names::Names;
use crate::output::lines::leaks::advice::advice;
use crate::output::lines::leaks::find::{Findings, Group};
use crate::output::lines::{ends, human};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// Frames of the application shown, where not all are asked for.
const MOST_FRAMES: usize = 12;
const INDENT: usize = 6;

/// What the text is made from.
pub(super) struct Scene<'a> {
    pub(super) table: &'a Table,
    pub(super) book: &'a Book,
    pub(super) names: &'a Names,
    pub(super) options: &'a LeaksOptions,
    pub(super) now: MonoNs,
    pub(super) terminal: Terminal,
}

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
        let wait = if count == 1 { "connection waits" } else { "connections wait" };
        let text = format!("{count} {wait} in the accept queue: no process has them yet.");
        say(out, terminal, 0, Paint::Dim, &text);
    }
    if book.refused > 0 {
        let text =
            format!("{} stacks were not kept: there were too many different ones.", book.refused);
        say(out, terminal, 0, Paint::Warn, &text);
    }
}

pub(super) const fn sockets(count: usize) -> &'static str {
    if count == 1 { "socket" } else { "sockets" }
}

fn group_text(group: &Group<'_>, scene: &Scene<'_>, out: &mut Vec<u8>) {
    let &Scene { book, options, terminal, .. } = scene;
    let names = group.names(book);
    let frames = names.map_or(&[][..], |names| &names.frames);
    let paint = if group.first.is_some() { Paint::Bad } else { Paint::Plain };
    say(out, terminal, 0, paint, title(group, scene, frames).trim_end());
    let facts = facts(group, scene);
    if !facts.is_empty() {
        say(out, terminal, 3, Paint::Plain, &facts.join(", "));
    }
    if let Some(first) = group.first {
        let thread = thread(first, names);
        let whose = if group.user.is_some() { "opened by " } else { "" };
        say(out, terminal, 3, Paint::Plain, &format!("{whose}{thread}"));
    }
    frames_text(frames, options.full, terminal, out);
    if let Some(note) = names.and_then(|names| names.note.as_deref()) {
        say(out, terminal, 3, Paint::Warn, &safe(note.as_bytes()));
    } else if group.first.is_some() && names.is_none() {
        let text = "its frames are unknown: the stack was lost, or there was no time to name it";
        say(out, terminal, 3, Paint::Warn, text);
    }
    if let Some(text) = no_handler(group, frames) {
        say(out, terminal, 3, Paint::Plain, &text);
    }
    if let Some(user) = group.user {
        let names = group.user_names(book);
        let mut since = Vec::new();
        human(scene.now.since(user.at), &mut since);
        let since = String::from_utf8_lossy(&since).into_owned();
        let text = format!("last used {since} ago by {}", thread(user, names));
        say(out, terminal, 3, Paint::Plain, &text);
        frames_text(names.map_or(&[][..], |names| &names.frames), options.full, terminal, out);
    }
    if let Some(advice) = advice(group, frames) {
        say(out, terminal, 3, Paint::Plain, advice);
    }
}

/// How many, whose, and which code: that of the application first.
fn title(group: &Group<'_>, scene: &Scene<'_>, frames: &[Frame]) -> String {
    let mut who = Vec::new();
    text::process(&group.comm, group.pid, &mut who);
    let who = String::from_utf8_lossy(&who).into_owned();
    let did = match group.first.map(|first| first.kind) {
        Some(StackKind::Connect) => "opened by",
        Some(StackKind::Accept) => "accepted by",
        Some(StackKind::Read | StackKind::Handle) => "last read by",
        None if group.missed => "opened by unknown code: its stack was not seen",
        None => "opened before tcptrail started, by unknown code",
    };
    let opener_frame = opener(frames);
    let name = match (group.first, opener_frame) {
        (None, _) => String::new(),
        (Some(_), Some(frame)) => safe(frame.text().as_bytes()),
        (Some(first), None) => format!("thread {}", safe(first.thread.bytes())),
    };
    if group.conns.is_empty() {
        let count = group.collected;
        let (sockets, were) = if count == 1 { ("socket", "was") } else { ("sockets", "were") };
        return format!(
            "{count} {sockets} of {who} {did} {name} {were} closed by the garbage collector, not by that code"
        );
    }
    let count = group.conns.len();
    let begin = format!("{count} {} of {who}", sockets(count));
    let user = group.user_names(scene.book).and_then(|names| opener(&names.frames));
    let user = user.filter(|_| group.user.is_some());
    if let Some((handler, seen)) = group.handler() {
        let handler = safe(handler.as_bytes());
        return format!("{begin} handled by {handler} (seen {seen} of {count}), {did} {name}");
    }
    let opened_by_application = opener_frame.is_some_and(|frame| frame.kind == Kind::Application);
    match user.map(|frame| (frame, safe(frame.text().as_bytes()))) {
        Some((_, user)) if opened_by_application => {
            format!("{begin} {did} {name}, last used by {user}")
        }
        // A library opened it on a thread of its own: who uses it says more.
        Some((frame, user)) if frame.kind == Kind::Application => {
            format!(
                "{begin} last used by {user}; {did} {name}, with no method of the application on the stack"
            )
        }
        _ if is_threads_own(group, frames) => {
            let name = match (group.first, opener_frame) {
                (Some(first), Some(_)) => format!("thread {} ({name})", safe(first.thread.bytes())),
                _ => name,
            };
            let to = remote_of(group, scene);
            let to = to.map_or_else(String::new, |remote| format!(" to {remote}"));
            format!("{begin}{to} {did} {name}, with no method of the application on the stack")
        }
        _ => format!("{begin} {did} {name}"),
    }
}

/// Of a server's sockets: why the method that handles them is not known, and where to look.
fn no_handler(group: &Group<'_>, frames: &[Frame]) -> Option<String> {
    let first = group.first.filter(|first| first.kind == StackKind::Read)?;
    let is_java = frames.iter().any(|frame| frame.name.starts_with("java."));
    let known = frames.iter().any(|frame| frame.kind == Kind::Application);
    if !is_java || known || group.handler().is_some() {
        return None;
    }
    // The threads of a pool differ in a number, which may be cut off.
    let thread = safe(first.thread.bytes());
    let pool = thread.trim_end_matches(|c: char| c.is_ascii_digit());
    let pid = group.pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    Some(format!(
        "the method that handles them is unknown: it was not on the stack of the thread that read the request, neither \
         then nor when the kernel saw that thread next. While requests come, try: jcmd {pid} Thread.print | grep -A 40 \
         '\"{pool}'. If none of these threads is at work, they have handed the requests over (startAsync, a future): \
         jcmd {pid} GC.class_histogram | grep -E 'AsyncContext|CompletableFuture'"
    ))
}

/// A library connects on a thread of its own, an event loop: its stack is whole, and nothing of the
/// application is on it.
fn is_threads_own(group: &Group<'_>, frames: &[Frame]) -> bool {
    group.first.is_some_and(|first| first.kind == StackKind::Connect)
        && frames.iter().any(|frame| frame.name.starts_with("java."))
        && frames.iter().all(|frame| matches!(frame.kind, Kind::Runtime | Kind::Library))
}

/// Where all of its connections went, where it is one place.
fn remote_of(group: &Group<'_>, scene: &Scene<'_>) -> Option<String> {
    group.common(|conn| conn.remote())?;
    group.conns.first().map(|conn| {
        ends::remote_named(scene.names, conn.tuple.remote(), (conn.netns, conn.interface()))
    })
}

/// States, where to, since when, how many before.
fn facts(group: &Group<'_>, scene: &Scene<'_>) -> Vec<String> {
    let &Scene { table, book, now, .. } = scene;
    let duration = |ns: u64| {
        let mut text = Vec::new();
        human(ns, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let states = group.states().into_iter();
    let mut facts: Vec<String> =
        states.map(|(state, count)| format!("{} {count}", state.name())).collect();
    if let Some(remote) = remote_of(group, scene) {
        facts.push(format!("to {remote}"));
    } else if let Some(port) = group.common(|conn| conn.tuple.local_port) {
        facts.push(format!("at port {port}"));
    } else if let Some(port) = group.common(|conn| conn.tuple.remote_port) {
        facts.push(format!("to port {port} of several addresses"));
    }
    if let Some(oldest) = group.conns.first() {
        let bound = if oldest.complete { "" } else { ">=" };
        facts.push(format!("oldest {bound}{}", duration(now.since(oldest.born))));
    }
    if let Some(timeout) = group.timeout {
        let idle = duration(timeout.ns);
        facts.push(format!("closed by the peer after {idle} without data"));
    }
    if let Some(opened) = group.opened(book) {
        let closed = opened.saturating_sub(group.open(table, book));
        let closed = if closed == 0 { "none".to_owned() } else { closed.to_string() };
        facts.push(format!("{opened} opened since the start, {closed} closed"));
    }
    if let Some(last) = group.collected_last {
        let ago = duration(now.since(last));
        facts.push(match group.conns.is_empty() {
            true => format!("the last {ago} ago"),
            false => {
                format!("{} of them by the garbage collector, the last {ago} ago", group.collected)
            }
        });
    }
    facts
}

fn thread(sighting: &Sighting, names: Option<&Named>) -> String {
    let thread = format!("thread {}, tid {}", safe(sighting.thread.bytes()), sighting.tid);
    match names.and_then(|names| names.nid) {
        Some(nid) => format!("{thread} (nid={nid:#x} in a thread dump)"),
        None => thread,
    }
}

/// Frames of the application one a line; what the runtime and libraries did in between as one.
pub(super) fn frames_text(frames: &[Frame], full: bool, terminal: Terminal, out: &mut Vec<u8>) {
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

pub(super) fn safe(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    text::name(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A line, broken between words where the terminal is too narrow. What strangers named has been made
/// harmless.
pub(super) fn say(out: &mut Vec<u8>, terminal: Terminal, indent: usize, paint: Paint, words: &str) {
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
