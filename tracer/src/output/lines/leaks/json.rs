//! A leak as a JSON object.

use std::io::Write;

use tracer_common::stack::StackKind;

use crate::engine::Engine;
use crate::engine::book::Book;
use crate::frame::{Frame, opener};
use crate::output::json::{self, Object};
use crate::output::lines::leaks::find::Group;
use crate::output::lines::{Pen, called, times};
use crate::time::MonoNs;

/// Connections named in an object.
pub(super) const MOST_CONNS: usize = 20;

pub(super) const fn side(kind: StackKind) -> &'static str {
    match kind {
        StackKind::Connect => "connect",
        StackKind::Accept => "accept",
        StackKind::Read | StackKind::Handle => "last_read",
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
    let place = engine.names().place(group.cgroup());
    object.string_or_null("cgroup", place.path).string_or_null("container", place.container);
    called(&mut object, &place);
    object.number_or_null("tid", group.first.map(|first| first.tid));
    object.string_or_null(
        "thread",
        group.first.map(|first| first.thread.bytes().to_vec()).as_deref(),
    );
    object.number_or_null("nid", names.and_then(|names| names.nid));
    let frames = names.map_or(&[][..], |names| &names.frames);
    let opener = opener(frames).map(|frame| frame.text().into_bytes());
    object.string_or_null("opener", opener.as_deref());
    frames_json(&mut object, "frames", frames);
    object.string_or_null("note", names.and_then(|names| names.note.as_deref()).map(str::as_bytes));
    match group.common(|conn| conn.tuple.remote()) {
        Some(remote) => object.endpoint("remote", remote),
        None => object.null("remote"),
    };
    remote_name(&mut object, group, engine);
    object.number_or_null("local_port", group.common(|conn| conn.tuple.local_port));
    object.with("states", |out| {
        out.push(b'{');
        for (index, (state, count)) in group.states().into_iter().enumerate() {
            out.extend((index > 0).then_some(b','));
            let _ = write!(out, "\"{}\":{count}", state.name());
        }
        out.push(b'}');
    });
    object.number_or_null("opened", group.opened(book));
    object.with("conns", |out| {
        out.push(b'[');
        for (index, conn) in group.conns.iter().take(MOST_CONNS).enumerate() {
            out.extend((index > 0).then_some(b','));
            let _ = write!(out, "\"{}\"", conn.id.0);
        }
        out.push(b']');
    });
    user_json(&mut object, group, book, now);
    let handler = group.handler();
    object.string_or_null("handler", handler.as_ref().map(|(name, _)| name.as_bytes()));
    object.number_or_null("handler_seen", handler.map(|(_, count)| count));
    object.number_or_null("idle_timeout_ns", group.timeout.map(|timeout| timeout.ns));
    object.number("collected", group.collected);
    object.number_or_null("collected_ns", group.collected_last.map(|last| now.since(last)));
    object.end();
}

/// What the other end is called, where all have the same; where they really go, where that is the same, too.
fn remote_name(object: &mut Object<'_>, group: &Group<'_>, engine: &Engine) {
    let first = group.conns.first().filter(|_| group.common(|conn| conn.tuple.remote()).is_some());
    let host = first.and_then(|conn| engine.names().host(&conn.tuple.remote_addr));
    object.string_or_null("remote_name", host.map(|(name, _)| name));
    let real = group.common(|conn| engine.table().translation(conn).map(|real| real.remote()));
    match real.flatten() {
        Some(real) => object.endpoint("remote_real", real),
        None => object.null("remote_real"),
    };
}

/// Who used them last, where that is other code than opened them.
fn user_json(object: &mut Object<'_>, group: &Group<'_>, book: &Book, now: MonoNs) {
    let names = group.user_names(book);
    let frames = names.map_or(&[][..], |names| &names.frames);
    let user = opener(frames).map(|frame| frame.text().into_bytes());
    object.string_or_null("user", user.as_deref());
    object.number_or_null("user_ns", group.user.map(|user| now.since(user.at)));
    object.number_or_null("user_tid", group.user.map(|user| user.tid));
    let thread = group.user.map(|user| user.thread.bytes().to_vec());
    object.string_or_null("user_thread", thread.as_deref());
    frames_json(object, "user_frames", frames);
}

fn frames_json(object: &mut Object<'_>, name: &str, frames: &[Frame]) {
    if frames.is_empty() {
        object.null(name);
        return;
    }
    object.with(name, |out| {
        for (index, frame) in frames.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            json::string(frame.text().as_bytes(), out);
        }
        out.push(b']');
    });
}
