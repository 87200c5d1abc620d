//! What the recorder tells of itself, for metrics: written by the thread that records, read by the one that answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::MonoNs;

/// Figures about the flight recorder.
#[derive(Debug, Default)]
pub struct Status {
    bytes: AtomicU64,
    segments: AtomicU64,
    gaps: AtomicU64,
    paused: Mutex<Option<Pause>>,
}

/// Nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since then.
    pub since: MonoNs,
    /// Where it cannot write, and why.
    pub why: String,
}

impl Status {
    pub(super) fn set_size(&self, segments: u64, bytes: u64) {
        self.segments.store(segments, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_pause(&self, pause: Option<Pause>) {
        *self.lock() = pause;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pause>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of all segments on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Segments on disk, the one that is being written too.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Times that a write failed, so that something is missing.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Nothing is recorded now.
    #[must_use]
    pub fn pause(&self) -> Option<Pause> {
        self.lock().clone()
    }
}
