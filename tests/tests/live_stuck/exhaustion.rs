//! What runs out: descriptors, with a forecast that comes true; ports towards one destination.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::traffic::{Both, connect, listen, read_end};
use tests::witness::{eventually, ss};

use crate::stage::{Python, check_verdict, finding, listening, silent, start};

const SECOND: u64 = 1_000_000_000;

/// A server with few descriptors that keeps what it accepts, up to `most`, and says when accept fails.
fn server(netns: &Netns, limit: u32, most: u32) -> Result<Python> {
    let script = format!(
        "resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
s = listen(8089)
keep = []
while True:
    try:
        c, _ = s.accept()
        if len(keep) < {most}: keep.append(c)
    except OSError as error:
        print(error.errno, time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)
        time.sleep(600)
"
    );
    let server = Python::start(netns, &script)?;
    listening(netns)?;
    Ok(server)
}

/// The forecast comes before accept() fails with EMFILE, and each is right within a third of the time
/// that is left then.
#[test]
fn descriptors_run_out_when_it_was_said() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut server = server(&netns, 160, 10_000)?;
    let mut stuck = start(&netns, &[])?;
    let mut clients = Vec::new();
    let failed = loop {
        clients.push(connect(&netns, ([127, 0, 0, 1], 8089).into())?);
        if let Some(line) = server.said(Duration::from_millis(200))? {
            break line;
        }
        ensure!(clients.len() < 400, "accept never fails");
    };
    let (errno, at) = failed.split_once(' ').context("errno and time")?;
    // EMFILE
    ensure!(errno == "24", "{failed}");
    let really: u64 = at.parse()?;
    // Two that nobody can accept.
    for _ in 0..2 {
        clients.push(connect(&netns, ([127, 0, 0, 1], 8089).into())?);
    }
    let over = finding(&mut stuck, "fds", |event| {
        let verdict = event.text("verdict");
        verdict.contains("no file descriptor left")
    })?;
    let who = format!("python3[{}] has no file descriptor left: ", server.pid());
    check_verdict(&over, &[&who, " of 160 in use, ", " of them sockets"])?;
    // The witness: what /proc lists. One that accept() has reserved and not filled is not listed.
    let listed = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count() as u64;
    let told = over.number("count").context("no count")?;
    ensure!(told.abs_diff(listed) <= 1, "{told} told, {listed} in /proc");
    ensure!(over.text("advice").contains("EMFILE"), "{over:?}");
    let run = stuck.stop()?;
    run.check_whole()?;
    let mut forecasts = 0;
    for event in run.of_kind("stuck").filter(|event| event.text("rule") == "fds") {
        let told = event.number("mono_ns").context("no time")?;
        let left = event.0["forecast"]["left_ns"].as_u64().context("no left_ns")?;
        if left == 0 || told >= really {
            continue;
        }
        let rest = really - told;
        ensure!(left.abs_diff(rest) <= rest / 3 + SECOND, "left {left}, really {rest}: {event:?}");
        ensure!(
            event.text("verdict").contains("runs out of file descriptors in about"),
            "{event:?}"
        );
        forecasts += 1;
    }
    ensure!(forecasts > 0, "no forecast: {:?}", run.events);
    Ok(())
}

/// The twin: it takes as many in its first seconds, and then no more.
#[test]
fn a_plateau_is_no_forecast() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = server(&netns, 160, 10_000)?;
    let stuck = start(&netns, &[])?;
    let mut clients = Vec::new();
    for index in 0..150 {
        if index < 60 {
            clients.push(connect(&netns, ([127, 0, 0, 1], 8089).into())?);
        }
        // The load's pace.
        sleep(Duration::from_millis(if index < 60 { 50 } else { 200 }));
    }
    silent(stuck)
}

/// `count` connections to the left that are closed here first: TIME_WAIT on the right.
fn use_up(pair: &Pair, count: usize) -> Result<SocketAddr> {
    let listener = listen(&pair.left, "0.0.0.0:9000")?;
    let to: SocketAddr = (Pair::LEFT.parse::<Ipv4Addr>()?, 9000).into();
    for _ in 0..count {
        let both = Both::new(&pair.right, &listener, to)?;
        drop(both.client);
        read_end(&both.server)?;
    }
    let waiting = || {
        Ok((ss(&pair.right)?.iter().filter(|socket| socket.state == "TIME_WAIT").count() == count)
            .then_some(()))
    };
    eventually("TIME_WAIT", Duration::from_secs(10), waiting)?;
    Ok(to)
}

const RANGE: (&str, &str) = ("ipv4/ip_local_port_range", "41000 41099");

#[test]
fn ports_that_wait_are_used_up() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    pair.right.sysctl(RANGE.0, RANGE.1)?;
    let mut stuck = start(&pair.right, &[])?;
    let to = use_up(&pair, 100)?;
    // The witness: connect() itself.
    let error = pair.right.run(|| Ok(TcpStream::connect(to).err()))?.context("it connected")?;
    ensure!(error.kind() == std::io::ErrorKind::AddrNotAvailable, "{error}");
    let found = finding(&mut stuck, "ports", |event| event.number("count") == Some(100))?;
    check_verdict(
        &found,
        &[&format!(
            "no local port is left to {to} from 10.77.0.2: 100 of 100 in use, 100 in TIME_WAIT"
        )],
    )?;
    ensure!(found.text("advice").contains("EADDRNOTAVAIL"), "{found:?}");
    ensure!(found.text("advice").contains("ip_local_port_range is 41000 41099"), "{found:?}");
    stuck.stop()?.check_whole()
}

/// The twin: fewer connections, or as many in the default range.
#[test]
fn ports_enough_are_not_told() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    for (range, count) in [(RANGE.1, 50), ("32768 60999", 100)] {
        let pair = Pair::new()?;
        pair.right.sysctl(RANGE.0, range)?;
        let stuck = start(&pair.right, &[])?;
        use_up(&pair, count)?;
        // As long as a finding would have taken.
        sleep(Duration::from_secs(5));
        silent(stuck)?;
    }
    Ok(())
}
