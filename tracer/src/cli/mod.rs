//! The command line as clap sees it: structs only. `config` checks and resolves it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::time;

mod common;
mod examples;
pub mod generate;
mod habits;
pub mod help;
mod serve;

pub use common::{Common, Filters, RoleArg};
pub use habits::Habits;
pub use serve::ServeArgs;

use examples::two;

/// Traces the whole life of TCP connections: every state, its owner, how it ended.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "tcptrail",
    version,
    // Its own below says more with --verbose.
    disable_version_flag = true,
    // Its own below is short: filters and limits have help of their own.
    disable_help_flag = true,
    after_help = examples::TCPTRAIL,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do; `tail` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version; with --verbose, what it was built from
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Print this help; the filters: `tcptrail help filters`
    #[arg(short, long, action = clap::ArgAction::HelpShort, global = true)]
    pub help: Option<bool>,
    /// Filters and output.
    #[command(flatten)]
    pub common: Common,
}

/// A time as options have it: `30s`, `5m`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    time::parse(text).ok()
}

/// What to do.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Show each state change, retransmit and reset (the default)
    #[command(after_help = two(examples::TAIL), after_long_help = examples::TAIL)]
    Tail,
    /// Show finished connections: times, who closed, how they ended
    #[command(after_help = two(examples::LIFE), after_long_help = examples::LIFE)]
    Life(LifeArgs),
    /// List all sockets: their state and for how long, owner, queues
    #[command(after_help = two(examples::LIST), after_long_help = examples::LIST)]
    List(ListArgs),
    /// Show percentiles of handshakes, round trips, lifetimes and bytes
    #[command(after_help = two(examples::STATS), after_long_help = examples::STATS)]
    Stats(StatsCommand),
    /// Show what is stuck or leaks, whose fault it is, and what to do
    #[command(after_help = two(examples::STUCK), after_long_help = examples::STUCK)]
    Stuck(StuckArgs),
    /// Show sockets that stay open, by the code that opened them
    #[command(after_help = two(examples::LEAKS), after_long_help = examples::LEAKS)]
    Leaks(LeaksArgs),
    /// Browse findings, connections, processes and listeners on a screen
    #[command(after_help = two(examples::TOP), after_long_help = examples::TOP)]
    Top(TopArgs),
    /// Write one page for an emergency, and an archive of the evidence
    #[command(after_help = examples::INCIDENT)]
    Incident(IncidentArgs),
    /// Write one HTML file about a recording or about this machine
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// End the connections that the filters match; asks before it does
    #[command(after_help = two(examples::KILL), after_long_help = examples::KILL)]
    Kill(KillArgs),
    /// Run as a service: Prometheus metrics and findings over HTTP
    #[command(after_help = two(examples::SERVE), after_long_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Write all events to FILE, to look at later with `replay`
    #[command(after_help = examples::RECORD)]
    Record {
        /// The file to write. An existing file is overwritten if it is yours; only you may read it
        file: PathBuf,
    },
    /// Show a recording as it was live; needs no root and no eBPF
    #[command(after_help = two(examples::REPLAY), after_long_help = examples::REPLAY, mut_args = help::of_a_view)]
    Replay(ReplayArgs),
    /// Check what tcptrail needs from this kernel, and say what works
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// Print the help of a command, of `filters` or of `options`
    #[command(after_help = examples::HELP)]
    Help {
        /// A command, `filters` or `options`
        topic: Option<String>,
    },
    /// Explain a finding: its meaning, its causes, what to do
    #[command(after_help = two(examples::EXPLAIN), after_long_help = examples::EXPLAIN)]
    Explain {
        /// The code of a finding (TT101) or the name of its rule (close_wait); without it, all codes
        code: Option<String>,
    },
    /// Print the completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a manual page, or write all of them
    #[command(after_help = two(examples::MAN), after_long_help = examples::MAN)]
    Man {
        /// The command whose page you want; without it, the page of tcptrail
        command: Option<String>,
        /// Write all pages into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

/// Options of `life`.
#[derive(Args, Debug, Clone, Default)]
pub struct LifeArgs {
    /// Print a connection when its TIME_WAIT is over, not already after its closing handshake
    #[arg(long)]
    pub with_time_wait: bool,
    /// At the end, also print the connections that are still open
    #[arg(long)]
    pub unfinished: bool,
}

/// Options of `list`.
#[derive(Args, Debug, Clone, Default)]
pub struct ListArgs {
    /// Repeat the list every INTERVAL (2s when left out). On a terminal it shows as many rows as fit
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s",
          value_parser = time::parse)]
    pub watch: Option<Duration>,
    /// Order, limit and groups.
    #[command(flatten)]
    pub order: OrderArgs,
}

/// How `list` sorts, limits and groups.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderArgs {
    /// Sort by these keys: age, recv-q, send-q, rtt, retransmits (these start with the largest), state, process,
    /// comm, role, local, lport, remote, addr, rport, netns, container; groups also by count. -KEY reverses one
    #[arg(long, value_name = "KEY", value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,
    /// Reverse the order
    #[arg(long)]
    pub reverse: bool,
    /// Show at most N rows; the last line counts the others
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show a row per group of sockets, with their number and the oldest age. Keys: state, process, comm, role,
    /// local, lport, remote, addr, rport, netns, container
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub group_by: Vec<String>,
}

/// Options of `stats`.
#[derive(Args, Debug, Clone, Default)]
pub struct StatsCommand {
    /// What is counted, and how it is shown.
    #[command(flatten)]
    pub what: StatsArgs,
    /// Show at most N groups, those with the most connections
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show the figures every INTERVAL (10s when left out), not only at the end
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "10s",
          value_parser = time::parse)]
    pub watch: Option<Duration>,
}

/// Options of `stats`, live and of a recording.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsArgs {
    /// Show figures per group of connections. Keys: process, comm (the name alone), service, remote, listener,
    /// how (it ended), failed (why it was never established)
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub by: Vec<String>,
    /// Also draw bars: the number of values between each bound and twice that bound
    #[arg(long)]
    pub histogram: bool,
}

/// Options of `leaks`.
#[derive(Args, Debug, Clone)]
pub struct LeaksArgs {
    /// Only sockets that have been open for at least this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time::parse)]
    pub older: Duration,
    /// Write folded stacks for flame graph tools: a line per stack, with its number of sockets
    #[arg(long)]
    pub folded: bool,
    /// Show every frame, including those of the runtime and of libraries
    #[arg(long)]
    pub full: bool,
    /// Do not ask JVMs for the names of compiled methods
    #[arg(long)]
    pub no_attach: bool,
    /// Report every INTERVAL (5s when left out), not only at the end. On a terminal this is the default
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "5s",
          value_parser = time::parse)]
    pub watch: Option<Duration>,
}

/// Options of `stuck`.
#[derive(Args, Debug, Clone, Default)]
pub struct StuckArgs {
    /// Look once, print the findings, and exit with code 3 if something is stuck. With --duration, watch for
    /// that time first
    #[arg(long)]
    pub once: bool,
    /// How long until something counts as stuck: CLOSE_WAIT=30s. May be repeated. Defaults: SYN_SENT 5s,
    /// SYN_RECV 10s, UNACCEPTED 10s, ESTABLISHED 30s, FIN_WAIT1 30s, FIN_WAIT2 2m, CLOSING 30s, CLOSE_WAIT 1m,
    /// LAST_ACK 30s, CLOSED 1m, COLLECTED 1m, ACCEPT_QUEUE 5s, FDS 1h, PORTS 1h, IDLE 5m, STALE_REUSE 0s,
    /// IDLE_RESET 10s, ESTABLISHED_IDLE 5m, TIME_WAIT_OVERFLOW 1m, RECORDER 0s (of serve)
    ///
    /// ESTABLISHED: time without progress. ACCEPT_QUEUE: time that the queue has been full. FDS and PORTS: time
    /// until they run out. STALE_REUSE: time from the FIN to the request. IDLE_RESET: idle time before the RST.
    /// ESTABLISHED_IDLE: idle time, while more such connections come.
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Stop with exit code 3 as soon as this holds: 'CLOSE_WAIT>100 for 60s', 'FDS>=90%'. It counts a TCP state,
    /// UNACCEPTED or FINDINGS, or takes the percentage of FDS, PORTS or ACCEPT_QUEUE. May be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_on: Vec<String>,
    /// Do not take the stacks of connecting threads; findings then do not name the code
    #[arg(long)]
    pub no_openers: bool,
}

/// Options of `top`.
#[derive(Args, Debug, Clone, Default)]
pub struct TopArgs {
    /// How long until something counts as stuck: CLOSE_WAIT=30s (names: `stuck --help`). May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Also name the code that handles a server's connections. This takes the stacks of threads that accept and
    /// read, as `leaks` does, and costs more
    #[arg(long, conflicts_with = "no_openers")]
    pub accepted: bool,
    /// Do not take the stacks of connecting threads; the code is then unknown
    #[arg(long)]
    pub no_openers: bool,
    /// Draw with ASCII characters only. Without a UTF-8 locale this is the default
    #[arg(long)]
    pub ascii: bool,
}

/// Options of `incident`.
#[derive(Args, Debug, Clone)]
pub struct IncidentArgs {
    /// How long to watch. After Ctrl-C, the page is written at once
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = time::parse)]
    pub time: Duration,
    /// Where to write the evidence: an archive if the name ends in .tar.zst, else a new folder. Without it, an
    /// archive in the current folder, named after the time
    #[arg(short, long = "output", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Do not ask JVMs for method names, thread dumps and class histograms
    #[arg(long)]
    pub no_attach: bool,
    /// How long until something counts as stuck: CLOSE_WAIT=30s (names: `stuck --help`). May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
}

/// Options of `report`.
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// A file from `tcptrail record` or `--record`, a directory of `tcptrail serve --recorder`, or an archive
    /// from `tcptrail incident`. Without it, tcptrail watches this machine
    pub file: Option<PathBuf>,
    /// Which part of it.
    #[command(flatten)]
    pub span: SpanArgs,
    /// How long to watch this machine (60s when left out). After Ctrl-C, the report is written at once
    #[arg(long = "for", value_name = "TIME", conflicts_with = "file", value_parser = time::parse)]
    pub time: Option<Duration>,
    /// Where to write the report; - is stdout. Without it, a file in the current folder, named after the time
    #[arg(short, long = "output", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Do not ask JVMs for the names of compiled methods
    #[arg(long)]
    pub no_attach: bool,
    /// How long until something counts as stuck: CLOSE_WAIT=30s (names: `stuck --help`). May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
}

/// Options of `kill`.
#[derive(Args, Debug, Clone)]
pub struct KillArgs {
    /// Do not ask (for scripts)
    #[arg(short, long)]
    pub yes: bool,
    /// Only show what it would end
    // Its id is that of the `-n` of all other commands, which would be a second `-n` here.
    #[arg(id = "numeric", short = 'n', long = "dry-run", conflicts_with = "yes")]
    pub dry_run: bool,
    /// If more than N sockets match, end none of them
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max: usize,
}

/// Which part of a recording.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct SpanArgs {
    /// Begin at this time: 03:00 (on the last recorded day), '2026-11-28 03:00' (both in your time zone),
    /// 2026-11-28T03:00:00Z, or -20m (before the end)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// End at this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Show the ten minutes before and after a finding of a flight recorder: its `id` in `stuck --json`, or a code
    /// such as TT101 for the newest
    #[arg(long, value_name = "FINDING", conflicts_with_all = ["from", "to"])]
    pub around: Option<String>,
}

/// Options of `replay`.
#[derive(Args, Debug, Clone)]
pub struct ReplayArgs {
    /// A file from `tcptrail record` or `--record`, a directory of `tcptrail serve --recorder`, or an archive
    /// from `tcptrail incident`
    pub file: PathBuf,
    /// Which part of it.
    #[command(flatten)]
    pub span: SpanArgs,
    /// How to show it
    #[arg(value_enum, default_value_t = ReplayView::Tail)]
    pub view: ReplayView,
    /// With `life`: print a connection when its TIME_WAIT is over
    #[arg(long)]
    pub with_time_wait: bool,
    /// With `life`: also print the connections that were still open at the end
    #[arg(long)]
    pub unfinished: bool,
    /// With `top`: the speed, 1 for the original; the keys + and - change it
    #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
    pub speed: f64,
    /// With `top`: draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
    /// With `stuck`: its options
    #[command(flatten)]
    pub stuck: StuckArgs,
    /// With `list`: its order, limit and groups.
    #[command(flatten)]
    pub order: OrderArgs,
    /// With `stats`: its options.
    #[command(flatten)]
    pub stats: StatsArgs,
}

/// Views that work on recordings.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayView {
    /// As `tcptrail tail`
    Tail,
    /// As `tcptrail life`
    Life,
    /// As `tcptrail list`, at the recording's end
    List,
    /// As `tcptrail stats`
    Stats,
    /// As `tcptrail stuck` writes it to a pipe
    Stuck,
    /// As `tcptrail top`, with keys to pause, step, seek and change the speed
    Top,
    /// The page of `tcptrail incident`, from its archive
    Incident,
}
