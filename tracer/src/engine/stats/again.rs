//! Segments that were sent again in a run, by why.

use crate::engine::Update;
use crate::engine::conn::Kind;
use crate::event::{Cause, Segment};

/// Why segments were sent again. Counted in segments of the path's size, as `life` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retransmits {
    /// See [`Cause::Timeout`].
    pub timeout: u64,
    /// See [`Cause::Fast`].
    pub fast: u64,
    /// See [`Cause::Probe`].
    pub probe: u64,
    /// See [`Cause::SlowStart`].
    pub slow_start: u64,
    /// SYN-ACKs: the kernel does not say whether by their timer.
    pub synack: u64,
    /// What was sent before tcptrail looked, or by a kernel that does not tell.
    pub unknown: u64,
    /// Of all these, what the peer of a finished connection had already (D-SACK).
    pub spurious: u64,
    /// What the kernel tried and could not send, in none of the others.
    pub not_sent: u64,
}

impl Retransmits {
    /// Takes in what an output is told.
    #[inline]
    pub fn update(&mut self, update: &Update<'_>) {
        let Update::Change { conn, change } = update else { return };
        match change.kind {
            Kind::Retransmit { segment, again, .. } => {
                let count = match (again.error, segment, again.cause) {
                    (1.., ..) => &mut self.not_sent,
                    (0, Segment::SynAck, _) => &mut self.synack,
                    (0, _, Some(Cause::Timeout)) => &mut self.timeout,
                    (0, _, Some(Cause::Fast)) => &mut self.fast,
                    (0, _, Some(Cause::Probe)) => &mut self.probe,
                    (0, _, Some(Cause::SlowStart)) => &mut self.slow_start,
                    (0, _, None) => &mut self.unknown,
                };
                *count = count.saturating_add(again.segments.max(1).into());
            }
            Kind::Finished => {
                self.spurious = self.spurious.saturating_add(conn.spurious().unwrap_or(0).into());
            }
            _ => {}
        }
    }

    /// How many segments, by why: names as in the JSON contract and in a line.
    #[must_use]
    pub fn by_cause(&self) -> [(&'static str, &'static str, u64); 6] {
        let named = |cause: Cause, count| (cause.name(), cause.short_name(), count);
        [
            named(Cause::Timeout, self.timeout),
            named(Cause::Fast, self.fast),
            named(Cause::Probe, self.probe),
            named(Cause::SlowStart, self.slow_start),
            ("synack", "SYN-ACK", self.synack),
            ("unknown", "unknown", self.unknown),
        ]
    }

    /// `12 segments sent again: 4 RTO, 8 fast; 1 spurious`; empty where there were none.
    #[must_use]
    pub fn words(&self) -> String {
        let all: u64 = self.by_cause().iter().map(|&(_, _, count)| count).sum();
        let mut words = String::new();
        if all != 0 {
            let some = self.by_cause().into_iter().filter(|&(_, _, count)| count != 0);
            let some: Vec<String> =
                some.map(|(_, name, count)| format!("{count} {name}")).collect();
            words = format!("{all} {} sent again: {}", segments(all), some.join(", "));
            if self.spurious != 0 {
                words = format!("{words}; {} spurious", self.spurious);
            }
        }
        if self.not_sent != 0 {
            let separator = if words.is_empty() { "" } else { "; " };
            words = format!(
                "{words}{separator}{} to be sent again that the kernel could not send",
                self.not_sent
            );
        }
        words
    }
}

fn segments(count: u64) -> &'static str {
    if count == 1 { "segment" } else { "segments" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(retransmits: Retransmits, says: &str) {
        assert_eq!(retransmits.words(), says);
    }

    #[test]
    fn what_is_nothing_is_not_said() {
        check(Retransmits::default(), "");
        check(Retransmits { timeout: 1, ..Retransmits::default() }, "1 segment sent again: 1 RTO");
        check(
            Retransmits { timeout: 4, fast: 8, spurious: 1, ..Retransmits::default() },
            "12 segments sent again: 4 RTO, 8 fast; 1 spurious",
        );
        check(
            Retransmits { synack: 2, unknown: 1, not_sent: 3, ..Retransmits::default() },
            "3 segments sent again: 2 SYN-ACK, 1 unknown; 3 to be sent again that the kernel could not send",
        );
        check(
            Retransmits { not_sent: 3, ..Retransmits::default() },
            "3 to be sent again that the kernel could not send",
        );
    }
}
