//! What a rule is: it decides about one socket of its state, then speaks about a group of them.

use crate::engine::conn::{Connection, Table};
use crate::engine::rules::explain::Code;
use crate::engine::rules::finding::{Forecast, Severity};
use crate::engine::rules::give_up;
use crate::engine::rules::group::{Cause, Group};
use crate::engine::rules::quiet::Still;
use crate::engine::rules::surroundings::Surroundings;
use crate::engine::rules::trouble::Trouble;
use crate::time::MonoNs;

/// What a rule sees of one socket.
pub(crate) struct Look<'a> {
    pub(crate) table: &'a Table,
    pub(crate) conn: &'a Connection,
    /// What walks and retransmissions told of it, when it is in trouble.
    pub(crate) trouble: Option<&'a Trouble>,
    /// When data last went over it, where that was since it entered its state.
    pub(crate) moved: Option<MonoNs>,
    /// That no data goes over it, where it is established.
    pub(crate) still: Option<&'a Still>,
    pub(crate) around: &'a Surroundings,
    pub(crate) now: MonoNs,
    /// The rule's threshold, nanoseconds.
    pub(crate) threshold: u64,
}

impl Look<'_> {
    /// Time in the state without progress, as far as known: at least this.
    pub(crate) fn age(&self) -> Option<u64> {
        match self.moved {
            Some(moved) => Some(self.now.since(moved)),
            None => self.conn.in_state(self.now).ns(),
        }
    }

    /// For states whose last segment nobody answers: what its retransmissions took, where that is more
    /// than was seen of the state.
    pub(crate) fn age_by_backoff(&self) -> Option<u64> {
        let waited =
            self.trouble.map_or(0, |trouble| give_up::backoff_ns(trouble.unanswered.times));
        match self.age() {
            Some(age) => Some(age.max(waited)),
            None => (waited != 0).then_some(waited),
        }
    }

    /// `age` when it is beyond the threshold.
    pub(crate) fn beyond(&self, age: Option<u64>, cause: Cause) -> Option<Stuck> {
        age.filter(|&age| age >= self.threshold).map(|age| Stuck { age, cause })
    }
}

/// A socket that is stuck by a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// For how long, nanoseconds; at least.
    pub(crate) age: u64,
    pub(crate) cause: Cause,
}

/// One state's rule.
pub(crate) trait Rule: Sync {
    /// Whether this socket is stuck. Called for sockets of the rule's state only.
    fn check(&self, look: &Look<'_>) -> Option<Stuck>;
    /// What is said of a group of them; `None` when all in all it is no matter.
    fn format(&self, group: &Group, about: &About<'_>) -> Option<Said>;
    /// What it is, in short.
    fn code(&self, group: &Group, _about: &About<'_>) -> Code {
        Code::of(group.key.rule)
    }
    /// What to do.
    fn advice(&self, group: &Group, about: &About<'_>) -> String;
}

/// What is known around a group.
pub(crate) struct About<'a> {
    pub(crate) table: &'a Table,
    pub(crate) around: &'a Surroundings,
    pub(crate) now: MonoNs,
    /// More of them a minute.
    pub(crate) growth: Option<f64>,
    /// Survivors keep coming, and those before them stay.
    pub(crate) leaks: bool,
    /// It was found at the last look, too.
    pub(crate) told: bool,
}

/// The verdict on a group.
pub(crate) struct Said {
    pub(crate) verdict: String,
    pub(crate) severity: Severity,
    pub(crate) forecast: Option<Forecast>,
}
