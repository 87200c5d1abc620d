//! TCP_DEFER_ACCEPT: connections that the kernel keeps until their first data are no flood.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::hand::{flood, silence};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::traffic::connect;
use tests::witness::{counters, eventually};

use crate::stage::{Python, check_verdict, finding, listening, start};

/// A listener that waits for data, and says how many it has accepted.
fn server(netns: &Netns) -> Result<Python> {
    let server = Python::start(
        netns,
        "s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_TCP, 9, 60)
s.bind(('0.0.0.0', 8080))
s.listen(64)
keep = []
while True: keep.append(s.accept())
",
    )?;
    listening(netns)?;
    Ok(server)
}

#[test]
fn silent_clients_of_a_deferred_listener_are_no_flood() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let server = server(&netns)?;
    let mut stuck = start(&netns, &["--threshold", "SYN_RECV=3s"])?;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(connect(&netns, ([127, 0, 0, 1], 8080).into())?);
    }
    // The witness: the kernel counts the third ACKs that it set aside.
    eventually("TCPDeferAcceptDrop", Duration::from_secs(5), || {
        Ok((counters(&netns)?["TCPDeferAcceptDrop"] >= 20).then_some(()))
    })?;
    let found = finding(&mut stuck, "syn_recv", |event| event.number("count") == Some(20))?;
    ensure!(found.text("severity") == "note", "{found:?}");
    check_verdict(
        &found,
        &[
            &format!(
                "20 clients have connected to :8080 of python3[{}] and sent nothing",
                server.pid()
            ),
            "TCP_DEFER_ACCEPT",
        ],
    )?;
    ensure!(found.text("advice").starts_with("No flood"), "{found:?}");
    let run = stuck.stop()?;
    run.check_whole()?;
    let flood = run.of_kind("stuck").find(|event| event.text("severity") != "note");
    ensure!(flood.is_none(), "{flood:?}");
    Ok(())
}

/// The other way round: a real flood at such a listener is one.
#[test]
fn a_flood_at_a_deferred_listener_is_told() -> Result<()> {
    if !ready(&["nft", "ss", "python3"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    silence(&pair.left)?;
    let _server = server(&pair.right)?;
    let mut stuck = start(&pair.right, &["--threshold", "SYN_RECV=3s"])?;
    let left: Ipv4Addr = Pair::LEFT.parse()?;
    let to = SocketAddr::from((Pair::RIGHT.parse::<Ipv4Addr>()?, 8080));
    let SocketAddr::V4(to) = to else { anyhow::bail!("IPv4") };
    flood(&pair.left, (20_000..20_040).map(move |port| SocketAddrV4::new(left, port)), to)?;
    let found = finding(&mut stuck, "syn_recv", |event| event.number("count") == Some(40))?;
    ensure!(found.text("severity") == "stuck", "{found:?}");
    check_verdict(&found, &["half-open connections pile up at :8080", "40 SYNs"])?;
    stuck.stop()?.check_whole()
}
