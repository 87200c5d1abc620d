//! How long connections that have ended waited to be accepted, by listener.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use hdrhistogram::Histogram;

use crate::engine::conn::Connection;
use crate::output::top::model::remotes::record;

/// Listeners whose waits are kept.
const MOST: usize = 1_024;

/// Waits by network namespace and port.
#[derive(Debug, Default)]
pub(crate) struct Accepts {
    by_port: HashMap<(u32, u16), Option<Box<Histogram<u32>>>, FixedState>,
}

impl Accepts {
    /// A connection has ended.
    pub(super) fn finished(&mut self, conn: &Connection) {
        let Some(ns) = conn.accept_ns() else { return };
        let key = (conn.netns, conn.tuple.local_port);
        if self.by_port.len() < MOST || self.by_port.contains_key(&key) {
            record(self.by_port.entry(key).or_default(), ns);
        }
    }

    /// Waits at a port, microseconds.
    pub(crate) fn at(&self, netns: u32, port: u16) -> Option<&Histogram<u32>> {
        self.by_port.get(&(netns, port))?.as_deref()
    }
}
