//! Segments that the kernel drops: what tcptrail says of each, and what the kernel's and netfilter's own counters say.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use tests::hand::{ACK, Hand, RST, SYN, flood, silence};
use tests::netns::{Netns, Pair};
use tests::pace::patience;
use tests::tcptrail::{Event, Run, Tcptrail, binary, run, shown};
use tests::tmux::Terminal;
use tests::trace::Trace;
use tests::traffic::{Both, accept, connect, listen, transfer};
use tests::witness::{counters, eventually};
use tests::{kernel, ready};

/// Whether the kernel says why it drops packets, and the tools are there.
fn tells(tools: &[&str]) -> bool {
    if !ready(tools) {
        return false;
    }
    let told = kernel() >= (5, 17);
    if !told {
        println!("skipped: drops have no reasons before Linux 5.17");
    }
    told
}

/// Reasons that came with a later kernel.
fn has(since: (u32, u32), reason: &str) -> bool {
    let has = kernel() >= since;
    if !has {
        println!("skipped: no {reason} before Linux {}.{}", since.0, since.1);
    }
    has
}

/// Packets that the only rule with a counter has dropped.
fn counted(netns: &Netns) -> Result<u64> {
    let mut nft = Command::new("nft");
    nft.args(["list", "ruleset"]);
    let text = String::from_utf8(netns.output(nft)?.stdout)?;
    let (_, rest) = text.split_once("counter packets ").with_context(|| text.clone())?;
    Ok(rest.split_whitespace().next().context("a number")?.parse()?)
}

/// Drops TCP segments to or from a port: `dport 8089`.
fn firewall(netns: &Netns, hook: &str, which: &str) -> Result<()> {
    netns.nft(&format!(
        "table inet firewall {{
            chain {hook} {{
                type filter hook {hook} priority 0; policy accept;
                tcp {which} counter drop
            }}
        }}"
    ))
}

fn drops<'a>(run: &'a Run, reason: &'a str) -> impl Iterator<Item = &'a Event> {
    run.of_kind("drop").filter(move |event| event.text("reason") == reason)
}

/// How many segments were told as dropped for this reason.
fn told(run: &Run, reason: &str) -> u64 {
    drops(run, reason).filter_map(|event| event.number("count")).sum()
}

/// The end of a connection as `life` has it, and what of it was dropped for this reason.
fn of_life(run: &Run, local: SocketAddr, reason: &str) -> Option<u64> {
    let close = run.of_kind("close").find(|event| event.text("local") == shown(local))?;
    let drops = close.0["drops"].as_array()?;
    let of_reason = drops.iter().filter(|drop| drop["reason"] == reason);
    Some(of_reason.filter_map(|drop| drop["count"].as_u64()).sum())
}

/// A client whose connect is given up after `wait`, as with a timeout of its own.
fn gives_up(netns: &Netns, to: SocketAddr, wait: Duration) -> Result<SocketAddr> {
    netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let connected = socket.connect_timeout(&to.into(), wait);
        ensure!(connected.is_err(), "nothing should have answered");
        socket.local_addr()?.as_socket().context("an address")
    })
}

/// A client whose connect is under way for as long as it is kept.
fn begins(netns: &Netns, to: SocketAddr) -> Result<Socket> {
    netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        ensure!(socket.connect(&to.into()).is_err(), "nothing should have answered");
        Ok(socket)
    })
}

/// One at the left that talks with port 8089 of the right.
fn hand(pair: &Pair, from: &str, port: u16) -> Result<Hand> {
    let to = SocketAddrV4::new(Pair::RIGHT.parse()?, 8089);
    Hand::new(&pair.left, SocketAddrV4::new(from.parse()?, port), to)
}

fn right(port: u16) -> Result<SocketAddr> {
    Ok((Pair::RIGHT.parse::<Ipv4Addr>()?, port).into())
}

/// A firewall's drop of a SYN, wherever it is, is told of the client that sent it.
fn firewalled(hook: &str, netns: fn(&Pair) -> &Netns) -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    firewall(netns(&pair), hook, "dport 8089")?;
    // To the program on the way in, the client's remote port is the local one.
    let runs = Tcptrail::start_all(&[
        vec!["tail", "--netns", pair.left.name(), "--rport", "8089"],
        vec!["life", "--netns", pair.left.name()],
    ])?;
    let client = gives_up(&pair.left, right(8089)?, patience(Duration::from_millis(1_500)))?;
    let packets = counted(netns(&pair))?;
    ensure!(packets >= 2, "{packets} SYNs");
    let runs = Tcptrail::stop_all(runs)?;
    let [tail, life] = runs.as_slice() else { anyhow::bail!("two") };
    tail.check_whole()?;
    ensure!(told(tail, "NETFILTER_DROP") == packets, "{packets}: {:?}", tail.events);
    for event in drops(tail, "NETFILTER_DROP") {
        let words = [("segment", "syn"), ("hook", hook), ("direction", "sent")];
        ensure!(words.iter().all(|(key, word)| event.text(key) == *word), "{event:?}");
        ensure!(
            event.text("local") == shown(client) && event.text("role") == "client",
            "{event:?}"
        );
        ensure!(event.number("pid") == Some(u64::from(std::process::id())), "{event:?}");
    }
    let counted = of_life(life, client, "NETFILTER_DROP");
    ensure!(counted == Some(packets), "{counted:?} of {packets}");
    Ok(())
}

#[test]
fn a_syn_that_netfilter_drops_on_its_way_in() -> Result<()> {
    firewalled("input", |pair| &pair.right)
}

#[test]
fn a_syn_that_netfilter_drops_on_its_way_out() -> Result<()> {
    firewalled("output", |pair| &pair.left)
}

/// A router between two namespaces drops what it forwards.
#[test]
fn a_syn_that_netfilter_drops_on_its_way_through() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    // The right of the pair forwards to a third.
    let pair = Pair::new()?;
    let far = Netns::new()?;
    let (router, name) = (&pair.right, far.name());
    router.ip(&["link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", name])?;
    router.ip(&["addr", "add", "10.78.0.1/24", "dev", "far"])?;
    router.ip(&["link", "set", "far", "up"])?;
    far.ip(&["addr", "add", "10.78.0.2/24", "dev", "eth0"])?;
    far.ip(&["link", "set", "eth0", "up"])?;
    far.ip(&["route", "add", "default", "via", "10.78.0.1"])?;
    pair.left.ip(&["route", "add", "10.78.0.0/24", "via", Pair::RIGHT])?;
    router.sysctl("ipv4/ip_forward", "1")?;
    let listener = listen(&far, "0.0.0.0:8089")?;
    let to = SocketAddr::from(([10, 78, 0, 2], 8089));
    drop(Both::new(&pair.left, &listener, to).context("the way through works")?);
    firewall(router, "forward", "dport 8089")?;
    let tail = Tcptrail::start(&["tail", "--netns", pair.left.name()])?;
    let client = gives_up(&pair.left, to, patience(Duration::from_millis(1_500)))?;
    let packets = counted(router)?;
    let run = tail.stop()?;
    run.check_whole()?;
    ensure!(told(&run, "NETFILTER_DROP") == packets && packets >= 2, "{packets}: {:?}", run.events);
    for event in drops(&run, "NETFILTER_DROP") {
        ensure!(event.text("hook") == "forward", "{event:?}");
        ensure!(event.text("local") == shown(client), "{event:?}");
    }
    Ok(())
}

/// Data of an open connection, told of whoever sent it; the twin is never dropped and never told.
#[test]
fn data_that_netfilter_drops() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let twin = listen(&pair.right, "0.0.0.0:8090")?;
    let both = Both::new(&pair.left, &listener, right(8089)?)?;
    let other = Both::new(&pair.left, &twin, right(8090)?)?;
    let tail = Tcptrail::start(&["tail", "--netns", pair.left.name()])?;
    transfer(&both.client, &both.server, 100)?;
    firewall(&pair.right, "input", "dport 8089")?;
    (&both.client).write_all(&[b'x'; 100])?;
    transfer(&other.client, &other.server, 100_000)?;
    let packets = eventually("two drops", Duration::from_secs(5), || {
        Ok(Some(counted(&pair.right)?).filter(|&packets| packets >= 2))
    })?;
    let run = tail.stop()?;
    run.check_whole()?;
    let found: Vec<&Event> = drops(&run, "NETFILTER_DROP").collect();
    ensure!(found.len() as u64 >= packets, "{packets}: {found:?}");
    for event in found {
        ensure!(
            event.text("segment") == "data" && event.number("payload") == Some(100),
            "{event:?}"
        );
        ensure!(event.text("direction") == "sent", "{event:?}");
        ensure!(event.text("local") == shown(both.ends.client), "{event:?}");
    }
    Ok(())
}

/// The refusing side: the peer, the port, and how often, without a socket to tell it of.
#[test]
fn connects_to_a_port_where_nobody_listens() -> Result<()> {
    if !tells(&[]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    for _ in 0..7 {
        let refused = connect(&pair.left, right(9)?);
        ensure!(refused.is_err(), "nobody listens");
    }
    let resets = counters(&pair.right)?["OutRsts"];
    let run = tail.stop()?;
    run.check_whole()?;
    ensure!(told(&run, "NO_SOCKET") == resets && resets == 7, "{resets}: {:?}", run.events);
    for event in drops(&run, "NO_SOCKET") {
        ensure!(event.text("local") == format!("{}:9", Pair::RIGHT), "{event:?}");
        ensure!(event.text("remote").starts_with(Pair::LEFT), "{event:?}");
        ensure!(event.0["conn"].is_null() && event.text("segment") == "syn", "{event:?}");
    }
    Ok(())
}

/// A full accept queue drops third ACKs, and says so. (The SYNs that it drops it says nothing of: they are used up as
/// if they were good, `tcp_conn_request`.)
#[test]
fn third_acks_to_a_full_accept_queue() -> Result<()> {
    if !tells(&["nft"]) || !has((6, 14), "TCP_LISTEN_OVERFLOW") {
        return Ok(());
    }
    let pair = Pair::new()?;
    silence(&pair.left)?;
    let listener = pair.right.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], 8089)).into())?;
        socket.listen(2)?;
        Ok(socket)
    })?;
    let mut tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    let hand = |port| hand(&pair, Pair::LEFT, port);
    // There is room for three, and for two half-open ones.
    let mut waiting = [hand(4_000)?, hand(4_001)?];
    for hand in &mut waiting {
        hand.connect()?;
    }
    let mut half = [hand(4_002)?, hand(4_003)?];
    for hand in &mut half {
        hand.send(SYN, &[])?;
        hand.expect(SYN | ACK)?;
    }
    for hand in &mut half {
        hand.send(ACK, &[])?;
    }
    let overflow = |event: &Event| event.text("reason") == "TCP_LISTEN_OVERFLOW";
    tail.wait_for("the last one's ACK", overflow)?;
    let overflows = counters(&pair.right)?["ListenOverflows"];
    let run = tail.stop()?;
    ensure!(told(&run, "TCP_LISTEN_OVERFLOW") == overflows, "{overflows}: {:?}", run.events);
    for event in drops(&run, "TCP_LISTEN_OVERFLOW") {
        ensure!(event.text("remote") == shown(half[1].addr()), "{event:?}");
        ensure!(event.text("segment") == "ack" && event.text("hook") == "input", "{event:?}");
        ensure!(event.text("comm").starts_with("live_drops"), "{event:?}");
    }
    drop(listener);
    Ok(())
}

/// The reverse path filter: the answer would not go out where the SYN came in.
#[test]
fn a_syn_that_the_reverse_path_filter_drops() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        pair.right.sysctl(key, "1")?;
    }
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    // So that both know each other's link-layer addresses: the filter is for ARP, too.
    drop(Both::new(&pair.left, &listener, right(8089)?)?);
    // An address that is routed nowhere from there.
    pair.left.ip(&["addr", "add", "10.99.0.1/32", "dev", "eth0"])?;
    let mut hand = hand(&pair, "10.99.0.1", 4_000)?;
    hand.send(SYN, &[])?;
    let filtered = eventually("IPReversePathFilter", Duration::from_secs(5), || {
        Ok(counters(&pair.right)?.get("IPReversePathFilter").copied().filter(|&count| count != 0))
    })?;
    let run = tail.stop()?;
    ensure!(told(&run, "IP_RPFILTER") == filtered, "{filtered}: {:?}", run.events);
    drop(listener);
    Ok(())
}

/// Hand-made segments: what the kernel refuses of a connection is told with the kernel's own reason, and what it merely
/// has had already is not.
#[test]
fn segments_that_tcp_itself_refuses() -> Result<()> {
    if !tells(&["nft", "mount"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    silence(&pair.left)?;
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let Some(trace) = Trace::of_drops()? else { return Ok(()) };
    let mut tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    let mut hand = hand(&pair, Pair::LEFT, 4_000)?;
    hand.connect()?;
    let server = accept(&listener)?;
    hand.send(ACK, b"twenty bytes of data")?;
    hand.expect(ACK)?;
    let (seq, ack) = (hand.seq, hand.ack);
    let far = 0x4000_0000;
    // The same data once more, and an ACK from before it: old, and no loss.
    hand.send_at(ACK, seq.wrapping_sub(20), ack, b"twenty bytes of data")?;
    hand.send_at(ACK, seq.wrapping_sub(21), ack, &[])?;
    // ACKs of what was long ago, and of what was never sent. The first is in its turn: the kernel may use it up on its
    // fast path (`tcp_rcv_established`).
    hand.send_at(ACK, seq, ack.wrapping_sub(far), &[])?;
    hand.send_at(ACK, seq.wrapping_add(1), ack.wrapping_sub(far), &[])?;
    hand.send_at(ACK, seq, ack.wrapping_add(far), &[])?;
    // A RST far outside the window, and data far beyond it.
    hand.send_at(RST, seq.wrapping_add(far), ack, &[])?;
    hand.send_at(ACK, seq.wrapping_add(far), ack, b"beyond")?;
    let received = |event: &Event| event.kind() == "drop" && event.text("segment") == "data";
    tail.wait_for("the data beyond the window", received)?;
    let run = tail.stop()?;
    let kernel = trace.reasons()?;
    // What the hand's own kernel would say, the test's firewall drops.
    let of_tcp = || run.of_kind("drop").filter(|event| event.text("reason").starts_with("TCP_"));
    let found: Vec<(&str, &str)> =
        of_tcp().map(|event| (event.text("segment"), event.text("reason"))).collect();
    let sequence = |reason: &str| reason.starts_with("TCP_INVALID") && reason.ends_with("SEQUENCE");
    let [before @ .., too_old, unsent, rst, data] = found.as_slice() else {
        anyhow::bail!("{found:?}, {kernel:?}")
    };
    // Whether the ACK in its turn is dropped as well depends on which way through the kernel it takes.
    ensure!(
        before.len() < 2
            && before.iter().chain([too_old]).all(|it| *it == ("ack", "TCP_TOO_OLD_ACK")),
        "{found:?}"
    );
    ensure!(*unsent == ("ack", "TCP_ACK_UNSENT_DATA"), "{found:?}");
    ensure!(rst.0 == "rst" && sequence(rst.1), "{found:?}");
    ensure!(data.0 == "data" && sequence(data.1), "{found:?}");
    // Others' drops are in the kernel's trace as well.
    for reason in found.iter().map(|&(_, reason)| reason).chain(["TCP_OLD_DATA"]) {
        let times = found.iter().filter(|&&(_, it)| it == reason).count().max(1) as u64;
        ensure!(kernel.get(reason).is_some_and(|&count| count >= times), "{reason}: {kernel:?}");
    }
    for event in of_tcp() {
        ensure!(
            event.text("direction") == "received" && event.text("role") == "server",
            "{event:?}"
        );
        ensure!(event.text("remote") == shown(hand.addr()), "{event:?}");
    }
    drop(server);
    Ok(())
}

/// A route that ends nowhere, under a connection that is open: its segments have no IP header yet when they are
/// dropped. A JVM's sockets, of IPv6, talk IPv4 like others.
fn blackholed(to: SocketAddr) -> Result<()> {
    let pair = Pair::new()?;
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let mut tail = Tcptrail::start(&["tail", "--netns", pair.left.name()])?;
    let client = connect(&pair.left, to)?;
    let mut server = accept(&listener)?;
    let route = ["blackhole", &format!("{}/32", Pair::RIGHT)];
    pair.left.ip(&[&["route", "add"], &route[..]].concat())?;
    (&client).write_all(&[b'x'; 100])?;
    for _ in 0..2 {
        tail.wait_for_next("a drop", |event| event.kind() == "drop")?;
    }
    pair.left.ip(&[&["route", "del"], &route[..]].concat())?;
    // It gets there after all: from now on nothing is dropped.
    server.read_exact(&mut [0; 100])?;
    let counted = counters(&pair.left)?["OutNoRoutes"];
    let run = tail.stop()?;
    run.check_whole()?;
    ensure!(told(&run, "IP_OUTNOROUTES") == counted, "{counted}: {:?}", run.events);
    for event in drops(&run, "IP_OUTNOROUTES") {
        let words = [("segment", "data"), ("hook", "output"), ("direction", "sent")];
        ensure!(words.iter().all(|(key, word)| event.text(key) == *word), "{event:?}");
        ensure!(event.number("payload") == Some(100), "{event:?}");
        ensure!(event.text("role") == "client", "{event:?}");
        ensure!(event.text("local") == shown(client.local_addr()?), "{event:?}");
    }
    Ok(())
}

#[test]
fn data_that_a_blackhole_route_takes() -> Result<()> {
    if !tells(&[]) {
        return Ok(());
    }
    blackholed(right(8089)?)
}

#[test]
fn data_of_an_ipv6_socket_that_a_blackhole_route_takes() -> Result<()> {
    if !tells(&[]) {
        return Ok(());
    }
    blackholed((Pair::RIGHT.parse::<Ipv4Addr>()?.to_ipv6_mapped(), 8089).into())
}

/// A window that stays closed: what comes all the same is dropped.
#[test]
fn data_into_a_closed_window() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    silence(&pair.left)?;
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    socket2::SockRef::from(&listener).set_recv_buffer_size(2_304)?;
    let mut tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    let mut hand = hand(&pair, Pair::LEFT, 4_000)?;
    hand.connect()?;
    let server = accept(&listener)?;
    // Nobody reads it: the window closes.
    let before = counters(&pair.right)?;
    for _ in 0..40 {
        hand.send(ACK, &[b'x'; 500])?;
    }
    let dropped = |event: &Event| event.kind() == "drop" && event.text("segment") == "data";
    tail.wait_for("data that is dropped", dropped)?;
    let after = counters(&pair.right)?;
    let run = tail.stop()?;
    let grown = |name: &str| {
        let of =
            |all: &std::collections::BTreeMap<String, u64>| all.get(name).copied().unwrap_or(0);
        of(&after) - of(&before)
    };
    let reasons: Vec<&str> = run.of_kind("drop").map(|event| event.text("reason")).collect();
    for (reason, counter) in
        [("TCP_ZEROWINDOW", "TCPZeroWindowDrop"), ("SOCKET_RCVBUFF", "TCPRcvQDrop")]
    {
        let told = reasons.iter().filter(|&&it| it == reason).count() as u64;
        ensure!(
            told == grown(counter),
            "{reason} {told}, {counter} {}: {reasons:?}",
            grown(counter)
        );
    }
    drop(server);
    Ok(())
}

/// A flood: what is told one by one, what a later line counts, and the last of it at the end are all there was.
#[test]
fn a_flood_is_counted_to_its_last() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    silence(&pair.left)?;
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        pair.right.sysctl(key, "0")?;
    }
    pair.right.ip(&["route", "add", "10.99.0.0/16", "via", Pair::LEFT])?;
    // The RSTs get there, and are not dropped as somebody else's.
    pair.left.ip(&["route", "add", "local", "10.99.0.0/16", "dev", "lo"])?;
    let tail = Tcptrail::start(&["tail", "--netns", pair.right.name()])?;
    let args = ["tail", "--comm", "nobody-has-it", "--netns", pair.right.name()];
    let of_nobody = Tcptrail::start(&args)?;
    let from = (0_u32..6_000).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 99, high, low), 1_024)
    });
    flood(&pair.left, from, SocketAddrV4::new(Pair::RIGHT.parse()?, 9))?;
    let mut before = 0;
    let resets = eventually("the last RST", Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(200));
        let now = counters(&pair.right)?["OutRsts"];
        Ok((std::mem::replace(&mut before, now) == now && now > 2_000).then_some(now))
    })?;
    let run = tail.stop()?;
    let said = |stderr: &str, what: &str| {
        let count = stderr.lines().find_map(|line| {
            let (count, _) = line.split_once(what)?;
            count.strip_prefix("tcptrail: the kernel dropped ")?.parse::<u64>().ok()
        });
        count.unwrap_or(0)
    };
    let (told, rest) =
        (told(&run, "NO_SOCKET"), said(&run.stderr, " more segments before the end"));
    // A softirq in between may cost or add one (`untold` of the program); other tests' namespaces have their own count.
    let all = told + rest;
    ensure!(all.abs_diff(resets) <= 10, "{told} and {rest} of {resets}: {}", run.stderr);
    // A filter that wants none of those that were told does not know whose the others were.
    let run = of_nobody.stop()?;
    ensure!(run.of_kind("drop").next().is_none(), "{:?}", run.events);
    let rest = said(&run.stderr, " more segments before the end");
    let left_out = said(&run.stderr, " more segments, too many in a second to show each; some");
    let unknown = left_out + rest;
    ensure!(
        unknown > resets / 2 && unknown < resets,
        "{left_out}, {rest} of {resets}: {}",
        run.stderr
    );
    Ok(())
}

/// `stuck` says that this machine drops the SYNs; of what is lost elsewhere it says that it saw no drop here.
#[test]
fn a_connect_without_an_answer_is_told_with_its_cause() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    firewall(&pair.right, "input", "dport 8089")?;
    // Somebody else's link-layer address: whoever is at the other end does not take it for its own.
    pair.left.ip(&["neigh", "add", "10.77.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0"])?;
    let mut stuck =
        Tcptrail::start(&["stuck", "--netns", pair.left.name(), "--threshold", "SYN_SENT=1s"])?;
    let there = right(8089)?;
    let nowhere = SocketAddr::from(([10, 77, 0, 9], 8089));
    // Under way until both are told.
    let clients = [there, nowhere].map(|to| begins(&pair.left, to));
    for (to, says) in [
        (there, "dropped on this machine: by netfilter (input)"),
        (nowhere, "no drop seen on this machine"),
    ] {
        let found = stuck.wait_for_within("syn_sent", Duration::from_secs(20), |event| {
            event.kind() == "stuck"
                && event.text("rule") == "syn_sent"
                && event.text("remote") == shown(to)
                && event.text("verdict").contains(says)
        })?;
        let firewall = found.text("advice").contains("A firewall rule of this machine");
        ensure!(firewall == (to == there), "{found:?}");
    }
    for client in clients {
        drop(client?);
    }
    stuck.stop()?.check_whole()
}

/// Without it nothing is told, and nothing is attached.
#[test]
fn no_drops_are_told_where_none_are_wanted() -> Result<()> {
    if !tells(&["nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    firewall(&pair.right, "input", "dport 8089")?;
    let tail = Tcptrail::start(&["tail", "--no-drops", "--netns", pair.left.name()])?;
    gives_up(&pair.left, right(8089)?, patience(Duration::from_millis(300)))?;
    let run = tail.stop()?;
    run.check_whole()?;
    ensure!(run.of_kind("drop").next().is_none(), "{:?}", run.events);
    let start = run.of_kind("start").next().context("a start")?;
    ensure!(!start.0["hooks"].to_string().contains("kfree_skb"), "{start:?}");
    Ok(())
}

/// A filter lets the same through live and into a recording, whichever end the segment was dropped at.
#[test]
fn a_replay_shows_what_the_filter_let_through() -> Result<()> {
    if !tells(&[]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("recording");
    let file = file.to_str().context("a path")?;
    let args = ["tail", "--netns", pair.right.name(), "--rport", "9", "--record", file];
    let tail = Tcptrail::start(&args)?;
    for port in [9, 10] {
        ensure!(connect(&pair.left, right(port)?).is_err(), "nobody listens");
    }
    // Of another namespace.
    ensure!(connect(&pair.left, ([127, 0, 0, 1], 9).into()).is_err(), "nobody listens");
    let run = tail.stop()?;
    ensure!(told(&run, "NO_SOCKET") == 1, "{:?}", run.events);
    let replayed = tests::tcptrail::run(&["replay", file, "--json"])?;
    ensure!(replayed.raw == run.raw, "{:?}\n{:?}", replayed.events, run.events);
    Ok(())
}

/// What a firewall drops is counted by `stats`, is on the page of `report` and on the screen of `top`, in the
/// firewall's own number.
#[test]
fn stats_report_and_top_count_what_the_firewall_drops() -> Result<()> {
    const LOST: u32 = 2;
    if !tells(&["nft", "tmux"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let paths = ["run.tcpt", "run.html"].map(|name| dir.path().join(name).display().to_string());
    let [file, html] = paths.each_ref().map(String::as_str);
    let pair = Pair::new()?;
    let listener = listen(&pair.right, "0.0.0.0:8089")?;
    let mut tail = Tcptrail::start(&[
        "tail",
        "--netns",
        pair.left.name(),
        "--rport",
        "8089",
        "--record",
        file,
    ])?;
    let both = Both::new(&pair.left, &listener, right(8089)?)?;
    pair.right.lose_first(LOST, "tcp dport 8089 tcp flags & psh == psh")?;
    transfer(&both.client, &both.server, 100)?;
    for _ in 0..LOST {
        tail.wait_for_next("a drop", |event| event.kind() == "drop")?;
    }
    let again = counters(&pair.left)?["RetransSegs"];
    tail.stop()?.check_whole()?;

    let stats = run(&["replay", file, "stats", "--json"])?;
    let told: Vec<_> = stats.of_kind("drops").collect();
    ensure!(told.len() == 1 && told[0].text("hook") == "input", "{told:?}");
    ensure!(told[0].text("reason") == "NETFILTER_DROP", "{told:?}");
    ensure!(told[0].number("count") == Some(LOST.into()), "{told:?}");
    let causes = stats.of_kind("retransmits").next().context("what was sent again")?;
    let sum: u64 = ["timeout", "fast", "tail_loss_probe", "slow_start"]
        .iter()
        .filter_map(|cause| causes.number(cause))
        .sum();
    ensure!(sum == again && again >= LOST.into(), "{again}: {causes:?}");
    let text = run(&["replay", file, "stats"])?;
    let sent = format!("{again} segments sent again: ");
    ensure!(String::from_utf8_lossy(&text.raw).contains(&sent), "{text:?}");
    let sentence = format!("{LOST} segments dropped on this machine: {LOST} by netfilter (input)");
    ensure!(String::from_utf8_lossy(&text.raw).contains(&sentence), "{text:?}");

    let report = run(&["report", file, "-o", html])?;
    ensure!(report.code() == Some(0), "{}", report.stderr);
    let page = std::fs::read_to_string(html)?;
    let data = page.split("type=\"application/json\">").nth(1).context("data")?;
    let data: serde_json::Value =
        serde_json::from_str(data.split("</script>").next().context("its end")?)?;
    ensure!(data["drops"][0]["count"] == LOST, "{}", data["drops"]);
    ensure!(data["drops"][0]["why"] == "by netfilter (input)", "{}", data["drops"]);
    ensure!(
        data["again"].as_str().is_some_and(|words| words.starts_with(&sent)),
        "{}",
        data["again"]
    );
    let over_time = data["timeline"]["dropped"].as_array().context("over time")?;
    let sum: u64 = over_time.iter().filter_map(serde_json::Value::as_u64).sum();
    ensure!(sum == u64::from(LOST), "{over_time:?}");

    let terminal = Terminal::start(100, 30, &[("LC_ALL", "C.UTF-8")])?;
    terminal.run(&format!("{} replay {file} top", binary().display()))?;
    terminal.wait_for("1 Findings")?;
    terminal.type_in("$2")?;
    terminal.wait_for(&format!("dropped {LOST}"))?;
    terminal.wait_for(":8089")?;
    terminal.press("Enter")?;
    terminal.wait_for(&format!("{LOST} data segments dropped: by netfilter (input)"))?;
    terminal.type_in("q")
}
