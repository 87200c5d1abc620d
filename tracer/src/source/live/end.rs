//! The end of a live run: a last look, what is still in the ring, the summary.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Show;
use crate::output::writer::Ended;
use crate::source::live::origin::summary;
use crate::source::live::{Live, stuck_code};
use crate::time::MonoNs;

/// How long a reader of our output may stand still at the end before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

impl Live<'_> {
    pub(super) async fn finish(mut self) -> Result<u8> {
        if !self.output.has_ended() {
            self.last_look().await;
        }
        self.settled = true;
        let stalled = !self.take_the_rest().await;
        self.read_losses(true);
        self.end_stacks();
        let now = MonoNs::now();
        if self.config.show == (Show::Stuck { once: true }) {
            self.session.stuck_now(now);
        }
        if let Err(error) = self.session.end(now) {
            self.recording_broke(error);
        }
        if self.draws() {
            // Below the last frame.
            self.session.out.push(b'\n');
        }
        self.output.push(&mut self.session.out);
        let totals = self.session.totals();
        let patience = if stalled { Duration::ZERO } else { PATIENCE };
        let ended = self.output.finish(patience);
        let mut code = u8::from(self.recording_failed.is_some());
        match ended {
            Ended::Closed => return Ok(code),
            Ended::Done if !stalled => {}
            Ended::Done | Ended::Stalled => {
                eprintln!(
                    "tcptrail: the reader of the output does not read: what came last was not written"
                );
                code = 1;
            }
            Ended::Failed(error) => {
                eprintln!("tcptrail: cannot write the output: {error}");
                code = 1;
            }
        }
        if let Show::List { .. } = self.config.show {
            let lost = totals.all_lost();
            let took = crate::time::Human(now.since(self.start));
            eprintln!("tcptrail: {} sockets, {lost} lost in {took}", self.listed);
        } else {
            eprintln!("{}", summary(&totals, now.since(self.start)));
        }
        if code == 0 {
            code = stuck_code(self.config, &self.session);
        }
        Ok(code)
    }

    /// Everything that is in the ring now and has been received; false when the writer stands still.
    pub(super) async fn take_the_rest(&mut self) -> bool {
        while self.take_records() || self.blocked {
            if self.output.has_ended() {
                return true;
            }
            if self.blocked && timeout(PATIENCE, self.output.progress()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Mini-sockets whose FIN came since the last walk are finished connections: one more look, if
    /// it is quick.
    pub(super) async fn last_look(&mut self) {
        let patience = Instant::now() + Duration::from_millis(120);
        if self.settled && self.walking == 0 && self.session.table.wants_poll() {
            self.walk_minis();
        }
        while self.walking > 0 {
            tokio::select! {
                Some(answer) = self.poller.answer() => self.answered(answer),
                () = sleep_until(patience) => return,
            }
        }
    }
}
