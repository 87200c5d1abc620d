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
        let before = std::mem::replace(&mut self.holders, holders);
        if let Some(learned) = self.learned.take() {
            // Most of a hundred thousand are as they were: a look at each of their connections would take 30 ms.
            let unlike = unlike(&before, &self.holders);
            if unlike.is_empty() && learned.is_empty() {
                return;
            }
            for holder in unlike {
                self.own(holder);
            }
            for index in learned {
                self.own_by_holders(index);
            }
        } else {
            for at in 0..self.holders.len() {
                self.own(self.holders[at]);
            }
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

    /// A socket that came to the table after the walk over descriptors, or of which something was learned since.
    pub(super) fn own_by_holders(&mut self, index: u32) {
        let Some(id) = self.conns.get(index as usize).map(|conn| conn.id) else { return };
        let from = self.holders.partition_point(|holder| holder.id < id);
        for at in from..self.holders.len() {
            let holder = self.holders[at];
            if holder.id != id {
                break;
            }
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

/// The holders of those sockets whose holders are not what they were before. Both are sorted by socket.
fn unlike(before: &[Holder], now: &[Holder]) -> Vec<Holder> {
    let same_socket = |one: &Holder, other: &Holder| one.id == other.id;
    let same = |one: &Holder, other: &Holder| {
        (one.pid, one.fd, one.comm) == (other.pid, other.fd, other.comm)
    };
    let mut before = before.chunk_by(same_socket).peekable();
    let mut unlike = Vec::new();
    for group in now.chunk_by(same_socket) {
        while before.next_if(|old| old[0].id < group[0].id).is_some() {}
        let old = before.next_if(|old| old[0].id == group[0].id).unwrap_or_default();
        if old.len() != group.len() || !old.iter().zip(group).all(|(old, new)| same(old, new)) {
            unlike.extend_from_slice(group);
        }
    }
    unlike
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SockId;
    use crate::time::MonoNs;

    fn holder((id, pid, fd, comm): (u64, u32, u32, &str)) -> Holder {
        Holder {
            id: SockId(id),
            address: 0,
            pid,
            fd,
            comm: Comm::new(comm.as_bytes()),
            start_ns: 0,
            at: MonoNs(id),
            state: None,
            netns: 0,
            bound: false,
            connected: false,
        }
    }

    #[test]
    fn a_socket_is_looked_at_again_when_any_of_its_holders_is_another() {
        let check =
            |before: &[(u64, u32, u32, &str)], now: &[(u64, u32, u32, &str)], ids: &[u64]| {
                let [before, now] =
                    [before, now].map(|all| all.iter().copied().map(holder).collect::<Vec<_>>());
                let found: Vec<u64> = unlike(&before, &now).iter().map(|it| it.id.0).collect();
                assert_eq!(found, ids);
            };
        let known = [(3, 10, 4, "java"), (5, 10, 5, "java"), (5, 11, 5, "java"), (9, 12, 6, "sh")];
        check(&known, &known, &[]);
        check(&[], &known, &[3, 5, 5, 9]);
        check(&known, &[], &[]);
        // One closed it, one has another number, one ran another program, one more opened it.
        check(&known, &[(3, 10, 4, "java"), (5, 10, 5, "java"), (9, 12, 6, "sh")], &[5]);
        check(&known, &[(3, 10, 7, "java"), (9, 12, 6, "sh")], &[3]);
        check(&known, &[(9, 12, 6, "bash")], &[9]);
        check(&known, &[(1, 9, 3, "nc"), (9, 12, 6, "sh"), (9, 13, 6, "sh")], &[1, 9, 9]);
    }
}
