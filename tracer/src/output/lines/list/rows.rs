//! Which sockets `list` shows, and in which order.

use std::cmp::{Ordering, Reverse};

use tracer_common::TcpState;

use crate::config::{Key, Order};
use crate::engine::Engine;
use crate::engine::conn::{Connection, Role, Table};
use crate::event::{Comm, Holder, Shape};
use crate::filter::Filter;
use crate::output::lines::whose::{Whose, whose};
use crate::text;
use crate::time::MonoNs;

/// Sockets there are now that the filter wants: listeners first, then by state and age.
pub(crate) fn chosen<'e>(engine: &'e Engine, filter: &Filter, now: MonoNs) -> Vec<&'e Connection> {
    let mut rows: Vec<&Connection> = engine
        .table()
        .iter()
        .filter(|conn| conn.state != TcpState::Close)
        .filter(|conn| filter.wants(conn) == Some(true))
        .filter(|conn| filter.wants_states(conn.state, conn.state))
        .filter(|conn| filter.min_ns == 0 || age(conn, now).unwrap_or(0) >= filter.min_ns)
        .collect();
    rows.sort_by_key(|conn| {
        let age = age(conn, now).unwrap_or(0);
        (conn.role != Role::Listener, conn.state.name(), Reverse(age), conn.id)
    });
    rows
}

/// Sorts by the first order, then by the next; what none of them tells apart stays as it was.
pub(super) fn sort(rows: &mut [&Connection], orders: &[Order], engine: &Engine, now: MonoNs) {
    // The last first: each sort keeps what the one before has done among equals.
    for order in orders.iter().rev() {
        rows.sort_by_cached_key(|conn| {
            let value = value(order.key, engine, conn, now);
            Ranked { value, order: *order }
        });
    }
}

/// How long it has been in its state, as far as that is known.
pub(super) fn age(conn: &Connection, now: MonoNs) -> Option<u64> {
    conn.in_state(now).ns()
}

/// What a socket has for a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Value {
    /// A number, where it is known.
    Number(Option<u64>),
    /// A name, where there is one.
    Name(Option<Vec<u8>>),
    /// An address, and a port.
    End([u8; 16], u16),
}

impl Value {
    const fn is_known(&self) -> bool {
        !matches!(self, Value::Number(None) | Value::Name(None))
    }
}

/// A value, to be compared in an order: unknown ones come last either way.
#[derive(PartialEq, Eq)]
pub(super) struct Ranked {
    pub(super) value: Value,
    pub(super) order: Order,
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        let unknown_last = other.value.is_known().cmp(&self.value.is_known());
        let up = self.value.cmp(&other.value);
        let down = self.order.key.largest_first() != self.order.reverse;
        unknown_last.then(if down { up.reverse() } else { up })
    }
}

pub(super) fn value(key: Key, engine: &Engine, conn: &Connection, now: MonoNs) -> Value {
    let counters = conn.counters();
    match key {
        Key::Age => Value::Number(age(conn, now)),
        Key::State => Value::Name(Some(conn.state.name().into())),
        Key::Process => Value::Name(Some(process(engine.table(), conn))),
        Key::Comm => Value::Name(comm(engine.table(), conn)),
        Key::Role => Value::Name(Some(conn.role.name().into())),
        Key::Local => Value::End(conn.tuple.local_addr, conn.tuple.local_port),
        Key::Lport => Value::Number(Some(conn.tuple.local_port.into())),
        Key::Remote => Value::End(conn.tuple.remote_addr, conn.tuple.remote_port),
        Key::Addr => Value::End(conn.tuple.remote_addr, 0),
        Key::Rport => Value::Number(Some(conn.tuple.remote_port.into())),
        Key::RecvQ => Value::Number(Some(conn.recv_queue.into())),
        Key::SendQ => Value::Number(Some(conn.send_queue.into())),
        Key::Rtt => Value::Number(counters.and_then(|all| all.srtt_us).map(u64::from)),
        Key::Retransmits => Value::Number(retransmits(conn).map(u64::from)),
        Key::Netns => Value::Number(Some(conn.netns.into())),
        Key::Container => {
            Value::Name(engine.names().place(conn.cgroup).container.map(<[u8]>::to_vec))
        }
        // Of groups only.
        Key::Count => Value::Number(None),
    }
}

/// Whose it is in one word: the process that holds it, or why there is none.
pub(crate) fn process(table: &Table, conn: &Connection) -> Vec<u8> {
    whose_word(table, conn, text::process)
}

/// As [`process`], with names as they are.
pub(super) fn process_as_is(table: &Table, conn: &Connection) -> Vec<u8> {
    whose_word(table, conn, text::process_as_is)
}

fn whose_word(
    table: &Table,
    conn: &Connection,
    write: fn(&Comm, Option<u32>, &mut Vec<u8>),
) -> Vec<u8> {
    let mut word = Vec::new();
    match (held_by(table, conn).first(), whose(conn), &conn.owner) {
        (Some(holder), ..) => write(&holder.comm, Some(holder.pid), &mut word),
        (None, Whose::Kernel | Whose::Handshake, _) => word.extend_from_slice(b"kernel"),
        (None, Whose::Queue, _) => word.extend_from_slice(b"not accepted yet"),
        (None, Whose::Process, Some(owner)) => write(&owner.task.comm, owner.pid(), &mut word),
        (None, Whose::Process, None) => word.push(b'?'),
    }
    word
}

/// The name of the process that holds it.
fn comm(table: &Table, conn: &Connection) -> Option<Vec<u8>> {
    let owner = || conn.owner.as_ref().map(|owner| &owner.task.comm);
    let comm: Option<&Comm> = match (held_by(table, conn).first(), whose(conn)) {
        (Some(holder), _) => Some(&holder.comm),
        (None, Whose::Kernel | Whose::Handshake) => None,
        (None, Whose::Queue | Whose::Process) => owner(),
    };
    comm.map(|comm| comm.bytes().to_vec())
}

/// Who has a descriptor of it. One that was closed by the peer's doing may still have a descriptor, but
/// the mini-socket that lives on in its place has none.
pub(super) fn held_by<'a>(table: &'a Table, conn: &Connection) -> &'a [Holder] {
    if conn.shape == Shape::Mini || conn.orphan { &[] } else { table.holders_of(conn.id) }
}

/// Of a half-open connection its SYN-ACKs.
pub(super) fn retransmits(conn: &Connection) -> Option<u32> {
    if conn.shape == Shape::Request {
        return Some(u32::from(conn.retransmits.synack));
    }
    conn.counters().map(|counters| counters.retransmits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_comes_first_and_the_unknown_last() {
        let sorted = |key, reverse, values: &[Option<u64>]| {
            let order = Order { key, reverse };
            let ranked = values.iter().map(|&value| Ranked { value: Value::Number(value), order });
            let mut ranked: Vec<Ranked> = ranked.collect();
            ranked.sort();
            let numbers = ranked.into_iter().map(|ranked| match ranked.value {
                Value::Number(number) => number,
                _ => None,
            });
            numbers.collect::<Vec<_>>()
        };
        let values = [Some(3), None, Some(9), Some(1)];
        assert_eq!(sorted(Key::Age, false, &values), [Some(9), Some(3), Some(1), None]);
        assert_eq!(sorted(Key::Age, true, &values), [Some(1), Some(3), Some(9), None]);
        assert_eq!(sorted(Key::Lport, false, &values), [Some(1), Some(3), Some(9), None]);
        assert_eq!(sorted(Key::Lport, true, &values), [Some(9), Some(3), Some(1), None]);
    }
}
