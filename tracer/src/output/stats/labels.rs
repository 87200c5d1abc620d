//! What groups are called. Those that are called the same are one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::engine::stats::{Figures, Label, Stats};
use crate::names::{self, Names, Place};
use crate::text;

/// A group with its names, as strangers chose them.
pub(super) struct Group<'s> {
    /// In the order of `--by`; `None` where a connection has nothing of the kind.
    pub(super) names: Vec<Option<Vec<u8>>>,
    pub(super) figures: Cow<'s, Figures>,
}

/// The groups, those with the most connections first. Without `--by` there is one, whatever happened.
pub(super) fn groups<'s>(stats: &'s Stats, known: &Names) -> Vec<Group<'s>> {
    let mut merged: BTreeMap<Vec<Option<Vec<u8>>>, Cow<'s, Figures>> = BTreeMap::new();
    for (labels, figures) in stats.groups() {
        // A service that was started anew has another cgroup of the same name.
        match merged.entry(labels.iter().map(|label| name(label, known)).collect()) {
            Entry::Vacant(place) => drop(place.insert(Cow::Borrowed(figures))),
            Entry::Occupied(mut place) => place.get_mut().to_mut().add(figures),
        }
    }
    if merged.is_empty() && stats.by().is_empty() {
        merged.insert(Vec::new(), Cow::Borrowed(stats.others()));
    }
    let groups = merged.into_iter();
    let mut groups: Vec<Group<'s>> =
        groups.map(|(names, figures)| Group { names, figures }).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.figures.connections));
    groups
}

fn name(label: &Label, known: &Names) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    match label {
        Label::None => return None,
        Label::Process(comm, pid) => text::process_as_is(comm, *pid, &mut name),
        Label::Comm(comm) => name.extend_from_slice(comm.bytes()),
        Label::Cgroup(id) => match service(&known.place(*id)) {
            Some(service) => name.extend_from_slice(&service),
            None => name.extend_from_slice(format!("cgroup {id}").as_bytes()),
        },
        Label::End(addr) => text::endpoint(*addr, &mut name),
        Label::Word(word) => name.extend_from_slice(word.as_bytes()),
        Label::Address(addr) => name.extend_from_slice(addr.to_string().as_bytes()),
    }
    Some(name)
}

/// What it is called as a workload, as in metrics; else the path of the cgroup.
fn service(place: &Place<'_>) -> Option<Vec<u8>> {
    names::workload(place).or_else(|| place.path.map(<[u8]>::to_vec))
}
