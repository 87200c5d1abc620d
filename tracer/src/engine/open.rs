//! Sockets that an application has open.

use std::time::Duration;

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role, Table};
use crate::event::Shape;
use crate::filter::Filter;
use crate::time::MonoNs;

/// Whether an application has it, or is to accept it.
#[must_use]
pub fn is_open(conn: &Connection) -> bool {
    conn.role != Role::Listener
        && conn.shape == Shape::Full
        && !conn.orphan
        && !matches!(conn.state, TcpState::Close | TcpState::Listen | TcpState::TimeWait)
}

/// Sockets that an application has had open for `older`, of those the filter wants.
pub fn survivors<'a>(
    table: &'a Table,
    filter: &'a Filter,
    older: Duration,
    now: MonoNs,
) -> impl Iterator<Item = &'a Connection> {
    table.iter().filter(move |conn| survives(conn, filter, older, now))
}

/// Whether an application has had it open for `older`, and the filter wants it.
#[must_use]
pub fn survives(conn: &Connection, filter: &Filter, older: Duration, now: MonoNs) -> bool {
    is_open(conn)
        && conn.accepted
        && u128::from(now.since(conn.born)) >= older.as_nanos()
        && filter.wants(conn) == Some(true)
        && filter.wants_states(conn.state, conn.state)
}
