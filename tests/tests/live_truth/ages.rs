//! Ages that the other end on this machine, or the last ACK, gives away; and ends that only the peer's RST
//! tells of.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{self, Tcptrail};
use tests::traffic::{Both, close, finish_sending, listen, read_end};
use tests::witness::Moment;

/// Sockets that were there before have the age that can be known, and no more.
#[test]
fn a_fin_wait2_that_was_there_before_has_an_age() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for closed in [false, true] {
        let netns = Netns::new()?;
        let listener = listen(&netns, "127.0.0.1:0")?;
        let both = Both::new(&netns, &listener, listener.local_addr()?)?;
        let (local, client) = (both.ends.client, both.client);
        // A full socket that waits for the peer's FIN, or a mini-socket.
        let (began, kept) =
            if closed { (close(client), None) } else { (finish_sending(&client)?, Some(client)) };
        read_end(&both.server)?;
        sleep(Duration::from_secs(3));
        let run = tcptrail::run(&["list", "--netns", netns.name(), "--json"])?;
        let ended = Moment::of(|| {});
        let state = |state: &str| {
            let mut all = run.of_kind("socket");
            all.find(|event| event.text("state") == state).context(format!("{state}: {run:?}"))
        };
        let ours = state("FIN_WAIT2")?;
        ensure!(ours.is_at(local), "{ours:?}");
        let (_, most) = began.until(ended);
        for event in [ours, state("CLOSE_WAIT")?] {
            let age = event.number("in_state_ns").with_context(|| format!("no age: {event:?}"))?;
            ensure!(age <= most, "{age} of {most} ns: {event:?}");
            ensure!(age >= 2_500_000_000, "{age} of {most} ns: {event:?}");
            ensure!(event.truth("exact") == Some(false), "{event:?}");
        }
        drop(kept);
    }
    Ok(())
}

/// The twin: the last ACK came before the state began, and the other end was in its state for longer. Neither may
/// make the state older than it is.
#[test]
fn an_age_from_before_the_state_is_not_taken() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    for state in ["FIN_WAIT1", "LAST_ACK"] {
        let netns = Netns::new()?;
        let listener = listen(&netns, "127.0.0.1:0")?;
        let both = Both::new(&netns, &listener, listener.local_addr()?)?;
        if state == "LAST_ACK" {
            finish_sending(&both.server)?;
            read_end(&both.client)?;
        }
        // Nothing is sent for so long, and then nothing arrives any more.
        sleep(Duration::from_secs(3));
        netns.nft(
            "table inet deaf {
                chain in {
                    type filter hook input priority 0; policy accept;
                    meta l4proto tcp drop
                }
            }",
        )?;
        let began = finish_sending(&both.client)?;
        sleep(Duration::from_secs(1));
        let run = tcptrail::run(&["list", "--netns", netns.name(), "--json"])?;
        let ended = Moment::of(|| {});
        let found = run.of_kind("socket").find(|event| event.text("state") == state);
        let found = found.with_context(|| format!("{state}: {run:?}"))?;
        ensure!(found.is_at(both.ends.client), "{found:?}");
        let (_, most) = began.until(ended);
        let age = found.number("in_state_ns");
        ensure!(age.is_none_or(|age| age <= most), "{age:?} of {most} ns: {found:?}");
    }
    Ok(())
}

/// A mini-socket that answers late data with a RST has ended then: the RST that the other end gets says
/// so, to the moment.
#[test]
fn a_fin_wait2_ends_with_the_rst_that_its_peer_gets() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tail = Tcptrail::start(&["tail", "--netns", netns.name()])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    let local = both.ends.client;
    let closed = close(both.client);
    read_end(&both.server)?;
    // Not at the time of a look.
    sleep(Duration::from_millis(1_330));
    let late = Moment::try_of(|| Ok((&both.server).write_all(b"late")?))?.0;
    let end =
        tail.wait_for("its end", |event| event.is_at(local) && event.is_step("FIN_WAIT2>CLOSE"))?;
    ensure!(end.truth("exact") == Some(true), "{end:?}");
    ensure!(end.text("how") == "rst_sent", "{end:?}");
    let spent = end.number("in_old_ns").context("a time")?;
    let (least, most) = closed.until(late);
    // The FIN's ACK comes a moment after close().
    ensure!(spent <= most && spent + 100_000_000 >= least, "{spent}, not {least} to {most}");
    tail.stop()?.check_whole()
}
