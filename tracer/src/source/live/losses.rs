//! Events that did not reach the ring, by the kernel's counters.

use std::io;

use crate::event::{Loss, LossCause};
use crate::kernel::loader::Programs;
use crate::time::MonoNs;

/// The counters as they were read last.
#[derive(Debug)]
pub(super) struct Losses {
    dropped: u64,
    missed: u64,
    read: MonoNs,
    /// That they cannot be read has been said.
    uncounted: bool,
}

impl Losses {
    pub(super) fn from(start: MonoNs) -> Losses {
        Losses { dropped: 0, missed: 0, read: start, uncounted: false }
    }

    /// What was lost since the last time; of programs that the kernel skipped only with `recursion`.
    pub(super) fn read(
        &mut self,
        programs: &mut Programs,
        recursion: bool,
        now: MonoNs,
    ) -> [Option<Loss>; 2] {
        let from = std::mem::replace(&mut self.read, now);
        let loss = |count: u64, cause| (count != 0).then_some(Loss { count, cause, from, to: now });
        let dropped = programs
            .dropped()
            .unwrap_or_else(|error| self.cannot_count(&error, |this| this.dropped));
        let count = dropped - std::mem::replace(&mut self.dropped, dropped).min(dropped);
        let ring = loss(count, LossCause::Ring);
        if !recursion {
            return [ring, None];
        }
        let missed = programs
            .recursion_losses()
            .unwrap_or_else(|error| self.cannot_count(&error, |this| this.missed));
        let missed = missed.max(self.missed);
        let count = missed - std::mem::replace(&mut self.missed, missed);
        [ring, loss(count, LossCause::Recursion)]
    }

    /// Said once: a loss that nobody counts must not pass for none.
    fn cannot_count(&mut self, error: &io::Error, known: impl Fn(&Losses) -> u64) -> u64 {
        if !std::mem::replace(&mut self.uncounted, true) {
            eprintln!(
                "tcptrail: this kernel does not let tcptrail count lost events, so some may be missing: {error}"
            );
        }
        known(self)
    }
}
