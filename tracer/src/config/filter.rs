//! The filters of the command line.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use tracer_common::TcpState;
use tracer_common::globals;

use crate::cli::{Cli, Filters, RoleArg};
use crate::config::error::UsageError;
use crate::engine::conn::{How, Role};
use crate::event::Family;
use crate::filter::{Cgroup, Filter, Ports, Prefix};
use crate::places::Places;
use crate::text::suggest;

/// All of them, checked.
pub(super) fn filter(args: &Filters) -> Result<Filter, UsageError> {
    let ports = |option: &str, list: &[String]| {
        list.iter().map(|text| port_range(option, text)).collect::<Result<Vec<_>, _>>()
    };
    Ok(Filter {
        pids: args.pid.clone(),
        comms: args.comm.iter().map(|name| name.clone().into_bytes()).collect(),
        ports: ports("--port", &args.port)?,
        local_ports: ports("--lport", &args.lport)?,
        remote_ports: ports("--rport", &args.rport)?,
        prefixes: args.addr.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?,
        family: match (args.ipv4, args.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        },
        states: args.state.iter().map(|text| state(text)).collect::<Result<_, _>>()?,
        role: args.role.map(|role| match role {
            RoleArg::Client => Role::Client,
            RoleArg::Server => Role::Server,
            RoleArg::Listener => Role::Listener,
        }),
        netns: args.netns.as_deref().map(netns).transpose()?,
        cgroup: args.cgroup.as_deref().map(cgroup).transpose()?,
        places: Places::new(
            args.service.clone(),
            args.container.clone(),
            args.pod.iter().map(|text| pod(text)).collect::<Result<_, _>>()?,
        ),
        hows: args.how.iter().map(|text| how(text)).collect::<Result<_, _>>()?,
        failed: args.failed,
        min_ns: args
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
        let like = suggest::nearest(text, &names);
        UsageError(format!(
            "--state {text}: not a TCP state{like}; use one of {}",
            names.join(", ")
        ))
    })
}

/// The words of `how` in JSON, in any case, with `-` for `_`.
fn how(text: &str) -> Result<How, UsageError> {
    let plain = text.trim().to_ascii_lowercase().replace('-', "_");
    How::ALL.into_iter().find(|how| how.name() == plain).ok_or_else(|| {
        let names = How::ALL.map(How::name);
        let like = suggest::nearest(&plain, &names);
        UsageError(format!("--how {text}: unknown{like}; use one of {}", names.join(", ")))
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
            "--netns {text}: {} is not a network namespace ({error}); give a name of `ip netns`, a path, an inode number or pid:PID",
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
            "--cgroup {text}: no cgroup version 2 hierarchy is mounted here, and tcptrail cannot filter by cgroups of version 1"
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

fn pod(text: &str) -> Result<(String, String), UsageError> {
    let parts = text.split_once('/').filter(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !name.contains('/')
    });
    let (namespace, name) = parts.ok_or_else(|| {
        UsageError(format!(
            "--pod {text}: not a namespace and a pod; write NAMESPACE/NAME, or '*/NAME' for any namespace"
        ))
    })?;
    Ok((namespace.to_owned(), name.to_owned()))
}

/// The filter that [`Config::filter_args`](super::Config::filter_args) made words of.
///
/// # Errors
/// When they are none of this version's.
pub fn filter_of(args: &[String]) -> Result<Filter, UsageError> {
    let args = std::iter::once("tcptrail").chain(args.iter().map(String::as_str));
    let cli = Cli::try_parse_from(args).map_err(|error| UsageError(error.to_string()))?;
    filter(&cli.common.filters)
}

/// The filters in the words of the command line.
pub(super) fn filter_words(args: &Filters) -> Vec<String> {
    let mut words = Vec::new();
    let mut list = |option: &str, values: Vec<String>| {
        if !values.is_empty() {
            words.push(format!("{option} {}", values.join(",")));
        }
    };
    list("--pid", args.pid.iter().map(u32::to_string).collect());
    list("--comm", args.comm.clone());
    list("--port", args.port.clone());
    list("--lport", args.lport.clone());
    list("--rport", args.rport.clone());
    list("--addr", args.addr.clone());
    list("--state", args.state.clone());
    list("--role", args.role.iter().map(|role| format!("{role:?}").to_lowercase()).collect());
    list("--netns", args.netns.iter().cloned().collect());
    list("--cgroup", args.cgroup.iter().map(|path| path.display().to_string()).collect());
    for (option, values) in
        [("--service", &args.service), ("--container", &args.container), ("--pod", &args.pod)]
    {
        values.iter().for_each(|value| list(option, vec![value.clone()]));
    }
    list("--how", args.how.clone());
    list(
        "--min-duration",
        args.min_duration
            .iter()
            .map(|time| humantime::format_duration(*time).to_string().replace(' ', ""))
            .collect(),
    );
    if args.failed {
        words.push("--failed".to_owned());
    }
    if args.ipv4 {
        words.push("--ipv4".to_owned());
    }
    if args.ipv6 {
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
    fn pods_have_a_namespace() {
        let check = |text: &str, good| assert_eq!(pod(text).is_ok(), good, "{text}");
        check("shop/web-0", true);
        check("*/*", true);
        check("web-0", false);
        check("/web-0", false);
        check("shop/", false);
        check("a/b/c", false);
    }

    #[test]
    fn ends_go_by_the_words_of_json() {
        let check = |text: &str, expect| {
            assert_eq!(how(text).map_err(|error| error.to_string()), expect, "{text}");
        };
        check("refused", Ok(How::Refused));
        check("RST-received", Ok(How::RstReceived));
        let all = "fin, rst_sent, rst_received, timeout, refused, unreachable, aborted, unknown";
        let wrong =
            |text: &str, like: &str| Err(format!("--how {text}: unknown{like}; use one of {all}"));
        check("refuse", wrong("refuse", " (did you mean refused?)"));
        check("", wrong("", ""));
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
}
