//! What comes in, from the kernel or from a recording: the same inputs in the same order give the
//! same output, live or replayed.

use serde::{Deserialize, Serialize};

use crate::engine::conn::{self, Poll};
use crate::event::Loss;
use crate::time::{Anchor, Jiffies, MonoNs};

/// How the socket iterator stands in [`Origin::hooks`].
pub const ITER_TCP: &str = "iter/tcp";
/// How it stands there that single sockets can be asked for.
pub const SOCK_DIAG: &str = "sock_diag";

/// Where and how the inputs were made. Goes into the header of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Version of tcptrail.
    pub version: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// Tracepoints and iterators in use.
    pub hooks: Vec<String>,
    /// Filters, as given on the command line.
    pub filters: Vec<String>,
    /// Unix time in nanoseconds at monotonic time 0.
    pub wall_at_zero: i64,
    /// Monotonic time when the programs were attached.
    pub start_ns: u64,
    /// Length of the kernel's jiffy.
    pub jiffy_ns: u64,
    /// When a jiffy began, where that could be read: when timers really fire follows from it.
    #[serde(default)]
    pub jiffies: Option<Jiffies>,
    /// Names of `enum sk_rst_reason` by number, empty where the kernel has none.
    pub reset_reasons: Vec<String>,
    /// Names of `enum skb_drop_reason` by number, empty where the kernel has none, or drops are not traced.
    #[serde(default)]
    pub drop_reasons: Vec<String>,
    /// The run was of this network namespace only (its inode). Drops are recorded in all of them: a segment may be lost
    /// on its way through others.
    #[serde(default)]
    pub only_netns: Option<u32>,
    /// The run was of one cgroup only. Whose a dropped segment was that belongs to no connection is not known then.
    #[serde(default)]
    pub only_cgroup: bool,
    /// It is a segment of the flight recorder. Then `start_ns` is when the segment begins.
    #[serde(default)]
    pub segment: Option<Segment>,
}

/// Which part of a run a segment of the flight recorder is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Segment {
    /// Monotonic time when the programs of its run were attached: all segments of a run have the same.
    pub run_ns: u64,
    /// Its number in the run, from 0. All but 0 begin with the sockets there were, up to the first tick.
    pub number: u32,
    /// Nothing is missing between the segment before and this one.
    pub continues: bool,
    /// The run's filters as arguments for a replay, which cannot look up names of that machine.
    pub filter_args: Vec<String>,
    /// The run's thresholds, in the words of the command line.
    pub thresholds: Vec<String>,
}

impl Origin {
    /// What turns monotonic into wall time.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { wall_at_zero: self.wall_at_zero }
    }

    /// When the programs were attached.
    #[must_use]
    pub fn start(&self) -> MonoNs {
        MonoNs(self.start_ns)
    }

    /// Whether the run was about what belongs to no connection in this network namespace.
    #[must_use]
    pub fn is_about(&self, netns: u32) -> bool {
        !self.only_cgroup && self.only_netns.is_none_or(|only| only == netns)
    }

    /// Whether the run had this tracepoint or iterator.
    #[must_use]
    pub fn hooked(&self, name: &str) -> bool {
        self.hooks.iter().any(|hook| hook == name)
    }

    /// What the table of this run is to know, and that it keeps at most `limit` connections.
    #[must_use]
    pub fn table_options(&self, limit: usize) -> conn::Options {
        conn::Options {
            start: self.start(),
            jiffy_ns: self.jiffy_ns,
            limit,
            jiffies: self.jiffies,
            minis_are_seen: self.hooked(ITER_TCP),
            minis_are_asked_for: self.hooked(SOCK_DIAG),
            resets_are_seen: self.hooked(tracer_common::names::SEND_RESET),
        }
    }

    /// The kernel's name of the reason for a drop, where it has one.
    #[must_use]
    pub fn drop_reason(&self, reason: u16) -> Option<&str> {
        let name = self.drop_reasons.get(usize::from(reason)).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// The kernel's reason for a RST, where it gives one.
    #[must_use]
    pub fn reset_reason(&self, reason: u32) -> Option<&str> {
        // 0 is SK_RST_REASON_NOT_SPECIFIED.
        let index = usize::try_from(reason).ok().filter(|&index| index != 0)?;
        self.reset_reasons.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// One input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// A record of the ring or a row of `iter/tcp`: wire bytes of `Record` or `SocketRow`.
    Record(&'a [u8]),
    /// A walk of `iter/tcp` begins; its rows follow as records.
    PollBegin,
    /// That walk and the events that were waiting when it ended are in.
    PollEnd {
        /// The walk.
        poll: Poll,
        /// Time of this input.
        now: MonoNs,
    },
    /// A whole walk of `iter/task_file`: wire bytes of `HolderRow`, one after the other.
    Holders(&'a [u8]),
    /// Names of cgroups and executables, as `names::encode` makes them.
    Names(&'a [u8]),
    /// What processes and network namespaces are like, as `rules::Facts::encode` makes it.
    Facts(&'a [u8]),
    /// Events were lost.
    Lost(Loss),
    /// Nothing but time: views that redraw, do.
    Tick(MonoNs),
}
