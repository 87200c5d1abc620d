//! Whose connections they are: workloads, of which there are few enough to be a label.
//!
//! Events are counted by cgroup and name of the process ([`Key`]), which are at hand. What that is called, a service,
//! a container, or the process's name, is decided when figures are published: the name of a new cgroup comes seconds
//! after its first event. Once decided it stays, so that counters never go back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;
use slab::Slab;

use crate::engine::conn::Connection;
use crate::event::Comm;
use crate::names::{self, Names};
use crate::output::serve::counts::Counts;
use crate::text;
use crate::time::MonoNs;

/// Workloads with a name of their own in metrics; each has some tens of series.
pub(super) const MOST_NAMED: usize = 200;
/// Cgroups and names of processes that are told apart before they have a name.
const MOST_KEPT: usize = 2_048;
/// A cgroup's name comes within ten seconds; after this it is not waited for.
const UNNAMED_NS: u64 = 15_000_000_000;
/// What has had no connection and no event for so long is forgotten, and its series go. Longer than anybody waits
/// between two scrapes.
const STALE_NS: u64 = 15 * 60 * 1_000_000_000;

/// All that found no room.
pub(super) const OTHER: &str = "_other";
/// Connections without a cgroup and an owner that is known: most are closed by their application.
pub(super) const UNKNOWN: &str = "_unknown";

/// What an event says of whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Key {
    cgroup: u64,
    comm: Comm,
}

impl Key {
    pub(super) fn of(conn: &Connection) -> Key {
        let comm = conn.owner.as_ref().map(|owner| owner.task.comm);
        Key { cgroup: conn.cgroup, comm: comm.unwrap_or_default() }
    }
}

/// What it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Called {
    /// Its name has not come yet.
    NotYet,
    /// This.
    Named(Box<str>),
    /// This, and there was no room for it.
    Folded(Box<str>),
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    counts: Counts,
    called: Called,
    since: MonoNs,
    /// When it was last used; kept up by [`Workloads::publish`].
    seen: MonoNs,
    /// Since then.
    used: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Workloads {
    by_key: HashMap<Key, usize, FixedState>,
    /// The first has what found no room.
    entries: Slab<Entry>,
    /// Names that are in use, and what entries counted that are forgotten.
    named: BTreeMap<Box<str>, Counts>,
}

impl Workloads {
    pub(super) fn new() -> Workloads {
        let mut entries = Slab::new();
        entries.insert(Entry {
            key: Key::default(),
            counts: Counts::default(),
            called: Called::Folded(OTHER.into()),
            since: MonoNs(0),
            seen: MonoNs(0),
            used: true,
        });
        Workloads { by_key: HashMap::default(), entries, named: BTreeMap::new() }
    }

    /// The place of a key; of one that finds no room 0.
    pub(super) fn place(&mut self, key: Key, now: MonoNs) -> usize {
        if let Some(&place) = self.by_key.get(&key) {
            if let Some(entry) = self.entries.get_mut(place) {
                entry.used = true;
            }
            return place;
        }
        if self.by_key.len() >= MOST_KEPT {
            return 0;
        }
        let (counts, called) = (Counts::default(), Called::NotYet);
        let entry = Entry { key, counts, called, since: now, seen: now, used: true };
        let place = self.entries.insert(entry);
        self.by_key.insert(key, place);
        place
    }

    /// What is counted of whoever has this connection.
    pub(super) fn counts(&mut self, conn: &Connection, now: MonoNs) -> Option<&mut Counts> {
        let place = self.place(Key::of(conn), now);
        self.entries.get_mut(place).map(|entry| &mut entry.counts)
    }

    /// What a place is called in metrics; `None` until its name has come.
    pub(super) fn name(&self, place: usize) -> Option<&str> {
        match &self.entries.get(place)?.called {
            Called::NotYet => None,
            Called::Named(name) => Some(name),
            Called::Folded(_) => Some(OTHER),
        }
    }

    /// What whoever has this key is called; `None` until its name has come.
    pub(super) fn find(&self, key: &Key) -> Option<&str> {
        self.name(*self.by_key.get(key)?)
    }

    /// How many names are folded into [`OTHER`] now.
    pub(super) fn folded(&self) -> usize {
        let names = self.entries.iter().filter_map(|(place, entry)| match &entry.called {
            Called::Folded(name) if place != 0 => Some(name),
            _ => None,
        });
        names.collect::<BTreeSet<_>>().len()
    }

    /// Names what can be named, and forgets what has been gone for long.
    pub(super) fn settle(&mut self, names: &Names, now: MonoNs) {
        let mut stale = Vec::new();
        for (place, entry) in &mut self.entries {
            if std::mem::take(&mut entry.used) {
                entry.seen = now;
            }
            if place != 0 && now.since(entry.seen) >= STALE_NS {
                stale.push(place);
            } else if entry.called == Called::NotYet {
                let waits = now.since(entry.since) < UNNAMED_NS;
                let Some(name) = name_of(&entry.key, names, waits) else { continue };
                if self.named.contains_key(&*name) || self.named.len() < MOST_NAMED {
                    self.named.entry(name.clone()).or_default();
                    entry.called = Called::Named(name);
                } else {
                    entry.called = Called::Folded(name);
                }
            }
        }
        for place in stale {
            self.forget(place);
        }
    }

    fn forget(&mut self, place: usize) {
        let Some(entry) = self.entries.try_remove(place) else { return };
        self.by_key.remove(&entry.key);
        if let Called::Named(name) = &entry.called {
            let same = |other: &Entry| other.called == entry.called;
            if self.entries.iter().any(|(_, other)| same(other)) {
                self.named.entry(name.clone()).or_default().merge(&entry.counts);
            } else {
                self.named.remove(name);
            }
        } else if let Some(rest) = self.entries.get_mut(0) {
            rest.counts.merge(&entry.counts);
        }
    }

    /// What was counted, by name.
    pub(super) fn counted(&self) -> BTreeMap<Box<str>, Counts> {
        let mut all = self.named.clone();
        for (place, entry) in &self.entries {
            // Nothing of what has no name yet is lost: it comes with its name.
            let Some(name) = self.name(place) else { continue };
            if place == 0 && entry.counts == Counts::default() {
                continue;
            }
            all.entry(name.into()).or_default().merge(&entry.counts);
        }
        all
    }
}

/// What whoever has this key is called; `None` while the name of its cgroup may still come.
fn name_of(key: &Key, known: &Names, waits: bool) -> Option<Box<str>> {
    let place = known.place(key.cgroup);
    if key.cgroup != 0 && place.path.is_none() && waits {
        return None;
    }
    let mut name = Vec::new();
    match names::workload(&place) {
        Some(workload) => text::name(&workload, &mut name),
        None if key.comm.bytes().is_empty() => name.extend_from_slice(UNKNOWN.as_bytes()),
        None => text::name(key.comm.bytes(), &mut name),
    }
    Some(String::from_utf8_lossy(&name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::conn::Role;
    use crate::names::{Entry as Name, encode};

    const SECOND: u64 = 1_000_000_000;

    fn key(cgroup: u64, comm: &str) -> Key {
        Key { cgroup, comm: Comm::new(comm.as_bytes()) }
    }

    fn count(workloads: &mut Workloads, key: Key, at: u64) {
        let place = workloads.place(key, MonoNs(at * SECOND));
        workloads.entries[place].counts.opened.add(Role::Client, 1);
    }

    fn told(workloads: &Workloads) -> Vec<(String, u64)> {
        let counted = workloads.counted().into_iter();
        let opened = |counts: &Counts| counts.opened.iter().map(|(_, count)| count).sum();
        counted.map(|(name, counts)| (name.into(), opened(&counts))).collect()
    }

    fn pairs(expect: &[(&str, u64)]) -> Vec<(String, u64)> {
        expect.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    #[test]
    fn a_cgroups_events_wait_for_its_name() {
        let (mut workloads, mut names) = (Workloads::new(), Names::default());
        count(&mut workloads, key(7, "java"), 1);
        count(&mut workloads, key(0, "curl"), 1);
        workloads.settle(&names, MonoNs(SECOND));
        assert_eq!(told(&workloads), pairs(&[("curl", 1)]));
        let mut bytes = Vec::new();
        encode(Name::Cgroup(7), b"/system.slice/shop.service", &mut bytes);
        names.take_in(&bytes);
        count(&mut workloads, key(7, "sh"), 2);
        workloads.settle(&names, MonoNs(11 * SECOND));
        assert_eq!(told(&workloads), pairs(&[("curl", 1), ("shop.service", 2)]));
        // One that never comes is not waited for.
        count(&mut workloads, key(8, "ruby"), 12);
        workloads.settle(&names, MonoNs(40 * SECOND));
        assert_eq!(told(&workloads), pairs(&[("curl", 1), ("ruby", 1), ("shop.service", 2)]));
    }

    #[test]
    fn there_is_a_limit_and_what_is_beyond_it_is_counted_together() {
        let (mut workloads, names) = (Workloads::new(), Names::default());
        for number in 0..MOST_NAMED + 50 {
            count(&mut workloads, key(0, &format!("w{number}")), 1);
            workloads.settle(&names, MonoNs(SECOND));
        }
        assert_eq!((told(&workloads).len(), workloads.folded()), (MOST_NAMED + 1, 50));
        assert!(told(&workloads).contains(&(OTHER.to_owned(), 50)));
        // Whoever makes up names for ever takes no more memory.
        for number in 0..2 * MOST_KEPT {
            count(&mut workloads, key(0, &format!("x{number}")), 2);
        }
        workloads.settle(&names, MonoNs(2 * SECOND));
        assert_eq!(workloads.entries.len(), MOST_KEPT + 1);
        let all: u64 = told(&workloads).iter().map(|(_, count)| count).sum();
        assert_eq!(all, (MOST_NAMED + 50 + 2 * MOST_KEPT) as u64);
    }

    #[test]
    fn what_is_gone_for_long_goes_and_makes_room() {
        let (mut workloads, names) = (Workloads::new(), Names::default());
        for number in 0..MOST_NAMED {
            count(&mut workloads, key(0, &format!("w{number}")), 1);
        }
        workloads.settle(&names, MonoNs(SECOND));
        count(&mut workloads, key(0, "late"), 2);
        workloads.settle(&names, MonoNs(2 * SECOND));
        count(&mut workloads, key(0, "w0"), 600);
        workloads.settle(&names, MonoNs(600 * SECOND));
        workloads.settle(&names, MonoNs(902 * SECOND));
        // What was in the rest stays in the rest: it never goes back.
        assert_eq!(told(&workloads), pairs(&[(OTHER, 1), ("w0", 2)]));
        count(&mut workloads, key(0, "late"), 903);
        workloads.settle(&names, MonoNs(903 * SECOND));
        assert_eq!(told(&workloads), pairs(&[(OTHER, 1), ("late", 1), ("w0", 2)]));
    }

    #[test]
    fn a_service_that_another_process_of_leaves_keeps_its_counts() {
        let (mut workloads, mut names) = (Workloads::new(), Names::default());
        let mut bytes = Vec::new();
        encode(Name::Cgroup(7), b"/system.slice/shop.service", &mut bytes);
        names.take_in(&bytes);
        count(&mut workloads, key(7, "java"), 1);
        count(&mut workloads, key(7, "sh"), 1);
        workloads.settle(&names, MonoNs(SECOND));
        count(&mut workloads, key(7, "java"), 800);
        workloads.settle(&names, MonoNs(800 * SECOND));
        workloads.settle(&names, MonoNs(902 * SECOND));
        assert_eq!(workloads.entries.len(), 2);
        assert_eq!(told(&workloads), pairs(&[("shop.service", 3)]));
    }
}
