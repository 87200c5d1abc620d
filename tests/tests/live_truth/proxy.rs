//! wrk through haproxy to nginx: whose every connection is, and what it carried, by their own logs.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::netns::Netns;
use tests::pace::is_slow;
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail};
use tests::web::{BACK, FRONT, Kind, TOOLS, Web};

/// What a log says of one connection.
#[derive(Clone, Debug, Default)]
struct Logged {
    requests: u64,
    received: u64,
    sent: u64,
    /// Of several connections, when the port was used again.
    pids: BTreeSet<u64>,
    /// Every request came to its end.
    whole: bool,
}

/// Sums up lines of `peer's-port pid received sent whole`; ports are used again.
fn logged(path: &Path) -> Result<HashMap<u16, Logged>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut all: HashMap<u16, Logged> = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("conn ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(words.len() == 6, "{}: {line}", path.display());
        // A look whether somebody listens, before tcptrail.
        if words[3] == "0" && words[4] == "0" {
            continue;
        }
        let of_it = all
            .entry(words[1].parse()?)
            .or_insert_with(|| Logged { whole: true, ..Logged::default() });
        of_it.requests += 1;
        of_it.pids.insert(words[2].parse()?);
        of_it.received += words[3].parse::<u64>()?;
        of_it.sent += words[4].parse::<u64>()?;
        of_it.whole &= ["--", "OK"].contains(&words[5]);
    }
    Ok(all)
}

/// Bytes received and sent of all closed connections with this local port, by the remote port.
fn carried(run: &Run, local_port: u16) -> Result<HashMap<u16, (u64, u64, u64)>> {
    let mut all: HashMap<u16, (u64, u64, u64)> = HashMap::new();
    for close in run.of_kind("close") {
        if port(close, "local")? != local_port {
            continue;
        }
        let of_it = all.entry(port(close, "remote")?).or_default();
        of_it.0 += 1;
        of_it.1 += close.number("bytes_received").context("no bytes_received")?;
        of_it.2 += close.number("bytes_sent").context("no bytes_sent")?;
    }
    Ok(all)
}

fn port(event: &Event, key: &str) -> Result<u16> {
    let text = event.text(key);
    let (_, port) = text.rsplit_once(':').with_context(|| format!("{key}: {event:?}"))?;
    Ok(port.parse()?)
}

/// Bytes, numbers and owners agree, for every connection whose requests all came to their end; the last
/// request of the others was cut off when wrk stopped.
fn check(
    run: &Run,
    (comm, local_port): (&str, u16),
    log: &HashMap<u16, Logged>,
    cut: usize,
) -> Result<()> {
    let carried = carried(run, local_port)?;
    for (port, logged) in log {
        let told = carried.get(port);
        let (times, received, sent) =
            *told.with_context(|| format!(":{local_port} <- :{port} was not told: {logged:?}"))?;
        // haproxy logs connections, nginx requests: a port used again is compared in haproxy's log.
        if logged.whole && (times == 1 || times == logged.requests) {
            ensure!(
                (received, sent) == (logged.received, logged.sent),
                ":{local_port} <- :{port}: {received} received, {sent} sent, not {logged:?}: {:?}",
                run.of_kind("close")
                    .filter(|close| close.text("remote").ends_with(&format!(":{port}")))
                    .collect::<Vec<_>>()
            );
        }
    }
    let silent = carried.keys().filter(|port| !log.contains_key(port)).count();
    ensure!(silent <= cut, "{silent} connections at :{local_port} are not in its log");
    let not_whole = log.values().filter(|logged| !logged.whole).count();
    ensure!(not_whole <= cut, "{not_whole} of {} were cut off", log.len());
    ensure!(log.len() > not_whole, "nothing to compare");
    let workers: BTreeSet<u64> =
        log.values().flat_map(|logged| logged.pids.iter().copied()).collect();
    let mut unknown = 0;
    for close in run.of_kind("close").filter(|close| port(close, "local").ok() == Some(local_port))
    {
        ensure!(close.text("role") == "server", "{close:?}");
        let of_port = log.get(&port(close, "remote")?);
        // Of a connection without a request the log says nothing; then it is any of the workers.
        let pids = match of_port {
            Some(logged) if close.number("bytes_received") != Some(0) => &logged.pids,
            _ => &workers,
        };
        let right = close.number("pid").is_some_and(|pid| pids.contains(&pid));
        // Which worker had a connection that a RST ended, without a call of its own, no event tells.
        let reset = close.text("how") == "rst_received" && close.text("comm") == comm;
        ensure!(right || reset && close.0["pid"].is_null(), "not {pids:?}: {close:?}");
        unknown += usize::from(!right);
    }
    ensure!(unknown <= cut, "{unknown} connections at :{local_port} have no owner");
    Ok(())
}

fn through_haproxy(keep_alive: bool) -> Result<()> {
    const CONNECTIONS: usize = 50;
    let netns = Netns::new()?;
    let mut web = Web::start(&netns, Kind::Logged)?;
    let haproxy_pid = u64::from(web.haproxy.0.id());
    // The workers that share a listener are found by the first walk.
    let mut life = Tcptrail::start(&["life", "--netns", netns.name()])?;
    let mut wrk = Command::new("wrk");
    // Time for each kept connection's 30 requests.
    let seconds = if is_slow() && keep_alive { 15 } else { 1 };
    wrk.args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
    if !keep_alive {
        wrk.args(["-H", "Connection: close"]);
    }
    wrk.arg(Web::url()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let wrk = netns.spawn(&mut wrk)?;
    let wrk_pid = u64::from(wrk.id());
    let output = wrk.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk: {said}");
    web.haproxy.end(Signal::USR1)?;
    web.nginx.end(Signal::QUIT)?;
    let front = logged(&web.path("haproxy.log"))?;
    let back = logged(&web.path("nginx.log"))?;
    // What a RST ended in FIN_WAIT2 is told by the second look that misses it.
    let mut ended: HashMap<(u16, bool), usize> = HashMap::new();
    loop {
        let of = |port, local| ended.get(&(port, local)).copied().unwrap_or(0);
        if [(FRONT, &front), (BACK, &back)]
            .iter()
            .all(|&(port, log)| of(port, true) >= log.len() && of(port, true) == of(port, false))
        {
            break;
        }
        let close = life.wait_for_next("close", |event| event.kind() == "close")?;
        for (key, local) in [("local", true), ("remote", false)] {
            *ended.entry((port(&close, key)?, local)).or_default() += 1;
        }
    }
    let life = life.stop()?;
    life.check_whole()?;
    ensure!(front.len() >= CONNECTIONS, "{} connections in haproxy's log; {said}", front.len());
    check(&life, ("haproxy", FRONT), &front, CONNECTIONS + 2).context("haproxy")?;
    check(&life, ("nginx", BACK), &back, CONNECTIONS + 2).context("nginx")?;
    // The other ends.
    for (remote_port, pid) in [(FRONT, wrk_pid), (BACK, haproxy_pid)] {
        let clients = life
            .of_kind("close")
            .filter(|close| port(close, "remote").ok() == Some(remote_port))
            .filter(|close| close.text("role") != "unknown");
        let mut count = 0;
        for close in clients {
            count += 1;
            ensure!(close.text("role") == "client", "{close:?}");
            ensure!(close.number("pid") == Some(pid), "not {pid}: {close:?}");
            ensure!(!close.0["peer_conn"].is_null(), "no peer: {close:?}");
        }
        let servers = carried(&life, remote_port)?.values().map(|told| told.0).sum::<u64>();
        ensure!(count == servers, "{count} clients and {servers} servers at :{remote_port}");
    }
    Ok(())
}

#[test]
fn connections_that_are_kept_alive_agree_with_the_logs() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    through_haproxy(true)
}

#[test]
fn connections_for_one_request_agree_with_the_logs() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    through_haproxy(false)
}
