//! Groups that differ in little are one: many remote endpoints of a process, and many workers of a service that
//! say the same. One cause, one sentence.
//!
//! Workers are processes of one name that share a listener, or that are in one cgroup and use the same remote
//! endpoint. Two may differ for a reason that an operator wants to see; from three on they are one.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::finding::Process;
use crate::engine::rules::group::{Group, Key};
use crate::engine::rules::place::Side;

/// Groups that differ in nothing but the remote endpoint are one from here on.
const MANY_REMOTES: usize = 8;
/// From so many processes on.
const MANY: usize = 3;

/// Puts together what differs in little.
pub(crate) fn merged(groups: Vec<Group>) -> Vec<Group> {
    workers(endpoints(groups))
}

/// Puts together the groups of each service's workers, where these are many.
fn workers(groups: Vec<Group>) -> Vec<Group> {
    let mut how_many: HashMap<Key, usize, FixedState> = HashMap::default();
    for common in groups.iter().filter_map(common) {
        *how_many.entry(common).or_default() += 1;
    }
    how_many.retain(|_, count| *count >= MANY);
    if how_many.is_empty() {
        return groups;
    }
    let mut out = Vec::new();
    let mut services: HashMap<Key, Group, FixedState> = HashMap::default();
    for group in groups {
        let Some(common) = common(&group).filter(|common| how_many.contains_key(common)) else {
            out.push(group);
            continue;
        };
        let pid = group.key.process.and_then(|process| process.pid);
        let service = services.entry(common).or_insert_with_key(|key| Group::new(key.clone()));
        service.workers.extend(pid);
        service.merge(group);
    }
    for (_, mut service) in services {
        service.workers.sort_unstable();
        service.opened.sort();
        out.push(service);
    }
    out
}

/// What the groups of a service's workers have in common; `None` of a group that is of no known
/// process.
fn common(group: &Group) -> Option<Key> {
    let process = group.key.process.filter(|process| process.pid.is_some())?;
    let process = Some(Process { pid: None, comm: process.comm });
    let cgroup = match group.key.side {
        Side::Local(_) => 0,
        Side::Remote(_) | Side::Remotes => group.cgroup,
    };
    Some(Key { process, workers: Some(cgroup), ..group.key.clone() })
}

/// One group for many remote endpoints of one process.
fn endpoints(groups: Vec<Group>) -> Vec<Group> {
    let common = |key: &Key| Key { side: Side::Remotes, ..key.clone() };
    let mut how_many: HashMap<Key, usize, FixedState> = HashMap::default();
    for group in groups.iter().filter(|group| matches!(group.key.side, Side::Remote(_))) {
        *how_many.entry(common(&group.key)).or_default() += 1;
    }
    how_many.retain(|_, count| *count > MANY_REMOTES);
    if how_many.is_empty() {
        return groups;
    }
    let mut out = Vec::new();
    let mut many: HashMap<Key, Group, FixedState> = HashMap::default();
    for group in groups {
        let key = common(&group.key);
        if matches!(group.key.side, Side::Remote(_)) && how_many.contains_key(&key) {
            match many.entry(key) {
                std::collections::hash_map::Entry::Occupied(mut entry) => {
                    entry.get_mut().merge(group)
                }
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let key = entry.key().clone();
                    entry.insert(Group { key, ..group });
                }
            }
        } else {
            out.push(group);
        }
    }
    out.extend(many.into_values());
    out
}
