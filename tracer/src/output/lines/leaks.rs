//! `leaks`: sockets that were opened and not closed, by who opened them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::config::LeaksOptions;
use crate::engine::book::{Book, Sighting, StackId};
use crate::engine::conn::{Connection, Table};
use crate::engine::open::{is_open, survivors};
use crate::engine::{Engine, Update};
use crate::event::Comm;
use crate::filter::Filter;
use crate::frame::{Frame, Kind, Named, opener};
use crate::output::json::{self, Object};
use crate::output::lines::{Pen, Setting, human, times};
use crate::output::{Draws, Needs, Output, StacksNeed, Totals};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::MonoNs;

/// Connections named in an object of the JSON.
const MOST_CONNS: usize = 20;
/// Frames of the application shown in text, where not all are asked for.
const MOST_FRAMES: usize = 12;
const INDENT: usize = 6;

/// A report on a terminal is made again after this time.
const REDRAW_EVERY: Duration = Duration::from_secs(5);

/// The view.
#[derive(Debug)]
pub struct Leaks {
    /// How and what.
    pub setting: Setting,
    /// What the report has.
    pub options: LeaksOptions,
    /// Stdout is a terminal: reports are drawn over one another.
    pub on_terminal: bool,
}

impl Leaks {
    fn draws_over(&self) -> bool {
        !self.setting.pen.json && !self.options.folded && self.on_terminal
    }
}

impl Output for Leaks {
    fn needs(&self) -> Needs {
        let options = &self.options;
        let every = options.watch.or(self.draws_over().then_some(REDRAW_EVERY));
        let named_at_end = Some(options.older);
        Needs {
            stacks: Some(StacksNeed { attach: options.attach, accepted: true, named_at_end }),
            draws: every.map_or(Draws::AtEnd, Draws::Every),
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        let mut nothing = Vec::new();
        // Folded: nothing but stacks goes out.
        self.setting.pen.begin(engine, if self.options.folded { &mut nothing } else { out });
        Ok(())
    }

    fn update(&mut self, _engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        if let Update::Lost(loss) = update
            && !self.options.folded
        {
            self.setting.pen.loss(loss, out);
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, last: bool, out: &mut Vec<u8>) {
        if !last && self.draws_over() {
            out.extend_from_slice(b"\x1b[H\x1b[2J");
        }
        report(&mut self.setting, engine, &self.options, now, out);
    }

    fn end(
        &mut self,
        engine: &Engine,
        totals: &Totals,
        now: MonoNs,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.setting.pen.end(engine, totals, now, out);
        Ok(())
    }
}

/// Sockets with one opener.
struct Group<'a> {
    comm: Comm,
    pid: Option<u32>,
    /// Of the oldest socket; `None` when nobody was seen to open them.
    first: Option<&'a Sighting>,
    conns: Vec<&'a Connection>,
    /// Nobody was seen, though they began under our eyes.
    missed: bool,
    /// Their stacks, and how many sockets each has.
    stacks: BTreeMap<StackId, usize>,
}

/// What is worth a look: everything that is open for long enough, by opener.
#[derive(Default)]
struct Findings<'a> {
    groups: Vec<Group<'a>>,
    younger: usize,
    unaccepted: usize,
}

/// Writes the report.
fn report(
    setting: &mut Setting,
    engine: &Engine,
    options: &LeaksOptions,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let (table, book) = (engine.table(), &engine.book);
    let Setting { pen, filter } = setting;
    let findings = find(table, book, filter, options.older, now);
    if options.folded {
        folded(&findings, book, out);
    } else if pen.json {
        for group in &findings.groups {
            as_json(pen, group, book, now, out);
        }
    } else {
        let scene = Scene { table, book, options, now, terminal: pen.terminal };
        as_text(&findings, &scene, out);
    }
}

/// What the text is made from.
struct Scene<'a> {
    table: &'a Table,
    book: &'a Book,
    options: &'a LeaksOptions,
    now: MonoNs,
    terminal: Terminal,
}

fn find<'a>(
    table: &'a Table,
    book: &'a Book,
    filter: &'a Filter,
    older: Duration,
    now: MonoNs,
) -> Findings<'a> {
    let mut by_opener: BTreeMap<(u32, u8, String), Group<'a>> = BTreeMap::new();
    for conn in survivors(table, filter, older, now) {
        let sighting = book.seen(conn.id).and_then(|seen| seen.opener());
        let owner = conn.owner.as_ref();
        let pid = sighting.map(|sighting| sighting.pid).or_else(|| owner?.pid());
        let side = sighting.map_or(0, |sighting| sighting.kind as u8);
        let missed = sighting.is_none() && conn.complete;
        let who = match sighting {
            Some(sighting) => group_name(book, sighting),
            None if missed => "missed".to_owned(),
            None => String::new(),
        };
        let group = by_opener.entry((pid.unwrap_or(0), side, who)).or_insert_with(|| Group {
            comm: sighting
                .map(|sighting| sighting.comm)
                .or_else(|| Some(owner?.task.comm))
                .unwrap_or_default(),
            pid,
            missed,
            first: sighting,
            conns: Vec::new(),
            stacks: BTreeMap::new(),
        });
        group.conns.push(conn);
        if let Some(sighting) = sighting {
            if group.first.is_some_and(|first| sighting.at < first.at) {
                group.first = Some(sighting);
            }
            if let Some(stack) = sighting.stack {
                *group.stacks.entry(stack).or_insert(0) += 1;
            }
        }
    }
    let mut groups: Vec<Group<'a>> = by_opener.into_values().collect();
    for group in &mut groups {
        group.conns.sort_unstable_by_key(|conn| (conn.born, conn.id));
    }
    // What the peer has closed is certainly not needed any more; it comes first, then the most.
    groups.sort_by_key(|group| {
        (
            group.first.is_none(),
            group.in_state(TcpState::CloseWait) == 0,
            usize::MAX - group.conns.len(),
        )
    });
    let open = table.iter().filter(|conn| is_open(conn) && filter.wants(conn) == Some(true));
    let (mut younger, mut unaccepted) = (0, 0);
    let age = u64::try_from(older.as_nanos()).unwrap_or(u64::MAX);
    for conn in open {
        if !conn.accepted {
            unaccepted += 1;
        } else if now.since(conn.born) < age {
            younger += 1;
        }
    }
    Findings { groups, younger, unaccepted }
}

fn named<'a>(book: &'a Book, sighting: &Sighting) -> Option<&'a Named> {
    book.stack(sighting.stack?)?.named.as_ref()
}

/// The method that opened it: one that was interpreted first and compiled later is one all the same.
/// Where no name is known, the thread.
fn group_name(book: &Book, sighting: &Sighting) -> String {
    let frames = named(book, sighting).map_or(&[][..], |named| &named.frames);
    match opener(frames) {
        Some(frame) => frame.name.clone(),
        None => format!("thread {}", String::from_utf8_lossy(sighting.thread.bytes())),
    }
}

impl<'a> Group<'a> {
    fn in_state(&self, state: TcpState) -> usize {
        self.conns.iter().filter(|conn| conn.state == state).count()
    }

    fn states(&self) -> Vec<(TcpState, usize)> {
        let mut states: Vec<(TcpState, usize)> = Vec::new();
        for conn in &self.conns {
            match states.iter_mut().find(|(state, _)| *state == conn.state) {
                Some((_, count)) => *count += 1,
                None => states.push((conn.state, 1)),
            }
        }
        states.sort_by_key(|&(state, count)| (usize::MAX - count, state.name()));
        states
    }

    /// The stack that most of them have, of those that are known best.
    fn names(&self, book: &'a Book) -> Option<&'a Named> {
        self.stacks
            .iter()
            .filter_map(|(&id, &count)| Some((id, count, book.stack(id)?.named.as_ref()?)))
            .max_by_key(|&(id, count, named)| (named.note.is_none(), count, std::cmp::Reverse(id)))
            .map(|(_, _, named)| named)
    }

    /// Sockets opened with these stacks, closed ones too; not of those who only read.
    fn opened(&self, book: &Book) -> Option<u64> {
        let first = self.first.filter(|first| first.kind != StackKind::Read)?;
        let _ = first.stack?;
        let opened =
            self.stacks.keys().filter_map(|&id| book.stack(id)).map(|stack| stack.opened).sum();
        Some(opened).filter(|&opened: &u64| opened >= self.conns.len() as u64)
    }

    /// Sockets with these stacks that are open now, young ones too.
    fn open(&self, table: &Table, book: &Book) -> u64 {
        let of_these = book.sockets().filter(|(_, seen)| {
            let opened =
                seen.opened.filter(|opened| Some(opened.kind) == self.first.map(|f| f.kind));
            opened
                .and_then(|opened| opened.stack)
                .is_some_and(|stack| self.stacks.contains_key(&stack))
        });
        of_these.filter(|&(id, _)| table.find_open(id).is_some_and(is_open)).count() as u64
    }

    /// What all of them have alike.
    fn common<T: PartialEq>(&self, of: impl Fn(&Connection) -> T) -> Option<T> {
        let mut all = self.conns.iter().map(|conn| of(conn));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}

const fn side(kind: StackKind) -> &'static str {
    match kind {
        StackKind::Connect => "connect",
        StackKind::Accept => "accept",
        StackKind::Read => "last_read",
    }
}

fn as_json(pen: &mut Pen, group: &Group<'_>, book: &Book, now: MonoNs, out: &mut Vec<u8>) {
    let names = group.names(book);
    let oldest = group.conns.first().map(|conn| now.since(conn.born));
    let mut object = Object::event(out, "leak");
    times(&mut object, &mut pen.clock, now);
    object.number("count", group.conns.len()).number_or_null("oldest_ns", oldest);
    match group.first {
        Some(first) => object.plain("side", side(first.kind)),
        None => object.null("side"),
    };
    object.number_or_null("pid", group.pid);
    object.string_or_null("comm", Some(group.comm.bytes()).filter(|comm| !comm.is_empty()));
    object.number_or_null("tid", group.first.map(|first| first.tid));
    object.string_or_null(
        "thread",
        group.first.map(|first| first.thread.bytes().to_vec()).as_deref(),
    );
    object.number_or_null("nid", names.and_then(|names| names.nid));
    let frames = names.map_or(&[][..], |names| &names.frames);
    let opener = opener(frames).map(|frame| frame.text().into_bytes());
    object.string_or_null("opener", opener.as_deref());
    if frames.is_empty() {
        object.null("frames");
    } else {
        object.with("frames", |out| {
            for (index, frame) in frames.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                json::string(frame.text().as_bytes(), out);
            }
            out.push(b']');
        });
    }
    object.string_or_null("note", names.and_then(|names| names.note.as_deref()).map(str::as_bytes));
    match group.common(|conn| conn.tuple.remote()) {
        Some(remote) => object.endpoint("remote", remote),
        None => object.null("remote"),
    };
    object.number_or_null("local_port", group.common(|conn| conn.tuple.local_port));
    object.with("states", |out| {
        for (index, (state, count)) in group.states().into_iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            let _ = write!(out, "\"{}\":{count}", state.name());
        }
        out.push(b'}');
    });
    object.number_or_null("opened", group.opened(book));
    object.with("conns", |out| {
        for (index, conn) in group.conns.iter().take(MOST_CONNS).enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            let _ = write!(out, "\"{}\"", conn.id.0);
        }
        out.push(b']');
    });
    object.end();
}

/// A line for each stack: the thread, the frames from the outermost on, and how many sockets.
fn folded(findings: &Findings<'_>, book: &Book, out: &mut Vec<u8>) {
    let mut lines: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for group in &findings.groups {
        for conn in &group.conns {
            let mut line = Vec::new();
            let mut comm = Vec::new();
            text::name(group.comm.bytes(), &mut comm);
            part(&comm, &mut line);
            match book.seen(conn.id).and_then(|seen| seen.opener()) {
                Some(sighting) => {
                    line.push(b';');
                    let mut thread = Vec::new();
                    text::name(sighting.thread.bytes(), &mut thread);
                    part(&thread, &mut line);
                    let frames = named(book, sighting).map_or(&[][..], |named| &named.frames);
                    for frame in frames.iter().rev() {
                        line.push(b';');
                        let mut name = Vec::new();
                        text::name(frame.name.as_bytes(), &mut name);
                        part(&name, &mut line);
                    }
                    if frames.is_empty() {
                        line.extend_from_slice(b";[unknown]");
                    }
                }
                None if group.missed => line.extend_from_slice(b";[stack not seen]"),
                None => line.extend_from_slice(b";[opened before tcptrail started]"),
            }
            *lines.entry(line).or_insert(0) += 1;
        }
    }
    for (line, count) in lines {
        out.extend_from_slice(&line);
        let _ = writeln!(out, " {count}");
    }
}

/// A part of a folded line: the semicolon divides parts.
fn part(name: &[u8], line: &mut Vec<u8>) {
    line.extend(name.iter().map(|&byte| if byte == b';' { b':' } else { byte }));
}

fn as_text(findings: &Findings<'_>, scene: &Scene<'_>, out: &mut Vec<u8>) {
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
    let &Scene { table, book, options, now, terminal } = scene;
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
    say(out, terminal, 3, Paint::Plain, &facts.join(", "));
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
