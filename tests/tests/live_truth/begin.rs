//! How connections begin: half open, with a slow handshake, not accepted yet.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::hand::{ACK, RST, SYN};
use tests::netns::Netns;
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{Both, accept, connect, listen, read_end};
use tests::watch::Watch;
use tests::witness::{Moment, ss};

use crate::stage::{CLOSE_TO, SECOND, Stage, TICK, check_at, check_between, check_words};

const TOOLS: &[&str] = &["nft", "ss"];
/// Timers of seconds may be late by an eighth of one (`LVL_GRAN` of kernel/time/timer.c).
const TIMERS: u64 = SECOND / 8;
const SERVER: [&str; 2] = ["LISTEN>SYN_RECV", "SYN_RECV>ESTABLISHED"];

/// A SYN arrives and nothing more: `SYN_RECV` from the SYN on, two SYN-ACKs more, and the end.
#[test]
fn a_half_open_request_has_its_age_and_ends_by_timeout() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&[("ipv4/tcp_synack_retries", "2")])?;
    let (mut hand, end) = stage.caller(5001)?;
    let syn = hand.send(SYN, &[])?;
    hand.expect(SYN | ACK)?;
    let shown = stage.watch.until_state(end, "SYN_RECV")?;
    check_at("SYN_RECV", shown.since()?, syn, TIMERS)?;
    let socket = stage.ss(end)?.context("ss does not have it")?;
    ensure!(socket.state == "SYN_RECV", "{socket:?}");
    ensure!(shown.socket.has_cookie(socket.cookie), "not {socket:?}: {:?}", shown.socket);
    let pid = std::process::id().to_string();
    check_words(
        &shown.socket,
        &[
            ("role", "server"),
            ("accepted", "false"),
            ("orphan", "false"),
            ("pid", &pid),
            ("owner_source", "listener"),
            ("holders", "[]"),
        ],
    )?;
    for count in 1..=2 {
        stage.watch.until(&format!("SYN-ACK {count} sent again"), |frame| {
            let socket = frame.find(end.0, end.1).context("it is gone")?;
            Ok((socket.number("retransmits") >= Some(count)).then_some(()))
        })?;
    }
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let gone = stage.gone(end)?;
    stage.watch.until_gone(end)?;
    stage.closed(end)?;
    stage.step(end, "SYN_RECV>CLOSE")?;
    let told = stage.end()?;
    let close = told.closed(
        end,
        &[
            ("how", "timeout"),
            ("failed", "timeout"),
            ("ended_in", "CLOSE"),
            ("first_close", "none"),
            ("accepted", "false"),
            ("handshake_ns", "null"),
        ],
    )?;
    ensure!(close.number("synack_retransmits") == Some(2), "{close:?}");
    told.check_sent_again(end, "synack", "SYN_RECV", 2)?;
    told.lasted(end, "SYN_RECV", (syn, gone), TICK)?;
    told.steps(end, &["SYN_RECV>CLOSE"])?;
    let again: Vec<_> =
        told.tail.of_kind("retransmit").filter_map(|event| event.number("mono_ns")).collect();
    // Timers of 1 s and 2 s.
    let last = *again.last().context("no SYN-ACK was sent again")?;
    check_between("SYN-ACK", last - syn.from, (3 * SECOND, 3 * SECOND), SECOND / 5)
}

/// A SYN that comes twice is one request: the SYN-ACK goes out again, its timer and age are as before.
#[test]
fn a_syn_that_comes_twice_is_one_request() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let (mut hand, end) = stage.caller(5001)?;
    hand.send(SYN, &[])?;
    hand.expect(SYN | ACK)?;
    let asked = Moment::of(|| {});
    thread::sleep(Duration::from_millis(500));
    hand.send_at(SYN, 1_000, 0, &[])?;
    hand.expect(SYN | ACK)?;
    let shown = stage.watch.until_state(end, "SYN_RECV")?;
    // What tells of it first is the second SYN-ACK, which was no timer's.
    check_at("SYN_RECV", shown.since()?, asked, TICK)?;
    check_words(&shown.socket, &[("exact", "false")])?;
    ensure!(shown.socket.number("retransmits") == Some(1), "{:?}", shown.socket);
    let answered = hand.send(ACK, &[])?;
    stage.step(end, "SYN_RECV>ESTABLISHED")?;
    let accepted = accept(&stage.listener)?;
    hand.send(RST, &[])?;
    stage.closed(end)?;
    drop(accepted);
    let told = stage.end()?;
    told.steps(end, &[SERVER[0], SERVER[1], "ESTABLISHED>CLOSE"])?;
    told.lasted(end, "SYN_RECV", (asked, answered), TICK)
}

/// A scanner's RST ends a request: nothing timed out.
#[test]
fn a_half_open_request_that_is_reset_has_not_timed_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let (mut hand, end) = stage.caller(5001)?;
    let syn = hand.send(SYN, &[])?;
    hand.expect(SYN | ACK)?;
    // It is in the tables when its SYN-ACK has been sent again.
    hand.expect(SYN | ACK)?;
    stage.watch.until_state(end, "SYN_RECV")?;
    let reset = hand.send(RST, &[])?;
    stage.gone(end)?;
    stage.closed(end)?;
    stage.step(end, "SYN_RECV>CLOSE")?;
    let told = stage.end()?;
    let close = told.close(end)?;
    ensure!(close.text("how") != "timeout", "{close:?}");
    ensure!(close.text("failed") == "unknown", "{close:?}");
    told.lasted(end, "SYN_RECV", (syn, reset), TICK)
}

/// The handshake's time on the server's side, from its SYN-ACK to the third ACK.
#[test]
fn a_slow_third_ack_is_one_connection_with_its_handshake() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    // The second is so slow that the SYN-ACK is sent again; the third brings data with its ACK.
    let mut ends = Vec::new();
    for (port, delay, data) in
        [(5001, 300, &b""[..]), (5002, 1_500, b""), (5003, 120, b"GET"), (5004, 3_200, b"")]
    {
        let (mut hand, end) = stage.caller(port)?;
        hand.send(SYN, &[])?;
        hand.expect(SYN | ACK)?;
        let asked = Moment::of(|| {});
        // The pause is what is measured.
        thread::sleep(Duration::from_millis(delay));
        let answered = hand.send(ACK, data)?;
        let stream = accept(&stage.listener)?;
        // A connection that lives on while others come.
        ends.push((end, asked, answered, stream, hand));
    }
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let mut done = Vec::new();
    for (end, asked, answered, stream, mut hand) in ends {
        hand.send(RST, &[])?;
        stage.step(end, "ESTABLISHED>CLOSE")?;
        drop(stream);
        done.push((end, asked, answered));
    }
    let told = stage.end()?;
    for (end, asked, answered) in done {
        let steps = [SERVER[0], SERVER[1], "ESTABLISHED>CLOSE"];
        told.steps(end, &steps)?;
        let close = told.closed(end, &[("role", "server"), ("how", "rst_received")])?;
        let told_ns = close.number("handshake_ns").context("no handshake_ns")?;
        // When its SYN-ACK has been sent again, it is the timers' word.
        let again = close.number("synack_retransmits") != Some(0);
        let within = if again { TIMERS } else { CLOSE_TO };
        check_between("handshake", told_ns, asked.until(answered), within)?;
        told.lasted(end, "SYN_RECV", (asked, answered), within)?;
    }
    Ok(())
}

/// A connect whose SYN-ACK takes its time.
#[test]
fn a_slow_syn_ack_is_time_in_syn_sent() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let slow = stage.call_after(5001, Duration::from_millis(250))?;
    // The second is looked at while it waits.
    let mut hand = stage.callee(5002)?;
    let to = hand.addr();
    let waiting = thread::scope(|scope| {
        let netns = &stage.pair.right;
        let calling = scope.spawn(move || Moment::try_of(|| connect(netns, to)));
        let syn = hand.expect(SYN)?;
        let end = (syn.from.into(), to);
        let shown = stage.watch.until_state(end, "SYN_SENT")?;
        check_words(
            &shown.socket,
            &[
                ("role", "client"),
                ("exact", "true"),
                ("orphan", "false"),
                ("pid", &std::process::id().to_string()),
            ],
        )?;
        let since = shown.since()?;
        stage.watch.until_same_as_ss(netns)?;
        // The SYNs that were sent meanwhile ask for the same.
        let answered = hand.send(SYN | ACK, &[])?;
        hand.expect(ACK)?;
        let (connected, stream) = calling.join().map_err(|_| anyhow::anyhow!("panic"))??;
        ensure!(since.abs_diff(connected.from) < CLOSE_TO + slack(), "{since}, not {connected:?}");
        anyhow::Ok((end, connected, answered, stream))
    })?;
    let (end, connected, answered, stream) = waiting;
    let socket = stage.ss(end)?.context("ss does not have it")?;
    ensure!(socket.state == "ESTABLISHED", "{socket:?}");
    let mut called = slow.hand;
    called.send(RST, &[])?;
    hand.send(RST, &[])?;
    for end in [slow.end, end] {
        stage.step(end, "ESTABLISHED>CLOSE")?;
    }
    drop((slow.stream, stream));
    let told = stage.end()?;
    for (end, connected, answered) in
        [(slow.end, slow.connected, slow.answered), (end, connected, answered)]
    {
        told.steps(end, &["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>CLOSE"])?;
        let began = Moment { from: connected.from, to: connected.from };
        told.lasted(end, "SYN_SENT", (began, answered), CLOSE_TO)?;
        let close = told.closed(end, &[("role", "client")])?;
        let handshake = close.number("handshake_ns").context("no handshake_ns")?;
        check_between("handshake", handshake, began.until(answered), CLOSE_TO)?;
        let again = told.side(end).events.iter().filter(|e| e.kind() == "retransmit").count();
        ensure!(close.number("syn_retransmits") == Some(again as u64), "{again}: {close:?}");
    }
    Ok(())
}

/// The local port comes after the first transition, and no port filter loses that.
#[test]
fn connects_have_their_port_from_the_first_line_on() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/ip_local_port_range", "41000 41001")?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let port = addr.port().to_string();
    let filters: [&[&str]; 4] =
        [&["--lport", "41000-41001"], &["--rport", &port], &["--port", &port], &[]];
    let runs: Vec<_> = filters
        .iter()
        .map(|filter| Tcptrail::start(&[&["--netns", netns.name()], *filter].concat()))
        .collect::<Result<_>>()?;
    let both = Both::new(&netns, &listener, addr)?;
    let ends = both.ends;
    drop(both.client);
    read_end(&both.server)?;
    drop(both.server);
    for (filter, run) in filters.iter().zip(runs) {
        let run = run.stop()?;
        run.check_whole()?;
        let side = run.side(ends.client, ends.server);
        let steps = side.steps();
        ensure!(steps.len() == 5 && steps[0] == "CLOSE>SYN_SENT", "{filter:?}: {steps:?}");
        // Only where nothing waits for the port is the first line told without it.
        let ports = |event: &Event| event.is_at(ends.client);
        let first = usize::from(filter.first() != Some(&"--lport"));
        ensure!(side.transitions().skip(first).all(ports), "{filter:?}: {:?}", side.events);
        let remote = |event: &Event| event.text("remote") == ends.server.to_string();
        ensure!(side.transitions().all(remote), "{filter:?}: {:?}", side.events);
    }
    Ok(())
}

/// Established, but nobody has called accept().
#[test]
fn what_waits_in_the_accept_queue_says_so() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let args = ["--netns", netns.name()];
    let mut life = Tcptrail::start(&["life", args[0], args[1]])?;
    let mut watch = Watch::start("250ms", &args)?;
    let (born, client) = Moment::try_of(|| connect(&netns, addr))?;
    let end = (addr, client.local_addr()?);
    let shown = watch.until_state(end, "ESTABLISHED")?;
    check_at("ESTABLISHED", shown.since()?, born, CLOSE_TO)?;
    check_words(
        &shown.socket,
        &[
            ("accepted", "false"),
            ("orphan", "false"),
            ("exact", "true"),
            ("role", "server"),
            ("holders", "[]"),
            ("fd", "null"),
        ],
    )?;
    watch.until("the queue's length", |frame| {
        let listener = frame.sockets.iter().find(|socket| socket.text("state") == "LISTEN");
        let queue = listener.context("no listener")?.number("recv_queue");
        Ok((queue == Some(1)).then_some(()))
    })?;
    watch.until_same_as_ss(&netns)?;
    let server = accept(&listener)?;
    let accepted = watch.until("accepted", |frame| {
        let socket = frame.find(end.0, end.1).context("it is gone")?;
        Ok((socket.truth("accepted") == Some(true)).then(|| socket.clone()))
    })?;
    check_words(&accepted, &[("pid", &std::process::id().to_string())])?;
    watch.until_same_as_ss(&netns)?;

    // Another one is never accepted: its peer closes, then the listener goes.
    let never = connect(&netns, addr)?;
    let never_end = (addr, never.local_addr()?);
    watch.until_state(never_end, "ESTABLISHED")?;
    let closed = Moment::of(|| drop(never));
    let waiting = watch.until_state(never_end, "CLOSE_WAIT")?;
    check_words(&waiting.socket, &[("accepted", "false"), ("orphan", "false")])?;
    check_at("CLOSE_WAIT", waiting.since()?, closed, CLOSE_TO)?;
    watch.until_same_as_ss(&netns)?;
    let gone = Moment::of(|| drop(listener));
    drop(client);
    read_end(&server)?;
    drop(server);
    // Frames need a socket; what is left in TIME_WAIT will do.
    ensure!(ss(&netns)?.iter().any(|socket| socket.state == "TIME_WAIT"));
    watch.until_gone(never_end)?;
    let local = never_end.1.to_string();
    life.wait_for("close", |event| event.kind() == "close" && event.text("remote") == local)?;
    watch.stop_whole()?;
    let life = life.stop()?;
    life.check_whole()?;
    let side = life.side(end.0, end.1);
    check_words(side.only("close")?, &[("accepted", "true"), ("how", "fin")])?;
    let side = life.side(never_end.0, never_end.1);
    let close = side.only("close")?;
    check_words(close, &[("accepted", "false"), ("first_close", "remote"), ("how", "rst_sent")])?;
    let waited = close.0["states"]["CLOSE_WAIT"].as_u64().context("no CLOSE_WAIT")?;
    check_between("CLOSE_WAIT", waited, closed.until(gone), CLOSE_TO)
}
