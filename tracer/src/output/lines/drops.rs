//! Segments that the kernel dropped, as lines and in JSON.

use std::borrow::Cow;
use std::io::Write;

use crate::engine::Engine;
use crate::engine::conn::{Connection, DropCount, Unclaimed};
use crate::event::{Direction, Drop, Dropped, Place, drop_in_words};
use crate::output::json::Object;
use crate::output::lines::{called, direction};
use crate::text::{self, Paint, Row};

/// In the width of tail's column of new states.
pub(super) const fn word(segment: Dropped, wide: bool) -> &'static str {
    match (segment, wide) {
        (Dropped::Syn, true) => "SYN dropped",
        (Dropped::SynAck, true) => "S/A dropped",
        (Dropped::Rst, true) => "RST dropped",
        (Dropped::Fin, true) => "FIN dropped",
        (Dropped::Data, true) => "data drop",
        (Dropped::Ack, true) => "ACK dropped",
        (Dropped::Syn, false) => "SYN drp",
        (Dropped::SynAck, false) => "S/A drp",
        (Dropped::Rst, false) => "RST drp",
        (Dropped::Fin, false) => "FIN drp",
        (Dropped::Data, false) => "dat drp",
        (Dropped::Ack, false) => "ACK drp",
    }
}

/// Why, and what was not told one by one.
pub(super) fn note(engine: &Engine, drop: &Drop, cell: &mut Vec<u8>) {
    let why = drop_in_words(engine.origin().drop_reason(drop.reason), drop.place);
    // A recording may have any.
    text::name(why.as_bytes(), cell);
    if drop.untold != 0 {
        // A write to a Vec cannot fail.
        let _ = write!(cell, "; {} more for this reason are not shown", drop.untold);
    }
}

/// Of those that belong to no connection, how many, and from how many addresses.
pub(super) fn unclaimed_note(
    engine: &Engine,
    group: &Unclaimed,
    listens: bool,
    cell: &mut Vec<u8>,
) {
    let first = Drop { untold: 0, ..group.drop };
    let reason = engine.origin().drop_reason(group.drop.reason);
    if reason == Some("NO_SOCKET") && listens {
        // An ACK with a SYN cookie (`cookie_v4_check`).
        cell.extend_from_slice(b"the listener does not accept it as a handshake");
    } else {
        note(engine, &first, cell);
    }
    if group.count > 1 {
        let ends = if group.drop.place == Place::Output { "to" } else { "from" };
        let _ = write!(cell, "; {} in a second, {ends} {} ports", group.count, group.remotes);
    }
}

/// The fields of a drop, after those that say which socket it is.
pub(super) fn json(object: &mut Object<'_>, engine: &Engine, drop: &Drop, way: Direction) {
    object
        .string("reason", name(engine, drop.reason).as_bytes())
        .plain("segment", drop.segment.name())
        .plain("direction", direction(way))
        .plain("hook", drop.place.name())
        .number("payload", drop.payload)
        .number("untold", drop.untold);
}

/// In JSON, one that belongs to no connection; `listener` has the port.
pub(super) fn unclaimed_json(
    object: &mut Object<'_>,
    engine: &Engine,
    group: &Unclaimed,
    listener: Option<&Connection>,
) {
    let owner = listener.and_then(|listener| listener.owner.as_ref());
    object
        .null("conn")
        .number_or_null("netns", (group.netns != 0).then_some(group.netns))
        .plain("family", group.tuple.family.name())
        .endpoint("local", group.tuple.local())
        .endpoint("remote", group.tuple.remote())
        .plain("role", if listener.is_some() { "listener" } else { "unknown" })
        .number_or_null("pid", owner.and_then(|owner| owner.pid()))
        .string_or_null("comm", owner.map(|owner| owner.task.comm.bytes()));
    let cgroup = listener.map_or(0, |listener| listener.cgroup);
    called(object, &engine.names().place(cgroup));
    let host = engine.names().host(&group.tuple.remote_addr);
    object.string_or_null("remote_name", host.map(|(name, _)| name));
    let sent = group.drop.place == Place::Output;
    let way = if sent { Direction::Sent } else { Direction::Received };
    json(object, engine, &Drop { untold: 0, ..group.drop }, way);
    object.number("count", group.count).number("remotes", group.remotes);
}

/// In JSON, those of a connection: `"drops":[{"reason":"NETFILTER_DROP",...}]`; nothing where there are none.
pub(super) fn of_life(object: &mut Object<'_>, engine: &Engine, conn: &Connection) {
    let counts = engine.table().drops_of(conn.id);
    if counts.is_empty() {
        return;
    }
    object.with("drops", |out| {
        out.push(b'[');
        for (index, count) in counts.iter().enumerate() {
            if index != 0 {
                out.push(b',');
            }
            one_count(out, engine, count);
        }
        out.push(b']');
    });
}

fn one_count(out: &mut Vec<u8>, engine: &Engine, count: &DropCount) {
    out.extend_from_slice(b"{\"reason\":");
    crate::output::json::string(name(engine, count.reason).as_bytes(), out);
    // The rest needs no escaping; a write to a Vec cannot fail.
    let _ = write!(
        out,
        ",\"segment\":\"{}\",\"direction\":\"{}\",\"hook\":\"{}\",\"count\":{}}}",
        count.segment.name(),
        direction(count.direction),
        count.place.name(),
        count.count
    );
}

/// The kernel's name of a reason, or its number.
pub(crate) fn name(engine: &Engine, reason: u16) -> Cow<'_, str> {
    let name = engine.origin().drop_reason(reason).map(Cow::Borrowed);
    name.unwrap_or_else(|| Cow::Owned(format!("reason {reason}")))
}

/// `2 SYNs dropped: by netfilter (input)`: those of a connection.
pub(super) fn remark(row: &mut Row<'_>, engine: &Engine, conn: &Connection, cell: &mut Vec<u8>) {
    cell.clear();
    of_connection(engine, conn, cell);
    if !cell.is_empty() {
        row.cell(0, Paint::Bad, cell);
    }
}

/// The same as text; nothing where there are none.
pub(crate) fn of_connection(engine: &Engine, conn: &Connection, cell: &mut Vec<u8>) {
    for (index, count) in engine.table().drops_of(conn.id).iter().enumerate() {
        if index != 0 {
            cell.extend_from_slice(b", ");
        }
        let segment = count.segment.noun(u64::from(count.count));
        let way = if count.direction == Direction::Sent { "" } else { " received and" };
        let _ = write!(cell, "{} {segment}{way} dropped: ", count.count);
        let why = drop_in_words(engine.origin().drop_reason(count.reason), count.place);
        text::name(why.as_bytes(), cell);
    }
}
