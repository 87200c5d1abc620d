//! What must be true of a table whatever it was told.

use std::collections::HashSet;

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role, Table};
use crate::event::Shape;

impl Table {
    /// Panics unless the indices and counts agree with the connections. Only after
    /// [`settle`](Table::settle).
    pub(crate) fn check(&self) {
        assert!(self.dead.is_empty(), "not settled");
        for (what, map, is_mini) in [("by_id", &self.by_id, false), ("minis", &self.minis, true)] {
            for index in map.places() {
                let conn = self.conns.get(index as usize);
                let conn = conn.unwrap_or_else(|| panic!("{what}: {index} points to nothing"));
                assert_eq!(map.get(&self.conns, conn.id), Some(index), "{what}: {conn:?}");
                assert_eq!(conn.shape == Shape::Mini, is_mini, "{what}: {conn:?}");
            }
        }
        // Each connection is under its id once, so none is out of reach of events and walks.
        assert_eq!(self.by_id.len() + self.minis.len(), self.conns.len());
        self.by_tuple.check(&self.conns);
        for (state, count) in self.states() {
            let counted = self.conns.iter().filter(|(_, conn)| conn.state == state).count();
            assert_eq!(count as usize, counted, "{state:?}");
        }
        assert_eq!(self.states().map(|(_, count)| count as usize).sum::<usize>(), self.conns.len());
        let mut listed = 0;
        for (key, list) in &self.listeners {
            assert!(!list.is_empty(), "{key:?}: an empty list of listeners");
            listed += list.len();
            for &index in list {
                let conn = self.conns.get(index as usize).expect("listeners point to nothing");
                assert_eq!((conn.netns, conn.tuple.local_port), *key, "listeners: {conn:?}");
                assert_eq!(conn.role, Role::Listener, "listeners: {conn:?}");
            }
        }
        let count = |wanted: &dyn Fn(&Connection) -> bool| {
            self.conns.iter().filter(|(_, conn)| wanted(conn)).count()
        };
        assert_eq!(listed, count(&|conn| conn.role == Role::Listener), "listeners not listed");
        for &index in &self.requests {
            let conn = self.conns.get(index as usize).expect("requests point to nothing");
            assert_eq!(conn.shape, Shape::Request, "requests: {conn:?}");
        }
        let requests = count(&|conn| conn.shape == Shape::Request && conn.state != TcpState::Close);
        assert_eq!(self.requests.len(), requests, "requests");
        for &index in self.looked_for.iter().chain(&self.suspected) {
            let conn = self.conns.get(index as usize).expect("looked for is nothing");
            assert_eq!(conn.shape, Shape::Mini, "looked for: {conn:?}");
        }
        // Whatever no event tells of, somebody looks for, or its timer ends it.
        let due: HashSet<u32> = self.ends.places().collect();
        for index in self.minis.places() {
            let conn = self.conns.get(index as usize).expect("minis point to nothing");
            let told = match conn.state {
                TcpState::TimeWait => due.contains(&index),
                _ => self.looked_for.contains(&index),
            };
            assert!(told && (!conn.is_doubtful() || self.looked_for.contains(&index)), "{conn:?}");
        }
        for &index in &self.resetting {
            let conn = self.conns.get(index as usize).expect("resetting points to nothing");
            assert!(conn.resetting && conn.state == TcpState::Close, "resetting: {conn:?}");
        }
        assert_eq!(self.resetting.len(), count(&|conn| conn.resetting), "resetting");
        for &index in &self.unaccepted {
            let conn = self.conns.get(index as usize).expect("unaccepted points to nothing");
            assert!(!conn.accepted && conn.shape == Shape::Full, "unaccepted: {conn:?}");
        }
    }
}
