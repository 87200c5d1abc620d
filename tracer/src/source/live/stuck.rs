//! What the rules add to a run: more walks, and facts.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::rules::Watch;
use crate::kernel::poller::Request;
use crate::output::RulesNeed;
use crate::source::live::Live;
use crate::time::MonoNs;

/// Queues and sockets without an answer are looked for this often, where nothing else is.
const TROUBLED_EVERY: Duration = Duration::from_secs(2);
/// Every socket is looked at again this often: unread bytes, idleness.
const EVERYTHING_EVERY: Duration = Duration::from_secs(30);
/// Descriptors in use and sysctls are read this often.
const FACTS_EVERY: Duration = Duration::from_secs(2);

/// When what is looked at again.
pub(super) struct Rounds {
    everything: Instant,
    troubled: Instant,
    facts: Instant,
    /// What `stuck --once` needs has been read.
    facts_read: bool,
}

impl Rounds {
    pub(super) fn from(now: Instant) -> Rounds {
        Rounds {
            everything: now + EVERYTHING_EVERY,
            troubled: now + TROUBLED_EVERY,
            facts: now,
            facts_read: false,
        }
    }

    /// Whether facts were read at all.
    pub(super) fn facts_read(&self) -> bool {
        self.facts_read
    }

    /// Facts were read; not again before `pause`.
    pub(super) fn read(&mut self, now: Instant, pause: Duration) {
        self.facts = now + pause.max(FACTS_EVERY);
        self.facts_read = true;
    }
}

impl Live<'_> {
    pub(super) fn wants_everything(&mut self, now: Instant) -> bool {
        let due = self.session.engine.watch().is_some() && now >= self.rounds.everything;
        if due {
            self.rounds.everything = now + EVERYTHING_EVERY;
        }
        due
    }

    pub(super) fn wants_the_troubled(&mut self, now: Instant) -> bool {
        let due = self.session.engine.watch().is_some() && now >= self.rounds.troubled;
        if due {
            self.rounds.troubled = now + TROUBLED_EVERY;
        }
        due
    }

    /// Namespaces with anything that only a walk tells of; for the stuck, all that have sockets.
    pub(super) fn netns_to_walk(&self) -> Vec<u32> {
        let mut netns = self.session.engine.table().poll_netns();
        if let Some(needs) = self.session.engine.watch().map(Watch::needs) {
            netns.extend(&needs.netns);
            netns.sort_unstable();
            netns.dedup();
        }
        netns
    }

    pub(super) fn read_facts(&mut self, now: Instant) {
        if now < self.rounds.facts || self.session.engine.watch().is_none() {
            return;
        }
        // Looks find out by the way what is to be read; before the first, and without any, it is asked.
        let looks = self.needs.rules == RulesNeed::Looks && self.rounds.facts_read;
        let needs = if looks {
            self.session.engine.watch().map(Watch::needs).cloned()
        } else {
            self.session.engine.survey(MonoNs::now()).cloned()
        };
        if let Some(needs) = needs {
            self.walk(Request::Facts(needs));
        }
    }
}
