//! Options that all commands have.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Habits;
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
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// Only sockets of these processes: 1234, or several: 1234,5678
    #[arg(short, long, value_name = "PID", value_delimiter = ',', global = true)]
    pub pid: Vec<u32>,
    /// Only sockets of processes or threads of exactly this name; for several names give it again
    #[arg(long, value_name = "NAME", global = true)]
    pub comm: Vec<String>,
    /// Only these ports, on either side: 80, 8000-8099, or several: 80,443
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true)]
    pub port: Vec<String>,
    /// Only these local ports
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true)]
    pub lport: Vec<String>,
    /// Only these remote ports
    #[arg(long, value_name = "PORT", value_delimiter = ',', global = true)]
    pub rport: Vec<String>,
    /// Only these addresses or networks, on either side: 10.0.0.0/8, 2001:db8::1
    #[arg(long, value_name = "CIDR", value_delimiter = ',', global = true)]
    pub addr: Vec<String>,
    /// Only IPv4, v4-mapped IPv6 included
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6", global = true)]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long = "ipv6", global = true)]
    pub ipv6: bool,
    /// Only these states (tail: left or entered; life: been in; list: in now): CLOSE_WAIT, established,
    /// time-wait, ...
    #[arg(long, value_name = "STATE", value_delimiter = ',', global = true)]
    pub state: Vec<String>,
    /// Only connections where this machine is the client, or the server, or only listeners
    #[arg(long, value_enum, value_name = "ROLE", global = true)]
    pub role: Option<RoleArg>,
    /// Only this network namespace: its name, a path, an inode number, or pid:PID
    #[arg(long, value_name = "NS", global = true)]
    pub netns: Option<String>,
    /// Only sockets made in this cgroup or below it: a path below /sys/fs/cgroup
    #[arg(long, value_name = "PATH", global = true)]
    pub cgroup: Option<PathBuf>,
    /// Only sockets of these services, with * for any characters: nginx, 'shop-*.service'; for several give it again
    #[arg(long, value_name = "NAME", global = true)]
    pub service: Vec<String>,
    /// Only sockets of these containers: a name, with * for any characters, or 8 or more digits of an id
    #[arg(long, value_name = "NAME|ID", global = true)]
    pub container: Vec<String>,
    /// Only sockets of these pods, with * for any characters: shop/web-0, 'shop/*', '*/web-*'
    #[arg(long, value_name = "NS/NAME", global = true)]
    pub pod: Vec<String>,
    /// Only connections that ended so, when they end (tail, life, stats): fin, rst_sent, rst_received, timeout,
    /// refused, unreachable, aborted, unknown
    #[arg(long, value_name = "HOW", value_delimiter = ',', global = true)]
    pub how: Vec<String>,
    /// Only connects and handshakes that failed, when they do (tail, life, stats): refused, no answer,
    /// unreachable, reset, given up by the program, no free port
    #[arg(long, global = true)]
    pub failed: bool,
    /// Only what took at least this long: in tail the state just left, in life the whole connection,
    /// in list and stuck the present state
    #[arg(long, value_name = "TIME", value_parser = time::parse, global = true)]
    pub min_duration: Option<Duration>,
}

/// How it goes out, and for how long.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// One JSON object per line on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Stop by itself after this time: 30s, 5m; a replay ends with its file
    #[arg(long, value_name = "TIME", value_parser = time::parse, global = true)]
    pub duration: Option<Duration>,
    /// Also write everything received to FILE, as `tcptrail record` does
    #[arg(long = "record", value_name = "FILE", global = true)]
    pub record_to: Option<PathBuf>,
    /// No line with the names of columns (tail, life, list)
    #[arg(short = 'H', long, global = true)]
    pub no_header: bool,
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Say on stderr which hooks this kernel lacks; twice: the eBPF programs' debug messages too
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// How much is kept.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Memory for events on their way out of the kernel: a power of two, 4KiB to 1GiB; 4MiB when left out
    #[arg(long, value_name = "SIZE", global = true)]
    pub ring_size: Option<String>,
    /// Most connections kept in memory; what is beyond is counted as lost
    #[arg(long, value_name = "N", default_value_t = 1_000_000, global = true)]
    pub max_connections: usize,
    /// Do not trace the segments that the kernel drops
    #[arg(long, global = true)]
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
