//! What is published: figures as they were at one moment, for whoever asks.

use std::collections::BTreeMap;

use crate::engine::rules::Finding;
use crate::event::LossCause;
use crate::output::lines::Known;
use crate::output::serve::counts::{Counts, Tally};
use crate::output::serve::histogram::Histogram;
use crate::time::MonoNs;

/// Labels of a series, but for the names they have in every series of a metric.
pub(super) type Values = Vec<String>;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: MonoNs,
    /// By workload.
    pub(super) counts: BTreeMap<Box<str>, Counts>,
    pub(super) gauges: Gauges,
    pub(super) times: Times,
    pub(super) events: Tally<&'static str>,
    /// Segments that the kernel threw away, by `enum skb_drop_reason`.
    pub(super) drops: Tally<u16>,
    /// By [`LossCause::ALL`].
    pub(super) lost: [u64; LossCause::ALL.len()],
    /// By class of network namespace.
    pub(super) namespaces: Vec<(&'static str, Network)>,
    /// The worst first, with the moment they appeared and where what they are about runs.
    pub(super) findings: Vec<(Finding, MonoNs, Known)>,
    /// Workloads that have no name of their own in metrics.
    pub(super) folded: usize,
}

impl Snapshot {
    /// Of nothing.
    pub(super) fn empty(at: MonoNs) -> Snapshot {
        Snapshot {
            at,
            counts: BTreeMap::new(),
            gauges: Gauges::default(),
            times: Times::new(),
            events: Tally::default(),
            drops: Tally::default(),
            lost: [0; LossCause::ALL.len()],
            namespaces: Vec::new(),
            findings: Vec::new(),
            folded: 0,
        }
    }
}

/// What there is now.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges {
    /// Sockets, by workload, role and state.
    pub(super) open: BTreeMap<(Box<str>, &'static str, &'static str), u64>,
    /// Findings, by the values of their labels.
    pub(super) findings: BTreeMap<Values, Found>,
    /// Sockets that leaked, by the values of their labels.
    pub(super) leaked: BTreeMap<Values, u64>,
    /// Rule and opener, by fingerprint.
    pub(super) leaks: BTreeMap<String, (&'static str, String)>,
    /// In use and the limit, by workload: of its process that has the largest share in use.
    pub(super) fds: BTreeMap<Box<str>, (u64, u64)>,
    /// Seconds until a process of the workload has no descriptor left.
    pub(super) fds_left: BTreeMap<Box<str>, f64>,
    /// Share in use, by workload: of its fullest listener.
    pub(super) accept_queue: BTreeMap<Box<str>, f64>,
    /// Share in use, by workload: of its destination that takes most of its ports.
    pub(super) ports: BTreeMap<Box<str>, f64>,
}

/// Findings with the same labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) count: u64,
    /// Age of the oldest socket of one of them, nanoseconds.
    pub(super) oldest_ns: u64,
}

/// What the kernel counts of network namespaces; `None` where that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) listen_drops: Option<u64>,
    pub(super) syn_cookies: Option<u64>,
    pub(super) time_wait_overflows: Option<u64>,
}

/// How times are spread, by role or state.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) life: BTreeMap<&'static str, Histogram>,
    pub(super) handshake: BTreeMap<&'static str, Histogram>,
    pub(super) accept: BTreeMap<&'static str, Histogram>,
    pub(super) rtt: BTreeMap<&'static str, Histogram>,
    pub(super) in_state: BTreeMap<&'static str, Histogram>,
}
