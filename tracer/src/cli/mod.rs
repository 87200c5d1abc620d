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
mod serve;

pub use common::{Common, Filters, RoleArg};
pub use habits::Habits;
pub use serve::ServeArgs;

/// The whole life of TCP connections, from the kernel: every state, who holds it, how it ended.
#[derive(Parser, Debug)]
#[command(
    name = "tcptrail",
    version,
    // Its own below says more with --verbose.
    disable_version_flag = true,
    after_help = "Without a command: tail. Needs root, or CAP_BPF and CAP_PERFMON (and CAP_SYS_ADMIN for \
                  network namespaces other than its own).\n\
                  Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 something is stuck (stuck --once) or a --fail-on holds.",
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do; `tail` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version; with --verbose also the commit, the eBPF objects and the features
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Filters and output.
    #[command(flatten)]
    pub common: Common,
}

/// What to do.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Every state transition, retransmit and reset as it happens (the default)
    #[command(after_help = examples::TAIL)]
    Tail,
    /// One line per finished connection: time in each state, who closed, how it ended
    #[command(after_help = examples::LIFE)]
    Life(LifeArgs),
    /// Every socket there is now: state and for how long, owner, queues
    #[command(after_help = examples::LIST)]
    List(ListArgs),
    /// How handshakes, round trips, times in each state, lives and bytes are spread: p50, p90, p99, p99.9
    #[command(after_help = examples::STATS)]
    Stats(StatsCommand),
    /// What is stuck or leaking, whose fault it is, and what to do
    #[command(after_help = examples::STUCK)]
    Stuck(StuckArgs),
    /// Sockets that were opened and not closed, by the code that opened them
    #[command(after_help = examples::LEAKS)]
    Leaks(LeaksArgs),
    /// A screen to look around in: findings, connections, processes, listeners, remotes, openers
    #[command(after_help = examples::TOP)]
    Top(TopArgs),
    /// One page for an emergency: what is wrong, whose code, until when, what to do; and a bundle of evidence
    #[command(after_help = examples::INCIDENT)]
    Incident(IncidentArgs),
    /// One HTML file that shows a recording, or this machine for a while, at a glance
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// End the connections that the filters choose, after a question that shows them
    #[command(after_help = examples::KILL)]
    Kill(KillArgs),
    /// Stay there as a service: Prometheus metrics and findings over HTTP
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Write everything received to FILE, to look at later with `replay`
    #[command(after_help = examples::RECORD)]
    Record {
        /// Where to: a new file that only you may read, or one of yours, which is overwritten
        file: PathBuf,
    },
    /// Show a recording as it was live; needs no privileges and no eBPF
    #[command(after_help = examples::REPLAY)]
    Replay(ReplayArgs),
    /// Try everything tcptrail needs from this kernel and say what works
    #[command(after_help = examples::DOCTOR)]
    Doctor,
    /// What a finding means, how it comes about, what to do: TT101, close_wait; without a name, all codes
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// The code of a finding, or the name of its rule
        code: Option<String>,
    },
    /// Print the completion script of a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a manual page, or write all of them
    #[command(after_help = examples::MAN)]
    Man {
        /// The command whose page is wanted; tcptrail's own when left out
        command: Option<String>,
        /// Write all pages into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

/// Options of `life`.
#[derive(Args, Debug, Clone, Default)]
pub struct LifeArgs {
    /// Print a connection when its TIME_WAIT is over, not when the closing handshake is complete
    #[arg(long)]
    pub with_time_wait: bool,
    /// At the end, print the connections that are still open, too
    #[arg(long)]
    pub unfinished: bool,
}

/// Options of `list`.
#[derive(Args, Debug, Clone, Default)]
pub struct ListArgs {
    /// Show it again every INTERVAL (2s when left out), until stopped; on a terminal as much of it as fits
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
    /// Sort by these, the first first: age, recv-q, send-q, rtt, retransmits (the largest first), state,
    /// process, comm, role, local, lport, remote, addr, rport, netns, container; -KEY for the other way.
    /// Groups also by count
    #[arg(long, value_name = "KEY", value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,
    /// The other way round
    #[arg(long)]
    pub reverse: bool,
    /// No more than N rows; the last line says how many are not shown
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// A row for each group of sockets that have these in common, with their number and the oldest age:
    /// state, process, comm, role, local, lport, remote, addr, rport, netns, container
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub group_by: Vec<String>,
}

/// Options of `stats`.
#[derive(Args, Debug, Clone, Default)]
pub struct StatsCommand {
    /// What is counted, and how it is shown.
    #[command(flatten)]
    pub what: StatsArgs,
    /// No more than N groups, those with the most connections
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show the figures so far every INTERVAL (10s when left out), not only at the end
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "10s",
          value_parser = time::parse)]
    pub watch: Option<Duration>,
}

/// Options of `stats`, live and of a recording.
#[derive(Args, Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsArgs {
    /// Figures for each group of connections that have these in common: process, comm (its name alone),
    /// service, remote, listener, how (it ended), failed (why it was never established)
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub by: Vec<String>,
    /// Bars, too: how many values are in each doubling
    #[arg(long)]
    pub histogram: bool,
}

/// Options of `leaks`.
#[derive(Args, Debug, Clone)]
pub struct LeaksArgs {
    /// Only sockets that have been open for this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time::parse)]
    pub older: Duration,
    /// Folded stacks, for flame graph tools: a line of frames for each stack, and how many sockets
    #[arg(long)]
    pub folded: bool,
    /// Every frame, those of the runtime and of libraries too
    #[arg(long)]
    pub full: bool,
    /// Do not ask JVMs for the names of compiled methods
    #[arg(long)]
    pub no_attach: bool,
    /// Report every INTERVAL (5s when left out), not only at the end; on a terminal it does so by
    /// itself
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "5s",
          value_parser = time::parse)]
    pub watch: Option<Duration>,
}

/// Options of `stuck`.
#[derive(Args, Debug, Clone, Default)]
pub struct StuckArgs {
    /// Look once, say what is stuck, and exit with 3 if anything is; with --duration, after watching that
    /// long
    #[arg(long)]
    pub once: bool,
    /// When something counts as stuck: CLOSE_WAIT=30s. Names: SYN_SENT 5s, SYN_RECV 10s, UNACCEPTED 10s,
    /// ESTABLISHED 30s (without progress), FIN_WAIT1 30s, FIN_WAIT2 2m, CLOSING 30s, CLOSE_WAIT 1m,
    /// LAST_ACK 30s, ACCEPT_QUEUE 5s (full), FDS 1h and PORTS 1h (time left), IDLE 5m, STALE_REUSE
    /// 0s (from the FIN to the request), IDLE_RESET 10s (idle before the RST), ESTABLISHED_IDLE 5m (and
    /// more of them come). May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// End with exit code 3 as soon as this holds: 'CLOSE_WAIT>100 for 60s'. What is counted: a TCP state,
    /// UNACCEPTED, FINDINGS; in percent FDS, PORTS, ACCEPT_QUEUE: 'FDS>=90%'. May be repeated
    #[arg(long, value_name = "CONDITION")]
    pub fail_on: Vec<String>,
    /// Do not take the stacks of threads that connect: findings then do not name the code
    #[arg(long)]
    pub no_openers: bool,
}

/// Options of `top`.
#[derive(Args, Debug, Clone, Default)]
pub struct TopArgs {
    /// When something counts as stuck, as in `stuck`: CLOSE_WAIT=30s. May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Also take the stacks of threads that accept and read, as `leaks` does: names the code that handles a
    /// server's connections, and costs more
    #[arg(long, conflicts_with = "no_openers")]
    pub accepted: bool,
    /// Do not take the stacks of threads that connect: the code is then not named
    #[arg(long)]
    pub no_openers: bool,
    /// Draw with ASCII characters only; without a UTF-8 locale it does so by itself
    #[arg(long)]
    pub ascii: bool,
}

/// Options of `incident`.
#[derive(Args, Debug, Clone)]
pub struct IncidentArgs {
    /// How long to watch; Ctrl-C ends the watch early, and the page is written all the same
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = time::parse)]
    pub time: Duration,
    /// Where the bundle goes: an archive when the name ends in .tar.zst, else a new folder; when left out,
    /// an archive named after the time in the current folder
    #[arg(short, long = "output", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Do not ask JVMs for names of methods, thread dumps and class histograms
    #[arg(long)]
    pub no_attach: bool,
    /// When something counts as stuck, as in `stuck`: CLOSE_WAIT=30s. May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
}

/// Options of `report`.
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    /// A file made by `tcptrail record` or `--record`, or a bundle made by `tcptrail incident`; when left
    /// out, this machine is watched
    pub file: Option<PathBuf>,
    /// How long to watch this machine (60s when left out); Ctrl-C ends the watch early, and the report is
    /// written all the same
    #[arg(long = "for", value_name = "TIME", conflicts_with = "file", value_parser = time::parse)]
    pub time: Option<Duration>,
    /// Where the report goes, - for stdout; when left out, a file named after the time in the current folder
    #[arg(short, long = "output", value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Do not ask JVMs for the names of compiled methods
    #[arg(long)]
    pub no_attach: bool,
    /// When something counts as stuck, as in `stuck`: CLOSE_WAIT=30s. May be repeated
    #[arg(long, value_name = "NAME=TIME", value_delimiter = ',')]
    pub threshold: Vec<String>,
}

/// Options of `kill`.
#[derive(Args, Debug, Clone)]
pub struct KillArgs {
    /// Do not ask, for scripts
    #[arg(short, long)]
    pub yes: bool,
    /// Only show what would be ended
    // Its id is that of the `-n` of all other commands, which would be a second `-n` here.
    #[arg(id = "numeric", short = 'n', long = "dry-run", conflicts_with = "yes")]
    pub dry_run: bool,
    /// With more than N sockets nothing is ended
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max: usize,
}

/// Options of `replay`.
#[derive(Args, Debug, Clone)]
pub struct ReplayArgs {
    /// A file made by `tcptrail record` or `--record`, or a bundle made by `tcptrail incident`
    pub file: PathBuf,
    /// What to show of it
    #[arg(value_enum, default_value_t = ReplayView::Tail)]
    pub view: ReplayView,
    /// With `life`: print a connection when its TIME_WAIT is over
    #[arg(long)]
    pub with_time_wait: bool,
    /// With `life`: print the connections that were still open at the end, too
    #[arg(long)]
    pub unfinished: bool,
    /// With `top`: how many times as fast as it was; + and - change it
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
    /// As `tcptrail stuck` into a pipe
    Stuck,
    /// As `tcptrail top`, with time under your control: pause, step, seek, speed
    Top,
    /// The page of `tcptrail incident`, from its bundle
    Incident,
}
