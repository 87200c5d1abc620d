//! A live run: the one `select!` over wake-ups, ticks, walks and signals, and what happens at each.
//!
//! One thread takes records out of the ring and formats them; a second writes, a third walks the
//! iterators. When the writer falls behind, records wait in the ring: that is what it is for.

use std::fs::File;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::config::{Config, Show};
use crate::conn::{Poll, PollKind, Table};
use crate::event::{Loss, LossCause};
use crate::input::{ITER_TCP, Input, Origin};
use crate::kernel::cgroups;
use crate::kernel::loader::{self, DebugMessages, Options, Programs};
use crate::kernel::poller::{Answer, Poller, Request};
use crate::kernel::preflight;
use crate::kernel::ring::Ring;
use crate::names::{self, Names};
use crate::record::{Writer, open_output};
use crate::session::{Session, Totals};
use crate::sink::clock::Clock;
use crate::sink::output::{Ended, Output};
use crate::sink::text::Terminal;
use crate::time::{Anchor, MonoNs, jiffy_ns};
use crate::view::{Pen, View};

/// The reader is woken at least this often; programs wake it only when the ring fills.
const TICK: Duration = Duration::from_millis(50);
/// Loss counters are read this often.
const LOSS_EVERY: Duration = Duration::from_millis(250);
/// Mini-sockets, the recording's flush and the table's own figures.
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Walks after a loss, and for a list that is watched.
const URGENT_EVERY: Duration = Duration::from_millis(300);
/// Descriptors are walked no more often than this.
const HOLDERS_EVERY: Duration = Duration::from_secs(5);
/// New cgroups are looked for this often while connections come and go.
const NAMES_EVERY: Duration = Duration::from_secs(10);
/// A walk may take this part of the time until the next: 1 % of a core.
const WALK_SHARE: u64 = 100;
/// Records taken in a row before signals and the clock have a turn.
const BATCH: usize = 8192;
/// How long a reader of our output may stand still at the end before it is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until the time is up, a signal comes, or nobody reads any more. Returns the exit code.
///
/// # Errors
/// When nothing can be traced, or the recording cannot be made.
pub fn run(config: &Config, ring_bytes: u32) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Live::start(config, ring_bytes)?.run().await })
}

/// Rows of a walk that are still to be taken in, each before the events that are younger.
struct Rows {
    bytes: Vec<u8>,
    next: usize,
    poll: Poll,
}

const ROW: usize = size_of::<tracer_common::wire::SocketRow>();

struct Live<'a> {
    config: &'a Config,
    session: Session<File>,
    programs: Programs,
    ring: Ring,
    poller: Poller,
    output: Output,
    debug: Option<DebugMessages>,
    signals: [Signal; 3],
    start: MonoNs,
    deadline: Option<Instant>,
    rows: Option<Rows>,
    /// Walks asked for and not answered.
    walking: usize,
    /// Everything that was there at the start is in the table.
    settled: bool,
    /// Walks still to be made after a loss: what is gone is known after missing it twice.
    repair: u8,
    /// Records wait because the writer has no room.
    blocked: bool,
    /// Sockets in the last list.
    listed: usize,
    next_walk: Instant,
    /// As `next_walk`, where a walk is worth more than its share: after a loss, and for a list.
    next_urgent_walk: Instant,
    next_holders: Instant,
    next_loss: Instant,
    next_slow: Instant,
    next_list: Option<Instant>,
    /// The walk that the next list is to show has been asked for.
    list_walked: bool,
    next_names: Instant,
    events_at_last_names: u64,
    events_at_last_holders: u64,
    dropped: u64,
    missed: u64,
    losses_read: MonoNs,
    stretched: bool,
    recording_failed: Option<io::Error>,
}

impl<'a> Live<'a> {
    fn start(config: &'a Config, ring_bytes: u32) -> Result<Self> {
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?
            .try_into()
            .map_err(|_| anyhow::anyhow!("three signals"))?;
        let resolved = preflight::check()?;
        // Before anything runs in the kernel: a file that cannot be written ends it here.
        let recording = match &config.record_to {
            Some(path) => Some(
                open_output(path).with_context(|| format!("cannot write {}", path.display()))?,
            ),
            None => None,
        };
        let options =
            Options { filter: config.filter.kernel_side(), ring_bytes, debug: config.verbose >= 2 };
        let btf = loader::kernel_btf()?;
        let start = MonoNs::now();
        let (mut programs, ring) = loader::load(&resolved, &options, &btf)?;
        let debug = options
            .debug
            .then(|| programs.debug_messages())
            .transpose()
            .context("the programs' debug messages cannot be read")?;
        let poller = Poller::start(&resolved, &btf)?;
        let origin = origin(config, &programs, &poller, &resolved.reset_reasons, start);
        if config.verbose >= 1 {
            report_hooks(&programs, &poller);
        }

        let table = Table::new(origin.table_options(config.max_connections));
        let recording = recording
            .map(|file| Writer::new(file, &origin))
            .transpose()
            .context("cannot write the recording")?;
        let session = Session::new(
            table,
            config.filter.clone(),
            view(config.show),
            pen(config, origin),
            recording,
        );
        let now = Instant::now();
        let mut live = Live {
            config,
            session,
            programs,
            ring: Ring::new(ring).context("cannot watch the ring buffer")?,
            poller,
            output: Output::start(io::stdout()).context("cannot start a thread")?,
            debug,
            signals,
            start,
            deadline: config.duration.map(|duration| now + duration),
            rows: None,
            walking: 0,
            settled: false,
            repair: 0,
            blocked: false,
            listed: 0,
            next_walk: now,
            next_urgent_walk: now,
            next_holders: now + HOLDERS_EVERY,
            next_loss: now + LOSS_EVERY,
            next_slow: now + SLOW_EVERY,
            next_list: None,
            list_walked: true,
            next_names: now + NAMES_EVERY,
            events_at_last_names: 0,
            events_at_last_holders: 0,
            dropped: 0,
            missed: 0,
            losses_read: start,
            stretched: false,
            recording_failed: None,
        };
        live.name_things();
        live.walk_everything();
        if config.show == Show::Nothing {
            eprintln!("tcptrail: recording; Ctrl-C to stop");
            if config.filter.is_partly_for_views() {
                eprintln!(
                    "tcptrail: --pid, --comm, --state, --role and --min-duration choose what is shown, not what is recorded: give them to replay"
                );
            }
        }
        Ok(live)
    }

    async fn run(mut self) -> Result<u8> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline =
                self.deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let [interrupt, terminate, hangup] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                () = sleep_until(deadline), if self.deadline.is_some() => break,
                Some(answer) = self.poller.answer() => self.answered(answer),
                () = self.output.progress(), if self.blocked => {}
                woken = self.ring.woken() => woken.context("the ring buffer cannot be watched")?,
                _ = ticks.tick() => {}
            }
            let more = self.take_records();
            self.housekeeping(Instant::now());
            if let Some(debug) = &mut self.debug {
                debug.flush();
            }
            if more {
                ticks.reset_immediately();
            }
            if self.output.has_ended() || self.is_done() {
                break;
            }
        }
        self.finish().await
    }

    /// A list that is not watched is done when it is printed; a recording when it failed.
    fn is_done(&mut self) -> bool {
        if self.config.show == Show::Nothing && self.recording_failed.is_some() {
            return true;
        }
        let Show::List { watch } = self.config.show else { return false };
        if !self.settled || self.rows.is_some() {
            return false;
        }
        let due = self.next_list.is_none_or(|next| Instant::now() >= next);
        if due && self.list_walked && self.walking == 0 {
            self.print_list();
            self.list_walked = false;
            self.next_list = watch.map(|every| Instant::now() + every);
            return watch.is_none();
        }
        false
    }

    fn print_list(&mut self) {
        if self.next_list.is_some()
            && !self.config.json
            && Terminal::of_stdout(false).width.is_some()
        {
            self.session.out.extend_from_slice(b"\x1b[H\x1b[2J");
        }
        self.name_things();
        self.listed = self.session.list(MonoNs::now());
        self.output.push(&mut self.session.out);
    }

    /// Looks up the paths of cgroups, and for a list the executables of those who hold sockets.
    fn name_things(&mut self) {
        let mut bytes = Vec::new();
        for (id, path) in cgroups::all() {
            names::encode(
                names::Entry::Cgroup(id),
                path.as_os_str().as_encoded_bytes(),
                &mut bytes,
            );
        }
        if matches!(self.config.show, Show::List { .. }) {
            let mut pids: Vec<u32> =
                self.session.table.iter().filter_map(|conn| conn.owner.as_ref()?.pid()).collect();
            pids.sort_unstable();
            pids.dedup();
            for pid in pids {
                if let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) {
                    let path = path.as_os_str().as_encoded_bytes();
                    names::encode(names::Entry::Executable(pid), path, &mut bytes);
                }
            }
        }
        self.feed(&Input::Names(&bytes));
    }

    fn feed(&mut self, input: &Input<'_>) {
        if let Err(error) = self.session.feed(input) {
            self.recording_broke(error);
        }
    }

    fn recording_broke(&mut self, error: io::Error) {
        self.session.drop_recording();
        let file = self.config.record_to.as_deref().unwrap_or("the recording".as_ref());
        eprintln!(
            "tcptrail: cannot write {}: {error}; what was written until now can be replayed",
            file.display()
        );
        self.recording_failed = Some(error);
    }

    /// Takes records out of the ring, and before each the rows that are older. Returns whether there
    /// may be more.
    fn take_records(&mut self) -> bool {
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
            let mut outcome = Ok(());
            let (session, rows) = (&mut self.session, &mut self.rows);
            let got = self.ring.next(|record| {
                let at = time_of(record);
                outcome = feed_rows(session, rows, at).and(session.feed(&Input::Record(record)));
            });
            if let Err(error) = outcome {
                self.recording_broke(error);
            }
            if !got {
                break;
            }
            taken += 1;
            if self.session.out.len() >= 64 << 10 {
                self.output.push(&mut self.session.out);
            }
        }
        if taken < BATCH {
            self.end_rows();
        }
        self.output.push(&mut self.session.out);
        taken == BATCH
    }

    /// The ring is empty: whatever rows are left are younger than every event.
    fn end_rows(&mut self) {
        if self.rows.is_none() {
            return;
        }
        if let Err(error) = feed_rows(&mut self.session, &mut self.rows, u64::MAX) {
            self.recording_broke(error);
        }
        if let Some(rows) = self.rows.take() {
            self.feed(&Input::PollEnd { poll: rows.poll, now: MonoNs::now() });
        }
    }

    fn answered(&mut self, answer: Answer) {
        self.walking = self.walking.saturating_sub(1);
        let now = Instant::now();
        match answer {
            Answer::Sockets { poll, rows, took_ns } => {
                let pause =
                    Duration::from_nanos(took_ns.saturating_mul(WALK_SHARE)).max(SLOW_EVERY);
                self.next_walk = now + pause;
                self.next_urgent_walk = now + URGENT_EVERY;
                if poll.kind == PollKind::Minis && pause > 2 * SLOW_EVERY && !self.stretched {
                    self.stretched = true;
                    eprintln!(
                        "tcptrail: a look at the mini-sockets takes {} ms here: FIN_WAIT2 and TIME_WAIT are now known to {} s",
                        took_ns / 1_000_000,
                        pause.as_secs() + 1
                    );
                }
                self.rows = Some(Rows { bytes: rows, next: 0, poll });
            }
            Answer::Holders { rows, took_ns } => {
                let pause = Duration::from_nanos(took_ns.saturating_mul(WALK_SHARE));
                self.next_holders = now + pause.max(HOLDERS_EVERY);
                self.feed(&Input::Holders(&rows));
            }
            Answer::Failed(request, error) => {
                if self.config.verbose >= 1 {
                    eprintln!("tcptrail: {request:?} could not be walked: {error}");
                }
                self.next_walk = now + SLOW_EVERY;
                self.next_urgent_walk = now + SLOW_EVERY;
                self.next_holders = now + HOLDERS_EVERY;
            }
        }
        if self.walking == 0 && !self.settled {
            self.take_records();
            self.settled = true;
        }
    }

    fn walk_everything(&mut self) {
        let only = self.config.filter.netns.map(|netns| vec![netns]);
        self.walk(Request::Sockets { kind: PollKind::All, only });
        self.walk(Request::Holders);
        if self.walking == 0 {
            self.settled = true;
        }
    }

    /// Where there is nothing that only a look tells of, there is no need to look.
    fn walk_minis(&mut self) {
        let only = Some(self.session.table.poll_netns());
        self.walk(Request::Sockets { kind: PollKind::Minis, only });
    }

    fn walk(&mut self, request: Request) {
        let works = match request {
            Request::Sockets { .. } => self.poller.sockets.is_ok(),
            Request::Holders => self.poller.holders.is_ok(),
        };
        if !works {
            return;
        }
        if let Request::Sockets { .. } = request {
            self.feed(&Input::PollBegin);
        } else {
            self.events_at_last_holders = self.session.totals().events;
        }
        self.walking += 1;
        self.poller.request(request);
    }

    fn housekeeping(&mut self, now: Instant) {
        if now >= self.next_loss {
            self.next_loss = now + LOSS_EVERY;
            let slow = now >= self.next_slow;
            self.read_losses(slow);
            if now >= self.next_names && self.session.totals().events != self.events_at_last_names {
                self.next_names = now + NAMES_EVERY;
                self.events_at_last_names = self.session.totals().events;
                self.name_things();
            }
            if slow {
                self.next_slow = now + SLOW_EVERY;
                self.feed(&Input::Tick(MonoNs::now()));
                if let Err(error) = self.session.flush_recording() {
                    self.recording_broke(error);
                }
            }
            self.output.push(&mut self.session.out);
        }
        if self.walking != 0 || self.rows.is_some() || !self.settled {
            return;
        }
        let list_due = !self.list_walked && self.next_list.is_some_and(|next| next <= now);
        if (self.repair > 0 || list_due) && now >= self.next_urgent_walk {
            self.repair = self.repair.saturating_sub(1);
            self.list_walked = true;
            self.walk_everything();
        } else if now >= self.next_walk && self.session.table.wants_poll() {
            self.walk_minis();
        } else if now >= self.next_holders
            && self.session.totals().events != self.events_at_last_holders
        {
            self.walk(Request::Holders);
        }
    }

    fn read_losses(&mut self, recursion_too: bool) {
        let to = MonoNs::now();
        let from = std::mem::replace(&mut self.losses_read, to);
        let dropped = self.programs.dropped().unwrap_or(self.dropped);
        let count = dropped - std::mem::replace(&mut self.dropped, dropped).min(dropped);
        if count != 0 {
            self.lost(Loss { count, cause: LossCause::Ring, from, to });
        }
        if recursion_too {
            let missed = self.programs.recursion_losses().unwrap_or(self.missed).max(self.missed);
            let count = missed - std::mem::replace(&mut self.missed, missed);
            if count != 0 {
                self.lost(Loss { count, cause: LossCause::Recursion, from, to });
            }
        }
    }

    fn lost(&mut self, loss: Loss) {
        // Once what was received is shown and the walk has repaired the table, it is right again.
        self.repair = 2;
        self.feed(&Input::Lost(loss));
    }

    async fn finish(mut self) -> Result<u8> {
        if !self.output.has_ended() {
            self.last_look().await;
        }
        self.settled = true;
        let stalled = !self.take_the_rest().await;
        self.read_losses(true);
        let now = MonoNs::now();
        if let Err(error) = self.session.end(now) {
            self.recording_broke(error);
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
        Ok(code)
    }

    /// Everything that is in the ring now and has been received; false when the writer stands still.
    async fn take_the_rest(&mut self) -> bool {
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
    async fn last_look(&mut self) {
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

fn feed_rows(session: &mut Session<File>, rows: &mut Option<Rows>, until: u64) -> io::Result<()> {
    let Some(rows) = rows else { return Ok(()) };
    while let Some(row) = rows.bytes.get(rows.next..rows.next + ROW) {
        if time_of(row) > until {
            break;
        }
        rows.next += ROW;
        session.feed(&Input::Record(row))?;
    }
    Ok(())
}

/// `mono_ns` stands first in records and rows.
fn time_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The view of a `Show`.
#[must_use]
pub fn view(show: Show) -> View {
    match show {
        Show::Tail => View::Tail,
        Show::Life { with_time_wait } => View::Life { with_time_wait },
        Show::List { .. } => View::List,
        Show::Nothing => View::Nothing,
    }
}

/// What views write with, for this stdout and time zone.
#[must_use]
pub fn pen(config: &Config, origin: Origin) -> Pen {
    Pen {
        names: Names::default(),
        clock: Clock::new(origin.anchor(), jiff::tz::TimeZone::system()),
        origin,
        json: config.json,
        terminal: Terminal::of_stdout(config.color),
        cell: Vec::new(),
    }
}

fn origin(
    config: &Config,
    programs: &Programs,
    poller: &Poller,
    reset_reasons: &[String],
    start: MonoNs,
) -> Origin {
    let (kernel, machine) = preflight::kernel_names();
    let mut hooks: Vec<String> = programs
        .hooks
        .iter()
        .filter(|hook| hook.outcome.is_ok())
        .map(|hook| hook.name.to_owned())
        .collect();
    hooks.extend(poller.sockets.is_ok().then(|| ITER_TCP.to_owned()));
    hooks.extend(poller.holders.is_ok().then(|| "iter/task_file".to_owned()));
    Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        machine,
        hooks,
        filters: config.filter_words.clone(),
        wall_at_zero: Anchor::now().wall_at_zero,
        start_ns: start.0,
        jiffy_ns: jiffy_ns(),
        reset_reasons: reset_reasons.to_vec(),
    }
}

fn report_hooks(programs: &Programs, poller: &Poller) {
    for hook in &programs.hooks {
        if let Err(reason) = &hook.outcome {
            eprintln!("tcptrail: without {}: {} ({reason})", hook.name, hook.cost);
        }
    }
    for (name, outcome) in [(ITER_TCP, &poller.sockets), ("iter/task_file", &poller.holders)] {
        if let Err(reason) = outcome {
            eprintln!("tcptrail: without {name}: {reason}");
        }
    }
}

/// The last line of every run.
#[must_use]
pub fn summary(totals: &Totals, duration_ns: u64) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "tcptrail: {} events, {} connections, {} lost",
        totals.events,
        totals.connections,
        totals.all_lost()
    );
    let causes: Vec<String> = LossCause::ALL
        .iter()
        .zip(totals.lost)
        .filter(|(_, count)| *count != 0)
        .map(|(cause, count)| format!("{} {count}", cause.name()))
        .collect();
    if !causes.is_empty() {
        // A write to a String cannot fail.
        let _ = write!(text, " ({})", causes.join(", "));
    }
    let _ = write!(text, " in {}", crate::time::Human(duration_ns));
    text
}
