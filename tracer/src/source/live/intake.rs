//! Records of the ring and rows of walks, into the session in the order of their times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::engine::conn::Poll;
use crate::input::Input;
use crate::kernel::ring::Ring;
use crate::output::session::Session;
use crate::output::writer::{MUCH, Stdout};
use crate::source::live::backlog::{Backlog, MOST, MOST_FOR_OUTPUT};
use crate::time::MonoNs;

/// Records taken in a row before signals and the clock have a turn.
const BATCH: usize = 8192;
/// When stdout has taken less than comes for so long, records no longer wait in the ring: of 4 MiB half is filled then at
/// full speed.
const SLOW_NS: u64 = 50_000_000;
/// Rows taken in a row: some milliseconds.
const PIECE: usize = 4096;
/// With fewer connections nothing takes longer than some milliseconds, but for a disk.
const MANY: usize = 16_384;
/// Fewer records in a second would fill no ring before a disk goes on that stands still for a moment.
const FAST: u64 = 1_000;
/// The ring is emptied this often while something else keeps us: at full speed 4 MiB take ten times as long to fill.
const OFTEN: Duration = Duration::from_millis(10);

/// Rows of a walk that are still to be taken in, each before the events that are younger.
struct Rows {
    bytes: Vec<u8>,
    next: usize,
    /// The walk; `None` for answers to questions.
    poll: Option<Poll>,
}

const ROW: usize = size_of::<tracer_common::wire::SocketRow>();

/// The ring, and the rows that go in between.
pub(super) struct Intake {
    pub(super) ring: Ring,
    rows: Option<Rows>,
    /// Records that wait for rows that are older, or for the output, so that the ring does not fill meanwhile.
    backlog: Backlog,
    /// Records taken out of the ring.
    pub(super) taken: u64,
    /// Records wait because stdout has no room.
    pub(super) blocked: bool,
    /// Since when, again and again, with less than [`BATCH`] taken in between.
    slow_since: Option<MonoNs>,
}

impl Intake {
    pub(super) fn new(ring: Ring) -> Intake {
        Intake {
            ring,
            rows: None,
            backlog: Backlog::default(),
            taken: 0,
            blocked: false,
            slow_since: None,
        }
    }

    /// Whether rows wait to be taken in.
    pub(super) fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// A walk has ended, or questions were answered: the rows.
    pub(super) fn add_rows(&mut self, bytes: Vec<u8>, poll: Option<Poll>) {
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
        let was_blocked = std::mem::take(&mut self.blocked);
        while taken < BATCH {
            if !stdout.has_room() {
                self.blocked = true;
                let now = MonoNs::now();
                let since = *self.slow_since.get_or_insert(now);
                let stands_still = was_blocked && taken == 0;
                if stands_still || now.since(since) >= SLOW_NS {
                    // The ring must not fill meanwhile.
                    self.keep(MOST_FOR_OUTPUT);
                }
                return false;
            }
            let Intake { ring, rows, backlog, .. } = self;
            let mut take = |record: &[u8]| {
                room = feed_rows(session, rows, time_of(record), room);
                if room != 0 {
                    session.feed(&Input::Record(record));
                }
                room != 0
            };
            let got = if let Some(record) = backlog.first() {
                if take(record) {
                    backlog.remove_first();
                }
                true
            } else {
                ring.reader().next(|record| {
                    if !take(record) {
                        backlog.add(record);
                    }
                })
            };
            if !got {
                break;
            }
            if room == 0 {
                backlog.add_all(ring.reader(), MOST);
                return true;
            }
            taken += 1;
            self.taken += 1;
            if session.waiting() >= MUCH {
                stdout.push(session.out());
            }
        }
        self.slow_since = None;
        taken == BATCH || self.end_rows(session, room)
    }

    /// The ring is empty: whatever rows are left are younger than every event that came. Returns whether some are
    /// still left, or records came meanwhile.
    fn end_rows(&mut self, session: &mut Session, room: usize) -> bool {
        if feed_rows(session, &mut self.rows, u64::MAX, room) == 0 {
            return true;
        }
        if let Some(poll) = self.rows.take().and_then(|rows| rows.poll) {
            let input = Input::PollEnd { poll, now: MonoNs::now() };
            self.meanwhile(session, |session| session.feed(&input));
        }
        self.has_backlog()
    }

    /// Whether records wait that are out of the ring already.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.first().is_some()
    }

    /// Takes records out of the ring that are to be fed later, as long as fewer than so many bytes of them wait.
    pub(super) fn keep(&mut self, most: usize) {
        self.backlog.add_all(self.ring.reader(), most);
    }

    /// Does what takes long where there are many connections. The load may have the other processors, and then it takes
    /// several times as long: a thread empties the ring meanwhile.
    pub(super) fn meanwhile(&mut self, session: &mut Session, work: impl FnOnce(&mut Session)) {
        if session.engine.table().len() < MANY { work(session) } else { self.aside(session, work) }
    }

    /// As [`Intake::meanwhile`], for what may also wait for a disk; so many records came in the last second.
    pub(super) fn while_writing(
        &mut self,
        session: &mut Session,
        came: u64,
        work: impl FnOnce(&mut Session),
    ) {
        if came < FAST { self.meanwhile(session, work) } else { self.aside(session, work) }
    }

    /// Does something while a thread empties the ring.
    fn aside(&mut self, session: &mut Session, work: impl FnOnce(&mut Session)) {
        let Intake { ring, backlog, .. } = self;
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let empty = || {
                while !ended.load(Ordering::Acquire) {
                    backlog.add_all(ring.reader(), MOST);
                    thread::park_timeout(OFTEN);
                }
            };
            let thread = thread::Builder::new().name("tcptrail-ring".to_owned());
            let thread = thread.spawn_scoped(scope, empty);
            let _end = End(&ended, thread.as_ref().ok().map(|it| it.thread().clone()));
            work(session);
        });
    }
}

/// Ends the thread that empties the ring, also when we panic.
struct End<'a>(&'a AtomicBool, Option<thread::Thread>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        if let Some(thread) = &self.1 {
            thread.unpark();
        }
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
