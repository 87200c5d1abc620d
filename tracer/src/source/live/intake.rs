//! Records of the ring and rows of walks, into the session in the order of their times.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::conn::Poll;
use crate::input::Input;
use crate::output::session::Session;
use crate::source::live::Live;
use crate::time::MonoNs;

/// Records taken in a row before signals and the clock have a turn.
const BATCH: usize = 8192;
/// Lines go out this often at most, unless there are many. Half a tick, so that each tick may.
const PUSH_EVERY: Duration = Duration::from_millis(25);

/// Rows of a walk that are still to be taken in, each before the events that are younger.
pub(super) struct Rows {
    pub(super) bytes: Vec<u8>,
    pub(super) next: usize,
    pub(super) poll: Poll,
}

const ROW: usize = size_of::<tracer_common::wire::SocketRow>();

impl Live<'_> {
    pub(super) fn feed(&mut self, input: &Input<'_>) {
        self.session.feed(input);
    }

    /// Takes records out of the ring, and before each the rows that are older. Returns whether there
    /// may be more.
    pub(super) fn take_records(&mut self) -> bool {
        // What was there before comes first: until it is in the table, events wait in the ring.
        if !self.settled && self.walking > 0 && self.rows.is_none() {
            return false;
        }
        let mut taken = 0;
        self.blocked = false;
        while taken < BATCH {
            if !self.output.has_room() {
                self.blocked = true;
                return false;
            }
            let (session, rows) = (&mut self.session, &mut self.rows);
            let got = self.ring.next(|record| {
                let at = time_of(record);
                feed_rows(session, rows, at);
                session.feed(&Input::Record(record));
            });
            if !got {
                break;
            }
            taken += 1;
            self.taken += 1;
            if self.session.waiting() >= 64 << 10 {
                self.output.push(self.session.out());
            }
        }
        if taken < BATCH {
            self.end_rows();
        }
        // A busy ring wakes us hundreds of times a second; nobody reads that fast.
        let now = Instant::now();
        if now >= self.next_push {
            self.next_push = now + PUSH_EVERY;
            self.output.push(self.session.out());
        }
        taken == BATCH
    }

    /// The ring is empty: whatever rows are left are younger than every event.
    pub(super) fn end_rows(&mut self) {
        if self.rows.is_none() {
            return;
        }
        feed_rows(&mut self.session, &mut self.rows, u64::MAX);
        if let Some(rows) = self.rows.take() {
            self.feed(&Input::PollEnd { poll: rows.poll, now: MonoNs::now() });
        }
    }
}

fn feed_rows(session: &mut Session, rows: &mut Option<Rows>, until: u64) {
    let Some(rows) = rows else { return };
    while let Some(row) = rows.bytes.get(rows.next..rows.next + ROW) {
        if time_of(row) > until {
            break;
        }
        rows.next += ROW;
        session.feed(&Input::Record(row));
    }
}

/// `mono_ns` stands first in records and rows.
fn time_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}
