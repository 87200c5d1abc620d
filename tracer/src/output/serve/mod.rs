//! `serve`: a service that tells metrics and findings over HTTP.
//!
//! Events are counted as they come (`counts`, by `workloads`; `times`). When the rules have looked, what there is is
//! looked over (`look`), and a `snapshot` of all figures is put where the thread that answers requests finds it
//! (`shared`). That thread (`http`, `answer`) writes it as Prometheus reads it (`metrics`, `families`, `prometheus`), as
//! JSON, or as a `page`. So no event waits for a request, and what an answer costs is paid on that thread. Another
//! thread pushes the same figures, and findings (`otlp`).

mod answer;
mod counts;
mod families;
mod fingerprint;
mod histogram;
mod http;
mod listen;
mod look;
mod metrics;
mod namespaces;
mod notify;
mod offline;
mod otlp;
mod page;
mod prometheus;
mod recorder;
mod shared;
mod snapshot;
mod times;
mod workloads;

#[cfg(test)]
mod tests;

pub use offline::Offline;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use anyhow::Result;
use tracer_common::TcpState;

use crate::config::ServeOptions;
use crate::engine::conn::{Change, Connection, Kind, PollKind, Role};
use crate::engine::rules::{RuleId, recorder as of_recorder};
use crate::engine::{Engine, Update};
use crate::event::Direction;
use crate::filter::Filter;
use crate::input::ITER_TCP;
use crate::output::lines::Known;
use crate::output::recorder::Status;
use crate::output::serve::counts::Tally;
use crate::output::serve::http::{LIMITS, Server};
use crate::output::serve::listen::{Bound, bind};
use crate::output::serve::look::{Scene, look};
use crate::output::serve::namespaces::Namespaces;
use crate::output::serve::notify::Notifier;
use crate::output::serve::otlp::Pusher;
use crate::output::serve::shared::Shared;
use crate::output::serve::snapshot::{Snapshot, Times};
use crate::output::serve::workloads::Workloads;
use crate::output::{Needs, Output, RulesNeed, Run, StacksNeed};
use crate::time::MonoNs;

/// The output.
#[derive(Debug)]
pub struct Serve {
    options: ServeOptions,
    filter: Filter,
    /// Of the flight recorder, where there is one.
    recorder: Option<Arc<Status>>,
    workloads: Workloads,
    times: Times,
    events: Tally<&'static str>,
    drops: Tally<u16>,
    namespaces: Namespaces,
    /// Until the run begins.
    bound: Vec<Bound>,
    running: Option<(Server, Arc<Shared>)>,
    pusher: Option<Pusher>,
    notifier: Notifier,
    /// The sockets there were at the start are in the table.
    walked: bool,
    ready: bool,
}

impl Serve {
    /// Listens from now on; answers come when the run begins.
    ///
    /// # Errors
    /// When it cannot listen where it is to.
    pub fn new(
        options: ServeOptions,
        filter: Filter,
        recorder: Option<Arc<Status>>,
    ) -> Result<Serve> {
        let bound = options.listen.iter().map(bind).collect::<Result<Vec<_>>>()?;
        let host = std::fs::metadata("/proc/1/ns/net").ok().map(|meta| meta.ino());
        Ok(Serve {
            options,
            filter,
            recorder,
            workloads: Workloads::new(),
            times: Times::new(),
            events: Tally::default(),
            drops: Tally::default(),
            namespaces: Namespaces::new(host.and_then(|inode| u32::try_from(inode).ok())),
            bound,
            running: None,
            pusher: None,
            notifier: Notifier::of_environment(),
            walked: false,
            ready: false,
        })
    }

    fn change(&mut self, conn: &Connection, change: &Change) {
        if let Some(kind) = kind(change.kind) {
            self.events.add(kind, 1);
        }
        if conn.role == Role::Listener {
            return;
        }
        match change.kind {
            Kind::Transition { old, new: TcpState::Established, .. } => {
                if matches!(old, TcpState::SynSent | TcpState::SynRecv)
                    && let Some(counts) = self.workloads.counts(conn, change.at)
                {
                    counts.opened.add(conn.role, 1);
                }
            }
            Kind::Transition { .. } => {}
            // It was not sent after all.
            Kind::Retransmit { again, .. } if again.error != 0 => {}
            Kind::Retransmit { segment, again, .. } => {
                if let Some(counts) = self.workloads.counts(conn, change.at) {
                    counts.retransmits.add((segment, again.cause), 1);
                }
            }
            Kind::Reset { direction, reason, .. } => {
                if let Some(counts) = self.workloads.counts(conn, change.at) {
                    counts.resets.add((direction, reason), 1);
                }
            }
            Kind::Dropped { drop, .. } => self.drops.add(drop.reason, 1 + u64::from(drop.untold)),
            Kind::Finished => self.finished(conn, change.at),
            Kind::Gone => self.times.gone(conn),
        }
    }

    fn finished(&mut self, conn: &Connection, at: MonoNs) {
        self.times.finished(conn);
        let Some(counts) = self.workloads.counts(conn, at) else { return };
        match conn.failed {
            Some(why) => counts.failed.add((conn.role, why), 1),
            None => counts.closed.add((conn.role, conn.how), 1),
        }
        if let Some(counters) = conn.counters() {
            counts.bytes.add(Direction::Sent, counters.bytes_sent);
            counts.bytes.add(Direction::Received, counters.bytes_received);
        }
    }

    fn publish(&mut self, engine: &Engine, now: MonoNs) {
        let Some((_, shared)) = &self.running else { return };
        // Until the sockets that were there at the start are known, every figure would be too low. Where there are no
        // walks, nothing is to be waited for.
        if !self.walked && engine.origin().hooked(ITER_TCP) {
            return;
        }
        let scene = Scene { engine, filter: &self.filter, labels: &self.options.labels, now };
        let gauges = look(&scene, &mut self.workloads);
        let findings = engine.watch().map(|watch| watch.findings()).unwrap_or_default();
        // Of what it is about itself first: what else is told cannot be replayed.
        let patience = engine.watch().map_or(0, |watch| watch.thresholds().of(RuleId::Recorder));
        let pause = self.recorder.as_ref().and_then(|status| status.pause());
        let pause = pause.filter(|pause| now.since(pause.since) >= patience);
        let itself = pause.map(|pause| {
            let lasts = now.since(pause.since);
            (of_recorder::paused(lasts, &pause.why), pause.since, Known::default())
        });
        shared.publish(Snapshot {
            at: now,
            counts: self.workloads.counted(),
            gauges,
            times: self.times.clone(),
            events: self.events.clone(),
            drops: self.drops.clone(),
            lost: engine.lost(),
            namespaces: self.namespaces.counted(),
            findings: itself
                .into_iter()
                .chain(
                    findings
                        .into_iter()
                        .map(|(one, since)| (one.clone(), since, Known::of(engine, one))),
                )
                .collect(),
            folded: self.workloads.folded(),
        });
        if !std::mem::replace(&mut self.ready, true) {
            self.notifier.ready("watching");
        }
    }
}

/// Of what the kernel told.
fn kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Transition { .. } => Some("transition"),
        Kind::Retransmit { .. } => Some("retransmit"),
        Kind::Reset { .. } => Some("reset"),
        Kind::Dropped { .. } => Some("drop"),
        Kind::Finished | Kind::Gone => None,
    }
}

impl Output for Serve {
    fn needs(&self) -> Needs {
        Needs {
            changes: true,
            rules: RulesNeed::Looks,
            stacks: self.options.openers.then(StacksNeed::default),
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        let status = self.options.otlp.is_some().then(Arc::default);
        let shared = Shared::new(engine.origin().clone(), self.options.labels.clone())
            .with_recorder(self.recorder.clone())
            .with_otlp(status.clone());
        let shared = Arc::new(shared);
        let bound = std::mem::take(&mut self.bound);
        for one in bound.iter().filter(|bound| bound.is_open_to_others()) {
            eprintln!(
                "tcptrail: other machines can read {} without a password and without encryption: listen on 127.0.0.1 or unix:PATH, behind a reverse proxy",
                one.url()
            );
        }
        let places: Vec<String> = bound.iter().map(Bound::url).collect();
        if let Some((otlp, status)) = self.options.otlp.as_ref().zip(status) {
            self.pusher = Some(Pusher::start(otlp, Arc::clone(&shared), status)?);
            let interval = humantime::format_duration(otlp.interval);
            let collector = otlp.endpoint.authority();
            eprintln!(
                "tcptrail: pushing findings, and metrics every {interval}, to http://{collector}"
            );
        }
        self.running = Some((Server::start(bound, Arc::clone(&shared), LIMITS)?, shared));
        eprintln!("tcptrail: serving on {}; Ctrl-C or SIGTERM ends it", places.join(", "));
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        match update {
            Update::Change { conn, change } => self.change(conn, change),
            Update::Looked(now) => self.publish(engine, *now),
            Update::Walked { poll, .. } => self.walked |= poll.kind == PollKind::All,
            Update::Unclaimed(group) => self.drops.add(group.drop.reason, group.count),
            Update::Facts => {
                if let Some(watch) = engine.watch() {
                    self.namespaces.take_in(watch.surroundings());
                }
            }
            Update::Tick(now) => {
                if let Some((_, shared)) = &self.running {
                    shared.tick(*now);
                }
                self.notifier.alive(*now);
            }
            Update::Finding { at, update, finding } => {
                if let Some(pusher) = &self.pusher {
                    pusher.tell(engine, *at, update, finding);
                }
            }
            Update::Lost(_) | Update::Holders | Update::Names => {}
        }
    }

    fn end(&mut self, _run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        self.notifier.stopping();
        if let Some(mut pusher) = self.pusher.take() {
            pusher.end();
        }
        if let Some((mut server, _)) = self.running.take() {
            server.end();
        }
        Ok(())
    }
}
