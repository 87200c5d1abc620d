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

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, Show};
use crate::engine::rules::Watch;
use crate::engine::{Engine, Rules};
use crate::kernel::loader::{self, DebugMessages, Options, Programs};
use crate::kernel::poller::{self, Poller};
use crate::kernel::preflight;
use crate::kernel::ring::Ring;
use crate::output::session::{Session, needs_of};
use crate::output::writer::Stdout;
use crate::output::{Needs, Output, RulesNeed, Until, listed};
use crate::privileges::{self, Circumstances};
use crate::source::live::intake::Rows;
use crate::source::live::origin::{origin, report_hooks};
use crate::source::live::stacks::Stacks;
use crate::source::live::stuck::Rounds;
use crate::source::live::upkeep::{HOLDERS_EVERY, LOSS_EVERY, NAMES_EVERY, SLOW_EVERY};
use crate::time::MonoNs;

pub use origin::{exit_code, summary};

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
    run_with(config, ring_bytes, |config| listed::outputs(config, true))
}

/// As [`run`], with outputs that `make` makes. It is called once this kernel is known to have what is
/// needed, and before anything runs in it.
///
/// # Errors
/// As [`run`], and what `make` returns.
pub fn run_with(
    config: &Config,
    ring_bytes: u32,
    make: impl FnOnce(&Config) -> Result<Vec<Box<dyn Output>>>,
) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Live::start(config, ring_bytes, make)?.run().await })
}

struct Live<'a> {
    config: &'a Config,
    session: Session,
    /// What all outputs need.
    needs: Needs,
    programs: Programs,
    ring: Ring,
    poller: Poller,
    /// Who opened what, where this run wants to know.
    stacks: Option<Stacks>,
    output: Stdout,
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
    /// An output could not go on.
    output_failed: bool,
    /// What was written goes out at once when this is past, else with the next look.
    next_push: Instant,
    /// Looks in a row that found nothing in the ring.
    quiet: u32,
}

impl<'a> Live<'a> {
    fn start(
        config: &'a Config,
        ring_bytes: u32,
        make: impl FnOnce(&Config) -> Result<Vec<Box<dyn Output>>>,
    ) -> Result<Self> {
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()?
            .try_into()
            .map_err(|_| anyhow::anyhow!("three signals"))?;
        let resolved = preflight::check()?;
        // Before anything runs in the kernel: a file that cannot be written ends it here.
        let outputs = make(config)?;
        let needs = needs_of(&outputs);
        let options =
            Options { filter: config.filter.kernel_side(), ring_bytes, debug: config.verbose >= 2 };
        let btf = loader::kernel_btf()?;
        // First, so that of every connection that is seen to begin the opener is seen, too.
        let stacks = Stacks::start(config, needs.stacks, &resolved, &btf)?;
        let start = MonoNs::now();
        let (mut programs, ring) = loader::load(&resolved, &options, &btf)?;
        let debug = options
            .debug
            .then(|| programs.debug_messages())
            .transpose()
            .context("the programs' debug messages cannot be read")?;
        let watches = needs.rules != RulesNeed::None;
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

        let rules = Watch::new(config.rules(origin.jiffy_ns));
        let mut engine = Engine::new(origin, config.max_connections);
        if watches {
            let looks = needs.rules == RulesNeed::Looks;
            engine = engine.with_rules(Rules { watch: rules, scope: config.filter.clone(), looks });
        }
        let session = Session::begin(engine, outputs).context("cannot begin an output")?;
        let now = Instant::now();
        let mut live = Live {
            config,
            session,
            needs,
            programs,
            ring: Ring::new(ring).context("cannot watch the ring buffer")?,
            poller,
            stacks,
            output: Stdout::start(io::stdout()).context("cannot start a thread")?,
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
            output_failed: false,
            next_push: now,
            quiet: 0,
        };
        privileges::keep_only(&privileges::main_thread(needs.executables, circumstances));
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
                stacks.take(&mut self.session.engine.book);
            }
            let more = self.take_records();
            if self.stacks.is_some() && !more {
                self.session.engine.settle_book(MonoNs::now());
            }
            self.housekeeping(Instant::now());
            self.draw_due();
            self.tell_failures();
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
        let plain = self.needs.only_events();
        let unwritten = self.blocked || self.session.waiting() != 0;
        let under_way = self.walking > 0 || self.rows.is_some() || self.repair > 0 || unwritten;
        plain && self.settled && !under_way && self.quiet >= QUIET_TICKS
    }

    /// When a quiet second is over. A walk is due a moment later than what is done every second, for it
    /// had to be answered first: both in one go, else the walk would be made every other second.
    fn next_upkeep(&self) -> Instant {
        let both =
            self.session.engine.table().wants_poll() && self.next_walk < self.next_slow + TICK;
        if both { self.next_slow.max(self.next_walk) } else { self.next_slow }
    }

    /// A list that is not watched is done when it is printed, a recording when it failed, and a run with
    /// conditions when one of them holds.
    fn is_done(&mut self) -> bool {
        if self.session.all_failed() {
            return true;
        }
        match self.needs.until {
            Until::Facts if self.rounds.facts_read() && self.deadline.is_none() => return true,
            _ if self.session.engine.watch().is_some_and(|watch| watch.failed().is_some()) => {
                return true;
            }
            _ => {}
        }
        self.draw_walked() && self.needs.until == Until::Drawn
    }

    /// Draws what waits for a walk over everything, when that is in the table and it is time to. Returns
    /// whether it did.
    fn draw_walked(&mut self) -> bool {
        let Some(again) = self.needs.walked_draws() else { return false };
        if !self.settled || self.rows.is_some() {
            return false;
        }
        let due = self.next_list.is_none_or(|next| Instant::now() >= next);
        if !due || !self.list_walked || self.walking != 0 {
            return false;
        }
        self.name_things();
        self.session.draw_walked(MonoNs::now());
        self.output.push(self.session.out());
        self.list_walked = false;
        self.next_list = again.map(|every| Instant::now() + every);
        true
    }

    /// Outputs that draw from time to time.
    fn draw_due(&mut self) {
        if self.settled {
            self.session.draw_due(MonoNs::now());
        }
    }

    /// Says what went wrong with outputs. The run goes on without them.
    pub(super) fn tell_failures(&mut self) {
        for failure in self.session.take_failures() {
            eprintln!("tcptrail: {failure}");
            self.output_failed = true;
        }
    }
}
