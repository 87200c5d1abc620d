//! What groups are called. Those that are called the same are one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::engine::stats::{Figures, Label, Stats};
use crate::names::{self, Names};
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
        Label::Cgroup(id) => match known.cgroup(*id) {
            Some(path) => name.extend_from_slice(service(path)),
            None => name.extend_from_slice(format!("cgroup {id}").as_bytes()),
        },
        Label::End(addr) => text::endpoint(*addr, &mut name),
        Label::Word(word) => name.extend_from_slice(word.as_bytes()),
        Label::Address(addr) => name.extend_from_slice(addr.to_string().as_bytes()),
    }
    Some(name)
}

/// The container of a cgroup's path, as container tools show it; else the last unit of systemd in it; else the path.
fn service(path: &[u8]) -> &[u8] {
    if let Some(id) = names::container(path) {
        return id.get(..12).unwrap_or(id);
    }
    let is_unit =
        |part: &&[u8]| [&b".service"[..], b".scope"].iter().any(|suffix| part.ends_with(suffix));
    path.split(|&byte| byte == b'/').rev().find(is_unit).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_units_containers_or_cgroups() {
        let check = |path: &str, expect: &str| {
            assert_eq!(service(path.as_bytes()), expect.as_bytes(), "{path}");
        };
        check("/system.slice/nginx.service", "nginx.service");
        check("/user.slice/user-0.slice/session-3.scope", "session-3.scope");
        check("/system.slice/app.service/worker", "app.service");
        check(&format!("/docker/{}", "ab12".repeat(16)), "ab12ab12ab12");
        check("/lxc/web", "web");
        check("/mine/too", "/mine/too");
        check("/", "/");
    }
}
