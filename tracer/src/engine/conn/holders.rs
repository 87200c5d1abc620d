//! Who holds which socket, as `iter/task_file` says it.

use std::sync::Arc;

use crate::engine::conn::connection::Connection;
use crate::engine::conn::owner::{Owner, OwnerSource};
use crate::engine::conn::role::Role;
use crate::engine::conn::table::Table;
use crate::event::{Actor, Comm, Holder};

impl Table {
    /// Takes in the holders of all sockets: who owns what nobody was seen to open.
    pub fn set_holders(&mut self, mut holders: Vec<Holder>) {
        holders.sort_unstable_by_key(|holder| (holder.id, holder.pid, holder.fd));
        // Kernels before 5.11 walk every thread of a process.
        holders.dedup_by_key(|holder| (holder.id, holder.pid, holder.fd));
        self.leftovers.met(&holders);
        self.holders = holders;
        for at in 0..self.holders.len() {
            self.own(self.holders[at]);
        }
        // Their listeners' owners may be known only now.
        let nobodys =
            |conn: &Connection| conn.role == Role::Server && !conn.accepted && conn.owner.is_none();
        let waiting: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| nobodys(conn))
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect();
        for index in waiting {
            self.inherit_owner(index);
        }
    }

    /// A socket that came to the table after the walk over descriptors.
    pub(super) fn own_by_holders(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        if let Some(&holder) = self.holders_of(conn.id).first() {
            self.own(holder);
        }
    }

    fn own(&mut self, holder: Holder) {
        let Some(index) = self.by_id.get(&self.conns, holder.id) else { return };
        let Some(conn) = self.conns.get(index as usize) else { return };
        // Who opened it owns it for as long as it has it, whoever else got it by fork.
        let keeps_it = conn.owner.as_ref().is_some_and(|owner| {
            owner.source > OwnerSource::Listener
                && owner.task.pid != holder.pid
                && self.holders_of(holder.id).iter().any(|other| other.pid == owner.task.pid)
        });
        if keeps_it {
            return;
        }
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        match &mut conn.owner {
            Some(owner) if owner.task.pid == holder.pid => {
                let source = owner.source.max(OwnerSource::Files);
                // It may have become another program since (execve).
                let task = if owner.task.comm == holder.comm {
                    Arc::clone(&owner.task)
                } else {
                    self.tasks.share(Actor { comm: holder.comm, ..*owner.task })
                };
                *owner = Owner::new(task, Some(holder.fd), source);
            }
            owner => {
                // Which of its threads, nobody tells.
                let thread = Comm::default();
                let task =
                    Actor { pid: holder.pid, tid: 0, comm: holder.comm, thread, exiting: false };
                let task = self.tasks.share(task);
                *owner = Some(Owner::new(task, Some(holder.fd), OwnerSource::Files));
            }
        }
    }
}
