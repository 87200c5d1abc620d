//! Peers that vanish: LAST_ACK, FIN_WAIT1, and data that nobody acknowledges; and peers that do not read.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::SockRef;
use tests::netns::Pair;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{Both, finish_sending, listen, read_end};
use tests::witness::{eventually, now_ns, ss};

use crate::stage::{check_verdict, cleared, finding, silent, start};

const SECOND: u64 = 1_000_000_000;

/// Connections from the left to the right.
fn connections(pair: &Pair, count: usize) -> Result<Vec<Both>> {
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let to: SocketAddr = (Pair::RIGHT.parse::<Ipv4Addr>()?, 8089).into();
    (0..count).map(|_| Both::new(&pair.left, &listener, to)).collect()
}

/// The other way round: the right is the client.
fn calls(pair: &Pair, count: usize) -> Result<Vec<Both>> {
    let listener = listen(&pair.left, "0.0.0.0:5432")?;
    let to: SocketAddr = (Pair::LEFT.parse::<Ipv4Addr>()?, 5432).into();
    (0..count).map(|_| Both::new(&pair.right, &listener, to)).collect()
}

fn vanish(pair: &Pair) -> Result<()> {
    pair.right.nft(
        "table inet gone {
            chain in {
                type filter hook input priority 0; policy accept;
                meta l4proto tcp drop
            }
        }",
    )
}

/// When ss shows none of a state any more.
fn gone(pair: &Pair, state: &str) -> Result<u64> {
    eventually("their end", Duration::from_secs(20), || {
        Ok((!ss(&pair.right)?.iter().any(|socket| socket.state == state)).then(now_ns))
    })
}

/// One of the two may pass the threshold a look before the other; and that nobody has them any more the next walk
/// over sockets tells, which on an emulated processor may be seconds later.
fn both_of_them(found: &Event) -> bool {
    found.number("count") == Some(2) && found.text("verdict").contains("; held by the kernel")
}

/// What was said of the time left came true, within a third of it (and the looks' second).
fn check_end(found: &Event, really: u64) -> Result<()> {
    let told = found.number("mono_ns").context("no time")?;
    let left = found.0["forecast"]["left_ns"].as_u64().with_context(|| format!("{found:?}"))?;
    let rest = really.saturating_sub(told);
    ensure!(left.abs_diff(rest) <= rest / 3 + SECOND, "left {left}, really {rest}: {found:?}");
    Ok(())
}

/// An orphan's FIN is sent again for 6 to 13 s: with a usual first timer after 0.2, 0.6, 1.4, 3 and 6.2 s. The first
/// connection of a machine that has just started has a longer one, so that its FIN ends one step earlier.
const FEW: &str = "4";

#[test]
fn last_ack_whose_peer_vanished() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    pair.right.sysctl("ipv4/tcp_orphan_retries", FEW)?;
    let mut stuck = start(&pair.right, &["--threshold", "LAST_ACK=2s"])?;
    let both = connections(&pair, 2)?;
    for one in &both {
        finish_sending(&one.client)?;
        read_end(&one.server)?;
    }
    vanish(&pair)?;
    let clients: Vec<_> = both.into_iter().map(|one| one.client).collect();
    let found = finding(&mut stuck, "last_ack", both_of_them)?;
    check_verdict(
        &found,
        &[
            "10.77.0.1 does not answer: 2 sockets in LAST_ACK on :8089, oldest ",
            ", FIN sent again ",
            "; held by the kernel, closed by ",
            &format!("[{}]", std::process::id()),
            "the kernel gives up the last of them in about ",
        ],
    )?;
    ensure!(found.text("advice").contains("tcp_orphan_retries 4"), "{found:?}");
    check_end(&found, gone(&pair, "LAST_ACK")?)?;
    cleared(&mut stuck, "last_ack")?;
    drop(clients);
    stuck.stop()?.check_whole()
}

#[test]
fn fin_wait1_whose_peer_vanished() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    pair.right.sysctl("ipv4/tcp_orphan_retries", FEW)?;
    let mut stuck = start(&pair.right, &["--threshold", "FIN_WAIT1=2s"])?;
    let both = calls(&pair, 2)?;
    vanish(&pair)?;
    let servers: Vec<_> = both.into_iter().map(|one| one.server).collect();
    let found = finding(&mut stuck, "fin_wait1", both_of_them)?;
    check_verdict(
        &found,
        &[
            "10.77.0.1 does not answer: 2 sockets in FIN_WAIT1 to 10.77.0.1:5432, oldest ",
            ", FIN sent again ",
            "; held by the kernel, closed by ",
        ],
    )?;
    check_end(&found, gone(&pair, "FIN_WAIT1")?)?;
    cleared(&mut stuck, "fin_wait1")?;
    drop(servers);
    stuck.stop()?.check_whole()
}

/// The twin of both: the same closes, and the peer answers.
#[test]
fn closes_that_are_answered_are_not_told() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let args = ["--threshold", "LAST_ACK=1s,FIN_WAIT1=1s,CLOSING=1s,CLOSE_WAIT=2s"];
    let stuck = start(&pair.right, &args)?;
    for round in 0..6 {
        let both = if round % 2 == 0 { connections(&pair, 4)? } else { calls(&pair, 4)? };
        for one in both {
            finish_sending(&one.client)?;
            read_end(&one.server)?;
            drop(one);
        }
        // The load's pace.
        sleep(Duration::from_millis(700));
    }
    silent(stuck)
}

fn established(stuck: &mut Tcptrail, words: &[&str]) -> Result<Event> {
    let found = finding(stuck, "established", |_| true)?;
    check_verdict(&found, words)?;
    Ok(found)
}

/// Data that is sent again and again, and data that the peer's window does not let out.
#[test]
fn established_without_progress() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let mut stuck = start(&pair.right, &["--threshold", "ESTABLISHED=3s"])?;
    let mut both = calls(&pair, 1)?;
    let one = &mut both[0];
    // Until both sides' buffers are full, and stay so: nobody reads.
    SockRef::from(&one.client).set_nonblocking(true)?;
    let mut refused = 0;
    while refused < 5 {
        if one.client.write(&[0; 16_384]).is_ok() {
            refused = 0;
        } else {
            refused += 1;
            sleep(Duration::from_millis(100));
        }
    }
    established(
        &mut stuck,
        &["cannot send to 10.77.0.1:5432: 1 connection for ", "the peer's window is closed"],
    )?;
    let mut other = calls(&pair, 1)?;
    vanish(&pair)?;
    other[0].client.write_all(b"anybody there?")?;
    let says = "gets no acknowledgement from 10.77.0.1:5432: ";
    let found = finding(&mut stuck, "established", |event| event.text("verdict").contains(says))?;
    check_verdict(&found, &["not acknowledged, the first sent again "])?;
    ensure!(found.text("advice").contains("tcp_retries2 15, about 15m to 17m"), "{found:?}");
    stuck.stop()?.check_whole()
}
