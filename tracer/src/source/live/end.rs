//! The end of a live run: a last look, what is still in the ring, the summary.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until, timeout};

use crate::output::writer::Ended;
use crate::source::live::Live;
use crate::source::live::origin::{exit_code, summary};
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
        self.session.draw_last(now, false);
        self.session.end(now);
        self.tell_failures();
        self.output.push(self.session.out());
        self.tell_lost_stacks();
        let totals = self.session.totals();
        let patience = if stalled { Duration::ZERO } else { PATIENCE };
        let ended = self.output.finish(patience);
        let mut code = u8::from(self.output_failed);
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
        let took = now.since(self.start);
        let own = self.session.summary(&totals, took);
        eprintln!("{}", own.unwrap_or_else(|| summary(&totals, took)));
        if code == 0 {
            code = exit_code(&self.session);
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
        if self.settled && self.walking == 0 && self.session.engine.table().wants_poll() {
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
