//! Whose peer is whose, and which listener a connection came from.

use std::sync::Arc;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::late::Peer;
use crate::engine::conn::owner::{Owner, OwnerSource};
use crate::engine::conn::role::Role;
use crate::engine::conn::table::Table;
use crate::event::{Actor, Tuple};

impl Table {
    /// Those that are no mini-sockets, and maybe others, in no order: without a look at each where few are.
    pub fn iter_open(&self) -> impl Iterator<Item = &Connection> {
        let few = self.by_id.len() < self.conns.len() / 4;
        let places = few.then(|| self.by_id.places()).into_iter().flatten();
        let of_few = places.filter_map(|index| self.conns.get(index as usize));
        of_few.chain((!few).then(|| self.iter()).into_iter().flatten())
    }

    /// The other end of this connection, when it is on this machine, or was until it ended.
    #[must_use]
    pub fn peer(&self, conn: &Connection) -> Option<Peer> {
        let peer = self.peer_index(conn).and_then(|index| self.conns.get(index as usize));
        peer.map(Peer::of).or(conn.last_peer())
    }

    pub(super) fn peer_index(&self, conn: &Connection) -> Option<u32> {
        if conn.role == Role::Listener || conn.tuple.remote_port == 0 {
            return None;
        }
        let wanted = self.translation(conn).unwrap_or(&conn.tuple).reversed();
        // Most of what goes elsewhere is told by its address.
        if !self.by_tuple.may_have(&wanted) {
            return self.translated_peer(conn);
        }
        let in_netns = self.by_tuple.get(&self.conns, &wanted, conn.netns);
        // Loopback addresses are one namespace's own; others may be met across a veth, unless
        // several namespaces have them.
        let index = in_netns.or_else(|| {
            let only_one = |tuple: &Tuple| self.by_tuple.only(&self.conns, tuple);
            only_one(&conn.tuple).and_then(|_| only_one(&wanted))
        });
        let Some(index) = index else { return self.translated_peer(conn) };
        let peer = self.conns.get(index as usize)?;
        let same = peer.tuple == wanted && (peer.netns == conn.netns || !wanted.is_loopback());
        (same && peer.id != conn.id).then_some(index)
    }

    pub(super) fn index_tuple(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if conn.tuple.is_whole() {
            self.by_tuple.insert(&self.conns, index);
        }
    }

    pub(super) fn unindex_tuple(&mut self, index: u32) {
        self.by_tuple.remove(&self.conns, index);
    }

    pub(super) fn add_listener(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let key = (conn.netns, conn.tuple.local_port);
        self.roles_may_show = true;
        let list = self.listeners.entry(key).or_default();
        if !list.contains(&index) {
            list.push(index);
        }
    }

    pub(crate) fn note_listener(&mut self, index: u32) {
        self.add_listener(index);
    }

    pub(super) fn remove_listener(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let key = (conn.netns, conn.tuple.local_port);
        if let Some(list) = self.listeners.get_mut(&key) {
            list.retain(|&other| other != index);
            if list.is_empty() {
                self.listeners.remove(&key);
            }
        }
    }

    /// The listener a server's connection came from, when there is just one it can be.
    #[must_use]
    pub fn listener_of(&self, conn: &Connection) -> Option<&Connection> {
        self.listener_at(conn.netns, &conn.tuple)
    }

    /// Whether anybody listens at a port of a network namespace.
    pub(crate) fn has_listener(&self, netns: u32, port: u16) -> bool {
        self.listeners.contains_key(&(netns, port))
    }

    /// Whether anybody on this machine listens at a port, in whatever namespace.
    pub(crate) fn listens_at(&self, port: u16) -> bool {
        self.listeners.keys().any(|&(_, listener)| listener == port)
    }

    /// The listener for what comes to the local end, when there is just one it can be.
    #[must_use]
    pub fn listener_at(&self, netns: u32, tuple: &Tuple) -> Option<&Connection> {
        let list = self.listeners.get(&(netns, tuple.local_port))?;
        let mut exact = None;
        let mut wildcard = None;
        for listener in list.iter().filter_map(|&index| self.conns.get(index as usize)) {
            let slot = if listener.tuple.local_addr == tuple.local_addr {
                &mut exact
            } else if listener.tuple.local().ip().is_unspecified() {
                &mut wildcard
            } else {
                continue;
            };
            // SO_REUSEPORT: several listeners, and the kernel's choice is not told. The same
            // process's are as good as one.
            match slot {
                None => *slot = Some(Some(listener)),
                Some(Some(other)) if same_process(other, listener) => {}
                Some(choice) => *choice = None,
            }
        }
        exact.or(wildcard).flatten()
    }

    pub(crate) fn inherit_owner(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let Some(listener) = self.listener_of(conn) else { return };
        let Some(owner) = &listener.owner else { return };
        // Workers that share a listener: which of them accepts is not told.
        let holders = self.holders_of(listener.id);
        let task = if holders.iter().any(|holder| holder.pid != owner.task.pid) {
            self.tasks.share(Actor { pid: 0, tid: 0, ..*owner.task })
        } else {
            Arc::clone(&owner.task)
        };
        if let Some(conn) = self.conns.get_mut(index as usize) {
            conn.learn_owner(Owner::new(task, None, OwnerSource::Listener));
        }
    }
}

fn same_process(one: &Connection, other: &Connection) -> bool {
    match (&one.owner, &other.owner) {
        (Some(one), Some(other)) => one.task.pid == other.task.pid,
        _ => false,
    }
}
