//! What many connections have in common is kept once: the tasks that own them.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::event::Actor;

/// Tasks that are nobody's any more are looked for when there are at least this many.
const MANY_TASKS: usize = 1024;
/// Each task once.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    known: HashTable<Arc<Actor>>,
    hasher: FixedState,
    /// When there are so many, those that are nobody's are let go.
    look_at: usize,
}

impl Tasks {
    /// The one that all its connections share.
    pub(crate) fn share(&mut self, task: Actor) -> Arc<Actor> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(task);
        if let Some(known) = self.known.find(hash, |known| **known == task) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.look_at.max(MANY_TASKS) {
            self.known.retain(|task| Arc::strong_count(task) > 1);
            self.look_at = 2 * self.known.len();
        }
        let task = Arc::new(task);
        self.known.insert_unique(hash, Arc::clone(&task), |other| hasher.hash_one(**other));
        task
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Comm;

    #[test]
    fn a_task_is_kept_once_and_for_as_long_as_it_owns_something() {
        let mut tasks = Tasks::default();
        let task = |pid| Actor {
            pid,
            tid: pid,
            comm: Comm::new(b"java"),
            thread: Comm::default(),
            exiting: false,
        };
        let kept = tasks.share(task(7));
        assert!(Arc::ptr_eq(&kept, &tasks.share(task(7))));
        for pid in 0..10 * u32::try_from(MANY_TASKS).unwrap_or(0) {
            tasks.share(task(100 + pid));
        }
        assert!(tasks.known.len() <= MANY_TASKS, "{}", tasks.known.len());
        assert!(Arc::ptr_eq(&kept, &tasks.share(task(7))));
    }
}
