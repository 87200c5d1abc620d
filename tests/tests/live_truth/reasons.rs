//! Why connections end before their time.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{SockRef, TcpKeepalive};
use tests::hand::{ACK, PSH, RST, SYN};
use tests::netns::Pair;
use tests::ready;
use tests::tcptrail::Event;
use tests::traffic::{Both, close, connect, listen, read_reset, reset};
use tests::witness::Moment;

use crate::stage::{CLOSE_TO, Called, End, SECOND, Stage, Told, check_between, check_words};

const TOOLS: &[&str] = &["nft", "ss"];

fn resets(told: &Told, end: End) -> Vec<Event> {
    told.side(end).events.into_iter().filter(|event| event.kind() == "reset").cloned().collect()
}

/// A RST from the peer, in each state that has one.
#[test]
fn a_reset_received_ends_it_there_and_then() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let mut all = Vec::new();
    // Established, and after the peer's FIN.
    let Called { mut hand, stream, end, connected, .. } = stage.call(5001)?;
    thread::sleep(Duration::from_millis(80));
    let at = hand.send(RST | ACK, &[])?;
    read_reset(&stream)?;
    all.push((end, "ESTABLISHED", connected, at, "remote", "ECONNRESET"));
    let (mut other, other_stream, other_end) = stage.called(5002)?;
    let finished = other.send(tests::hand::FIN | ACK, &[])?;
    tests::traffic::read_end(&other_stream)?;
    thread::sleep(Duration::from_millis(80));
    let at = other.send(RST | ACK, &[])?;
    all.push((other_end, "CLOSE_WAIT", finished, at, "remote", "EPIPE"));
    // After our FIN.
    let Called { hand: mut third, stream: third_stream, end: third_end, .. } = stage.call(5003)?;
    let closed = close(third_stream);
    third.expect(tests::hand::FIN | ACK)?;
    let at = third.send(RST | ACK, &[])?;
    all.push((third_end, "FIN_WAIT1", closed, at, "local", "ECONNRESET"));
    for (end, state, ..) in &all {
        stage.step(*end, &format!("{state}>CLOSE"))?;
        stage.closed(*end)?;
    }
    drop((stream, other_stream));
    let told = stage.end()?;
    for (end, state, from, to, first, errno) in all {
        told.lasted(end, state, (from, to), CLOSE_TO)?;
        told.closed(
            end,
            &[
                ("how", "rst_received"),
                ("first_close", first),
                ("errno", errno),
                ("ended_in", "CLOSE"),
                ("reset_reason", "null"),
            ],
        )?;
        let resets = resets(&told, end);
        ensure!(resets.len() == 1, "{resets:?}");
        check_words(&resets[0], &[("direction", "received"), ("state", state)])?;
    }
    Ok(())
}

/// A RST of ours, with the kernel's reason where it has one.
#[test]
fn a_reset_sent_has_the_kernels_reason() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    // SO_LINGER 0.
    let mut lingering = stage.call(5001)?;
    let lingered = reset(lingering.stream)?;
    lingering.hand.expect(RST | ACK)?;
    // close() with unread data.
    let mut unread = stage.call(5002)?;
    unread.hand.send(ACK | PSH, b"never read")?;
    unread.stream.peek(&mut [0])?;
    let aborted = close(unread.stream);
    unread.hand.expect(RST | ACK)?;
    let all = [
        (lingering.end, lingering.connected, lingered, "TCP_STATE"),
        (unread.end, unread.connected, aborted, "TCP_ABORT_ON_CLOSE"),
    ];
    for (end, ..) in all {
        stage.closed(end)?;
    }
    let told = stage.end()?;
    for (end, from, to, reason) in all {
        told.lasted(end, "ESTABLISHED", (from, to), CLOSE_TO)?;
        check_our_reset(&told, end, reason)?;
        let resets = resets(&told, end);
        ensure!(resets.len() == 1, "{end:?}: {resets:?}");
    }
    Ok(())
}

/// It ended by our RST, with this reason where the kernel has one (6.10 and later).
fn check_our_reset(told: &Told, end: End, reason: &str) -> Result<()> {
    let close = told.closed(end, &[("how", "rst_sent"), ("first_close", "local")])?;
    let sent = resets(told, end).into_iter().find(|reset| reset.text("direction") == "sent");
    let sent = sent.with_context(|| format!("no RST was told: {close:?}"))?;
    let reasons = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let has_reasons = reasons.windows(18).any(|bytes| bytes == b"TCP_ABORT_ON_CLOSE");
    for (event, key) in [(&close, "reset_reason"), (&sent, "reason")] {
        let as_told = event.text(key);
        ensure!(!has_reasons || as_told.eq_ignore_ascii_case(reason), "not {reason}: {event:?}");
    }
    Ok(())
}

/// Data comes after close(): the kernel does as if a RST had come (`tcp_reset`), and sends one.
#[test]
fn data_after_close_is_answered_with_our_reset() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let Called { mut hand, stream, end, .. } = stage.call(5001)?;
    let closed = close(stream);
    hand.expect(tests::hand::FIN | ACK)?;
    // The FIN is not acknowledged: a full socket still.
    hand.ack -= 1;
    let came = hand.send(ACK | PSH, b"too late")?;
    hand.expect(RST)?;
    stage.closed(end)?;
    let told = stage.end()?;
    told.lasted(end, "FIN_WAIT1", (closed, came), CLOSE_TO)?;
    check_our_reset(&told, end, "TCP_ABORT_ON_DATA")
}

/// Nobody answers the SYN.
#[test]
fn a_connect_that_nobody_answers_times_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&[("ipv4/tcp_syn_retries", "1")])?;
    // Since 6.5 the first four go out a second apart beyond that number. Before, there is no such setting.
    let _ = stage.pair.right.sysctl("ipv4/tcp_syn_linear_timeouts", "0");
    let to: SocketAddr = format!("{}:5001", Pair::LEFT).parse()?;
    let (tried, error) =
        Moment::try_of(|| connect(&stage.pair.right, to).err().context("somebody answers"))?;
    ensure!(format!("{error:#}").contains("timed out"), "{error:#}");
    let event = stage.life.wait_for("close", |event| event.kind() == "close")?;
    let end = (event.text("local").parse()?, to);
    let told = stage.end()?;
    told.steps(end, &["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"])?;
    let close = told.closed(
        end,
        &[
            ("how", "timeout"),
            ("errno", "ETIMEDOUT"),
            ("role", "client"),
            ("first_close", "none"),
            ("handshake_ns", "null"),
            ("accepted", "true"),
        ],
    )?;
    let waited = close.0["states"]["SYN_SENT"].as_u64().context("no SYN_SENT")?;
    check_between("SYN_SENT", waited, (tried.to - tried.from, tried.to - tried.from), CLOSE_TO)?;
    check_between("SYN_SENT", waited, (3 * SECOND, 3 * SECOND), SECOND / 5)?;
    told.check_sent_again(end, "syn", "SYN_SENT", 1)?;
    ensure!(close.number("syn_retransmits") == Some(1), "{close:?}");
    Ok(())
}

/// Data that nobody acknowledges; probes that nobody answers.
#[test]
fn established_connections_time_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&[("ipv4/tcp_retries2", "2")])?;
    let unacknowledged = stage.call(5001)?;
    let impatient = stage.call(5002)?;
    let alive = stage.call(5003)?;
    let socket = SockRef::from(&impatient.stream);
    socket.set_tcp_user_timeout(Some(Duration::from_millis(700)))?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(1))
        .with_interval(Duration::from_secs(1))
        .with_retries(2);
    SockRef::from(&alive.stream).set_tcp_keepalive(&probes)?;
    (&unacknowledged.stream).write_all(b"hello")?;
    (&impatient.stream).write_all(b"hello")?;
    // Each thread knows when its socket ended.
    let ended = thread::scope(|scope| {
        let waiting: Vec<_> = [&unacknowledged.stream, &impatient.stream, &alive.stream]
            .map(|mut stream| {
                scope.spawn(move || {
                    let error = std::io::Read::read(&mut stream, &mut [0; 1]);
                    let kind = error.err().map(|error| error.kind());
                    (Moment::of(|| {}), kind)
                })
            })
            .into_iter()
            .collect();
        waiting
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("panic")))
            .collect::<Result<Vec<_>>>()
    })?;
    let all = [&unacknowledged, &impatient, &alive];
    for called in all {
        stage.closed(called.end)?;
    }
    let told = stage.end()?;
    for (called, (at, kind)) in all.into_iter().zip(ended) {
        ensure!(kind == Some(std::io::ErrorKind::TimedOut), "{kind:?}");
        told.steps(called.end, &["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>CLOSE"])?;
        told.lasted(called.end, "ESTABLISHED", (called.connected, at), CLOSE_TO)?;
        told.closed(
            called.end,
            &[("how", "timeout"), ("errno", "ETIMEDOUT"), ("first_close", "none")],
        )?;
    }
    let again = told.sent_again(unacknowledged.end);
    told.check_sent_again(unacknowledged.end, "data", "ESTABLISHED", again.len() as u64)?;
    ensure!(again.len() >= 2, "{again:?}");
    ensure!(told.sent_again(alive.end).is_empty(), "probes are no retransmits");
    Ok(())
}

/// ICMP, while connecting and while data is under way.
#[test]
fn hosts_that_cannot_be_reached_are_unreachable() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&[("ipv4/tcp_retries2", "2")])?;
    let under_way = stage.call(5001)?;
    stage.pair.left.nft(
        "table ip answers {
 chain arriving {
 type filter hook input priority 0; policy accept;
            tcp dport 5001 reject with icmp type host-unreachable
            tcp dport 5002 reject with icmp type host-unreachable
            tcp dport 5003 reject with icmp type net-unreachable
            tcp dport 5004 reject with icmp type port-unreachable
            tcp dport 5005 reject with tcp reset
 }
 }",
    )?;
    // The answer with a RST must get through.
    stage.pair.left.nft("flush chain ip hand leaving")?;
    (&under_way.stream).write_all(b"hello")?;
    let expected = [
        (5002, "unreachable", "EHOSTUNREACH"),
        (5003, "unreachable", "ENETUNREACH"),
        (5004, "refused", "ECONNREFUSED"),
        (5005, "refused", "ECONNREFUSED"),
    ];
    // connect() itself: ICMP that finds it at work is taken in when the SYN is sent again, a second later.
    let tried = thread::scope(|scope| {
        let netns = &stage.pair.right;
        let all: Vec<_> = expected
            .iter()
            .map(|&(port, ..)| {
                let to: SocketAddr = format!("{}:{port}", Pair::LEFT).parse()?;
                Ok(scope.spawn(move || {
                    Moment::try_of(|| netns.run(|| Ok(TcpStream::connect(to).err())))
                }))
            })
            .collect::<Result<_>>()?;
        all.into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("panic"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    for ((port, how, errno), (tried, error)) in expected.into_iter().zip(tried) {
        let error = error.context("somebody answers")?;
        let remote = format!("{}:{port}", Pair::LEFT);
        let close = stage
            .life
            .wait_for("close", |event| event.kind() == "close" && event.text("remote") == remote)?;
        check_words(&close, &[("how", how), ("errno", errno), ("ended_in", "CLOSE")])
            .with_context(|| format!("{error:#}"))?;
        let waited = close.number("total_ns").context("no total_ns")?;
        check_between("total", waited, (0, tried.to - tried.from), CLOSE_TO)?;
    }
    stage.closed(under_way.end)?;
    let told = stage.end()?;
    told.closed(under_way.end, &[("how", "unreachable"), ("errno", "EHOSTUNREACH")])?;
    for port in 5002..=5005 {
        let remote = format!("{}:{port}", Pair::LEFT);
        let steps: Vec<_> = told
            .tail
            .of_kind("transition")
            .filter(|event| event.text("remote") == remote)
            .map(Event::step)
            .collect();
        ensure!(steps == ["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"], "{port}: {steps:?}");
    }
    Ok(())
}

/// A RST answers the SYN, after a while.
#[test]
fn a_connect_that_is_refused_has_its_time() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let mut hand = stage.callee(5001)?;
    let to = hand.addr();
    let (end, connected, refused) = thread::scope(|scope| {
        let netns = &stage.pair.right;
        let calling = scope.spawn(move || Moment::try_of(|| Ok(connect(netns, to).err())));
        let syn = hand.expect(SYN)?;
        thread::sleep(Duration::from_millis(150));
        let refused = hand.send(RST | ACK, &[])?;
        let (connected, error) = calling.join().map_err(|_| anyhow::anyhow!("panic"))??;
        ensure!(error.is_some(), "connected");
        Ok(((syn.from.into(), to), connected, refused))
    })?;
    stage.closed(end)?;
    let told = stage.end()?;
    told.steps(end, &["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"])?;
    told.lasted(
        end,
        "SYN_SENT",
        (Moment { from: connected.from, to: connected.from }, refused),
        CLOSE_TO,
    )?;
    told.closed(end, &[("how", "refused"), ("errno", "ECONNREFUSED"), ("first_close", "remote")])
        .map(drop)
}

/// Both open at once (the peer answers the SYN with a SYN), then the peer resets.
#[test]
fn a_handshake_that_is_reset_was_never_established() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let mut hand = stage.callee(5001)?;
    let to = hand.addr();
    let (end, error) = thread::scope(|scope| {
        let netns = &stage.pair.right;
        let calling = scope.spawn(move || netns.run(|| Ok(TcpStream::connect(to).err())));
        let syn = hand.expect(SYN)?;
        hand.send(SYN, &[])?;
        hand.expect(SYN | ACK)?;
        hand.send(RST | ACK, &[])?;
        let error = calling.join().map_err(|_| anyhow::anyhow!("panic"))??;
        anyhow::Ok(((syn.from.into(), to), error.context("connected")?))
    })?;
    ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error:#}");
    stage.closed(end)?;
    let told = stage.end()?;
    told.steps(end, &["CLOSE>SYN_SENT", "SYN_SENT>SYN_RECV", "SYN_RECV>CLOSE"])?;
    told.closed(
        end,
        &[
            ("how", "rst_received"),
            ("failed", "reset"),
            ("errno", "ECONNRESET"),
            ("role", "client"),
        ],
    )
    .map(drop)
}

/// `ss -K`.
#[test]
fn a_killed_connection_was_aborted() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let listener: TcpListener = listen(&stage.pair.right, "127.0.0.1:0")?;
    let both = Both::new(&stage.pair.right, &listener, listener.local_addr()?)?;
    let end = (both.ends.client, both.ends.server);
    let peer = (both.ends.server, both.ends.client);
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let (killed, output) = Moment::try_of(|| {
        let mut ss = Command::new("ss");
        let filter = format!("sport = :{}", end.0.port());
        ss.args(["-K", "-t", "-n", "-H", &filter]);
        stage.pair.right.output(ss)
    })?;
    if output.stdout.is_empty() {
        println!("skipped: this kernel cannot destroy sockets (INET_DIAG_DESTROY)");
        return Ok(());
    }
    for end in [end, peer] {
        stage.closed(end)?;
        stage.watch.until_gone(end)?;
    }
    drop(both);
    let told = stage.end()?;
    let close = told.closed(
        end,
        &[
            ("how", "aborted"),
            ("errno", "ECONNABORTED"),
            ("failed", "null"),
            ("first_close", "local"),
            ("ended_in", "CLOSE"),
        ],
    )?;
    let at = close.number("mono_ns").context("no mono_ns")?;
    ensure!(at >= killed.from && at <= killed.to, "{at}, not {killed:?}");
    told.closed(peer, &[("how", "rst_received"), ("first_close", "remote")]).map(drop)
}
