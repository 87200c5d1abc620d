//! Why segments of a connection were sent again; few connections have any.

use crate::engine::conn::causes::Causes;
use crate::engine::conn::connection::Connection;
use crate::engine::conn::late::Spare;
use crate::event::Again;

impl Connection {
    /// Why segments were sent again, as far as it was seen.
    #[must_use]
    pub fn causes(&self) -> Causes {
        self.late.as_ref().map(|late| late.causes).unwrap_or_default()
    }

    /// Of those that were sent again, how many have neither a cause nor are SYN-ACKs: sent before tcptrail looked, or by
    /// a kernel that does not tell.
    #[must_use]
    pub fn without_cause(&self) -> u32 {
        let known: u32 = self.causes().all().iter().map(|(_, count)| count).sum();
        let known = known.saturating_add(u32::from(self.retransmits.synack));
        self.counters().map_or(0, |counters| counters.retransmits.saturating_sub(known))
    }

    /// How many of them the peer had already, as it said itself (D-SACK) until the connection was closed; `None` where
    /// that is not known.
    #[must_use]
    pub fn spurious(&self) -> Option<u32> {
        let told = self.late.as_ref()?.got_twice.checked_sub(1)?;
        // The network may double segments, too.
        Some(told.min(self.counters()?.retransmits))
    }

    /// A segment was sent again.
    pub(super) fn sent_again(&mut self, again: Again, spare: &mut Spare) {
        if let Some(cause) = again.cause {
            let late = self.late.get_or_insert_with(|| spare.get());
            late.causes.add(cause, u32::from(again.segments.max(1)));
        }
    }

    /// The peer has got so many segments twice, and 1; 0 is not known.
    pub(super) fn got_twice(&mut self, told: u32, spare: &mut Spare) {
        if told != 0 && self.counters().is_some_and(|counters| counters.retransmits != 0) {
            self.late.get_or_insert_with(|| spare.get()).got_twice = told;
        }
    }
}
