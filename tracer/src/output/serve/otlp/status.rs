//! What became of what was pushed, counted for `/metrics`.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::output::serve::families::Families;

/// Which of the two kinds of data, as in the metric's label.
pub(crate) const SIGNALS: [&str; 2] = ["metrics", "logs"];
/// Why a request failed, as in the metric's label.
const REASONS: [&str; 5] = ["unreachable", "timeout", "status", "answer", "rejected"];
/// Why records of findings were dropped, as in the metric's label.
const LOSSES: [&str; 3] = ["queue_full", "refused", "rejected"];

/// Which of [`SIGNALS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    Metrics,
    Logs,
}

/// Which of [`REASONS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// There is no connection, or it broke.
    Unreachable,
    /// There was no answer in time.
    Timeout,
    /// The answer is a status other than 200.
    Status,
    /// The answer is none of OTLP.
    Answer,
    /// The collector took only a part.
    Rejected,
}

/// Which of [`LOSSES`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lost {
    QueueFull,
    Refused,
    Rejected,
}

/// Counters, written by the thread that pushes and the one that traces.
#[derive(Debug, Default)]
pub(crate) struct Status {
    exports: [AtomicU64; SIGNALS.len()],
    failures: [[AtomicU64; REASONS.len()]; SIGNALS.len()],
    dropped: [AtomicU64; LOSSES.len()],
    queued: AtomicU64,
}

impl Status {
    pub(super) fn delivered(&self, signal: Signal) {
        add(self.exports.get(signal as usize), 1);
    }

    pub(super) fn failed(&self, signal: Signal, reason: Reason) {
        let reasons = self.failures.get(signal as usize);
        add(reasons.and_then(|reasons| reasons.get(reason as usize)), 1);
    }

    pub(super) fn lost(&self, why: Lost, records: u64) {
        add(self.dropped.get(why as usize), records);
    }

    pub(super) fn set_queued(&self, records: usize) {
        self.queued.store(records as u64, Ordering::Relaxed);
    }

    /// Writes them.
    pub(crate) fn write(&self, families: &mut Families<'_>) -> Result<(), Error> {
        families.counters(
            "tcptrail_otlp_exports",
            "Requests that the OTLP collector took",
            SIGNALS.iter().zip(&self.exports).map(|(signal, n)| (vec![("signal", *signal)], of(n))),
        )?;
        let failures = SIGNALS.iter().zip(&self.failures).flat_map(|(signal, by_reason)| {
            REASONS.iter().zip(by_reason).map(move |(reason, count)| {
                (vec![("signal", *signal), ("reason", *reason)], of(count))
            })
        });
        families.counters(
            "tcptrail_otlp_failures",
            "Requests that failed, each try of its own; rejected: the collector took only a part",
            failures,
        )?;
        families.counters(
            "tcptrail_otlp_dropped_records",
            "Records about findings that the OTLP collector does not get",
            LOSSES.iter().zip(&self.dropped).map(|(why, n)| (vec![("reason", *why)], of(n))),
        )?;
        families.gauges(
            "tcptrail_otlp_queue_records",
            "Records about findings that wait for the OTLP collector",
            [(vec![], of(&self.queued))],
        )
    }
}

fn add(counter: Option<&AtomicU64>, count: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

fn of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
