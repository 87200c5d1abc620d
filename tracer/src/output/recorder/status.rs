//! What the recorder tells of itself, for metrics: written by the thread that records, read by the one that answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Figures about the flight recorder.
#[derive(Debug, Default)]
pub struct Status {
    bytes: AtomicU64,
    segments: AtomicU64,
    gaps: AtomicU64,
    paused: AtomicBool,
}

impl Status {
    pub(super) fn set_size(&self, segments: u64, bytes: u64) {
        self.segments.store(segments, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
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
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}
