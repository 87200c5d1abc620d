//! The command line as clap sees it: structs only. `config` checks and resolves it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

mod examples;
pub mod generate;

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
    /// What is stuck or leaking, whose fault it is, and what to do
    #[command(after_help = examples::STUCK)]
    Stuck(StuckArgs),
    /// Sockets that were opened and not closed, by the code that opened them
    #[command(after_help = examples::LEAKS)]
    Leaks(LeaksArgs),
    /// One page for an emergency: what is wrong, whose code, until when, what to do; and a bundle of evidence
    #[command(after_help = examples::INCIDENT)]
    Incident(IncidentArgs),
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
    /// Show it again every INTERVAL (2s when left out), until stopped; with the equals sign: --watch=5s
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s",
          require_equals = true, value_parser = humantime::parse_duration)]
    pub watch: Option<Duration>,
}

/// Options of `leaks`.
#[derive(Args, Debug, Clone)]
pub struct LeaksArgs {
    /// Only sockets that have been open for this long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
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
    /// itself. With the equals sign: --watch=1m
    #[arg(short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "5s",
          require_equals = true, value_parser = humantime::parse_duration)]
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

/// Options of `incident`.
#[derive(Args, Debug, Clone)]
pub struct IncidentArgs {
    /// How long to watch; Ctrl-C ends the watch early, and the page is written all the same
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
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
    /// With `stuck`: its options
    #[command(flatten)]
    pub stuck: StuckArgs,
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
    /// As `tcptrail stuck` into a pipe
    Stuck,
    /// The page of `tcptrail incident`, from its bundle
    Incident,
}

/// Options of all commands.
#[derive(Args, Debug, Clone, Default)]
pub struct Common {
    /// Only sockets of these processes: 1234, or several: 1234,5678
    #[arg(
        short,
        long,
        value_name = "PID",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub pid: Vec<u32>,
    /// Only sockets of processes or threads of exactly this name; for several names give it again
    #[arg(long, value_name = "NAME", global = true, help_heading = "Filters")]
    pub comm: Vec<String>,
    /// Only these ports, on either side: 80, 8000-8099, or several: 80,443
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub port: Vec<String>,
    /// Only these local ports
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub lport: Vec<String>,
    /// Only these remote ports
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub rport: Vec<String>,
    /// Only these addresses or networks, on either side: 10.0.0.0/8, 2001:db8::1
    #[arg(
        long,
        value_name = "CIDR",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub addr: Vec<String>,
    /// Only IPv4, v4-mapped IPv6 included
    #[arg(
        short = '4',
        long = "ipv4",
        conflicts_with = "ipv6",
        global = true,
        help_heading = "Filters"
    )]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long = "ipv6", global = true, help_heading = "Filters")]
    pub ipv6: bool,
    /// Only these states (tail: left or entered; life: been in; list: in now): CLOSE_WAIT, established,
    /// time-wait, ...
    #[arg(
        long,
        value_name = "STATE",
        value_delimiter = ',',
        global = true,
        help_heading = "Filters"
    )]
    pub state: Vec<String>,
    /// Only connections where this machine is the client, or the server, or only listeners
    #[arg(long, value_enum, value_name = "ROLE", global = true, help_heading = "Filters")]
    pub role: Option<RoleArg>,
    /// Only this network namespace: its name, a path, an inode number, or pid:PID
    #[arg(long, value_name = "NS", global = true, help_heading = "Filters")]
    pub netns: Option<String>,
    /// Only sockets made in this cgroup or below it: a path below /sys/fs/cgroup
    #[arg(long, value_name = "PATH", global = true, help_heading = "Filters")]
    pub cgroup: Option<PathBuf>,
    /// Only what took at least this long: in tail the state just left, in life the whole connection,
    /// in list and stuck the present state
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, global = true, help_heading = "Filters")]
    pub min_duration: Option<Duration>,

    /// One JSON object per line on stdout
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Stop by itself after this time: 30s, 5m; a replay ends with its file
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, global = true, help_heading = "Output")]
    pub duration: Option<Duration>,
    /// Also write everything received to FILE, as `tcptrail record` does
    #[arg(long = "record", value_name = "FILE", global = true, help_heading = "Output")]
    pub record_to: Option<PathBuf>,
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true, help_heading = "Output")]
    pub no_color: bool,
    /// Say on stderr which hooks this kernel lacks; twice: the eBPF programs' debug messages too
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Output")]
    pub verbose: u8,

    /// Memory for events on their way out of the kernel: a power of two, 4KiB to 1GiB
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "16MiB",
        global = true,
        help_heading = "Limits"
    )]
    pub ring_size: String,
    /// Most connections kept in memory; what is beyond is counted as lost
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        global = true,
        help_heading = "Limits"
    )]
    pub max_connections: usize,
}

/// `--role`.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleArg {
    /// We sent the SYN
    Client,
    /// We received the SYN
    Server,
    /// It listens
    Listener,
}
