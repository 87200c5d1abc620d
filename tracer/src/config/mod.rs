//! The command line, checked and resolved: what is wrong is said in one sentence with the remedy.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tracer_common::TcpState;
use tracer_common::globals;

use crate::cli::{Command, Common, LeaksArgs, ReplayView, RoleArg, StuckArgs};
use crate::engine::conn::Role;
use crate::engine::rules::{self, Gate, Thresholds};
use crate::event::Family;
use crate::filter::{Cgroup, Filter, Ports, Prefix};

/// What is wrong with the command line; exit code 2.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Which view prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Transitions.
    Tail,
    /// Finished connections.
    Life {
        /// Wait for the end of TIME_WAIT.
        with_time_wait: bool,
    },
    /// What there is.
    List {
        /// Again after this time.
        watch: Option<Duration>,
    },
    /// Who opened what is still open.
    Leaks(LeaksOptions),
    /// What is stuck.
    Stuck {
        /// One answer, then the end.
        once: bool,
    },
    /// Nothing: only recording.
    Nothing,
}

/// How `leaks` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaksOptions {
    /// Again after this time.
    pub watch: Option<Duration>,
    /// JVMs may be asked for names.
    pub attach: bool,
    /// Only sockets that have been open for this long.
    pub older: Duration,
    /// Folded stacks, as flame graph tools read them.
    pub folded: bool,
    /// All frames.
    pub full: bool,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This kernel.
    Live {
        /// Size of the ring buffer in bytes.
        ring_bytes: u32,
    },
    /// A recording.
    File(PathBuf),
}

/// Everything a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where events come from.
    pub source: Source,
    /// What prints.
    pub show: Show,
    /// What is shown.
    pub filter: Filter,
    /// The filters as given, for headers.
    pub filter_words: Vec<String>,
    /// NDJSON.
    pub json: bool,
    /// Stop by itself.
    pub duration: Option<Duration>,
    /// Also record.
    pub record_to: Option<PathBuf>,
    /// Colours may be used.
    pub color: bool,
    /// More on stderr.
    pub verbose: u8,
    /// Most connections kept.
    pub max_connections: usize,
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// Conditions that end the run with exit code 3.
    pub gates: Vec<Gate>,
    /// `stuck` is to name the code that opened a socket.
    pub openers: bool,
}

impl Config {
    /// What the rules are to do in a run of this origin.
    #[must_use]
    pub fn rules(&self, jiffy_ns: u64) -> rules::Options {
        rules::Options { thresholds: self.thresholds, gates: self.gates.clone(), jiffy_ns }
    }
}

/// Checks and resolves a command line; `doctor` has no configuration.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn resolve(command: Option<Command>, common: &Common) -> Result<Config, UsageError> {
    let filter = filter(common)?;
    let live = Source::Live { ring_bytes: ring_bytes(&common.ring_size)? };
    let mut record_to = common.record_to.clone();
    let mut stuck_args = StuckArgs::default();
    let (source, show) = match command.unwrap_or(Command::Tail) {
        Command::Tail => (live, Show::Tail),
        Command::Life(args) => (live, Show::Life { with_time_wait: args.with_time_wait }),
        Command::List(args) => (live, Show::List { watch: args.watch }),
        Command::Leaks(args) => (live, leaks(&args, common)?),
        Command::Stuck(args) => {
            let once = args.once;
            stuck_args = args;
            (live, Show::Stuck { once })
        }
        Command::Record { file } => {
            if record_to.replace(file).is_some() {
                return Err(UsageError(
                    "`record FILE` and `--record FILE` are the same: give one".into(),
                ));
            }
            (live, Show::Nothing)
        }
        Command::Replay(args) => {
            if record_to.is_some() {
                return Err(UsageError(
                    "a replay cannot be recorded: copy the file instead".into(),
                ));
            }
            if common.duration.is_some() {
                return Err(UsageError(
                    "--duration is for live runs: a replay runs to the file's end".into(),
                ));
            }
            let show = match args.view {
                ReplayView::Tail => Show::Tail,
                ReplayView::Life => Show::Life { with_time_wait: args.with_time_wait },
                ReplayView::List => Show::List { watch: None },
                ReplayView::Stuck => Show::Stuck { once: args.stuck.once },
            };
            let has_stuck = args.stuck.once
                || !args.stuck.threshold.is_empty()
                || !args.stuck.fail_on.is_empty();
            if has_stuck && args.view != ReplayView::Stuck {
                return Err(UsageError(
                    "--once, --threshold and --fail-on go with `replay FILE stuck`".into(),
                ));
            }
            stuck_args = args.stuck;
            if args.with_time_wait && args.view != ReplayView::Life {
                return Err(UsageError("--with-time-wait goes with `replay FILE life`".into()));
            }
            (Source::File(args.file), show)
        }
        // `no_options` has seen it.
        Command::Doctor => return Err(UsageError("doctor has no view".into())),
    };
    if common.max_connections == 0 {
        return Err(UsageError("--max-connections must be at least 1".into()));
    }
    if common.cgroup.is_some() && matches!(source, Source::File(_)) {
        return Err(UsageError(
            "--cgroup is decided while recording: give it to `tcptrail record`".into(),
        ));
    }
    let (thresholds, gates) = stuck(&stuck_args, common)?;
    Ok(Config {
        thresholds,
        gates,
        openers: !stuck_args.no_openers,
        source,
        show,
        filter,
        filter_words: filter_words(common),
        json: common.json,
        duration: common.duration,
        record_to,
        color: !common.no_color
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        verbose: common.verbose,
        max_connections: common.max_connections,
    })
}

fn leaks(args: &LeaksArgs, common: &Common) -> Result<Show, UsageError> {
    if args.folded && common.json {
        return Err(UsageError("--folded and --json are two formats: give one".into()));
    }
    if args.folded && args.watch.is_some() {
        return Err(UsageError(
            "--folded is written once, at the end: leave --watch out, and say how long with --duration"
                .into(),
        ));
    }
    if common.min_duration.is_some() {
        return Err(UsageError("leaks has --older for what --min-duration does elsewhere".into()));
    }
    Ok(Show::Leaks(LeaksOptions {
        watch: args.watch,
        attach: !args.no_attach,
        older: args.older,
        folded: args.folded,
        full: args.full,
    }))
}

/// For `doctor`: what else was given would be ignored.
///
/// # Errors
/// When a filter or a recording is asked for.
pub fn no_options(common: &Common) -> Result<(), UsageError> {
    if !filter_words(common).is_empty() || common.record_to.is_some() || common.duration.is_some() {
        return Err(UsageError(
            "doctor takes no filters and makes no recording: leave them out".into(),
        ));
    }
    Ok(())
}

fn stuck(args: &StuckArgs, common: &Common) -> Result<(Thresholds, Vec<Gate>), UsageError> {
    let mut thresholds = Thresholds::default();
    for text in &args.threshold {
        thresholds.set(text).map_err(|error| UsageError(format!("--threshold {text}: {error}")))?;
    }
    let gates = args
        .fail_on
        .iter()
        .map(|text| {
            Gate::parse(text).map_err(|error| UsageError(format!("--fail-on '{text}': {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if args.once && common.duration.is_none() && gates.iter().any(Gate::takes_time) {
        return Err(UsageError(
            "--fail-on with `for TIME` needs time: leave --once out, or add --duration".into(),
        ));
    }
    Ok((thresholds, gates))
}

fn filter(common: &Common) -> Result<Filter, UsageError> {
    let ports = |option: &str, list: &[String]| {
        list.iter().map(|text| port_range(option, text)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Filter {
        pids: common.pid.clone(),
        comms: common.comm.iter().map(|name| name.clone().into_bytes()).collect(),
        ports: ports("--port", &common.port)?,
        local_ports: ports("--lport", &common.lport)?,
        remote_ports: ports("--rport", &common.rport)?,
        prefixes: common.addr.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?,
        family: match (common.ipv4, common.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        },
        states: common.state.iter().map(|text| state(text)).collect::<Result<_, _>>()?,
        role: common.role.map(|role| match role {
            RoleArg::Client => Role::Client,
            RoleArg::Server => Role::Server,
            RoleArg::Listener => Role::Listener,
        }),
        netns: common.netns.as_deref().map(netns).transpose()?,
        cgroup: common.cgroup.as_deref().map(cgroup).transpose()?,
        min_ns: common
            .min_duration
            .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
    })
}

fn port_range(option: &str, text: &str) -> Result<Ports, UsageError> {
    let wrong = || {
        UsageError(format!(
            "{option} {text}: not a port or range of ports; ports are 1 to 65535, a range is 8000-8099"
        ))
    };
    let port =
        |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(wrong);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(UsageError(format!(
            "{option} {text}: the range is empty; write the smaller port first"
        )));
    }
    Ok(Ports { first, last })
}

fn prefix(text: &str) -> Result<Prefix, UsageError> {
    let (addr, length) = match text.split_once('/') {
        Some((addr, length)) => (addr, Some(length)),
        None => (text, None),
    };
    let addr: IpAddr = addr.trim_matches(['[', ']']).parse().map_err(|_| {
        UsageError(format!(
            "--addr {text}: not an address; write 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32"
        ))
    })?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => length.parse().ok().filter(|&length| length <= most).ok_or_else(|| {
            UsageError(format!("--addr {text}: the prefix length must be 0 to {most}"))
        })?,
    };
    Ok(Prefix::new(addr, length))
}

/// netstat's and ss's names, in any case.
fn state(text: &str) -> Result<TcpState, UsageError> {
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    let found = match plain.as_str() {
        "ESTAB" => Some(TcpState::Established),
        "CLOSED" | "UNCONN" => Some(TcpState::Close),
        "LISTENING" => Some(TcpState::Listen),
        name => TcpState::ALL.into_iter().find(|state| state.name().replace('_', "") == name),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = TcpState::ALL.iter().map(|state| state.name()).collect();
        UsageError(format!("--state {text}: no TCP state; one of {}", names.join(", ")))
    })
}

fn netns(text: &str) -> Result<u32, UsageError> {
    if let Ok(inode) = text.parse() {
        return Ok(inode);
    }
    let path = if let Some(pid) = text.strip_prefix("pid:") {
        PathBuf::from(format!("/proc/{pid}/ns/net"))
    } else if text.contains('/') {
        PathBuf::from(text)
    } else {
        Path::new("/run/netns").join(text)
    };
    crate::kernel::netns::inode(&path).map_err(|error| {
        UsageError(format!(
            "--netns {text}: {} is no network namespace ({error}); give a name of `ip netns`, a path, an inode number or pid:PID",
            path.display()
        ))
    })
}

/// Of the kernel's own root of the cgroups (`kernfs_create_root`). In a cgroup namespace what is mounted
/// begins further down.
const ROOT_INODE: u64 = 1;

fn cgroup(path: &Path) -> Result<Cgroup, UsageError> {
    let text = path.display();
    let root = crate::kernel::cgroups::root().ok_or_else(|| {
        UsageError(format!(
            "--cgroup {text}: no cgroup version 2 hierarchy is mounted here, and sockets have no cgroup of version 1"
        ))
    })?;
    let full = if path.starts_with(&root) {
        path.to_owned()
    } else {
        root.join(path.strip_prefix("/").unwrap_or(path))
    };
    let inside = full.strip_prefix(&root).unwrap_or(&full);
    let metadata = fs::metadata(&full).ok().filter(fs::Metadata::is_dir).ok_or_else(|| {
        UsageError(format!("--cgroup {text}: there is no cgroup {}", full.display()))
    })?;
    let is_whole = fs::metadata(&root).is_ok_and(|root| root.ino() == ROOT_INODE);
    let level = u32::try_from(inside.components().count()).ok().filter(|_| is_whole);
    let level = level.unwrap_or(globals::Filter::ANY_LEVEL);
    let id = metadata.ino();
    let below = Path::new("/").join(inside);
    let within = crate::kernel::cgroups::all()
        .into_iter()
        .filter(|(_, path)| path.starts_with(&below))
        .map(|(id, _)| id)
        .chain([id])
        .collect();
    Ok(Cgroup { id, level, within })
}

fn ring_bytes(text: &str) -> Result<u32, UsageError> {
    let wrong = || {
        UsageError(format!(
            "--ring-size {text}: not a size; a power of two from 4KiB to 1GiB, like 64KiB or 16MiB"
        ))
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if !bytes.is_power_of_two() || bytes < page || bytes > 1 << 30 {
        return Err(wrong());
    }
    u32::try_from(bytes).map_err(|_| wrong())
}

/// The filters in the words of the command line.
fn filter_words(common: &Common) -> Vec<String> {
    let mut words = Vec::new();
    let mut list = |option: &str, values: Vec<String>| {
        if !values.is_empty() {
            words.push(format!("{option} {}", values.join(",")));
        }
    };
    list("--pid", common.pid.iter().map(u32::to_string).collect());
    list("--comm", common.comm.clone());
    list("--port", common.port.clone());
    list("--lport", common.lport.clone());
    list("--rport", common.rport.clone());
    list("--addr", common.addr.clone());
    list("--state", common.state.clone());
    list("--role", common.role.iter().map(|role| format!("{role:?}").to_lowercase()).collect());
    list("--netns", common.netns.iter().cloned().collect());
    list("--cgroup", common.cgroup.iter().map(|path| path.display().to_string()).collect());
    list(
        "--min-duration",
        common
            .min_duration
            .iter()
            .map(|time| humantime::format_duration(*time).to_string().replace(' ', ""))
            .collect(),
    );
    if common.ipv4 {
        words.push("--ipv4".to_owned());
    }
    if common.ipv6 {
        words.push("--ipv6".to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_checked() {
        let check = |text: &str, expect: Option<(u16, u16)>| {
            let range = port_range("--port", text).ok().map(|range| (range.first, range.last));
            assert_eq!(range, expect, "{text}");
        };
        check("80", Some((80, 80)));
        check("8000-8099", Some((8000, 8099)));
        check("0", None);
        check("70000", None);
        check("8099-8000", None);
        check("http", None);
        check("-5", None);
        check("", None);
    }

    #[test]
    fn addresses_are_checked() {
        let check = |text: &str, good| assert_eq!(prefix(text).is_ok(), good, "{text}");
        check("10.0.0.0/8", true);
        check("10.0.0.0/33", false);
        check("2001:db8::/129", false);
        check("[2001:db8::1]", true);
        check("10.0.0", false);
        check("10.0.0.0/", false);
    }

    #[test]
    fn states_go_by_all_their_names() {
        let check = |text: &str, expect| assert_eq!(state(text).ok(), expect, "{text}");
        check("CLOSE_WAIT", Some(TcpState::CloseWait));
        check("close-wait", Some(TcpState::CloseWait));
        check("ESTAB", Some(TcpState::Established));
        check("fin_wait1", Some(TcpState::FinWait1));
        check("FIN-WAIT-2", Some(TcpState::FinWait2));
        check("FOO", None);
    }

    #[test]
    fn ring_sizes_are_checked() {
        let check = |text: &str, expect| assert_eq!(ring_bytes(text).ok(), expect, "{text}");
        check("64KiB", Some(65536));
        check("16M", Some(16 << 20));
        check("65536", Some(65536));
        check("3MiB", None);
        check("1", None);
        check("4GiB", None);
        check("lots", None);
        check("99999999999999999999G", None);
    }
}
