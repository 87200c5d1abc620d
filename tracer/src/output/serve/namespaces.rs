//! What the kernel counts of network namespaces, by class: the host's, and all others.
//!
//! Namespaces come and go, so their counters cannot be added up as they are: what each has grown by since it was first
//! read is.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::engine::rules::{NetnsFacts, Surroundings};
use crate::output::serve::snapshot::Network;

/// Namespaces that are followed.
const MOST: usize = 10_000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// Inode of the host's; `None` when not known.
    host: Option<u32>,
    last: HashMap<u32, Network, FixedState>,
    of_host: Network,
    of_others: Network,
}

impl Network {
    fn of(facts: &NetnsFacts) -> Network {
        Network {
            listen_drops: facts.listen_drops,
            syn_cookies: facts.syn_cookies,
            time_wait_overflows: facts.time_wait_overflows,
        }
    }

    /// Adds what `now` has grown by since `before`.
    fn grow(&mut self, before: &Network, now: &Network) {
        let grow = |sum: &mut Option<u64>, before: Option<u64>, now: Option<u64>| {
            if let Some(now) = now {
                // Less than before: another namespace has the inode by now.
                let grown = before.map_or(0, |before| now.saturating_sub(before));
                *sum = Some(sum.unwrap_or(0).saturating_add(grown));
            }
        };
        grow(&mut self.listen_drops, before.listen_drops, now.listen_drops);
        grow(&mut self.syn_cookies, before.syn_cookies, now.syn_cookies);
        grow(&mut self.time_wait_overflows, before.time_wait_overflows, now.time_wait_overflows);
    }
}

impl Namespaces {
    pub(super) fn new(host: Option<u32>) -> Namespaces {
        Namespaces { host, ..Namespaces::default() }
    }

    /// Takes in what was read.
    pub(super) fn take_in(&mut self, around: &Surroundings) {
        for facts in around.namespaces() {
            let now = Network::of(facts);
            if self.last.len() >= MOST && !self.last.contains_key(&facts.inode) {
                // Those that are still there begin anew.
                self.last.clear();
            }
            let before = self.last.insert(facts.inode, now).unwrap_or(now);
            let class = if self.host == Some(facts.inode) {
                &mut self.of_host
            } else {
                &mut self.of_others
            };
            class.grow(&before, &now);
        }
    }

    /// By class; `unknown` where it is not known which is the host's.
    pub(super) fn counted(&self) -> Vec<(&'static str, Network)> {
        match self.host {
            Some(_) => vec![("host", self.of_host), ("other", self.of_others)],
            None => vec![("unknown", self.of_others)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::Facts;

    #[test]
    fn what_namespaces_grow_by_is_added_up() {
        let mut namespaces = Namespaces::new(Some(1));
        let mut around = Surroundings::default();
        let mut read = |inode, listen_drops| {
            let netns =
                NetnsFacts { inode, listen_drops: Some(listen_drops), ..NetnsFacts::default() };
            around.take_in(&Facts { netns: vec![netns], ..Facts::default() });
            namespaces.take_in(&around);
            let told = namespaces.counted();
            (told[0].1.listen_drops, told[1].1.listen_drops)
        };
        // What was before does not count.
        assert_eq!(read(1, 900), (Some(0), None));
        assert_eq!(read(2, 50), (Some(0), Some(0)));
        assert_eq!(read(1, 905), (Some(5), Some(0)));
        assert_eq!(read(2, 53), (Some(5), Some(3)));
        // Another namespace has the inode by now.
        assert_eq!(read(2, 1), (Some(5), Some(3)));
        assert_eq!(read(2, 4), (Some(5), Some(6)));
    }
}
