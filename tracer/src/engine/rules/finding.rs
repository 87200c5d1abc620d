//! What is found, and what becomes of it.

use tracer_common::TcpState;

use crate::engine::rules::explain::Code;
use crate::engine::rules::id::RuleId;
use crate::engine::rules::openers::{Opened, Opener};
use crate::event::{Comm, SockId, Tuple};
use crate::time::MonoNs;

/// How bad it is; the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Something runs out: calls fail, or will.
    Exhaustion,
    /// It gets more, and nothing of it goes.
    Leak,
    /// It is there and should not be.
    Stuck,
    /// What cannot be known; no reason to act, and none for an exit code.
    Note,
}

impl Severity {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Exhaustion => "exhaustion",
            Severity::Leak => "leak",
            Severity::Stuck => "stuck",
            Severity::Note => "note",
        }
    }
}

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    /// Its id; `None` for one of several of that name.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Comm,
}

/// What runs out, and when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    /// What.
    pub what: What,
    /// How much there is.
    pub limit: u64,
    /// How much of it is in use.
    pub in_use: u64,
    /// Of that, sockets; of ports, those in TIME_WAIT. `None` where not known.
    pub share: Option<u64>,
    /// More of it each second.
    pub per_second: Option<f64>,
    /// Time left, nanoseconds; 0 when it has run out, `None` when there is no growth to tell by.
    pub left_ns: Option<u64>,
}

/// What can run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// File descriptors of a process.
    Fds,
    /// Local ports towards one destination.
    Ports,
    /// Places in a listener's queue.
    AcceptQueue,
    /// The kernel's patience with a peer that does not answer; in `limit` and `in_use`
    /// retransmissions.
    GiveUp,
}

impl What {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            What::Fds => "fds",
            What::Ports => "ports",
            What::AcceptQueue => "accept_queue",
            What::GiveUp => "give_up",
        }
    }
}

/// One of a finding's sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its identity.
    pub id: SockId,
    /// Its ends.
    pub tuple: Tuple,
    /// For how long it has been stuck, nanoseconds; at least.
    pub age_ns: u64,
    /// Its descriptor, where known.
    pub fd: Option<u32>,
}

/// One finding.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The same for as long as it is the same finding: rule, process, endpoint.
    pub id: String,
    /// The rule that found it.
    pub rule: RuleId,
    /// What it is, in short; may change as more becomes known of its cause.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// The state its sockets are in, where it is one.
    pub state: Option<TcpState>,
    /// Sockets stuck.
    pub count: u64,
    /// Sockets of the group in that state, the young ones too.
    pub in_state: u64,
    /// Age of the oldest, nanoseconds; at least.
    pub oldest_ns: Option<u64>,
    /// More of them a minute.
    pub growth_per_min: Option<f64>,
    /// Of those that came into the state, the share that left it: as far as watched.
    pub closed_share: Option<f64>,
    /// Of those that outlived the threshold, the share that left after all.
    pub late_closed_share: Option<f64>,
    /// Inode of the network namespace; `None` for what belongs to a process in several.
    pub netns: Option<u32>,
    /// Id of the cgroup of what it is about, of several the first; 0 when not known.
    pub cgroup: u64,
    /// Whose it is.
    pub process: Option<Process>,
    /// The processes, when it is about several workers of a service; else empty.
    pub workers: Vec<u32>,
    /// Local port of the group.
    pub local_port: Option<u16>,
    /// Remote endpoint of the group.
    pub remote: Option<std::net::SocketAddr>,
    /// The code that opened most of them, where known.
    pub opener: Option<Opener>,
    /// All of those, with counts, and how many are of nobody known.
    pub opened: Opened,
    /// At most [`Finding::SAMPLES`] of its sockets, the oldest.
    pub conns: Vec<Sample>,
    /// What is the case, in one sentence.
    pub verdict: String,
    /// What to do.
    pub advice: String,
    /// What runs out because of it.
    pub forecast: Option<Forecast>,
    /// After how long without data the other side ends connections, nanoseconds, where that shows.
    pub idle_timeout_ns: Option<u64>,
}

impl Finding {
    /// Most sockets named.
    pub const SAMPLES: usize = 20;

    /// The advice, and where there is more of it.
    #[must_use]
    pub fn advice_and_more(&self) -> String {
        format!("{} {}", self.advice, self.more())
    }

    /// Where there is more than the advice says.
    #[must_use]
    pub fn more(&self) -> String {
        format!("More: tcptrail explain {}", self.code)
    }

    /// One about what runs out, of which only this is known: no process, no place, no sockets.
    pub(crate) fn runs_out(
        id: String,
        rule: RuleId,
        verdict: String,
        advice: String,
        forecast: Forecast,
    ) -> Finding {
        Finding {
            id,
            rule,
            code: Code::of(rule),
            severity: Severity::Exhaustion,
            state: None,
            count: forecast.in_use,
            in_state: forecast.share.unwrap_or(forecast.in_use),
            oldest_ns: None,
            growth_per_min: forecast.per_second.map(|rate| rate * 60.0),
            closed_share: None,
            late_closed_share: None,
            netns: None,
            cgroup: 0,
            process: None,
            workers: Vec::new(),
            local_port: None,
            remote: None,
            opener: None,
            opened: Opened::default(),
            conns: Vec::new(),
            verdict,
            advice,
            forecast: Some(forecast),
            idle_timeout_ns: None,
        }
    }

    /// Whether it is about sockets of this process.
    pub(crate) fn is_about(&self, pid: u32) -> bool {
        let its = self.process.and_then(|process| process.pid) == Some(pid);
        (its || self.workers.contains(&pid)) && self.rule != RuleId::Fds
    }
}

/// What became of a finding.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// It is there.
    Appear,
    /// It has changed.
    Change,
    /// It is no more.
    Clear {
        /// When it appeared.
        since: MonoNs,
    },
}

impl Update {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Update::Appear => "appear",
            Update::Change => "update",
            Update::Clear { .. } => "clear",
        }
    }
}
