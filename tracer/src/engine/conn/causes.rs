//! How many segments were sent again for which reason.

use crate::event::Cause;

/// Segments sent again, by what made the kernel send them. What was sent before tcptrail looked is in none of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Causes {
    /// See [`Cause::Timeout`].
    pub timeout: u32,
    /// See [`Cause::Fast`].
    pub fast: u32,
    /// See [`Cause::Probe`].
    pub probe: u32,
    /// See [`Cause::SlowStart`].
    pub slow_start: u32,
}

impl Causes {
    /// Each with its figure, in the order in which they are shown.
    #[must_use]
    pub const fn all(self) -> [(Cause, u32); 4] {
        [
            (Cause::Timeout, self.timeout),
            (Cause::Fast, self.fast),
            (Cause::Probe, self.probe),
            (Cause::SlowStart, self.slow_start),
        ]
    }

    /// Counts some.
    pub(super) fn add(&mut self, cause: Cause, segments: u32) {
        let count = match cause {
            Cause::Timeout => &mut self.timeout,
            Cause::Fast => &mut self.fast,
            Cause::Probe => &mut self.probe,
            Cause::SlowStart => &mut self.slow_start,
        };
        *count = count.saturating_add(segments);
    }
}
