//! Names of interfaces in the sentences of findings. Rules know the interface that a link-local address belongs to by
//! its number, and write `[fe80::1%3]:443`; people know it by its name, and `ss` writes `[fe80::1]%eth0:443`.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::FixedState;

use crate::engine::rules::Finding;

/// Names kept.
const MOST: usize = 4096;

/// Names of interfaces, by network namespace and index.
#[derive(Debug, Default)]
pub(crate) struct Zones(HashMap<(u32, u32), Box<str>, FixedState>);

impl Zones {
    /// An interface is called this.
    pub(crate) fn learn(&mut self, (netns, index): (u32, u32), name: &[u8]) {
        // What steers a terminal is no name of an interface that anybody needs to read.
        let printable = name.iter().all(u8::is_ascii_graphic);
        if printable && (self.0.len() < MOST || self.0.contains_key(&(netns, index))) {
            self.0.insert((netns, index), String::from_utf8_lossy(name).into());
        }
    }

    /// Puts the name into what a finding says.
    pub(crate) fn put_into(&self, finding: &mut Finding) {
        let (Some(SocketAddr::V6(remote)), Some(netns)) = (finding.remote, finding.netns) else {
            return;
        };
        let index = remote.scope_id();
        if index == 0 {
            return;
        }
        let name =
            self.0.get(&(netns, index)).map_or_else(|| index.to_string(), ToString::to_string);
        let written = remote.to_string();
        let wanted = format!("[{}]%{name}:{}", remote.ip(), remote.port());
        finding.verdict = finding.verdict.replace(&written, &wanted);
        finding.advice = finding.advice.replace(&written, &wanted);
    }
}
