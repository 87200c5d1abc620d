//! Options that all commands have.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Habits;
use crate::cli::help::{FILTERS, LIMITS, OUTPUT};
use crate::time;

/// Options of all commands.
#[derive(Args, Debug, Clone, Default)]
pub struct Common {
    /// Which connections.
    #[command(flatten)]
    pub filters: Filters,
    /// How it goes out, and for how long.
    #[command(flatten)]
    pub output: OutputArgs,
    /// How much is kept.
    #[command(flatten)]
    pub limits: Limits,
    /// What hands type that know `ss`.
    #[command(flatten)]
    pub habits: Habits,
}

/// Which connections are wanted.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = FILTERS)]
pub struct Filters {
    /// Only sockets of these processes: 1234, or 1234,5678
    #[arg(
        short,
        long,
        value_name = "PID",
        value_delimiter = ',',
        global = true,
        hide_short_help = true
    )]
    pub pid: Vec<u32>,
    /// Only sockets of processes or threads with exactly this name. May be repeated
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub comm: Vec<String>,
    /// Only these ports, on either side: 80, 8000-8099, or 80,443
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true, hide_short_help = true)]
    pub port: Vec<String>,
    /// Only these local ports
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true, hide_short_help = true)]
    pub lport: Vec<String>,
    /// Only these remote ports
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true, hide_short_help = true)]
    pub rport: Vec<String>,
    /// Only these addresses or networks, on either side: 10.0.0.0/8, 2001:db8::1
    #[arg(long, value_name = "CIDR", value_delimiter = ',', global = true, hide_short_help = true)]
    pub addr: Vec<String>,
    /// Only IPv4, including IPv4-mapped IPv6 addresses
    #[arg(
        short = '4',
        long = "ipv4",
        conflicts_with = "ipv6",
        global = true,
        hide_short_help = true
    )]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long = "ipv6", global = true, hide_short_help = true)]
    pub ipv6: bool,
    /// Only these states: CLOSE_WAIT, established, time-wait. tail: the state left or entered; life: any state
    /// the connection was in; list: the present state
    #[arg(
        long,
        value_name = "STATE",
        value_delimiter = ',',
        global = true,
        hide_short_help = true
    )]
    pub state: Vec<String>,
    /// Only connections in which this machine is the client or the server, or only listeners
    #[arg(long, value_enum, value_name = "ROLE", global = true, hide_short_help = true)]
    pub role: Option<RoleArg>,
    /// Only this network namespace: a name, a path, an inode number, or pid:PID
    #[arg(long, value_name = "NS", global = true, hide_short_help = true)]
    pub netns: Option<String>,
    /// Only sockets created in this cgroup or below it: a path below /sys/fs/cgroup
    #[arg(long, value_name = "PATH", global = true, hide_short_help = true)]
    pub cgroup: Option<PathBuf>,
    /// Only sockets of this service (* matches any characters): nginx, 'shop-*.service'. May be repeated
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub service: Vec<String>,
    /// Only sockets of this container: a name (with *), or at least 8 digits of its id. May be repeated
    #[arg(long, value_name = "NAME|ID", global = true, hide_short_help = true)]
    pub container: Vec<String>,
    /// Only sockets of this pod (with *): shop/web-0, 'shop/*', '*/web-*'. May be repeated
    #[arg(long, value_name = "NS/NAME", global = true, hide_short_help = true)]
    pub pod: Vec<String>,
    /// Only connections that end like this (tail, life, stats): fin, rst_sent, rst_received, timeout, refused,
    /// unreachable, aborted, unknown
    #[arg(long, value_name = "HOW", value_delimiter = ',', global = true, hide_short_help = true)]
    pub how: Vec<String>,
    /// Only connects and handshakes that fail (tail, life, stats): refused, no answer, unreachable, reset,
    /// given up by the program, no free port
    #[arg(long, global = true, hide_short_help = true)]
    pub failed: bool,
    /// Only what took at least this long: the state just left (tail), the whole connection (life), the present
    /// state (list, stuck)
    #[arg(long, value_name = "TIME", value_parser = time::parse, global = true, hide_short_help = true)]
    pub min_duration: Option<Duration>,
}

/// How it goes out, and for how long.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = OUTPUT)]
pub struct OutputArgs {
    /// Write JSON to stdout, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Stop after this time: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = time::parse, global = true)]
    pub duration: Option<Duration>,
    /// Also write all events to FILE, for `replay`
    #[arg(long = "record", value_name = "FILE", global = true)]
    pub record_to: Option<PathBuf>,
    /// Ask DNS for the names of remote addresses, in the background: a name is shown once it is known
    ///
    /// Without it, names are only from /etc/hosts and /etc/services. A name from DNS is what the owner of the address
    /// says.
    #[arg(long, global = true, hide_short_help = true)]
    pub resolve: bool,
    /// Leave out the column names (tail, life, list)
    #[arg(short = 'H', long, global = true)]
    pub no_header: bool,
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Name the hooks that this kernel lacks, on stderr
    ///
    /// Given twice, it also prints the debug messages of the eBPF programs.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// How much is kept.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = LIMITS)]
pub struct Limits {
    /// Size of the buffer between the kernel and tcptrail: a power of two, 4KiB to 1GiB [default: 4MiB]
    #[arg(long, value_name = "SIZE", global = true, hide_short_help = true)]
    pub ring_size: Option<String>,
    /// Keep at most N connections in memory; the others are counted as lost
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        global = true,
        hide_short_help = true
    )]
    pub max_connections: usize,
    /// Do not trace the segments that the kernel drops
    #[arg(long, global = true, hide_short_help = true)]
    pub no_drops: bool,
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
