//! Ends with nobody on the other side: what the kernel holds alone, and how long.

use anyhow::{Context, Result, ensure};
use tests::hand::{ACK, FIN};
use tests::pace::is_slow;
use tests::ready;
use tests::traffic::{close, read_end};

use crate::stage::{CLOSE_TO, Called, SECOND, Stage, check_at, check_words};

const TOOLS: &[&str] = &["nft", "ss"];

/// Orphans end after two retransmits, about 1.4 s; on an emulated processor there is time to look at them.
fn few() -> [(&'static str, &'static str); 1] {
    [("ipv4/tcp_orphan_retries", if is_slow() { "4" } else { "2" })]
}

/// Our FIN, as the last of the four segments of a close, is never acknowledged.
#[test]
fn a_last_ack_whose_peer_is_gone_times_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&few())?;
    let (mut hand, stream, end) = stage.called(5001)?;
    let finished = hand.send(FIN | ACK, &[])?;
    read_end(&stream)?;
    let shown = stage.watch.until_state(end, "CLOSE_WAIT")?;
    check_at("CLOSE_WAIT", shown.since()?, finished, CLOSE_TO)?;
    check_words(&shown.socket, &[("orphan", "false"), ("accepted", "true"), ("role", "server")])?;
    stage.watch.until_same_as_ss(&stage.pair.right)?;
    let closed = close(stream);
    let shown = stage.watch.until_orphan(end, "LAST_ACK")?;
    check_at("LAST_ACK", shown.since()?, closed, CLOSE_TO)?;
    check_words(&shown.socket, &[("orphan", "true"), ("holders", "[]")])?;
    check_words(&shown.socket, &[("pid", &std::process::id().to_string())])?;
    let socket = stage.ss(end)?.context("ss does not have it")?;
    ensure!(socket.state == "LAST_ACK" && socket.users.is_empty(), "{socket:?}");
    let gone = stage.gone(end)?;
    stage.closed(end)?;
    let told = stage.end()?;
    told.steps(
        end,
        &[
            "LISTEN>SYN_RECV",
            "SYN_RECV>ESTABLISHED",
            "ESTABLISHED>CLOSE_WAIT",
            "CLOSE_WAIT>LAST_ACK",
            "LAST_ACK>CLOSE",
        ],
    )?;
    told.lasted(end, "CLOSE_WAIT", (finished, closed), CLOSE_TO)?;
    told.lasted(end, "LAST_ACK", (closed, gone), CLOSE_TO)?;
    let close = told.closed(
        end,
        &[
            ("how", "timeout"),
            ("errno", "ETIMEDOUT"),
            ("first_close", "remote"),
            ("ended_in", "CLOSE"),
        ],
    )?;
    let again = told.sent_again(end);
    ensure!(!again.is_empty(), "no FIN was sent again");
    told.check_sent_again(end, "fin", "LAST_ACK", again.len() as u64)?;
    ensure!(close.number("fin_retransmits") == Some(again.len() as u64), "{close:?}");
    Ok(())
}

/// Our FIN, as the first of the four, is never acknowledged.
#[test]
fn a_fin_wait1_whose_peer_is_gone_times_out() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let mut stage = Stage::with(&few())?;
    let Called { hand, stream, end, connected, .. } = stage.call(5001)?;
    let closed = close(stream);
    let shown = stage.watch.until_orphan(end, "FIN_WAIT1")?;
    check_at("FIN_WAIT1", shown.since()?, closed, CLOSE_TO)?;
    check_words(&shown.socket, &[("orphan", "true"), ("holders", "[]"), ("role", "client")])?;
    let gone = stage.gone(end)?;
    stage.closed(end)?;
    drop(hand);
    let told = stage.end()?;
    told.steps(
        end,
        &["CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED", "ESTABLISHED>FIN_WAIT1", "FIN_WAIT1>CLOSE"],
    )?;
    told.lasted(end, "ESTABLISHED", (connected, closed), CLOSE_TO)?;
    told.lasted(end, "FIN_WAIT1", (closed, gone), CLOSE_TO)?;
    let close =
        told.closed(end, &[("how", "timeout"), ("errno", "ETIMEDOUT"), ("first_close", "local")])?;
    let again = told.sent_again(end);
    told.check_sent_again(end, "fin", "FIN_WAIT1", again.len() as u64)?;
    ensure!(!again.is_empty() && close.0["states"]["FIN_WAIT1"].as_u64() > Some(SECOND / 5));
    Ok(())
}
