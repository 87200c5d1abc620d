//! Segments sent again: why, as lines and in JSON.

use std::io::Write;

use crate::engine::Engine;
use crate::engine::conn::{Connection, errno_name};
use crate::event::{Again, Cause};
use crate::output::json::Object;
use crate::output::lines::human;

/// `#3 RTO 204ms`: which of the connection it is, and why.
pub(super) fn note(engine: &Engine, count: Option<u32>, again: Again, cell: &mut Vec<u8>) {
    if let Some(count) = count {
        // A write to a Vec cannot fail.
        let _ = write!(cell, "#{count}");
    }
    if let Some(cause) = again.cause {
        if !cell.is_empty() {
            cell.push(b' ');
        }
        cell.extend_from_slice(cause.short_name().as_bytes());
        if let Some(ns) = again.rto_ns(engine.origin().jiffy_ns) {
            cell.push(b' ');
            human(ns, cell);
        }
    }
    if again.error != 0 {
        let _ = match errno_name(again.error) {
            Some(name) => write!(cell, ", not sent: {name}"),
            None => write!(cell, ", not sent: errno {}", again.error),
        };
    }
}

/// The fields of `retransmit` that say which of the connection it is, and why.
pub(super) fn json(object: &mut Object<'_>, engine: &Engine, count: Option<u32>, again: Again) {
    object.number_or_null("count", count);
    match again.cause {
        Some(cause) => object.plain("cause", cause.name()),
        None => object.null("cause"),
    };
    object.number_or_null("rto_ns", again.rto_ns(engine.origin().jiffy_ns));
    object.number_or_null("segments", (again.segments != 0).then_some(again.segments));
    match (again.error, errno_name(again.error)) {
        (0, _) => object.null("error"),
        (_, Some(name)) => object.plain("error", name),
        (errno, None) => object.string("error", format!("errno {errno}").as_bytes()),
    };
}

/// `3 (1 RTO, 2 fast; 1 spurious)`: all of a connection.
pub(super) fn all(conn: &Connection, cell: &mut Vec<u8>) {
    let Some(counters) = conn.counters() else {
        cell.push(b'-');
        return;
    };
    cell.extend_from_slice(itoa::Buffer::new().format(counters.retransmits).as_bytes());
    let mut separator = " (";
    let mut some = |count: u32, name: &str| {
        if count != 0 {
            let _ = write!(cell, "{separator}{count} {name}");
            separator = ", ";
        }
    };
    let unknown = conn.without_cause();
    if unknown == counters.retransmits {
        return;
    }
    some(u32::from(conn.retransmits.synack), "SYN-ACK");
    for (cause, count) in conn.causes().all() {
        some(count, cause.short_name());
    }
    some(unknown, "unknown");
    if let Some(spurious) = conn.spurious().filter(|&spurious| spurious != 0) {
        let _ = write!(cell, "; {spurious} spurious");
    }
    cell.push(b')');
}

/// In JSON: `"retransmit_causes":{"timeout":1,...},"spurious_retransmits":0`; nothing where nothing was sent again.
pub(super) fn of_life(object: &mut Object<'_>, conn: &Connection) {
    if conn.counters().is_none_or(|counters| counters.retransmits == 0) {
        return;
    }
    object.with("retransmit_causes", |out| {
        out.push(b'{');
        for (cause, count) in conn.causes().all() {
            let _ = write!(out, "\"{}\":{count},", Cause::name(cause));
        }
        let _ = write!(out, "\"unknown\":{}}}", conn.without_cause());
    });
    object.number_or_null("spurious_retransmits", conn.spurious());
}
