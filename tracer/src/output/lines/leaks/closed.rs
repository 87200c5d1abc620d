//! `leaks`: sockets whose connection has ended and whose descriptor was not given back, by who opened
//! them.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use tracer_common::TcpState;

use crate::config::LeaksOptions;
use crate::engine::Engine;
use crate::engine::book::Sighting;
use crate::engine::conn::{How, Leftover, Table};
use crate::event::{Comm, Holder, SockId};
use crate::filter::Filter;
use crate::frame::opener;
use crate::names::bytes_of;
use crate::output::json::{self, Object};
use crate::output::lines::leaks::find::{group_name, named};
use crate::output::lines::leaks::json::{MOST_CONNS, side};
use crate::output::lines::leaks::text::{frames_text, safe, say, sockets};
use crate::output::lines::{Pen, called, human, times};
use crate::text::{self, Paint};
use crate::time::MonoNs;

/// Sockets with one opener.
pub(super) struct Group<'a> {
    pid: u32,
    comm: Comm,
    first: Option<&'a Sighting>,
    sockets: Vec<(SockId, &'a Leftover)>,
}

/// Those that were left behind for `older`, and whose connection was seen to end.
pub(super) fn find<'a>(
    engine: &'a Engine,
    filter: &Filter,
    older: Duration,
    now: MonoNs,
) -> Vec<Group<'a>> {
    let (table, book) = (engine.table(), &engine.book);
    let older = u64::try_from(older.as_nanos()).unwrap_or(u64::MAX);
    let mut groups: BTreeMap<(u32, String), Group<'a>> = BTreeMap::new();
    for (holder, left) in held(table) {
        let wanted = filter.wants_closed(holder, Some((&left.tuple, left.role)));
        if !wanted || now.since(left.at) < older {
            continue;
        }
        let first = book.seen(holder.id).and_then(|seen| seen.opener());
        let name = first.map(|sighting| group_name(book, sighting)).unwrap_or_default();
        let group = groups.entry((holder.pid, name)).or_insert_with(|| Group {
            pid: holder.pid,
            comm: holder.comm,
            first,
            sockets: Vec::new(),
        });
        group.sockets.push((holder.id, left));
    }
    let mut groups: Vec<Group<'a>> = groups.into_values().collect();
    for group in &mut groups {
        group.sockets.sort_unstable_by_key(|(id, left)| (left.at, *id));
    }
    groups.sort_by_key(|group| (group.first.is_none(), usize::MAX - group.sockets.len()));
    groups
}

/// One descriptor of each.
fn held(table: &Table) -> impl Iterator<Item = (&Holder, &Leftover)> {
    table
        .holders()
        .chunk_by(|one, other| one.id == other.id)
        .filter_map(|of_one| of_one.iter().min_by_key(|holder| (holder.start_ns, holder.fd)))
        .filter(|holder| holder.state == Some(TcpState::Close) && !table.has(holder.id))
        .filter_map(|holder| Some((holder, table.leftover(holder.id)?)))
}

impl Group<'_> {
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    fn oldest(&self, now: MonoNs) -> u64 {
        self.sockets.first().map_or(0, |(_, left)| now.since(left.at))
    }

    /// How their connections ended, the most first.
    fn ends(&self) -> Vec<(&'static str, usize)> {
        let mut ends: Vec<(&'static str, usize)> = Vec::new();
        for (_, left) in &self.sockets {
            let words = match left.how {
                How::RstReceived => "reset by the peer",
                How::Refused => "refused",
                How::Timeout => "timed out",
                How::Unreachable => "unreachable",
                How::Fin => "shut down on both sides",
                How::RstSent | How::Aborted => "aborted here",
                How::Unknown => "ended unseen",
            };
            match ends.iter_mut().find(|(known, _)| *known == words) {
                Some((_, count)) => *count += 1,
                None => ends.push((words, 1)),
            }
        }
        ends.sort_by_key(|&(words, count)| (usize::MAX - count, words));
        ends
    }

    fn remote(&self) -> Option<std::net::SocketAddr> {
        let (_, first) = self.sockets.first()?;
        let remote = first.tuple.remote();
        self.sockets.iter().all(|(_, left)| left.tuple.remote() == remote).then_some(remote)
    }
}

pub(super) fn as_json(
    pen: &mut Pen,
    group: &Group<'_>,
    engine: &Engine,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let book = &engine.book;
    let names = group.first.and_then(|first| named(book, first));
    let frames = names.map_or(&[][..], |names| &names.frames);
    let mut object = Object::event(out, "leak");
    times(&mut object, &mut pen.clock, now);
    object.number("count", group.len()).number("oldest_ns", group.oldest(now));
    match group.first {
        Some(first) => object.plain("side", side(first.kind)),
        None => object.null("side"),
    };
    object.number("pid", group.pid).string("comm", group.comm.bytes());
    let cgroup = group.sockets.iter().map(|(_, left)| left.cgroup).find(|&cgroup| cgroup != 0);
    let place = engine.names().place(cgroup.unwrap_or(0));
    object.string_or_null("cgroup", place.path).string_or_null("container", place.container);
    called(&mut object, &place);
    object.number_or_null("tid", group.first.map(|first| first.tid));
    let thread = group.first.map(|first| first.thread.bytes().to_vec());
    object.string_or_null("thread", thread.as_deref());
    object.number_or_null("nid", names.and_then(|names| names.nid));
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
    match group.remote() {
        Some(remote) => object.endpoint("remote", remote),
        None => object.null("remote"),
    };
    let host = group.remote().and_then(|remote| engine.names().host(&bytes_of(remote.ip())));
    object.string_or_null("remote_name", host.map(|(name, _)| name)).null("remote_real");
    object.null("local_port");
    object.with("states", |out| {
        let _ = write!(out, "{{\"CLOSE\":{}}}", group.len());
    });
    object.null("opened");
    object.with("conns", |out| {
        for (index, (id, _)) in group.sockets.iter().take(MOST_CONNS).enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            let _ = write!(out, "\"{}\"", id.0);
        }
        out.push(b']');
    });
    object.end();
}

pub(super) fn as_text(
    pen: &Pen,
    group: &Group<'_>,
    engine: &Engine,
    options: &LeaksOptions,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let terminal = pen.terminal;
    let book = &engine.book;
    let frames = group.first.and_then(|first| named(book, first)).map_or(&[][..], |it| &it.frames);
    let mut who = Vec::new();
    text::process(&group.comm, Some(group.pid), &mut who);
    let who = String::from_utf8_lossy(&who).into_owned();
    let opened = match (group.first, opener(frames)) {
        (None, _) => "; the code that opened them is unknown".to_owned(),
        (Some(_), Some(frame)) => format!(" opened by {}", safe(frame.text().as_bytes())),
        (Some(first), None) => format!(" opened by thread {}", safe(first.thread.bytes())),
    };
    let count = group.len();
    let title = format!("{count} closed {} of {who}{opened}", sockets(count));
    let paint = if group.first.is_some() { Paint::Bad } else { Paint::Plain };
    say(out, terminal, 0, paint, &title);
    let mut facts: Vec<String> =
        group.ends().into_iter().map(|(words, count)| format!("{words} {count}")).collect();
    if let Some(remote) = group.remote() {
        facts.push(format!("with {remote}"));
    }
    let mut oldest = Vec::new();
    human(group.oldest(now), &mut oldest);
    facts.push(format!("the oldest {} ago", String::from_utf8_lossy(&oldest)));
    say(out, terminal, 3, Paint::Plain, &facts.join(", "));
    if let Some(first) = group.first {
        let thread = format!("thread {}, tid {}", safe(first.thread.bytes()), first.tid);
        say(out, terminal, 3, Paint::Plain, &thread);
    }
    frames_text(frames, options.full, terminal, out);
    say(
        out,
        terminal,
        3,
        Paint::Plain,
        "=> These connections are over, but their file descriptors are still open: close() is missing after the exception. ss does not show such sockets.",
    );
}
