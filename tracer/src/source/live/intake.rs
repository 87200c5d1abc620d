//! Records of the ring and rows of walks, into the session in the order of their times.

use crate::engine::conn::Poll;
use crate::input::Input;
use crate::kernel::ring::Ring;
use crate::output::session::Session;
use crate::output::writer::Stdout;
use crate::time::MonoNs;

/// Records taken in a row before signals and the clock have a turn.
const BATCH: usize = 8192;
/// Rows taken in a row: some milliseconds.
const PIECE: usize = 4096;
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
    /// A record that waits for rows that are older; empty when there is none.
    held: Vec<u8>,
    /// Records taken out of the ring.
    pub(super) taken: u64,
    /// Records wait because stdout has no room.
    pub(super) blocked: bool,
}

impl Intake {
    pub(super) fn new(ring: Ring) -> Intake {
        Intake { ring, rows: None, held: Vec::new(), taken: 0, blocked: false }
    }

    /// Whether rows wait to be taken in.
    pub(super) fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// A walk has ended: its rows.
    pub(super) fn add_rows(&mut self, bytes: Vec<u8>, poll: Poll) {
        self.rows = Some(Rows { bytes, next: 0, poll });
    }

    /// Takes records out of the ring, and before each the rows that are older: all of them `at_once`, else a piece in
    /// each turn, so that signals and keys do not wait for the rest. Returns whether there may be more.
    pub(super) fn take(
        &mut self,
        session: &mut Session,
        stdout: &mut Stdout,
        at_once: bool,
    ) -> bool {
        let mut room = if at_once { usize::MAX } else { PIECE };
        let mut taken = 0;
        self.blocked = false;
        while taken < BATCH {
            if !stdout.has_room() {
                self.blocked = true;
                return false;
            }
            let Intake { ring, rows, held, .. } = self;
            if held.is_empty() {
                let got = ring.next(|record| {
                    room = feed_rows(session, rows, time_of(record), room);
                    if room == 0 {
                        held.extend_from_slice(record);
                    } else {
                        session.feed(&Input::Record(record));
                    }
                });
                if !got {
                    break;
                }
            } else {
                room = feed_rows(session, rows, time_of(held), room);
                if room != 0 {
                    session.feed(&Input::Record(held));
                    held.clear();
                }
            }
            if room == 0 {
                return true;
            }
            taken += 1;
            self.taken += 1;
            if session.waiting() >= MUCH {
                stdout.push(session.out());
            }
        }
        taken == BATCH || self.end_rows(session, room)
    }

    /// The ring is empty: whatever rows are left are younger than every event that came. Returns whether some are
    /// still left.
    fn end_rows(&mut self, session: &mut Session, room: usize) -> bool {
        if feed_rows(session, &mut self.rows, u64::MAX, room) == 0 {
            return true;
        }
        if let Some(rows) = self.rows.take() {
            session.feed(&Input::PollEnd { poll: rows.poll, now: MonoNs::now() });
        }
        false
    }
}

/// Feeds rows that are not younger than `until`, as far as there is `room`. Returns how many more there is room for:
/// none means that there may be more rows.
fn feed_rows(session: &mut Session, rows: &mut Option<Rows>, until: u64, mut room: usize) -> usize {
    let Some(rows) = rows else { return room };
    while room > 0
        && let Some(row) = rows.bytes.get(rows.next..rows.next + ROW)
        && time_of(row) <= until
    {
        rows.next += ROW;
        room -= 1;
        session.feed(&Input::Record(row));
    }
    room
}

/// `mono_ns` stands first in records and rows.
fn time_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}
