//! Pushes by OTLP: metrics from time to time, and findings as log records as they come.
//!
//! A thread of its own does it, which has no capabilities. The thread that traces puts findings into a `queue` and never
//! waits; figures are those of the last snapshot (`points`). A collector that is dead, slow or none takes time of this
//! thread only. Metrics are sums so far, so a push that failed is not repeated: the next one says it all. Records
//! of findings wait in the queue until they are taken.

mod backoff;
mod client;
mod naming;
mod points;
mod queue;
mod records;
mod resource;
mod run;
mod starts;
pub(super) mod status;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::config::OtlpOptions;
use crate::engine::Engine;
use crate::engine::rules::{Finding, Opened, Update};
use crate::names::Kept;
use crate::output::lines::place_of;
use crate::output::serve::otlp::client::{Client, LIMITS};
use crate::output::serve::otlp::queue::{Event, MOST, Queue};
use crate::output::serve::otlp::resource::Machine;
use crate::output::serve::otlp::run::{LAST, Pushing};
use crate::output::serve::otlp::status::Status;
use crate::output::serve::shared::Shared;
use crate::privileges;
use crate::time::MonoNs;

/// The thread.
#[derive(Debug)]
pub(super) struct Pusher {
    queue: Arc<Queue>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Pusher {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(
        options: &OtlpOptions,
        shared: Arc<Shared>,
        status: Arc<Status>,
    ) -> io::Result<Pusher> {
        let (stop, stopped) = watch::channel(false);
        let queue = Arc::new(Queue::new(MOST, Arc::clone(&status)));
        let pushing = Pushing {
            client: Client::new(options, LIMITS),
            machine: Machine::new(&shared.origin.version, &options.resource),
            collector: format!("http://{}", options.endpoint.authority()),
            interval: options.interval,
            queue: Arc::clone(&queue),
            shared,
            status,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("tcptrail-otlp".to_owned()).spawn(move || {
                privileges::keep_only(privileges::writer());
                runtime.block_on(pushing.run(stopped));
                // Looking up a name may hang.
                runtime.shutdown_timeout(LAST);
            })?;
        Ok(Pusher { queue, stop, thread: Some(thread) })
    }

    /// A finding appeared, changed or ended.
    pub(super) fn tell(&self, engine: &Engine, at: MonoNs, update: &Update, finding: &Finding) {
        let place = Kept::from(&place_of(engine, finding));
        // Single sockets are not told, and would be most of it.
        let finding = Finding { conns: Vec::new(), opened: Opened::default(), ..finding.clone() };
        self.queue.push(Event { at, update: update.clone(), finding, place });
    }

    /// Ends it; what is left is tried once more.
    pub(super) fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, that was said.
            let _ = thread.join();
        }
    }
}
