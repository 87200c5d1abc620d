//! Both ends on this machine: over loopback, across a veth, and not mistaken for another's.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{Both, accept, listen, read_end, transfer};
use tests::witness::{has_cookies, ss};

/// Cookie of a socket as `ss` shows it.
fn cookie(netns: &Netns, local: SocketAddr, remote: SocketAddr) -> Result<String> {
    let (local, remote) = (local.to_string(), remote.to_string());
    let sockets = ss(netns)?;
    let found = sockets.iter().find(|s| s.local == local && s.remote == remote);
    Ok(found.with_context(|| format!("ss has no {local}"))?.key())
}

/// `conn` of a socket whose [`Event::key`] is known.
fn own_name(events: &[Event], key: &str) -> Result<String> {
    let event = events.iter().find(|event| event.key() == key);
    Ok(event.with_context(|| format!("nothing about {key}"))?.text("conn").to_owned())
}

/// A port that nobody else uses in any namespace, while this test runs.
fn own_ports(count: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 500).unwrap_or(0);
    10_000 + process * 20 + NEXT.fetch_add(count, Ordering::Relaxed)
}

/// All lines about this socket that come when both ends are known name the other end.
fn check_peer(events: &[Event], conn: &str, peer: &str) -> Result<()> {
    let (conn, peer) = (&own_name(events, conn)?, &own_name(events, peer)?);
    let of_it: Vec<_> = events.iter().filter(|event| event.text("conn") == conn).collect();
    ensure!(!of_it.is_empty(), "nothing about {conn}");
    let named = of_it.iter().filter(|event| event.text("peer_conn") == peer).count();
    let others: Vec<_> = of_it
        .iter()
        .filter(|event| !event.0["peer_conn"].is_null() && event.text("peer_conn") != peer)
        .collect();
    ensure!(others.is_empty(), "{conn} is not the peer of {peer}: {others:?}");
    ensure!(named > 0, "{conn}: peer {peer} is never named: {of_it:?}");
    let me = u64::from(std::process::id());
    for event in of_it.iter().filter(|event| event.text("peer_conn") == peer) {
        ensure!(event.number("peer_pid") == Some(me), "{event:?}");
    }
    Ok(())
}

fn both_know(left: &Netns, right: &Netns, host: &str) -> Result<()> {
    let port = own_ports(1);
    let filter = ["--port", &port.to_string()];
    let tail = Tcptrail::start(&filter)?;
    let life = Tcptrail::start(&[&["life"], &filter[..]].concat())?;
    let listener = listen(right, &format!("{host}:{port}"))?;
    let both = Both::new(left, &listener, listener.local_addr()?)?;
    transfer(&both.client, &both.server, 10)?;
    let client = cookie(left, both.ends.client, both.ends.server)?;
    let server = cookie(right, both.ends.server, both.ends.client)?;
    drop(both.client);
    read_end(&both.server)?;
    drop(both.server);
    let (tail, life) = (tail.stop()?, life.stop()?);
    tail.check_whole()?;
    life.check_whole()?;
    for events in [&tail.events, &life.events] {
        check_peer(events, &client, &server)?;
        check_peer(events, &server, &client)?;
    }
    Ok(())
}

#[test]
fn both_ends_on_loopback_know_each_other() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    for host in ["127.0.0.1", "[::1]"] {
        let netns = Netns::new()?;
        both_know(&netns, &netns, host).context(host)?;
    }
    Ok(())
}

#[test]
fn both_ends_of_a_veth_know_each_other() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    for host in [Pair::RIGHT.to_owned(), format!("[{}]", Pair::RIGHT6)] {
        let pair = Pair::new()?;
        both_know(&pair.left, &pair.right, &host).with_context(|| host.clone())?;
    }
    Ok(())
}

/// A connection between just these two addresses.
fn between(
    netns: &Netns,
    listener: &TcpListener,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<(TcpStream, TcpStream)> {
    let client = netns.run(|| {
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect(&to.into())?;
        Ok(TcpStream::from(socket))
    })?;
    Ok((client, accept(listener)?))
}

/// The same four numbers twice, in namespaces that have nothing to do with each other.
fn twice(spaces: [(&Netns, &Netns); 2], from: &str, to: &str) -> Result<()> {
    let ports = own_ports(2);
    let from: SocketAddr = format!("{from}:{}", ports + 1).parse()?;
    let to: SocketAddr = format!("{to}:{ports}").parse()?;
    let filter = ["--port", &ports.to_string()];
    let tail = Tcptrail::start(&filter)?;
    let life = Tcptrail::start(&[&["life"], &filter[..]].concat())?;
    let mut pairs = Vec::new();
    for (left, right) in spaces {
        let listener = listen(right, &to.to_string())?;
        let (client, server) = between(left, &listener, from, to)?;
        let cookies = (cookie(left, from, to)?, cookie(right, to, from)?);
        pairs.push((listener, client, server, cookies));
    }
    let mut cookies = Vec::new();
    for (_, client, server, both) in pairs {
        drop(client);
        read_end(&server)?;
        drop(server);
        cookies.push(both);
    }
    let (tail, life) = (tail.stop()?, life.stop()?);
    tail.check_whole()?;
    life.check_whole()?;
    for (client, server) in &cookies {
        for events in [&tail.events, &life.events] {
            for (conn, peer) in [(client, server), (server, client)] {
                let wrong: Vec<_> = events
                    .iter()
                    .filter(|event| event.text("conn") == conn)
                    .filter(|event| !["", peer.as_str()].contains(&event.text("peer_conn")))
                    .collect();
                ensure!(wrong.is_empty(), "{conn} is not {peer}'s peer: {wrong:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_same_loopback_ports_in_two_namespaces_are_two_connections() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    if !has_cookies() {
        println!("skipped: this kernel gives no cookies, by which `ss` tells the two apart");
        return Ok(());
    }
    let (one, other) = (Netns::new()?, Netns::new()?);
    twice([(&one, &one), (&other, &other)], "127.0.0.1", "127.0.0.1")
}

#[test]
fn the_same_addresses_across_two_veths_are_two_connections() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    if !has_cookies() {
        println!("skipped: this kernel gives no cookies, by which `ss` tells the two apart");
        return Ok(());
    }
    let (one, other) = (Pair::new()?, Pair::new()?);
    twice([(&one.left, &one.right), (&other.left, &other.right)], Pair::LEFT, Pair::RIGHT)
}
