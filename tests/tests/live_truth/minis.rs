//! The ends of closing that the tracepoint does not tell: FIN_WAIT2 and TIME_WAIT in mini-sockets.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::hand::{ACK, FIN, RST};
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::close;
use tests::witness::Moment;

use crate::stage::{
    CLOSE_TO, Called, SECOND, Stage, TICK, check_at, check_between, check_words, room,
};

const TOOLS: &[&str] = &["nft", "ss"];
const ACTIVE: [&str; 6] = [
    "CLOSE>SYN_SENT",
    "SYN_SENT>ESTABLISHED",
    "ESTABLISHED>FIN_WAIT1",
    "FIN_WAIT1>FIN_WAIT2",
    "FIN_WAIT2>TIME_WAIT",
    "TIME_WAIT>CLOSE",
];
const CLOSED_FIRST: &[(&str, &str)] = &[
    ("how", "fin"),
    ("first_close", "local"),
    ("ended_in", "TIME_WAIT"),
    ("role", "client"),
    ("errno", "null"),
];

/// TCP_TIMEWAIT_LEN, and how late its timer may be (`LVL_GRAN` of kernel/time/timer.c at 60 s).
const MINUTE: (u64, u64) = (60 * SECOND, 62 * SECOND + SECOND / 10);

fn finish(called: &mut Called) -> Result<Moment> {
    let when = Moment::try_of(|| Ok(called.stream.shutdown(Shutdown::Write)?))?.0;
    called.hand.expect(FIN | ACK)?;
    Ok(when)
}

/// close(), the peer's ACK, and a while later its FIN.
#[test]
fn an_orphan_stays_in_fin_wait2_until_the_fin() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let Called { mut hand, stream, end, connected, .. } = stage.call(5001)?;
    let closed = close(stream);
    hand.expect(FIN | ACK)?;
    let acked = hand.send(ACK, &[])?;
    let shown = stage.watch.until_state(end, "FIN_WAIT2")?;
    check_at("FIN_WAIT2", shown.since()?, acked, CLOSE_TO)?;
    check_words(&shown.socket, &[("orphan", "true"), ("holders", "[]"), ("role", "client")])?;
    // It keeps the name of who had it.
    check_words(&shown.socket, &[("pid", &std::process::id().to_string())])?;
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let finished = hand.send(FIN | ACK, &[])?;
    hand.expect(ACK)?;
    let event = stage.step(end, "FIN_WAIT2>TIME_WAIT")?;
    let told_at = tests::witness::now_ns();
    // The next question, a second after the last at most; other tests may keep the processors from it for a while. Walks
    // come every five seconds.
    let within = 2 * SECOND;
    ensure!(
        told_at - finished.to < within + room(within),
        "told {} ns later",
        told_at - finished.to
    );
    check_at("TIME_WAIT", event.number("mono_ns").unwrap_or(0), finished, CLOSE_TO)?;
    stage.closed(end)?;
    let shown = stage.watch.until_state(end, "TIME_WAIT")?;
    check_at("TIME_WAIT", shown.since()?, finished, CLOSE_TO)?;
    check_words(&shown.socket, &[("orphan", "true"), ("holders", "[]")])?;
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let told = stage.end()?;
    told.steps(end, &ACTIVE[..5])?;
    told.lasted(end, "ESTABLISHED", (connected, closed), CLOSE_TO)?;
    told.lasted(end, "FIN_WAIT1", (closed, acked), CLOSE_TO)?;
    told.lasted(end, "FIN_WAIT2", (acked, finished), CLOSE_TO)?;
    told.closed(end, CLOSED_FIRST).map(drop)
}

/// shutdown(): the application keeps the socket, and lets go of it in FIN_WAIT2 or never.
#[test]
fn a_half_closed_socket_stays_in_fin_wait2_until_the_fin() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let mut kept = stage.call(5001)?;
    let mut dropped = stage.call(5002)?;
    let begun = [finish(&mut kept)?, finish(&mut dropped)?];
    let acked = [kept.hand.send(ACK, &[])?, dropped.hand.send(ACK, &[])?];
    for (called, acked) in [&kept, &dropped].into_iter().zip(acked) {
        let shown = stage.watch.until_state(called.end, "FIN_WAIT2")?;
        check_at("FIN_WAIT2", shown.since()?, acked, CLOSE_TO)?;
        check_words(&shown.socket, &[("orphan", "false"), ("accepted", "true")])?;
    }
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let (kept_end, dropped_end) = (kept.end, dropped.end);
    drop(dropped.stream);
    let shown = stage.watch.until_orphan(dropped_end, "FIN_WAIT2")?;
    check_at("FIN_WAIT2", shown.since()?, acked[1], CLOSE_TO)?;
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let finished = [kept.hand.send(FIN | ACK, &[])?, dropped.hand.send(FIN | ACK, &[])?];
    for (end, finished) in [kept_end, dropped_end].into_iter().zip(finished) {
        stage.step(end, "FIN_WAIT2>TIME_WAIT")?;
        let shown = stage.watch.until_state(end, "TIME_WAIT")?;
        check_at("TIME_WAIT", shown.since()?, finished, CLOSE_TO)?;
        stage.closed(end)?;
    }
    drop(kept.stream);
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let told = stage.end()?;
    for (index, end) in [kept_end, dropped_end].into_iter().enumerate() {
        told.steps(end, &ACTIVE[..5])?;
        told.lasted(end, "FIN_WAIT1", (begun[index], acked[index]), CLOSE_TO)?;
        told.lasted(end, "FIN_WAIT2", (acked[index], finished[index]), CLOSE_TO)?;
        told.closed(end, CLOSED_FIRST)?;
    }
    Ok(())
}

/// Both FINs cross: CLOSING until our FIN is acknowledged.
#[test]
fn a_simultaneous_close_goes_through_closing() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let orphan = stage.call(5001)?;
    let mut kept = stage.call(5002)?;
    let (orphan_end, kept_end) = (orphan.end, kept.end);
    let mut hand = orphan.hand;
    let closed = [close(orphan.stream), finish(&mut kept)?];
    let (before, kept_fin) = (hand.ack, kept.hand.ack - 1);
    hand.expect(FIN | ACK)?;
    let mut crossed = Vec::new();
    for (hand, fin) in [(&mut hand, before), (&mut kept.hand, kept_fin)] {
        // It does not know of our FIN yet.
        let acknowledged = std::mem::replace(&mut hand.ack, fin);
        crossed.push(hand.send(FIN | ACK, &[])?);
        hand.ack = acknowledged;
    }
    for (end, crossed, orphan) in
        [(orphan_end, crossed[0], "true"), (kept_end, crossed[1], "false")]
    {
        let shown = stage.watch.until_state(end, "CLOSING")?;
        check_at("CLOSING", shown.since()?, crossed, CLOSE_TO)?;
        check_words(&shown.socket, &[("orphan", orphan)])?;
    }
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let mut acked = Vec::new();
    for (hand, end) in [(&mut hand, orphan_end), (&mut kept.hand, kept_end)] {
        acked.push(hand.send(ACK, &[])?);
        stage.step(end, "CLOSING>TIME_WAIT")?;
        stage.closed(end)?;
    }
    for (end, acked) in [(orphan_end, acked[0]), (kept_end, acked[1])] {
        let shown = stage.watch.until_state(end, "TIME_WAIT")?;
        check_at("TIME_WAIT", shown.since()?, acked, CLOSE_TO)?;
    }
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    drop(kept.stream);
    let told = stage.end()?;
    for (index, end) in [orphan_end, kept_end].into_iter().enumerate() {
        told.steps(
            end,
            &[ACTIVE[0], ACTIVE[1], ACTIVE[2], "FIN_WAIT1>CLOSING", "CLOSING>TIME_WAIT"],
        )?;
        told.lasted(end, "FIN_WAIT1", (closed[index], crossed[index]), CLOSE_TO)?;
        told.lasted(end, "CLOSING", (crossed[index], acked[index]), CLOSE_TO)?;
        told.closed(end, CLOSED_FIRST)?;
    }
    Ok(())
}

/// The peer never sends its FIN, and the kernel gives up.
#[test]
fn a_fin_wait2_without_a_fin_times_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&[("ipv4/tcp_fin_timeout", "3")])?;
    let Called { mut hand, stream, end, .. } = stage.call(5001)?;
    drop(stream);
    hand.expect(FIN | ACK)?;
    let acked = hand.send(ACK, &[])?;
    let shown = stage.watch.until_state(end, "FIN_WAIT2")?;
    check_at("FIN_WAIT2", shown.since()?, acked, CLOSE_TO)?;
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let gone = stage.gone(end)?;
    let event = stage.step(end, "FIN_WAIT2>CLOSE")?;
    stage.closed(end)?;
    stage.watch.until_gone(end)?;
    let told = stage.end()?;
    told.steps(end, &[&ACTIVE[..4], &["FIN_WAIT2>CLOSE"]].concat())?;
    // Its timer is known, and may be late by an eighth.
    told.lasted(end, "FIN_WAIT2", (acked, gone), SECOND / 2)?;
    check_between(
        "FIN_WAIT2",
        event.number("in_old_ns").unwrap_or(0),
        (3 * SECOND, 3 * SECOND),
        SECOND / 2,
    )?;
    told.closed(end, &[("how", "timeout"), ("ended_in", "CLOSE"), ("first_close", "local")])
        .map(drop)
}

/// A RST ends FIN_WAIT2: neither a FIN nor a timeout.
#[test]
fn a_fin_wait2_that_is_reset_has_not_timed_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let Called { mut hand, stream, end, .. } = stage.call(5001)?;
    drop(stream);
    hand.expect(FIN | ACK)?;
    let acked = hand.send(ACK, &[])?;
    stage.watch.until_state(end, "FIN_WAIT2")?;
    let reset = hand.send(RST | ACK, &[])?;
    stage.gone(end)?;
    stage.closed(end)?;
    stage.step(end, "FIN_WAIT2>CLOSE")?;
    let told = stage.end()?;
    told.steps(end, &[&ACTIVE[..4], &["FIN_WAIT2>CLOSE"]].concat())?;
    told.lasted(end, "FIN_WAIT2", (acked, reset), 2 * TICK)?;
    let close = told.closed(end, &[("ended_in", "CLOSE"), ("first_close", "local")])?;
    ensure!(["unknown", "rst_received"].contains(&close.text("how")), "{close:?}");
    Ok(())
}

/// TIME_WAIT to its very end, after each way into it.
#[test]
fn time_wait_lasts_a_minute() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let args = ["life", "--with-time-wait", "--netns", stage.pair.right.name()];
    let mut last = Tcptrail::start(&args)?;
    // By way of a mini-socket's FIN_WAIT2, straight from FIN_WAIT1, and from CLOSING.
    let mut waiting = Vec::new();
    for (port, ack_first, crossing) in
        [(5001, true, false), (5002, false, false), (5003, false, true)]
    {
        let Called { mut hand, stream, end, .. } = stage.call(port)?;
        let before = hand.ack;
        drop(stream);
        hand.expect(FIN | ACK)?;
        if ack_first {
            hand.send(ACK, &[])?;
            // Long enough that a look falls between the two.
            stage.watch.until_state(end, "FIN_WAIT2")?;
        }
        let entered = if crossing {
            hand.send_at(FIN | ACK, hand.seq, before, &[])?;
            hand.seq += 1;
            stage.step(end, "FIN_WAIT1>CLOSING")?;
            hand.send(ACK, &[])?
        } else {
            hand.send(FIN | ACK, &[])?
        };
        let socket = stage.ss(end)?.context("ss does not have it")?;
        ensure!(socket.state == "TIME_WAIT", "{socket:?}");
        waiting.push((end, entered));
    }
    // Who comes later knows the beginning from the timer.
    thread::sleep(Duration::from_secs(5));
    let mut later = tests::watch::Watch::start("250ms", &["--netns", stage.pair.right.name()])?;
    for (end, entered) in &waiting {
        for watch in [&mut stage.watch, &mut later] {
            let shown = watch.until_state(*end, "TIME_WAIT")?;
            check_at("TIME_WAIT", shown.since()?, *entered, CLOSE_TO)?;
        }
    }
    let mut ended = Vec::new();
    for (end, _) in &waiting {
        let (local, remote) = (end.0.to_string(), end.1.to_string());
        let minute = Duration::from_secs(70);
        stage.tail.wait_for_within("TIME_WAIT>CLOSE", minute, |event| {
            event.is_step("TIME_WAIT>CLOSE")
                && event.text("local") == local
                && event.text("remote") == remote
        })?;
        let told = tests::witness::now_ns();
        ended.push(told);
        // The kernel's timers have a grain of 2 s at that length.
        stage.gone(*end)?;
        last.wait_for("close", |event| {
            event.kind() == "close"
                && event.text("local") == local
                && event.text("remote") == remote
        })?;
    }
    later.stop_whole()?;
    let last = last.stop()?;
    last.check_whole()?;
    let told = stage.end()?;
    for (index, (end, entered)) in waiting.into_iter().enumerate() {
        let side = told.side(end);
        let event = side.leaving("TIME_WAIT")?;
        let in_old = event.number("in_old_ns").context("no time in TIME_WAIT")?;
        check_between("TIME_WAIT", in_old, MINUTE, CLOSE_TO)?;
        ensure!(ended[index] - entered.to < MINUTE.1 + TICK + room(TICK), "told late: {event:?}");
        told.closed(end, CLOSED_FIRST)?;
        let close = last.side(end.0, end.1).only("close")?.clone();
        check_words(&close, CLOSED_FIRST)?;
        let waited = close.0["states"]["TIME_WAIT"].as_u64().context("no TIME_WAIT")?;
        check_between("life's TIME_WAIT", waited, MINUTE, CLOSE_TO)?;
    }
    Ok(())
}
