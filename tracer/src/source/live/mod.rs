//! A live run: the one `select!` over wake-ups, ticks, walks and signals. `intake` takes what comes,
//! `upkeep` does what is due, `stuck` what looking for the stuck adds to that, `end` ends it, `stacks` has what
//! `leaks` needs, `origin` says what run it is.
//!
//! One thread takes records out of the ring and formats them; a second writes, a third walks the
//! iterators. When the writer falls behind, records wait in the ring: that is what it is for.

mod end;
mod intake;
mod origin;
mod stacks;
mod stuck;
mod upkeep;

use std::fs::File;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, Show};
use crate::engine::conn::Table;
use crate::engine::rules::Watch;
use crate::kernel::loader::{self, DebugMessages, Options, Programs};
use crate::kernel::poller::{self, Poller};
use crate::kernel::preflight;
use crate::kernel::ring::Ring;
use crate::output::writer::Output;
use crate::privileges::{self, Circumstances};
use crate::record::{Writer, open_output};
use crate::session::Session;
use crate::source::live::intake::Rows;
use crate::source::live::origin::{origin, report_hooks};
use crate::source::live::stacks::Stacks;
use crate::source::live::stuck::Rounds;
use crate::source::live::upkeep::{HOLDERS_EVERY, LOSS_EVERY, NAMES_EVERY, SLOW_EVERY};
use crate::text::Terminal;
use crate::time::MonoNs;

pub use origin::{pen, summary, view};
pub use stuck::exit_code as stuck_code;

/// While records come the ring is looked at this often; programs wake the reader only for the first
/// after a quiet time and when the ring fills.
const TICK: Duration = Duration::from_millis(50);
/// After so many looks that found nothing, the next record wakes the reader: the programs do so when the
/// last wake-up was [`loader::WAKE_EVERY_NS`] ago.
const QUIET_TICKS: u32 = 3;
const _: () = assert!((QUIET_TICKS as u128 - 1) * TICK.as_nanos() >= loader::WAKE_EVERY_NS as u128);

/// Rows a walk may have beyond the most connections that are kept.
const SPARE_ROWS: usize = 1 << 16;

/// Runs until the time is up, a signal comes, or nobody reads any more. Returns the exit code.
///
/// # Errors
/// When nothing can be traced, or the recording cannot be made.
pub fn run(config: &Config, ring_bytes: u32) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Live::start(config, ring_bytes)?.run().await })
}

struct Live<'a> {
    config: &'a Config,
    session: Session<File>,
    programs: Programs,
    ring: Ring,
    poller: Poller,
    /// Who opened what, where this run wants to know.
    stacks: Option<Stacks>,
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
    /// Records taken out of the ring.
    taken: u64,
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
    rounds: Rounds,
    next_names: Instant,
    events_at_last_names: u64,
    events_at_last_holders: u64,
    dropped: u64,
    missed: u64,
    losses_read: MonoNs,
    /// That losses cannot be counted has been said.
    uncounted: bool,
    stretched: bool,
    /// That there are more descriptors than are looked at has been said.
    descriptors_cut: bool,
    recording_failed: Option<io::Error>,
    /// What was written goes out at once when this is past, else with the next look.
    next_push: Instant,
    /// Looks in a row that found nothing in the ring.
    quiet: u32,
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
        // First, so that of every connection that is seen to begin the opener is seen, too.
        let stacks = Stacks::start(config, &resolved, &btf)?;
        let start = MonoNs::now();
        let (mut programs, ring) = loader::load(&resolved, &options, &btf)?;
        let debug = options
            .debug
            .then(|| programs.debug_messages())
            .transpose()
            .context("the programs' debug messages cannot be read")?;
        // A recording is to have what a replay needs to find it.
        let watches = matches!(config.show, Show::Stuck { .. }) || recording.is_some();
        let circumstances = Circumstances {
            bpf_wants_capability: programs.want_capability()?,
            one_namespace: config.filter.netns.is_some(),
            lists_descriptors: watches && !poller::descriptors_are_counted(),
        };
        if let Some(shortfall) = privileges::shortfall(circumstances) {
            eprintln!("tcptrail: {shortfall}");
        }
        let poller = Poller::start(
            &resolved,
            &btf,
            poller::Options {
                filter: options.filter,
                circumstances,
                stay_in: config.filter.netns,
                // The table takes no more, and some of a walk may be in it already.
                most_rows: config.max_connections.saturating_add(SPARE_ROWS),
            },
        )?;
        let origin = origin(config, &programs, &poller, &resolved.reset_reasons, start);
        if config.verbose >= 1 {
            report_hooks(&programs, &poller);
            stacks.iter().for_each(stacks::report_hooks);
        }

        let table = Table::new(origin.table_options(config.max_connections));
        let recording = recording
            .map(|file| Writer::new(file, &origin))
            .transpose()
            .context("cannot write the recording")?;
        let rules = Watch::new(config.rules(origin.jiffy_ns));
        let mut session = Session::new(
            table,
            config.filter.clone(),
            view(config.show),
            pen(config, origin),
            recording,
        );
        if watches {
            session = session.with_rules(rules);
        }
        let now = Instant::now();
        let mut live = Live {
            config,
            session,
            programs,
            ring: Ring::new(ring).context("cannot watch the ring buffer")?,
            poller,
            stacks,
            output: Output::start(io::stdout()).context("cannot start a thread")?,
            debug,
            signals,
            start,
            deadline: config.duration.map(|duration| now + duration),
            rows: None,
            walking: 0,
            settled: false,
            repair: 0,
            taken: 0,
            blocked: false,
            listed: 0,
            next_walk: now,
            next_urgent_walk: now,
            next_holders: now + HOLDERS_EVERY,
            next_loss: now + LOSS_EVERY,
            next_slow: now + SLOW_EVERY,
            next_list: None,
            list_walked: true,
            rounds: Rounds::from(now),
            next_names: now + NAMES_EVERY,
            events_at_last_names: 0,
            events_at_last_holders: 0,
            dropped: 0,
            missed: 0,
            losses_read: start,
            uncounted: false,
            stretched: false,
            descriptors_cut: false,
            recording_failed: None,
            next_push: now,
            quiet: 0,
        };
        privileges::keep_only(&privileges::main_thread(config.show, circumstances));
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
        let mut next_look = Instant::now();
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
                woken = self.ring.woken() => {
                    woken.context("the ring buffer cannot be watched")?;
                    self.quiet = 0;
                }
                () = sleep_until(next_look) => self.quiet = self.quiet.saturating_add(1),
            }
            let taken = self.taken;
            if let Some(stacks) = &mut self.stacks {
                stacks.take();
            }
            let more = self.take_records();
            if let Some(stacks) = &mut self.stacks
                && !more
            {
                stacks.settle(&self.session);
            }
            self.housekeeping(Instant::now());
            self.draw();
            if let Some(debug) = &mut self.debug {
                debug.flush();
            }
            if self.taken != taken {
                self.quiet = 0;
            }
            let now = Instant::now();
            next_look = if more {
                now
            } else if self.is_quiet() {
                self.next_upkeep().max(now)
            } else {
                now + TICK
            };
            if self.output.has_ended() || self.is_done() {
                break;
            }
        }
        self.finish().await
    }

    /// Nothing comes and nothing is under way: until a program wakes us, once a second is enough.
    fn is_quiet(&self) -> bool {
        let plain = matches!(self.config.show, Show::Tail | Show::Life { .. } | Show::Nothing);
        let unwritten = self.blocked || !self.session.out.is_empty();
        let under_way = self.walking > 0 || self.rows.is_some() || self.repair > 0 || unwritten;
        plain && self.settled && !under_way && self.quiet >= QUIET_TICKS
    }

    /// When a quiet second is over. A walk is due a moment later than what is done every second, for it
    /// had to be answered first: both in one go, else the walk would be made every other second.
    fn next_upkeep(&self) -> Instant {
        let both = self.session.table.wants_poll() && self.next_walk < self.next_slow + TICK;
        if both { self.next_slow.max(self.next_walk) } else { self.next_slow }
    }

    /// A list that is not watched is done when it is printed; a recording when it failed.
    fn is_done(&mut self) -> bool {
        if self.config.show == Show::Nothing && self.recording_failed.is_some() {
            return true;
        }
        if let Show::Stuck { once } = self.config.show {
            return self.stuck_is_done(once);
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
}
