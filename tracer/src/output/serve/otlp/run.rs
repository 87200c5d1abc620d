//! When what is pushed, and what is said about it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::output::serve::otlp::backoff::Backoff;
use crate::output::serve::otlp::client::{Client, Failure, Outcome};
use crate::output::serve::otlp::points;
use crate::output::serve::otlp::queue::Queue;
use crate::output::serve::otlp::records;
use crate::output::serve::otlp::resource::Machine;
use crate::output::serve::otlp::starts::Starts;
use crate::output::serve::otlp::status::{Lost, Reason, Signal, Status};
use crate::output::serve::shared::Shared;
use crate::time::MonoNs;

/// Findings of one look come together.
const GATHER: Duration = Duration::from_millis(100);
/// Most records in a request: as many as OpenTelemetry's own batch processors send.
const BATCH: usize = 512;
/// Until there are figures.
const UNTIL_READY: Duration = Duration::from_millis(200);
/// For what is left when the run ends.
pub(super) const LAST: Duration = Duration::from_secs(1);
/// Characters of what the collector says.
const MOST_WORDS: usize = 200;
/// About each signal something is said on stderr once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// What pushing takes.
#[derive(Debug)]
pub(super) struct Pushing {
    pub(super) client: Client,
    pub(super) machine: Machine,
    /// For people.
    pub(super) collector: String,
    pub(super) interval: Duration,
    pub(super) queue: Arc<Queue>,
    pub(super) shared: Arc<Shared>,
    pub(super) status: Arc<Status>,
}

/// What became of a push.
enum Pushed {
    /// It need not be sent again: it was taken, or never will be.
    Over,
    /// It is to be tried again, not before that time where the collector asks for it.
    Later(Option<Duration>),
}

impl Pushing {
    /// Pushes until the run is over, and then once more.
    pub(super) async fn run(&self, mut stopped: watch::Receiver<bool>) {
        let mut starts = Starts::new(self.shared.origin.start());
        let mut voice = [Voice::default(), Voice::default()];
        let [of_metrics, of_logs] = &mut voice;
        tokio::select! {
            () = self.metrics(&mut starts, of_metrics) => {}
            () = self.logs(of_logs) => {}
            // The sender is dropped only after it has sent.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        let [of_metrics, of_logs] = &mut voice;
        let all = async {
            // Each try takes a request's records out of the queue, or is the last.
            while self.queue.len() != 0 && matches!(self.push_logs(of_logs).await, Pushed::Over) {}
            self.push_metrics(&mut starts, &mut None, of_metrics).await;
        };
        let _ = timeout(LAST, all).await;
        let left = self.queue.len();
        if left != 0 {
            let records = if left == 1 { "record" } else { "records" };
            eprintln!(
                "tcptrail: {left} {records} about findings did not reach the collector at {}",
                self.collector
            );
        }
    }

    /// Metrics, each interval.
    async fn metrics(&self, starts: &mut Starts, voice: &mut Voice) {
        let mut backoff = Backoff::new();
        let mut told = None;
        while self.shared.latest().is_none() {
            sleep(UNTIL_READY).await;
        }
        let mut next = Instant::now();
        loop {
            sleep_until(next).await;
            next = Instant::now() + self.interval;
            while let Pushed::Later(asked) = self.push_metrics(starts, &mut told, voice).await {
                let again = Instant::now() + backoff.pause(asked);
                sleep_until(again).await;
                next = next.max(again);
            }
            backoff.reset();
        }
    }

    /// `told` is when the figures are of that were taken last.
    async fn push_metrics(
        &self,
        starts: &mut Starts,
        told: &mut Option<MonoNs>,
        voice: &mut Voice,
    ) -> Pushed {
        let Some(snapshot) = self.shared.latest() else { return Pushed::Over };
        // Where the run stands still there is nothing new, and whoever waits for it sees that.
        if *told == Some(snapshot.at) {
            return Pushed::Over;
        }
        let request = points::request(&self.machine, &self.shared, &snapshot, starts);
        let outcome = self.client.post("/v1/metrics", &request.encode_to_vec()).await;
        if let Outcome::Taken(answer) = &outcome {
            let answer = ExportMetricsServiceResponse::decode(answer.clone());
            let partial = answer.map(|answer| answer.partial_success);
            let rejected = partial.map(|partial| {
                partial.map_or((0, String::new()), |it| (it.rejected_data_points, it.error_message))
            });
            self.taken(Signal::Metrics, rejected.ok(), voice);
        }
        let pushed = self.pushed(Signal::Metrics, outcome, voice);
        if matches!(pushed, Pushed::Over) {
            *told = Some(snapshot.at);
        }
        pushed
    }

    /// Findings, as they come.
    async fn logs(&self, voice: &mut Voice) {
        let mut backoff = Backoff::new();
        loop {
            self.queue.filled().await;
            sleep(GATHER).await;
            match self.push_logs(voice).await {
                Pushed::Over => backoff.reset(),
                Pushed::Later(asked) => sleep(backoff.pause(asked)).await,
            }
        }
    }

    async fn push_logs(&self, voice: &mut Voice) -> Pushed {
        let events = self.queue.take(BATCH);
        let request = records::request(&self.machine, self.shared.origin.anchor(), &events);
        let outcome = self.client.post("/v1/logs", &request.encode_to_vec()).await;
        match &outcome {
            Outcome::Taken(answer) => {
                let answer = ExportLogsServiceResponse::decode(answer.clone());
                let partial = answer.map(|answer| answer.partial_success);
                let rejected = partial.map(|partial| {
                    partial.map_or((0, String::new()), |it| {
                        (it.rejected_log_records, it.error_message)
                    })
                });
                let count = rejected.as_ref().map_or(0, |(count, _)| *count);
                self.status.lost(Lost::Rejected, u64::try_from(count).unwrap_or(0));
                if rejected.is_err() {
                    self.status.lost(Lost::Refused, events.len() as u64);
                }
                self.taken(Signal::Logs, rejected.ok(), voice);
            }
            Outcome::Refused(_) => self.status.lost(Lost::Refused, events.len() as u64),
            Outcome::Later(..) => {}
        }
        let pushed = self.pushed(Signal::Logs, outcome, voice);
        match pushed {
            Pushed::Over => self.queue.done(),
            Pushed::Later(_) => self.queue.again(),
        }
        pushed
    }

    /// `rejected`: how much of it the collector did not take, and why; `None` when its answer is none of OTLP.
    fn taken(&self, signal: Signal, rejected: Option<(i64, String)>, voice: &mut Voice) {
        let failure = match rejected {
            Some((0, _)) => {
                self.status.delivered(signal);
                if voice.works() {
                    eprintln!(
                        "tcptrail: the collector at {} takes {} again",
                        self.collector,
                        what(signal)
                    );
                }
                return;
            }
            Some((count, why)) => {
                self.status.delivered(signal);
                let why: String = why.chars().take(MOST_WORDS).collect();
                let words = format!("it does not take {count} of them: {why:?}");
                Failure { reason: Reason::Rejected, words }
            }
            None => {
                let words = "it answers 200, but not as a collector does".to_owned();
                Failure { reason: Reason::Answer, words }
            }
        };
        self.failed(signal, &failure, "", voice);
    }

    fn pushed(&self, signal: Signal, outcome: Outcome, voice: &mut Voice) -> Pushed {
        match outcome {
            Outcome::Taken(_) => Pushed::Over,
            Outcome::Later(failure, asked) => {
                self.failed(signal, &failure, "; tcptrail tries again", voice);
                Pushed::Later(asked)
            }
            Outcome::Refused(failure) => {
                self.failed(signal, &failure, "", voice);
                Pushed::Over
            }
        }
    }

    fn failed(&self, signal: Signal, failure: &Failure, more: &str, voice: &mut Voice) {
        self.status.failed(signal, failure.reason);
        if voice.fails() {
            let (what, collector, words) = (what(signal), &self.collector, &failure.words);
            eprintln!(
                "tcptrail: {what} do not reach the collector at {collector}: {words}{more}. tcptrail_otlp_failures_total counts this"
            );
        }
    }
}

fn what(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "metrics",
        Signal::Logs => "records about findings",
    }
}

/// Says that pushing fails, and that it works again, and not too often.
#[derive(Debug, Default)]
struct Voice {
    /// It was said that it fails.
    failing: bool,
    said: Option<Instant>,
}

impl Voice {
    /// Whether to say that it fails.
    fn fails(&mut self) -> bool {
        let quiet = self.said.is_some_and(|said| said.elapsed() < QUIET);
        if self.failing || quiet {
            return false;
        }
        self.failing = true;
        self.said = Some(Instant::now());
        true
    }

    /// Whether to say that it works again.
    fn works(&mut self) -> bool {
        std::mem::take(&mut self.failing)
    }
}
