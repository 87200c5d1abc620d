//! Whether this machine itself drops what a group waits for.

use std::collections::BTreeMap;

use crate::engine::rules::About;
use crate::engine::rules::group::Group;
use crate::event::{Dropped, Place, drop_in_words};

/// Members that are asked; a group has thousands, and one cause.
const ASKED: usize = 64;

/// As [`found`]; where none was, that too, but where drops are not traced, where some may have been before the run,
/// and where the other end may be a listener of this machine: what a full queue of one refuses, the kernel does not
/// call a drop (`tcp_conn_request`).
pub(crate) fn words(group: &Group, about: &About<'_>) -> String {
    let found = found(group, about);
    let whole = |id| about.table.find_open(id).is_some_and(|conn| conn.complete);
    let all_whole = || group.members.iter().take(ASKED).all(|member| whole(member.id));
    let may_be_here =
        || group.members.iter().take(ASKED).any(|m| about.table.listens_at(m.tuple.remote_port));
    if found.is_empty() && about.table.drops_are_told() && all_whole() && !may_be_here() {
        return "; no drop seen on this machine".to_owned();
    }
    found
}

/// `; 3 SYNs dropped on this machine: by netfilter (input)`.
pub(crate) fn found(group: &Group, about: &About<'_>) -> String {
    let mut counts: BTreeMap<(u16, Place, Dropped), u64> = BTreeMap::new();
    let asked = group.members.iter().take(ASKED);
    for drop in asked.flat_map(|member| about.table.drops_of(member.id)) {
        *counts.entry((drop.reason, drop.place, drop.segment)).or_default() +=
            u64::from(drop.count);
    }
    let Some((&(reason, place, segment), &count)) = counts.iter().max_by_key(|(_, count)| **count)
    else {
        return String::new();
    };
    let at_least = if group.members.len() > ASKED { "at least " } else { "" };
    let why = drop_in_words(about.table.drop_reason(reason), place);
    format!("; {at_least}{count} {} dropped on this machine: {why}", segment.noun(count))
}

/// What to do about it, where this machine drops what the group waits for.
pub(crate) fn advice(group: &Group, about: &About<'_>) -> Option<String> {
    let drop = group.members.iter().take(ASKED).find_map(|m| about.table.drops_of(m.id).first())?;
    let name = about.table.drop_reason(drop.reason).unwrap_or_default();
    Some(match name {
        "NETFILTER_DROP" => format!(
            "A firewall rule of this machine drops them, in the hook {}: the counters of nft list ruleset or iptables -vnL show \
             which, in its network namespace.",
            drop.place.name()
        ),
        _ => format!(
            "This machine drops them itself: {}. The kernel calls it {name}.",
            drop_in_words(Some(name), drop.place)
        ),
    })
}
