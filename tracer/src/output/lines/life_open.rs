//! `life --unfinished`: connections that were still open when the run ended.

use crate::engine::Engine;
use crate::engine::conn::Connection;
use crate::output::json::Object;
use crate::output::lines::{Pen, life, socket, surroundings, times};
use crate::time::MonoNs;

/// A line of a connection that has not finished, as [`life`] has for those that have.
pub(super) fn connection(
    pen: &mut Pen,
    engine: &Engine,
    conn: &Connection,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    if pen.json {
        json(pen, engine, conn, now, out);
    } else {
        life::open_line(pen, conn, now, out);
    }
}

fn json(pen: &mut Pen, engine: &Engine, conn: &Connection, now: MonoNs, out: &mut Vec<u8>) {
    let in_state = conn.in_state(now);
    let mut object = Object::event(out, "unfinished");
    times(&mut object, &mut pen.clock, now);
    socket(&mut object, engine.table(), conn);
    object
        .plain("state", conn.state.name())
        .number_or_null("in_state_ns", in_state.ns())
        .number("total_ns", now.since(conn.born))
        .boolean("exact", conn.complete && !conn.approximate && in_state.is_exact())
        .with("states", |out| life::states(conn, out))
        .number_or_null("handshake_ns", conn.handshake_ns())
        .plain("first_close", conn.first_close.name());
    let counters = conn.counters();
    object
        .number_or_null("bytes_sent", counters.map(|counters| counters.bytes_sent))
        .number_or_null("bytes_received", counters.map(|counters| counters.bytes_received))
        .number_or_null("retransmits", counters.map(|counters| counters.retransmits))
        .boolean("accepted", conn.accepted);
    surroundings(&mut object, engine.names(), conn);
    object.end();
}
