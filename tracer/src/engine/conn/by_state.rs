//! How many connections and listeners are in each state.

use tracer_common::TcpState;

use crate::engine::conn::connection::Connection;

/// Counts by [`TcpState::number`]. Whoever changes the state of a connection in the table does it here, so that
/// nobody has to count them all.
#[derive(Debug, Default)]
pub(super) struct ByState([u32; 16]);

impl ByState {
    /// Of mini-sockets too.
    pub(super) fn of(&self, state: TcpState) -> u32 {
        self.0.get(usize::from(state.number())).copied().unwrap_or(0)
    }

    /// The connection's state is this one from now on.
    pub(super) fn enter(&mut self, conn: &mut Connection, state: TcpState) {
        self.remove(conn);
        conn.state = state;
        self.add(conn);
    }

    /// It has come into the table.
    pub(super) fn add(&mut self, conn: &Connection) {
        if let Some(count) = self.0.get_mut(usize::from(conn.state.number())) {
            *count += 1;
        }
    }

    /// It leaves the table.
    pub(super) fn remove(&mut self, conn: &Connection) {
        if let Some(count) = self.0.get_mut(usize::from(conn.state.number())) {
            *count -= 1;
        }
    }
}
