//! What a watch needs to be told of the machine: of which processes, and of which namespaces.

use std::collections::BTreeMap;

use crate::engine::rules::closed::Closed;
use crate::engine::rules::scan::Scan;
use crate::time::MonoNs;

/// Processes whose descriptors are read.
const MOST_PROCESSES: usize = 256;
/// A namespace whose last socket is gone for this long is not looked at any more.
const RECENT_NS: u64 = 60_000_000_000;

/// What a watch needs to be told: of which processes and namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Processes that hold sockets, those with the most.
    pub pids: Vec<u32>,
    /// Inodes of network namespaces with sockets.
    pub netns: Vec<u32>,
}

/// How that follows from what is found.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    needs: Needs,
    /// Namespaces that had sockets not long ago, and when.
    recent_netns: BTreeMap<u32, MonoNs>,
}

impl Wanted {
    pub(crate) fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Takes in what a look found.
    pub(crate) fn note(&mut self, found: &Scan, closed: &Closed, now: MonoNs) {
        let mut pids: Vec<(u64, u32)> =
            found.held.iter().map(|(&pid, held)| (held.sockets, pid)).collect();
        pids.sort_unstable_by(|one, other| other.cmp(one));
        let more = closed.processes().filter(|pid| !found.held.contains_key(pid));
        pids.extend(more.map(|pid| (closed.of(pid), pid)));
        self.needs.pids = pids.into_iter().take(MOST_PROCESSES).map(|(_, pid)| pid).collect();
        // What closes without a TIME_WAIT leaves nothing behind.
        self.recent_netns.extend(found.netns.iter().map(|&netns| (netns, now)));
        self.recent_netns.retain(|_, &mut at| now.since(at) < RECENT_NS);
        self.needs.netns = self.recent_netns.keys().copied().collect();
    }
}
