//! An object for each opener.

use std::io::Write;

use tracer_common::stack::StackKind;

use crate::engine::book::Book;
use crate::frame::opener;
use crate::output::json::{self, Object};
use crate::output::lines::leaks::group::Group;
use crate::output::lines::{Pen, times};
use crate::time::MonoNs;

/// Connections named in an object of the JSON.
const MOST_CONNS: usize = 20;

const fn side(kind: StackKind) -> &'static str {
    match kind {
        StackKind::Connect => "connect",
        StackKind::Accept => "accept",
        StackKind::Read => "last_read",
    }
}

/// One object.
pub(super) fn as_json(
    pen: &mut Pen,
    group: &Group<'_>,
    book: &Book,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
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
