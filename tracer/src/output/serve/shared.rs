//! What the thread that answers requests reads, and the thread that traces writes.
//!
//! The one that traces never waits for the other: it puts a new snapshot in the place of the last, about once a second,
//! and whoever writes an answer has taken the one it writes out of there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Extra;
use crate::input::Origin;
use crate::output::recorder::Status;
use crate::output::serve::otlp::status::Status as OtlpStatus;
use crate::output::serve::snapshot::Snapshot;
use crate::time::MonoNs;

/// Why a request or connection was refused, as in the metric's label.
pub(super) const REFUSALS: [&str; 3] = ["method", "connections", "time"];

/// Which of [`REFUSALS`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    Method,
    Connections,
    Time,
}

/// Ticks come every second: after this the run does not go on.
const ALIVE_NS: u64 = 10_000_000_000;

/// Between both threads.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) origin: Origin,
    /// Labels that findings have beside workload and rule.
    pub(super) labels: Vec<Extra>,
    /// Of the flight recorder, where there is one.
    pub(super) recorder: Option<Arc<Status>>,
    /// Of what is pushed by OTLP, where that is asked for.
    pub(super) otlp: Option<Arc<OtlpStatus>>,
    latest: Mutex<Option<Arc<Snapshot>>>,
    ticked: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
}

impl Shared {
    pub(super) fn new(origin: Origin, labels: Vec<Extra>) -> Shared {
        Shared {
            origin,
            labels,
            recorder: None,
            otlp: None,
            latest: Mutex::new(None),
            ticked: AtomicU64::new(MonoNs::now().0),
            refused: Default::default(),
        }
    }

    pub(super) fn with_recorder(self, recorder: Option<Arc<Status>>) -> Shared {
        Shared { recorder, ..self }
    }

    pub(super) fn with_otlp(self, otlp: Option<Arc<OtlpStatus>>) -> Shared {
        Shared { otlp, ..self }
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Some(Arc::new(snapshot));
        // The old one is dropped after the lock.
        let _old = std::mem::replace(&mut *self.lock(), snapshot);
    }

    pub(super) fn latest(&self) -> Option<Arc<Snapshot>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Snapshot>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tick(&self, now: MonoNs) {
        self.ticked.store(now.0, Ordering::Release);
    }

    /// How long the run has stood still, nanoseconds, where that is too long.
    pub(super) fn stands_still(&self, now: MonoNs) -> Option<u64> {
        let still = now.since(MonoNs(self.ticked.load(Ordering::Acquire)));
        (still > ALIVE_NS).then_some(still)
    }

    pub(super) fn refuse(&self, why: Refusal) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// By [`REFUSALS`].
    pub(super) fn refused(&self) -> [u64; REFUSALS.len()] {
        std::array::from_fn(|index| self.refused[index].load(Ordering::Relaxed))
    }
}
