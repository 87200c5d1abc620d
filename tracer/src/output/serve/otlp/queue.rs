//! Findings that wait to be sent. The thread that traces puts them in and never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::engine::rules::{self, Finding};
use crate::names::Kept;
use crate::output::serve::otlp::status::{Lost, Status};
use crate::time::MonoNs;

/// Most findings that wait: as many as in OpenTelemetry's own batch processors.
pub(super) const MOST: usize = 2048;

/// A finding that appeared, changed or ended.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Event {
    pub(super) at: MonoNs,
    pub(super) update: rules::Update,
    /// Without its single sockets.
    pub(super) finding: Finding,
    /// Where it runs.
    pub(super) place: Kept,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    /// So many of the first are on their way: they stay until it is known what became of them.
    sending: usize,
}

/// What waits.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    woken: Notify,
    most: usize,
    status: Arc<Status>,
}

impl Queue {
    pub(super) fn new(most: usize, status: Arc<Status>) -> Queue {
        Queue { waiting: Mutex::default(), woken: Notify::new(), most, status }
    }

    /// Appends one. When there is no room, the oldest goes that is not on its way: the newest say what is the case.
    pub(super) fn push(&self, event: Event) {
        let event = Arc::new(event);
        let mut waiting = self.lock();
        if waiting.events.len() >= self.most.max(waiting.sending + 1) {
            let oldest = waiting.sending;
            waiting.events.remove(oldest);
            self.status.lost(Lost::QueueFull, 1);
        }
        waiting.events.push_back(event);
        self.status.set_queued(waiting.events.len());
        drop(waiting);
        self.woken.notify_one();
    }

    /// The first of them, at most so many, which are on their way from now on. What was on its way before waits again.
    pub(super) fn take(&self, most: usize) -> Vec<Arc<Event>> {
        let mut waiting = self.lock();
        waiting.sending = most.min(waiting.events.len());
        waiting.events.iter().take(waiting.sending).cloned().collect()
    }

    /// What was taken last is not to be sent again.
    pub(super) fn done(&self) {
        let mut waiting = self.lock();
        let sent = std::mem::take(&mut waiting.sending);
        waiting.events.drain(..sent);
        self.status.set_queued(waiting.events.len());
    }

    /// What was taken last is to be sent again.
    pub(super) fn again(&self) {
        self.lock().sending = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Returns when there is something.
    pub(super) async fn filled(&self) {
        while self.len() == 0 {
            self.woken.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::serve::tests::finding;

    fn push(queue: &Queue, numbers: std::ops::Range<u64>) {
        for number in numbers {
            queue.push(Event {
                at: MonoNs(number),
                update: rules::Update::Appear,
                finding: finding("x"),
                place: Kept::default(),
            });
        }
    }

    fn numbers(taken: &[Arc<Event>]) -> Vec<u64> {
        taken.iter().map(|event| event.at.0).collect()
    }

    fn dropped(status: &Status) -> String {
        format!("{status:?}")
    }

    #[test]
    fn the_oldest_go_but_not_what_is_on_its_way() {
        let status = Arc::new(Status::default());
        let queue = Queue::new(4, Arc::clone(&status));
        push(&queue, 0..3);
        assert_eq!(numbers(&queue.take(2)), [0, 1]);
        // 2 and 3 make room.
        push(&queue, 3..6);
        assert_eq!(queue.len(), 4);
        assert!(dropped(&status).contains("dropped: [2, 0, 0], queued: 4"), "{status:?}");
        queue.done();
        assert_eq!(numbers(&queue.take(9)), [4, 5]);
        // They could not be sent, and come again.
        queue.again();
        push(&queue, 6..9);
        assert_eq!(numbers(&queue.take(9)), [5, 6, 7, 8]);
        // All are on their way: there is no room for another one until that is over.
        push(&queue, 9..11);
        assert_eq!(queue.len(), 5);
        queue.done();
        assert_eq!(numbers(&queue.take(9)), [10]);
        assert!(dropped(&status).contains("dropped: [4, 0, 0], queued: 1"), "{status:?}");
    }
}
