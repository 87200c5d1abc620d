//! TIME_WAIT that does not exist: `tcp_max_tw_buckets` reached.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{Both, connect, listen, read_end};
use tests::witness::{counters, eventually, ss};

use crate::stage::{check_verdict, finding, silent, start};

/// `count` connections, one after the other, that are closed at the client first.
fn churn(netns: &Netns, count: usize) -> Result<()> {
    let listener = listen(netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    for _ in 0..count {
        let both = Both::new(netns, &listener, to)?;
        drop(both.client);
        read_end(&both.server)?;
    }
    Ok(())
}

fn overflows(netns: &Netns) -> Result<u64> {
    counters(netns)?.get("TCPTimeWaitOverflow").copied().context("the kernel counts them")
}

#[test]
fn a_time_wait_that_is_not_there_is_not_told() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/tcp_max_tw_buckets", "1")?;
    let mut tail = Tcptrail::start(&["tail", "--netns", netns.name()])?;
    let mut life = Tcptrail::start(&["life", "--netns", netns.name()])?;
    churn(&netns, 6)?;
    // The witnesses: the kernel's count, and the mini-sockets that ss shows.
    let without = overflows(&netns)?;
    ensure!((4..=6).contains(&without), "{without} overflows");
    let there = ss(&netns)?.iter().filter(|socket| socket.state == "TIME_WAIT").count() as u64;
    ensure!(there + without == 6, "{there} in TIME_WAIT, {without} without");
    // What was in doubt is told with one look.
    for one in [&mut tail, &mut life] {
        one.wait_for("an overflow", |event| event.truth("time_wait_overflow") == Some(true))?;
    }
    let run = tail.stop()?;
    run.check_whole()?;
    let to = |new: &str| {
        let of_clients = run.of_kind("transition").filter(|event| event.text("role") == "client");
        of_clients.filter(|event| event.text("new") == new).count() as u64
    };
    ensure!(to("TIME_WAIT") == there, "{} went to TIME_WAIT, {there} did", to("TIME_WAIT"));
    let told = run
        .of_kind("transition")
        .filter(|event| event.truth("time_wait_overflow") == Some(true))
        .inspect(|event| assert!(event.text("new") == "CLOSE", "{event:?}"))
        .count() as u64;
    ensure!(told == without, "{told} told, {without} counted");
    let run = life.stop()?;
    run.check_whole()?;
    let of_clients: Vec<_> =
        run.of_kind("close").filter(|event| event.text("role") == "client").collect();
    ensure!(of_clients.len() == 6, "{} lines of 6 connections", of_clients.len());
    let in_close = of_clients
        .iter()
        .filter(|event| event.text("ended_in") == "CLOSE" && event.text("how") == "fin")
        .filter(|event| event.truth("time_wait_overflow") == Some(true))
        .count() as u64;
    ensure!(in_close == without, "{in_close} ended in CLOSE: {of_clients:?}");
    Ok(())
}

/// FIN_WAIT2 that is not there: the peer has not closed yet, and will be answered with a RST.
#[test]
fn a_fin_wait2_that_is_not_there_is_not_told() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/tcp_max_tw_buckets", "1")?;
    let mut tail = Tcptrail::start(&["tail", "--netns", netns.name()])?;
    churn(&netns, 1)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    let client = both.ends.client;
    drop(both.client);
    let ended = tail.wait_for("its end", |event| {
        event.is_at(client) && event.truth("time_wait_overflow") == Some(true)
    })?;
    ensure!(ended.step() == "FIN_WAIT2>CLOSE", "{ended:?}");
    ensure!(ended.number("in_old_ns").is_some_and(|ns| ns < 1_000_000_000), "{ended:?}");
    // The witness.
    ensure!(!ss(&netns)?.iter().any(|socket| socket.state == "FIN_WAIT2"));
    drop(both.server);
    tail.stop()?.check_whole()
}

#[test]
fn a_full_time_wait_table_is_a_finding() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/tcp_max_tw_buckets", "2")?;
    let mut stuck = start(&netns, &[])?;
    // One connection stays, so that the namespace is looked at before they overflow.
    let listener = listen(&netns, "127.0.0.1:0")?;
    let _both = Both::new(&netns, &listener, listener.local_addr()?)?;
    stuck.wait_for("a look", |event| event.kind() == "start")?;
    std::thread::sleep(Duration::from_secs(4));
    churn(&netns, 9)?;
    let without = overflows(&netns)?;
    let all = |event: &Event| event.number("count") == Some(without);
    let found = finding(&mut stuck, "time_wait_overflow", all)?;
    check_verdict(
        &found,
        &[
            &format!("{without} connections closed without TIME_WAIT"),
            "net.ipv4.tcp_max_tw_buckets is 2",
        ],
    )?;
    stuck.stop()?.check_whole()
}

/// The twin: room enough.
#[test]
fn a_time_wait_table_with_room_is_not_told() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/tcp_max_tw_buckets", "1000")?;
    let stuck = start(&netns, &[])?;
    churn(&netns, 9)?;
    std::thread::sleep(Duration::from_secs(12));
    ensure!(overflows(&netns)? == 0);
    silent(stuck)
}

/// What is open when a run ends is counted in its last line, and printed where that is asked for.
#[test]
fn what_is_still_open_is_accounted_for() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let life = Tcptrail::start(&["life", "--unfinished", "--netns", netns.name()])?;
    churn(&netns, 3)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let open = connect(&netns, listener.local_addr()?)?;
    eventually("it", Duration::from_secs(5), || {
        Ok(ss(&netns)?.iter().any(|socket| socket.state == "ESTABLISHED").then_some(()))
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let run = life.stop()?;
    run.check_whole()?;
    let finished = run.of_kind("close").count() as u64;
    let unfinished: Vec<_> = run.of_kind("unfinished").collect();
    let end = run.of_kind("end").next().context("an end")?;
    ensure!(end.number("open") == Some(unfinished.len() as u64), "{end:?}: {unfinished:?}");
    ensure!(
        end.number("connections") == Some(finished + unfinished.len() as u64),
        "{finished} finished: {end:?}"
    );
    let local = open.local_addr()?;
    let ours = unfinished.iter().find(|event| event.is_at(local)).context("ours")?;
    ensure!(ours.text("state") == "ESTABLISHED", "{ours:?}");
    let last = run.stderr.lines().last().unwrap_or_default();
    ensure!(last.contains(&format!("({} of them still open)", unfinished.len())), "{last}");
    Ok(())
}
