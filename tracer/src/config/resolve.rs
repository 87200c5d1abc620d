//! Checks a command line and makes a [`Config`] of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{
    Command, Common, IncidentArgs, KillArgs, LeaksArgs, OrderArgs, ReplayArgs, ReplayView,
    ReportArgs, StatsArgs, StuckArgs,
};
use crate::config::ends;
use crate::config::error::UsageError;
use crate::config::filter::{filter, filter_words};
use crate::config::listing::Listing;
use crate::config::serve::serve;
use crate::config::size;
use crate::config::span::{Span, span};
use crate::config::thresholds::thresholds;
use crate::config::top::{replayed_top, top};
use crate::config::types::{
    Config, IncidentOptions, KillOptions, LeaksOptions, ReportOptions, Show, Source, StatsOptions,
    StuckOptions,
};
use crate::engine::rules::Gate;
use crate::engine::stats::By;
use crate::filter::Filter;
use crate::text::suggest;

/// A live run, with the ring buffer that was asked for.
fn live(common: &Common) -> Result<Source, UsageError> {
    let size = common.limits.ring_size.as_deref();
    Ok(Source::Live { ring_bytes: size.map_or(Ok(size::RING_BYTES), size::ring_bytes)? })
}

/// Checks and resolves a command line; `doctor` has no configuration.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn resolve(command: Option<Command>, common: &Common) -> Result<Config, UsageError> {
    let filter = filter(&common.filters)?;
    let live = live(common)?;
    let (mut record_to, mut duration) = (common.output.record_to.clone(), common.output.duration);
    let command = command.unwrap_or(Command::Tail);
    let span = asked_span(&command)?;
    let (source, show) = match command {
        Command::Tail => (live, Show::Tail),
        Command::Life(args) => {
            (live, Show::Life { with_time_wait: args.with_time_wait, unfinished: args.unfinished })
        }
        Command::List(args) => {
            (live, Show::List { watch: args.watch, listing: listing(&args.order)? })
        }
        Command::Stats(args) => {
            let options = stats(&args.what, args.top)?;
            (live, Show::Stats(StatsOptions { watch: args.watch, ..options }))
        }
        Command::Leaks(args) => (live, leaks(&args, common)?),
        Command::Stuck(args) => (live, Show::Stuck(stuck(&args, common)?)),
        Command::Top(args) => (live, Show::Top(top(&args, common)?)),
        Command::Incident(args) => {
            duration = Some(args.time);
            (live, incident(args, common)?)
        }
        Command::Report(args) => report(args, common, &mut duration, live)?,
        Command::Kill(args) => (live, kill(&args, common, &filter)?),
        Command::Serve(args) => (live, Show::Serve(serve(&args, common)?)),
        Command::Record { file } => {
            record_once(&mut record_to, file)?;
            (live, Show::Nothing)
        }
        Command::Replay(args) => replay(args, common)?,
        // They are done before anything is resolved.
        Command::Doctor
        | Command::Explain { .. }
        | Command::Help { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => {
            return Err(UsageError("this command shows no connections".into()));
        }
    };
    check_together(&source, &show, common)?;
    Ok(Config {
        source,
        span,
        show,
        filter,
        filter_words: filter_words(&common.filters),
        json: common.output.json,
        header: !common.output.no_header,
        duration,
        record_to,
        color: color(common),
        verbose: common.output.verbose,
        max_connections: common.limits.max_connections,
        drops: !common.limits.no_drops,
        resolve: common.output.resolve,
    })
}

/// A run records into one file.
fn record_once(record_to: &mut Option<PathBuf>, file: PathBuf) -> Result<(), UsageError> {
    match record_to.replace(file) {
        None => Ok(()),
        Some(_) => {
            Err(UsageError("`record FILE` and `--record FILE` are the same: give one".into()))
        }
    }
}

/// Which part of a recording a command asks for.
fn asked_span(command: &Command) -> Result<Option<Span>, UsageError> {
    let (args, file) = match command {
        Command::Replay(args) => (&args.span, Some(&args.file)),
        Command::Report(args) => (&args.span, args.file.as_ref()),
        _ => return Ok(None),
    };
    let span = span(args.from.as_ref(), args.to.as_ref(), args.around.as_ref())?;
    if span.is_some() && file.is_none() {
        return Err(UsageError(
            "--from, --to and --around choose a part of a recording: name one, or use --for TIME to watch this machine"
                .into(),
        ));
    }
    if let Command::Replay(args) = command
        && span.is_some()
    {
        if !args.stuck.fail_on.is_empty() {
            return Err(UsageError(
                "--fail-on looks at a whole recording: leave --from, --to and --around out".into(),
            ));
        }
        if args.view == ReplayView::Incident {
            return Err(UsageError(
                "the page of an incident is about all of its bundle: leave --from, --to and --around out"
                    .into(),
            ));
        }
    }
    Ok(span)
}

/// Whether colours may be used.
#[must_use]
pub fn color(common: &Common) -> bool {
    !common.output.no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What is right by itself, and not together.
fn check_together(source: &Source, show: &Show, common: &Common) -> Result<(), UsageError> {
    ends::check(show, common)?;
    if common.output.resolve && matches!(source, Source::File(_)) {
        return Err(UsageError(
            "--resolve asks DNS while a run is live: a recording has the names that were known then"
                .into(),
        ));
    }
    let columns = matches!(show, Show::Tail | Show::Life { .. } | Show::List { .. });
    if common.output.no_header && !columns {
        return Err(UsageError("-H (--no-header) goes with tail, life and list".into()));
    }
    let again = match show {
        Show::List { watch, .. } => *watch,
        Show::Stats(options) => options.watch,
        Show::Leaks(options) => options.watch,
        _ => None,
    };
    if again == Some(Duration::ZERO) {
        return Err(UsageError("--watch needs a time above 0, such as 2s".into()));
    }
    if common.limits.max_connections == 0 {
        return Err(UsageError("--max-connections must be at least 1".into()));
    }
    if common.filters.cgroup.is_some() && matches!(source, Source::File(_)) {
        return Err(UsageError(
            "a recording cannot be filtered by cgroup: give --cgroup to `tcptrail record`".into(),
        ));
    }
    Ok(())
}

fn replay(args: ReplayArgs, common: &Common) -> Result<(Source, Show), UsageError> {
    if common.output.record_to.is_some() {
        return Err(UsageError("a replay cannot be recorded: copy the file instead".into()));
    }
    if common.output.duration.is_some() {
        return Err(UsageError(
            "--duration is for live runs: a replay runs to the file's end".into(),
        ));
    }
    let stuck_args = &args.stuck;
    let has_stuck =
        stuck_args.once || !stuck_args.threshold.is_empty() || !stuck_args.fail_on.is_empty();
    let page = matches!(args.view, ReplayView::Incident | ReplayView::Top);
    let thresholds_only = !stuck_args.once && stuck_args.fail_on.is_empty();
    if has_stuck && args.view != ReplayView::Stuck && !(page && thresholds_only) {
        return Err(UsageError(
            "--once, --threshold and --fail-on go with `replay FILE stuck`".into(),
        ));
    }
    if (args.with_time_wait || args.unfinished) && args.view != ReplayView::Life {
        return Err(UsageError(
            "--with-time-wait and --unfinished go with `replay FILE life`".into(),
        ));
    }
    if (args.speed != 1.0 || args.ascii) && args.view != ReplayView::Top {
        return Err(UsageError("--speed and --ascii go with `replay FILE top`".into()));
    }
    let with_stats = args.view == ReplayView::Stats;
    let order = OrderArgs { top: args.order.top.filter(|_| !with_stats), ..args.order.clone() };
    if order != OrderArgs::default() && args.view != ReplayView::List {
        return Err(UsageError(
            "--sort, --reverse and --group-by go with `replay FILE list`, --top also with stats"
                .into(),
        ));
    }
    if args.stats != StatsArgs::default() && !with_stats {
        return Err(UsageError("--by and --histogram go with `replay FILE stats`".into()));
    }
    let show = match args.view {
        ReplayView::Tail => Show::Tail,
        ReplayView::Life => {
            Show::Life { with_time_wait: args.with_time_wait, unfinished: args.unfinished }
        }
        ReplayView::List => Show::List { watch: None, listing: listing(&args.order)? },
        ReplayView::Stats => Show::Stats(stats(&args.stats, args.order.top)?),
        ReplayView::Stuck => Show::Stuck(stuck(stuck_args, common)?),
        ReplayView::Top => Show::Top(replayed_top(&args, common)?),
        ReplayView::Incident => Show::Incident(IncidentOptions {
            thresholds: thresholds(&stuck_args.threshold)?,
            threshold_words: stuck_args.threshold.clone(),
            ..IncidentOptions::default()
        }),
    };
    Ok((Source::File(args.file), show))
}

/// How long a report watches this machine when nobody says.
const REPORT_WATCHES: Duration = Duration::from_secs(60);

fn report(
    args: ReportArgs,
    common: &Common,
    duration: &mut Option<Duration>,
    live: Source,
) -> Result<(Source, Show), UsageError> {
    if common.output.duration.is_some() {
        return Err(UsageError("report has --for TIME instead of --duration".into()));
    }
    if common.output.json {
        return Err(UsageError(
            "a report is HTML: `tcptrail replay FILE life --json` has the figures of a recording as JSON".into(),
        ));
    }
    if args.file.is_some() && common.output.record_to.is_some() {
        return Err(UsageError("a replay cannot be recorded: copy the file instead".into()));
    }
    let source = match args.file {
        Some(file) => Source::File(file),
        None => {
            *duration = Some(args.time.unwrap_or(REPORT_WATCHES));
            live
        }
    };
    let options = ReportOptions {
        attach: !args.no_attach,
        output: args.output,
        thresholds: thresholds(&args.threshold)?,
    };
    Ok((source, Show::Report(options)))
}

fn listing(args: &OrderArgs) -> Result<Listing, UsageError> {
    Listing::new(&args.sort, args.reverse, args.top, &args.group_by)
}

fn stats(args: &StatsArgs, top: Option<usize>) -> Result<StatsOptions, UsageError> {
    let by = |text: &String| {
        let plain = text.trim().to_ascii_lowercase();
        let found = By::ALL.iter().find(|(_, name)| *name == plain);
        found.map(|(by, _)| *by).ok_or_else(|| {
            let names = By::ALL.map(|(_, name)| name);
            let like = suggest::nearest(&plain, &names);
            UsageError(format!("--by {text}: unknown{like}; use one of {}", names.join(", ")))
        })
    };
    if top == Some(0) {
        return Err(UsageError("--top 0 shows nothing: give the number of groups".into()));
    }
    let by = args.by.iter().map(by).collect::<Result<Vec<By>, UsageError>>()?;
    if top.is_some() && by.is_empty() {
        return Err(UsageError("--top is for groups: say which with --by".into()));
    }
    Ok(StatsOptions { by, histogram: args.histogram, top, watch: None })
}

fn incident(args: IncidentArgs, common: &Common) -> Result<Show, UsageError> {
    if common.output.duration.is_some() {
        return Err(UsageError("incident has --for TIME instead of --duration".into()));
    }
    if common.output.json {
        return Err(UsageError(
            "the page of incident is text: the bundle (-o FOLDER) has findings.ndjson and sockets.ndjson"
                .into(),
        ));
    }
    Ok(Show::Incident(IncidentOptions {
        attach: !args.no_attach,
        output: args.output,
        doctor: String::new(),
        thresholds: thresholds(&args.threshold)?,
        threshold_words: args.threshold,
    }))
}

fn leaks(args: &LeaksArgs, common: &Common) -> Result<Show, UsageError> {
    if args.folded && common.output.json {
        return Err(UsageError("--folded and --json are two formats: give one".into()));
    }
    if args.folded && args.watch.is_some() {
        return Err(UsageError(
            "--folded is written once, at the end: leave --watch out, and say how long with --duration"
                .into(),
        ));
    }
    if common.filters.min_duration.is_some() {
        return Err(UsageError("leaks has --older TIME instead of --min-duration".into()));
    }
    Ok(Show::Leaks(LeaksOptions {
        watch: args.watch,
        attach: !args.no_attach,
        older: args.older,
        folded: args.folded,
        full: args.full,
    }))
}

fn kill(args: &KillArgs, common: &Common, filter: &Filter) -> Result<Show, UsageError> {
    if *filter == Filter::default() {
        return Err(UsageError(
            "kill needs a filter, or it would end every connection of this machine: name a process (--pid), a port (--port), a state (--state CLOSE_WAIT)"
                .into(),
        ));
    }
    if common.output.record_to.is_some() || common.output.duration.is_some() {
        return Err(UsageError(
            "kill looks once and ends what it finds: leave --record and --duration out".into(),
        ));
    }
    let &KillArgs { yes, dry_run, max } = args;
    // clap sees it where both come after `kill`, not in `tcptrail -n kill --yes`.
    if yes && dry_run {
        return Err(UsageError(
            "-n (--dry-run) ends nothing, and --yes ends without asking: give one".into(),
        ));
    }
    Ok(Show::Kill(KillOptions { yes, dry_run, max }))
}

/// For `doctor` and `explain`: what else was given would be ignored.
///
/// # Errors
/// When a filter or a recording is asked for.
pub fn no_options(command: &str, common: &Common) -> Result<(), UsageError> {
    if !filter_words(&common.filters).is_empty()
        || common.output.record_to.is_some()
        || common.output.duration.is_some()
    {
        return Err(UsageError(format!(
            "{command} takes no filters and makes no recording: leave them out"
        )));
    }
    Ok(())
}

fn stuck(args: &StuckArgs, common: &Common) -> Result<StuckOptions, UsageError> {
    let thresholds = thresholds(&args.threshold)?;
    let gates = args
        .fail_on
        .iter()
        .map(|text| {
            Gate::parse(text).map_err(|error| UsageError(format!("--fail-on '{text}': {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if args.once && common.output.duration.is_none() && gates.iter().any(Gate::takes_time) {
        return Err(UsageError(
            "--fail-on with `for TIME` needs time: leave --once out, or add --duration".into(),
        ));
    }
    Ok(StuckOptions { once: args.once, thresholds, gates, openers: !args.no_openers })
}
