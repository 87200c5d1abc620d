//! Records of the ring and rows of walks, into the session in the order of their times.

use crate::engine::conn::Poll;
use crate::input::Input;
use crate::kernel::ring::Ring;
use crate::output::session::Session;
use crate::output::writer::Stdout;
use crate::time::MonoNs;

/// Records taken in a row before signals and the clock have a turn.
const BATCH: usize = 8192;
/// Lines that wait for stdout are handed over when they are this long.
const MUCH: usize = 64 << 10;

/// Rows of a walk that are still to be taken in, each before the events that are younger.
struct Rows {
    bytes: Vec<u8>,
    next: usize,
    poll: Poll,
}

const ROW: usize = size_of::<tracer_common::wire::SocketRow>();

/// The ring, and the rows that go in between.
pub(super) struct Intake {
    pub(super) ring: Ring,
    rows: Option<Rows>,
    /// Records taken out of the ring.
    pub(super) taken: u64,
    /// Records wait because stdout has no room.
    pub(super) blocked: bool,
}

impl Intake {
    pub(super) fn new(ring: Ring) -> Intake {
        Intake { ring, rows: None, taken: 0, blocked: false }
    }

    /// Whether rows wait to be taken in.
    pub(super) fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// A walk has ended: its rows.
    pub(super) fn add_rows(&mut self, bytes: Vec<u8>, poll: Poll) {
        self.rows = Some(Rows { bytes, next: 0, poll });
    }

    /// Takes records out of the ring, and before each the rows that are older. Returns whether there
    /// may be more.
    pub(super) fn take(&mut self, session: &mut Session, stdout: &mut Stdout) -> bool {
        let mut taken = 0;
        self.blocked = false;
        while taken < BATCH {
            if !stdout.has_room() {
                self.blocked = true;
                return false;
            }
            let rows = &mut self.rows;
            let got = self.ring.next(|record| {
                feed_rows(session, rows, time_of(record));
                session.feed(&Input::Record(record));
            });
            if !got {
                break;
            }
            taken += 1;
            self.taken += 1;
            if session.waiting() >= MUCH {
                stdout.push(session.out());
            }
        }
        if taken < BATCH {
            self.end_rows(session);
        }
        taken == BATCH
    }

    /// The ring is empty: whatever rows are left are younger than every event.
    fn end_rows(&mut self, session: &mut Session) {
        feed_rows(session, &mut self.rows, u64::MAX);
        if let Some(rows) = self.rows.take() {
            session.feed(&Input::PollEnd { poll: rows.poll, now: MonoNs::now() });
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
