//! Rows of `list` for programs.

use std::io::Write;

use crate::engine::Engine;
use crate::engine::conn::Connection;
use crate::output::json::Object;
use crate::output::lines::list::rows::{held_by, retransmits};
use crate::output::lines::{Pen, socket, surroundings, times};
use crate::time::MonoNs;

/// A socket.
pub(crate) fn object(
    pen: &mut Pen,
    engine: &Engine,
    conn: &Connection,
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let (table, names) = (engine.table(), engine.names());
    let in_state = conn.in_state(now);
    let mut object = Object::event(out, "socket");
    socket(&mut object, pen, engine, (conn, now));
    object
        .plain("state", conn.state.name())
        .number_or_null("in_state_ns", in_state.ns())
        .boolean("exact", in_state.is_exact())
        .boolean("accepted", conn.accepted)
        .boolean("orphan", conn.orphan)
        .with("holders", |out| {
            out.push(b'[');
            for (index, holder) in held_by(table, conn).iter().enumerate() {
                if index != 0 {
                    out.push(b',');
                }
                // A write to a Vec cannot fail.
                let _ = write!(out, "{{\"pid\":{},\"comm\":", holder.pid);
                crate::output::json::string(holder.comm.bytes(), out);
                let _ = write!(out, ",\"fd\":{}}}", holder.fd);
            }
            out.push(b']');
        })
        .number("recv_queue", conn.recv_queue)
        .number("send_queue", conn.send_queue)
        .number_or_null("retransmits", retransmits(conn))
        .number_or_null("srtt_us", conn.counters().and_then(|counters| counters.srtt_us));
    surroundings(&mut object, names, conn);
    let owner = conn.owner.as_ref().and_then(crate::engine::conn::Owner::pid);
    object.string_or_null("executable", owner.and_then(|pid| names.executable(pid)));
    let start = held_by(table, conn).first().map(|holder| holder.start_ns);
    object.number_or_null("process_start_ns", start).end();
}

/// `--top` left these out.
pub(super) fn not_shown(pen: &mut Pen, count: usize, now: MonoNs, out: &mut Vec<u8>) {
    let mut object = Object::event(out, "not_shown");
    times(&mut object, &mut pen.clock, now);
    object.number("count", count).end();
}
