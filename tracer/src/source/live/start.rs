//! The start of a live run: checks, programs, walks, engine and outputs, in the order they need each other.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::engine::rules::RuleId;
use crate::engine::{Engine, Rules};
use crate::kernel::alarm::Alarm;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::{self, KernelBtf, Options, Programs};
use crate::kernel::poller::{self, Poller};
use crate::kernel::preflight;
use crate::kernel::ring::Ring;
use crate::output::session::{Session, needs_of};
use crate::output::writer::Stdout;
use crate::output::{Needs, Output, RulesNeed};
use crate::privileges::{self, Circumstances};
use crate::source::live::duties::Duties;
use crate::source::live::intake::Intake;
use crate::source::live::looks::Looks;
use crate::source::live::losses::Losses;
use crate::source::live::naming::Naming;
use crate::source::live::origin::{origin, report_hooks, report_walks};
use crate::source::live::remotes::Remotes;
use crate::source::live::run::{Live, TakenAtLast};
use crate::source::live::stacks::{self, Stacks};
use crate::source::live::walks::{self, Walks};
use crate::source::rules;
use crate::source::terminal::Keys;
use crate::time::MonoNs;

/// Rows a walk may have beyond the most connections that are kept.
const SPARE_ROWS: usize = 1 << 16;

/// Makes outputs, once it is known that this kernel has what is needed.
pub(super) type Make<'m> = dyn FnOnce(&Config) -> Result<Vec<Box<dyn Output>>> + 'm;

/// Starts everything; events come from now on.
pub(super) fn start<'a>(
    config: &'a Config,
    ring_bytes: u32,
    make: Box<Make<'_>>,
) -> Result<Live<'a>> {
    let signals = signals()?;
    let resolved = preflight::check()?;
    // Before anything runs in the kernel: a file that cannot be written ends it here.
    let outputs = make(config)?;
    let needs = needs_of(&outputs);
    let options = options(config, ring_bytes);
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
    let circumstances = circumstances(config, &needs, &mut programs)?;
    let poller = poller(config, circumstances, needs.rules, (&resolved, &btf))?;
    check_walks(&poller, &needs)?;
    let origin = origin(config, &programs, &poller, &resolved, start);
    report_all_hooks(config, &programs, stacks.as_ref());
    let rules = rules(config, &needs, &origin);
    let now = MonoNs::now();
    let duties = duties(now, config, rules.as_ref(), needs.fresh);
    let engine = Engine::new(origin, config.max_connections);
    let engine = engine.with_rules(rules).with_leftovers(needs.stacks.is_some());
    let session = Session::begin(engine, outputs).context("cannot begin an output")?;
    let mut live = Live {
        config,
        session,
        needs,
        programs,
        intake: Intake::new(Ring::new(ring).context("cannot watch the ring buffer")?),
        walks: Walks::new(poller, walks(config, &needs)),
        stacks,
        stdout: Stdout::start(io::stdout()).context("cannot start a thread")?,
        debug,
        signals,
        resized: signal(SignalKind::window_change())?,
        start,
        duties,
        deadline: deadline(config, now),
        losses: Losses::from(start),
        taken_at_last: TakenAtLast::default(),
        naming: Naming::new(needs.executables),
        remotes: Remotes::start(config, circumstances)?,
        output_failed: false,
        looks: Looks::from(start),
        alarm: Alarm::new().context("there can be no timer")?,
        keys: needs.terminal.then(Keys::start).transpose().context("cannot start a thread")?,
        redraw: false,
    };
    privileges::keep_only(&privileges::main_thread(needs.executables, circumstances));
    live.name_things();
    live.remotes.read(&mut live.session);
    live.walks.everything(&mut live.session);
    Ok(live)
}

fn report_all_hooks(config: &Config, programs: &Programs, stacks: Option<&Stacks>) {
    if config.verbose >= 1 {
        report_hooks(programs);
        stacks.into_iter().for_each(stacks::report_hooks);
    }
}

/// For the programs of events: what walks show is theirs to say.
fn options(config: &Config, ring_bytes: u32) -> Options {
    Options {
        filter: config.filter.kernel_side(),
        ring_bytes,
        debug: config.verbose >= 2,
        drops: config.drops,
        half_closed: false,
        descriptors: false,
    }
}

/// When the run ends by itself.
fn deadline(config: &Config, now: MonoNs) -> Option<MonoNs> {
    let time = config.duration?;
    Some(now.after(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}

/// Of what is idle only walks tell: they come the oftener the sooner it is asked for. So do queues.
fn duties(now: MonoNs, config: &Config, rules: Option<&Rules>, fresh: Option<Duration>) -> Duties {
    let idle = |rules: &Rules| rules.watch.thresholds().of(RuleId::EstablishedIdle);
    let idle_ns = rules.map_or(u64::MAX, |rules| idle(rules) / 4);
    let fresh = fresh.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let duties = Duties::from(now);
    let duties = if config.filter.places.is_empty() { duties } else { duties.names_soon(now) };
    duties.everything_within(now, idle_ns.min(fresh.unwrap_or(u64::MAX)))
}

fn poller(
    config: &Config,
    circumstances: Circumstances,
    rules: RulesNeed,
    (resolved, btf): (&Resolved, &KernelBtf),
) -> Result<Poller> {
    let options = poller::Options {
        filter: config.filter.kernel_side(),
        circumstances,
        stay_in: config.filter.netns,
        // The table takes no more, and some of a walk may be in it already.
        most_rows: config.max_connections.saturating_add(SPARE_ROWS),
        half_closed: rules != RulesNeed::None,
        descriptors: rules != RulesNeed::None,
    };
    Ok(Poller::start(resolved, btf, options)?)
}

/// Says what this kernel's walks cannot show; a list of sockets cannot be without them.
fn check_walks(poller: &Poller, needs: &Needs) -> Result<()> {
    report_walks(poller);
    match (needs.walked_draws(), &poller.sockets) {
        (Some(_), Err(reason)) => bail!(
            "list needs iter/tcp to see the sockets there are, and this kernel refused it: {reason}"
        ),
        _ => Ok(()),
    }
}

fn walks(config: &Config, needs: &Needs) -> walks::Options {
    walks::Options {
        netns: config.filter.netns,
        looks: needs.rules == RulesNeed::Looks,
        draws: needs.walked_draws(),
        verbose: config.verbose >= 1,
    }
}

fn signals() -> Result<[Signal; 3]> {
    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| anyhow::anyhow!("three signals"))
}

/// What decides about privileges; says what is not seen for want of one.
fn circumstances(config: &Config, needs: &Needs, programs: &mut Programs) -> Result<Circumstances> {
    let watches = needs.rules != RulesNeed::None;
    let circumstances = Circumstances {
        bpf_wants_capability: programs.want_capability()?,
        one_namespace: config.filter.netns.is_some(),
        other_user: privileges::is_other_user(),
        lists_descriptors: watches && !poller::descriptors_are_counted(),
    };
    if let Some(shortfall) = privileges::shortfall(circumstances) {
        eprintln!("tcptrail: {shortfall}");
    }
    Ok(circumstances)
}
