//! Connects without an answer, and half-open connections.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use socket2::{Domain, Socket, Type};
use tests::hand::{flood, silence};
use tests::netns::Pair;
use tests::pace::is_slow;
use tests::ready;
use tests::traffic::{Both, listen};
use tests::witness::counters;

use crate::stage::{check_verdict, cleared, finding, silent, start};

/// SYNs into a black hole; then the callers give up.
#[test]
fn connects_to_a_black_hole_are_named() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    pair.left.lose_first(1_000, "tcp dport 9")?;
    let to: SocketAddr = (Pair::LEFT.parse::<Ipv4Addr>()?, 9).into();
    let mut stuck = start(&pair.right, &["--threshold", "SYN_SENT=3s"])?;
    let call =
        || pair.right.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(9)).is_err()));
    thread::scope(|scope| {
        let mut callers = Vec::new();
        for _ in 0..3 {
            callers.push(scope.spawn(call));
            if is_slow() {
                // Who connects while another's stack is taken may not be seen there, and is told apart.
                thread::sleep(Duration::from_millis(500));
            }
        }
        let found = finding(&mut stuck, "syn_sent", |event| event.number("count") == Some(3))?;
        let who = format!(
            "[{}] gets no answer from {to}: 3 connects in SYN_SENT, oldest ",
            std::process::id()
        );
        check_verdict(&found, &[&who, ", SYN sent again ", "gives up the last of them in about "])?;
        let left = found.0["forecast"]["left_ns"].as_u64().unwrap_or(0) / 1_000_000_000;
        // tcp_syn_retries 6: 127 s, or 131 s with tcp_syn_linear_timeouts 4.
        ensure!((115..=129).contains(&left), "gives up in {left} s: {found:?}");
        for caller in callers {
            ensure!(caller.join().map_err(|_| anyhow::anyhow!("panic"))??, "it was answered");
        }
        anyhow::Ok(())
    })?;
    cleared(&mut stuck, "syn_sent")?;
    stuck.stop()?.check_whole()
}

/// The twin: connects that are answered, by a SYN-ACK or by a RST.
#[test]
fn connects_that_are_answered_are_not() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let listener = listen(&pair.left, "0.0.0.0:0")?;
    let to: SocketAddr = (Pair::LEFT.parse::<Ipv4Addr>()?, listener.local_addr()?.port()).into();
    let nobody: SocketAddr = (Pair::LEFT.parse::<Ipv4Addr>()?, 9).into();
    let stuck = start(&pair.right, &["--threshold", "SYN_SENT=1s"])?;
    let mut kept = Vec::new();
    for _ in 0..12 {
        kept.push(Both::new(&pair.right, &listener, to)?);
        let refused = pair.right.run(|| Ok(TcpStream::connect(nobody).is_err()))?;
        ensure!(refused, "somebody listens at {nobody}");
        // The load's pace.
        thread::sleep(Duration::from_millis(250));
    }
    silent(stuck)
}

/// SYNs from addresses that never answer: many are a flood, a few are everyday.
fn half_open(count: u32) -> Result<()> {
    let pair = Pair::new()?;
    silence(&pair.left)?;
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        pair.right.sysctl(key, "0")?;
    }
    pair.right.ip(&["route", "add", "10.99.0.0/16", "via", Pair::LEFT])?;
    let listener = listen(&pair.right, "0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let to = SocketAddrV4::new(Pair::RIGHT.parse()?, port);
    let mut stuck = start(&pair.right, &["--threshold", "SYN_RECV=3s"])?;
    let from = (0..count).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 99, high, low), 1_024)
    });
    flood(&pair.left, from, to)?;
    if count < 16 {
        // As long as a finding would have taken.
        thread::sleep(Duration::from_secs(6));
        return silent(stuck);
    }
    let found = finding(&mut stuck, "syn_recv", |_| true)?;
    let at = format!("half-open connections pile up at :{port} of ");
    let mine = format!("[{}]: ", std::process::id());
    check_verdict(&found, &[&at, &mine, "SYN-ACK sent again", " addresses"])?;
    ensure!(found.number("count").is_some_and(|found| found <= u64::from(count)), "{found:?}");
    stuck.stop()?.check_whole()
}

#[test]
fn a_flood_of_half_open_connections_is_told() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    half_open(80)
}

/// More SYNs than the SYN queue takes: how many got a cookie, or were dropped, is what the kernel has counted.
fn full_syn_queue(cookies: &str, says: &str, counter: &str) -> Result<()> {
    let pair = Pair::new()?;
    silence(&pair.left)?;
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        pair.right.sysctl(key, "0")?;
    }
    pair.right.sysctl("ipv4/tcp_syncookies", cookies)?;
    pair.right.ip(&["route", "add", "10.99.0.0/16", "via", Pair::LEFT])?;
    let listener = pair.right.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 8089)).into())?;
        socket.listen(32)?;
        Ok(socket)
    })?;
    // Counters are read every ten seconds: the finding is not to come before they were read again.
    let mut stuck = start(&pair.right, &["--threshold", "SYN_RECV=13s"])?;
    thread::sleep(Duration::from_secs(3));
    let from = (0_u32..120).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 99, high, low), 1_024)
    });
    flood(&pair.left, from, SocketAddrV4::new(Pair::RIGHT.parse()?, 8089))?;
    let found = finding(&mut stuck, "syn_recv", |_| true)?;
    let counted = counters(&pair.right)?[counter];
    ensure!(counted >= 60, "{counter}: {counted}");
    check_verdict(&found, &[&format!("{counted} {says} ({counter})")])?;
    drop(listener);
    stuck.stop()?.check_whole()
}

#[test]
fn what_a_full_syn_queue_does_is_counted() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    thread::scope(|scope| {
        let without = scope.spawn(|| full_syn_queue("0", "handshakes dropped", "ListenDrops"));
        full_syn_queue("1", "SYNs answered with a cookie", "SyncookiesSent")?;
        without.join().map_err(|_| anyhow::anyhow!("it panicked"))?
    })
}

#[test]
fn a_few_half_open_connections_are_everyday() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    half_open(6)
}
