//! Where the network namespaces are that walks enter, as far as it was found out: finding them anew takes a look
//! at every process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::netns::{self, Way};
use super::netns_socket::{self, Lead};

/// The namespace of the thread that asks.
pub(super) const OWN: &str = "/proc/thread-self/ns/net";

/// Ways to namespaces.
#[derive(Debug)]
pub(super) struct Places {
    /// Where this thread stays for good, that is the way to it: nobody can take it away.
    stay_in: Option<u32>,
    known: BTreeMap<u32, PathBuf>,
    /// The way to namespaces that no process is in, as of the last walk over descriptors.
    leads: BTreeMap<u32, Lead>,
}

impl Places {
    pub(super) fn new(stay_in: Option<u32>) -> Places {
        let known = own(stay_in).unwrap_or_default();
        Places { stay_in, known, leads: BTreeMap::new() }
    }

    /// The ways to these namespaces, or to all there are.
    pub(super) fn find(&mut self, only: Option<&[u32]>) -> BTreeMap<u32, Way> {
        if let Some(there) = only.and_then(|only| self.still_there(only)) {
            return there;
        }
        self.known = own(self.stay_in).unwrap_or_else(netns::all);
        let wanted = |inode: &u32| only.is_none_or(|only| only.contains(inode));
        let leads = self.leads.iter().map(|(&inode, &lead)| (inode, Way::Socket(lead)));
        let known = self.known.iter().map(|(&inode, path)| (inode, Way::Path(path.clone())));
        // A path is the better way.
        leads.chain(known).filter(|(inode, _)| wanted(inode)).collect()
    }

    /// Where these are, if they are where they were.
    fn still_there(&self, only: &[u32]) -> Option<BTreeMap<u32, Way>> {
        let found = |inode: &u32| {
            let path = self.known.get(inode).filter(|path| netns::inode(path).ok() == Some(*inode));
            let path = path.map(|path| Way::Path(path.clone()));
            // What a lead leads to is seen when it is followed.
            Some((*inode, path.or_else(|| self.leads.get(inode).map(|&lead| Way::Socket(lead)))?))
        };
        only.iter().map(found).collect()
    }

    /// Takes in a walk over descriptors: they lead to namespaces that nothing else does.
    pub(super) fn follow(&mut self, rows: &[u8]) {
        if self.stay_in.is_some() {
            return;
        }
        if self.known.is_empty() {
            self.known = netns::all();
        }
        self.leads = netns_socket::leads(rows, &self.known);
    }
}

/// Enters a namespace. It may go while we look, and without CAP_SYS_ADMIN only our own is open to us.
pub(super) fn is_in(inode: u32, way: &Way) -> bool {
    let _ = way.enter();
    netns::inode(OWN.as_ref()).ok() == Some(inode)
}

fn own(stay_in: Option<u32>) -> Option<BTreeMap<u32, PathBuf>> {
    stay_in.map(|inode| BTreeMap::from([(inode, PathBuf::from(OWN))]))
}
