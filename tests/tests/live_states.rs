//! The states of a connection: each transition once, in order, with the time it took.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Run, Tcptrail};
use tests::traffic::{Both, Ends, close, listen, read_end};
use tests::witness::Moment;

/// How far a duration may be from what the test's own clock says.
const TOLERANCE_NS: u64 = 20_000_000;

/// The five transitions of the end that closes first, and of the other; CLIENT and SERVER stand for
/// how each begins.
const CLIENT: [&str; 2] = ["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED"];
const SERVER: [&str; 2] = ["LISTEN>SYN_RECV", "SYN_RECV>ESTABLISHED"];
const ACTIVE: [&str; 3] = ["ESTABLISHED>FIN_WAIT1", "FIN_WAIT1>FIN_WAIT2", "FIN_WAIT2>TIME_WAIT"];
const PASSIVE: [&str; 3] = ["ESTABLISHED>CLOSE_WAIT", "CLOSE_WAIT>LAST_ACK", "LAST_ACK>CLOSE"];

/// Addresses to listen on and to connect to, and how they are shown.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("127.0.0.1", "127.0.0.1", "ipv4"),
    ("[::1]", "[::1]", "ipv6"),
    // A v4-mapped server, and both ends v4-mapped.
    ("[::]", "127.0.0.1", "ipv4"),
    ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]", "ipv4"),
];

fn expected(begin: &[&'static str], end: &[&'static str]) -> Vec<&'static str> {
    [begin, end].concat()
}

fn address(text: &str, port: u16) -> Result<SocketAddr> {
    Ok(format!("{text}:{port}").parse()?)
}

/// The time in `states`, together, was between these two moments, by the test's clock.
fn check_time(
    run: &Run,
    ends: (SocketAddr, SocketAddr),
    states: &[&str],
    (from, to): (Moment, Moment),
) -> Result<()> {
    let side = run.side(ends.0, ends.1);
    let (least, most) = from.until(to);
    let (mut told, mut at) = (0, 0);
    for state in states {
        let event = side.leaving(state)?;
        told += event.number("in_old_ns").with_context(|| format!("no time: {event:?}"))?;
        at = event.number("mono_ns").context("no mono_ns")?;
        ensure!(event.truth("exact") == Some(true), "not exact: {event:?}");
    }
    let tolerance = TOLERANCE_NS + slack();
    ensure!(
        told + tolerance >= least && told <= most + tolerance,
        "{}: {told} ns in {states:?}, not {least} to {most}",
        side.local
    );
    ensure!(
        at + tolerance >= to.from && at <= to.to + tolerance,
        "{}: left {states:?} at {at}, not {to:?}",
        side.local
    );
    Ok(())
}

/// One connection on which the client or the server closes first, with a pause in each state.
fn check_close(listen_on: &str, connect_to: &str, family: &str, client_first: bool) -> Result<()> {
    let netns = Netns::new()?;
    let listener = listen(&netns, &format!("{listen_on}:0"))?;
    let to = address(connect_to, listener.local_addr()?.port())?;
    let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
    let (born, both) = Moment::try_of(|| Both::new(&netns, &listener, to))?;
    let Both { client, server, ends } = both;
    let (first, second) = if client_first { (client, server) } else { (server, client) };
    let (active, passive) = sides(ends, client_first);
    // The states last as long as these pauses, which is what is measured.
    thread::sleep(Duration::from_millis(120));
    let closed_first = close(first);
    read_end(&second)?;
    thread::sleep(Duration::from_millis(60));
    let closed_second = close(second);
    let run = tcptrail.stop()?;
    run.check_whole()?;

    let (begins_active, begins_passive) =
        if client_first { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
    run.side(active.0, active.1).check_steps(&expected(&begins_active, &ACTIVE))?;
    run.side(passive.0, passive.1).check_steps(&expected(&begins_passive, &PASSIVE))?;
    let transitions = run.of_kind("transition").count();
    ensure!(transitions == 10, "{transitions} transitions, not 10");
    for event in run.of_kind("transition") {
        ensure!(event.text("family") == family, "not {family}: {event:?}");
        ensure!(event.number("netns") == Some(u64::from(netns.inode())), "netns: {event:?}");
    }
    let (open, half) = ((born, closed_first), (closed_first, closed_second));
    check_time(&run, active, &["ESTABLISHED"], open)?;
    check_time(&run, passive, &["ESTABLISHED"], open)?;
    // The ACK of the FIN may be delayed: how the time is shared is the kernel's choice.
    check_time(&run, active, &["FIN_WAIT1", "FIN_WAIT2"], half)?;
    check_time(&run, passive, &["CLOSE_WAIT"], half)?;
    for (side, role) in [(sides(ends, true).0, "client"), (sides(ends, true).1, "server")] {
        for event in run.side(side.0, side.1).events {
            ensure!(event.text("role") == role, "not {role}: {event:?}");
        }
    }
    Ok(())
}

/// Local and remote address of the end that closes first, and of the other.
fn sides(ends: Ends, client_first: bool) -> ((SocketAddr, SocketAddr), (SocketAddr, SocketAddr)) {
    let (client, server) = ((ends.client, ends.server), (ends.server, ends.client));
    if client_first { (client, server) } else { (server, client) }
}

#[test]
fn active_and_passive_close_in_every_family() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for (listen_on, connect_to, family) in FAMILIES {
        for client_first in [true, false] {
            check_close(listen_on, connect_to, family, client_first).map_err(|error| {
                error.context(format!("{connect_to}, client first: {client_first}"))
            })?;
        }
    }
    Ok(())
}
