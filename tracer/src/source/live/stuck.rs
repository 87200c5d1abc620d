//! What looking for the stuck adds to a run: more walks, facts, frames, an exit code.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, Show};
use crate::kernel::poller::Request;
use crate::output::lines::View;
use crate::session::Session;
use crate::source::live::{Live, view};
use crate::time::MonoNs;

/// Queues and sockets without an answer are looked for this often, where nothing else is.
const TROUBLED_EVERY: Duration = Duration::from_secs(2);
/// Every socket is looked at again this often: unread bytes, idleness.
const EVERYTHING_EVERY: Duration = Duration::from_secs(30);
/// Descriptors in use and sysctls are read this often.
const FACTS_EVERY: Duration = Duration::from_secs(2);
/// `stuck`: something is stuck, or what `--fail-on` asks for holds.
const STUCK: u8 = 3;

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

    /// Facts were read; not again before `pause`.
    pub(super) fn read(&mut self, now: Instant, pause: Duration) {
        self.facts = now + pause.max(FACTS_EVERY);
        self.facts_read = true;
    }
}

impl Live<'_> {
    pub(super) fn wants_everything(&mut self, now: Instant) -> bool {
        let due = self.session.rules().is_some() && now >= self.rounds.everything;
        if due {
            self.rounds.everything = now + EVERYTHING_EVERY;
        }
        due
    }

    pub(super) fn wants_the_troubled(&mut self, now: Instant) -> bool {
        let due = self.session.rules().is_some() && now >= self.rounds.troubled;
        if due {
            self.rounds.troubled = now + TROUBLED_EVERY;
        }
        due
    }

    /// Namespaces with anything that only a walk tells of; for the stuck, all that have sockets.
    pub(super) fn netns_to_walk(&self) -> Vec<u32> {
        let mut netns = self.session.table.poll_netns();
        if let Some(needs) = self.session.needs() {
            netns.extend(&needs.netns);
            netns.sort_unstable();
            netns.dedup();
        }
        netns
    }

    pub(super) fn read_facts(&mut self, now: Instant) {
        if now < self.rounds.facts || self.session.rules().is_none() {
            return;
        }
        // Looks find out by the way what is to be read; before the first, and without any, it is asked.
        let looks = matches!(self.config.show, Show::Stuck { .. }) && self.rounds.facts_read;
        let needs = if looks {
            self.session.needs().cloned()
        } else {
            self.session.survey(MonoNs::now()).cloned()
        };
        if let Some(needs) = needs {
            self.walk(Request::Facts(needs));
        }
    }

    /// `--once` is done when it knows enough, unless it is to watch for a while; any when `--fail-on`
    /// holds.
    pub(super) fn stuck_is_done(&self, once: bool) -> bool {
        let failed = self.session.rules().is_some_and(|rules| rules.failed().is_some());
        failed || once && self.rounds.facts_read && self.deadline.is_none()
    }

    /// Draws what is stuck, on a terminal, after each look.
    pub(super) fn draw(&mut self) {
        if !self.session.has_looked() || !self.draws() {
            return;
        }
        self.session.stuck_frame(MonoNs::now(), lines_of_stdout());
        self.output.push(&mut self.session.out);
    }

    pub(super) fn draws(&self) -> bool {
        matches!(view(self.config.show), View::Stuck { frames: true, .. }) && !self.config.json
    }
}

/// How many lines the terminal has; one that does not know has 24.
fn lines_of_stdout() -> usize {
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_row))
        .filter(|&lines| lines != 0)
        .unwrap_or(24)
}

/// Exit code of `stuck`, live or replayed: 3 when what `--fail-on` asks for holds, which is said, or with
/// `--once` when something is stuck. 0 of everything else.
pub fn exit_code<W: io::Write>(config: &Config, session: &Session<W>) -> u8 {
    let (Show::Stuck { once }, Some(rules)) = (config.show, session.rules()) else { return 0 };
    if let Some(reason) = rules.failed() {
        eprintln!("tcptrail: {reason}");
        return STUCK;
    }
    // Where there are conditions, they are what was asked.
    if once && config.gates.is_empty() && rules.stuck() != 0 { STUCK } else { 0 }
}
