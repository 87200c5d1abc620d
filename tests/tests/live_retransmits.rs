//! Segments lost on purpose: each retransmit is told with its kind, state and count, and as often as
//! the kernel itself counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::pace::{patience, slack};
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail, shown};
use tests::traffic::{Both, Ends, accept, connect, listen, read_end, transfer};
use tests::witness::{counters, eventually, now_ns, ss};

/// Segments by what nft sees of them.
const SYN: &str = "tcp flags & (syn | ack) == syn";
const SYN_ACK: &str = "tcp flags & (syn | ack) == (syn | ack)";
const BARE_ACK: &str = "tcp flags & (syn | ack | fin | psh | rst) == ack";
const DATA: &str = "tcp flags & psh == psh";
const FIN: &str = "tcp flags & fin == fin";

/// A namespace with a tracer on it, and what the kernel had counted before.
struct Scene {
    netns: Netns,
    tcptrail: Tcptrail,
    life: Tcptrail,
}

/// What was seen, and what the kernel counted.
struct Seen {
    tail: Run,
    life: Run,
    sent_again: u64,
}

impl Scene {
    fn new() -> Result<Scene> {
        let netns = Netns::new()?;
        let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
        let life = Tcptrail::start(&["life", "--netns", netns.name()])?;
        Ok(Scene { netns, tcptrail, life })
    }

    fn end(self) -> Result<Seen> {
        let sent_again = *counters(&self.netns)?.get("RetransSegs").context("no RetransSegs")?;
        let (tail, life) = (self.tcptrail.stop()?, self.life.stop()?);
        tail.check_whole()?;
        life.check_whole()?;
        Ok(Seen { tail, life, sent_again })
    }
}

impl Seen {
    /// Every retransmit that the kernel counted was told, and those of this end are just these:
    /// `times` of one kind in one state, counted from 1.
    fn check(
        &self,
        end: (SocketAddr, SocketAddr),
        kind: &str,
        state: &str,
        times: u32,
    ) -> Result<()> {
        let all = self.tail.of_kind("retransmit").count();
        ensure!(
            all as u64 == self.sent_again,
            "{all} retransmits told, {} counted by the kernel",
            self.sent_again
        );
        let told: Vec<_> = self
            .tail
            .side(end.0, end.1)
            .events
            .into_iter()
            .filter(|event| event.kind() == "retransmit" && event.text("kind") == kind)
            .map(|event| (event.text("state").to_owned(), event.number("count")))
            .collect();
        let expected: Vec<_> =
            (1..=times).map(|count| (state.to_owned(), Some(u64::from(count)))).collect();
        ensure!(told == expected, "{kind}: {told:?}, not {expected:?}");
        Ok(())
    }

    /// No retransmits of this kind by anybody.
    fn check_none(&self, kind: &str) -> Result<()> {
        let told: Vec<_> =
            self.tail.of_kind("retransmit").filter(|event| event.text("kind") == kind).collect();
        ensure!(told.is_empty(), "{kind}: {told:?}");
        Ok(())
    }

    fn check_life(&self, end: (SocketAddr, SocketAddr), key: &str, figure: u64) -> Result<()> {
        let side = self.life.side(end.0, end.1);
        let event = side.only("close")?;
        ensure!(event.number(key) == Some(figure), "{key} is not {figure}: {event:?}");
        Ok(())
    }
}

fn client(ends: Ends) -> (SocketAddr, SocketAddr) {
    (ends.client, ends.server)
}

fn server(ends: Ends) -> (SocketAddr, SocketAddr) {
    (ends.server, ends.client)
}

/// Closes both ends in order.
fn finish(both: Both) -> Result<Ends> {
    drop(both.client);
    read_end(&both.server)?;
    drop(both.server);
    Ok(both.ends)
}

/// Timeouts of SYNs: 1 s each for the first few (`tcp_syn_linear_timeouts`; before 6.5 they double).
fn linear_ns(times: u32) -> u64 {
    u64::from(times) * 1_000_000_000
}

/// Timeouts of SYN-ACKs: 1, 2, 4, ... s.
fn doubling_ns(times: u32) -> u64 {
    ((1 << times) - 1) * 1_000_000_000
}

fn check_handshake(
    seen: &Seen,
    end: (SocketAddr, SocketAddr),
    least: u64,
    took: u64,
) -> Result<()> {
    let side = seen.life.side(end.0, end.1);
    let told = side.only("close")?.number("handshake_ns").context("no handshake_ns")?;
    let tolerance = 20_000_000 + slack();
    ensure!(
        told + tolerance >= least && told <= took + tolerance,
        "handshake of {told} ns, not {least} to {took}"
    );
    Ok(())
}

fn lost_syn(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    scene.netns.lose_first(times, SYN)?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    let began = now_ns();
    let both = Both::new(&scene.netns, &listener, listener.local_addr()?)?;
    let took = now_ns() - began;
    ensure!(took > linear_ns(times), "nothing was lost: {took} ns");
    let ends = finish(both)?;
    let seen = scene.end()?;
    seen.check(client(ends), "syn", "SYN_SENT", times)?;
    seen.check_none("synack")?;
    seen.check_life(client(ends), "syn_retransmits", u64::from(times))?;
    check_handshake(&seen, client(ends), linear_ns(times), took)
}

fn lost_third_ack(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    scene.netns.lose_first(times, BARE_ACK)?;
    let began = now_ns();
    let stream = connect(&scene.netns, listener.local_addr()?)?;
    ensure!(now_ns() - began < 500_000_000 + slack(), "connect waited for what the server lacks");
    // The client believes ESTABLISHED; the server has a request.
    let states: Vec<_> = ss(&scene.netns)?.into_iter().map(|socket| socket.state).collect();
    // Unless `ss` came only when the SYN-ACK had been sent again.
    let is_over = now_ns() - began > 900_000_000;
    ensure!(is_over || states.iter().any(|state| state == "SYN_RECV"), "{states:?}");
    let accepted = accept(&listener)?;
    let took = now_ns() - began;
    let ends = Ends { client: stream.local_addr()?, server: stream.peer_addr()? };
    finish(Both { client: stream, server: accepted, ends })?;
    let seen = scene.end()?;
    seen.check(server(ends), "synack", "SYN_RECV", times)?;
    seen.check_none("syn")?;
    seen.check_life(server(ends), "synack_retransmits", u64::from(times))?;
    seen.tail.side(ends.server, ends.client).check_steps(&[
        "LISTEN>SYN_RECV",
        "SYN_RECV>ESTABLISHED",
        "ESTABLISHED>CLOSE_WAIT",
        "CLOSE_WAIT>LAST_ACK",
        "LAST_ACK>CLOSE",
    ])?;
    check_handshake(&seen, server(ends), doubling_ns(times), took)
}

fn lost_syn_ack(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    scene.netns.lose_first(times, SYN_ACK)?;
    let both = Both::new(&scene.netns, &listener, listener.local_addr()?)?;
    let ends = finish(both)?;
    let seen = scene.end()?;
    // Which of the two timers, the client's or the server's, comes first is chance; all is told.
    let all = seen.tail.of_kind("retransmit").count() as u64;
    ensure!(all == seen.sent_again, "{all} told, {} counted", seen.sent_again);
    let of_server: Vec<_> = seen.tail.side(ends.server, ends.client).events;
    let again: Vec<&Event> =
        of_server.into_iter().filter(|event| event.kind() == "retransmit").collect();
    ensure!(again.len() >= times as usize, "{again:?}");
    for event in &again {
        ensure!(event.text("kind") == "synack" && event.text("state") == "SYN_RECV", "{event:?}");
        ensure!(event.text("local") == shown(ends.server), "{event:?}");
        ensure!(event.text("role") == "server", "{event:?}");
    }
    Ok(())
}

fn lost_data(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    let both = Both::new(&scene.netns, &listener, listener.local_addr()?)?;
    scene.netns.lose_first(times, DATA)?;
    transfer(&both.client, &both.server, 100)?;
    let socket = ss(&scene.netns)?
        .into_iter()
        .find(|socket| socket.local == shown(both.ends.client))
        .context("ss does not have it")?;
    let total = socket.figure("retrans").and_then(|figure| figure.split_once('/'));
    ensure!(total.is_some_and(|(_, total)| total.parse() == Ok(times)), "ss: {socket:?}");
    let ends = finish(both)?;
    let seen = scene.end()?;
    seen.check(client(ends), "data", "ESTABLISHED", times)?;
    seen.check_life(client(ends), "retransmits", u64::from(times))?;
    seen.check_life(server(ends), "retransmits", 0)?;
    // What was sent again is not sent twice as much.
    seen.check_life(client(ends), "bytes_sent", 100)?;
    seen.check_life(server(ends), "bytes_received", 100)
}

fn lost_fin(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    let both = Both::new(&scene.netns, &listener, listener.local_addr()?)?;
    let to = format!("tcp dport {} {FIN}", both.ends.server.port());
    scene.netns.lose_first(times, &to)?;
    let ends = finish(both)?;
    let seen = scene.end()?;
    seen.check(client(ends), "fin", "FIN_WAIT1", times)?;
    seen.check_none("data")?;
    seen.check_life(client(ends), "fin_retransmits", u64::from(times))
}

fn lost_second_fin(times: u32) -> Result<()> {
    let scene = Scene::new()?;
    let listener = listen(&scene.netns, "127.0.0.1:0")?;
    let Both { client: first, server: second, ends } =
        Both::new(&scene.netns, &listener, listener.local_addr()?)?;
    drop(first);
    read_end(&second)?;
    // Only this end's: it may carry the delayed ACK of the other's, which is then sent again too.
    scene.netns.lose_first(times, &format!("tcp sport {} {FIN}", ends.server.port()))?;
    drop(second);
    let mut scene = scene;
    scene.tcptrail.wait_for("LAST_ACK>CLOSE", |event| event.is_step("LAST_ACK>CLOSE"))?;
    let seen = scene.end()?;
    seen.check(server(ends), "fin", "LAST_ACK", times)?;
    seen.check_life(server(ends), "fin_retransmits", u64::from(times))
}

/// Loses the segment once and twice.
fn once_and_twice(scenario: fn(u32) -> Result<()>) -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    // Each waits for the kernel's timers: both at the same time.
    std::thread::scope(|scope| {
        let twice = scope.spawn(move || scenario(2).context("lost twice"));
        scenario(1).context("lost once")?;
        twice.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_lost_syn() -> Result<()> {
    once_and_twice(lost_syn)
}

#[test]
fn a_lost_syn_ack() -> Result<()> {
    once_and_twice(lost_syn_ack)
}

#[test]
fn a_lost_third_ack() -> Result<()> {
    once_and_twice(lost_third_ack)
}

#[test]
fn lost_data_segments() -> Result<()> {
    once_and_twice(lost_data)
}

#[test]
fn a_lost_fin() -> Result<()> {
    once_and_twice(lost_fin)
}

#[test]
fn a_lost_second_fin() -> Result<()> {
    once_and_twice(lost_second_fin)
}

/// What was sent again, by cause, as told one by one and as the kernel counted it in the namespace.
const CAUSES: [(&str, &str); 4] = [
    ("timeout", "TCPTimeouts"),
    ("fast", "TCPFastRetrans"),
    ("tail_loss_probe", "TCPLossProbes"),
    ("slow_start", "TCPSlowStartRetrans"),
];

/// A sender at the left of a pair, a receiver at its right that hears nothing of some segments.
struct Lossy {
    pair: Pair,
    both: Both,
    tail: Tcptrail,
    life: Tcptrail,
}

/// How often for each of [`CAUSES`], and how many segments the peer had already.
type Told = ([u64; 4], u64);

impl Lossy {
    fn new() -> Result<Lossy> {
        let pair = Pair::new()?;
        let listener = listen(&pair.right, "0.0.0.0:8089")?;
        let to: SocketAddr = (Pair::RIGHT.parse::<std::net::Ipv4Addr>()?, 8089).into();
        let tail = Tcptrail::start(&["--netns", pair.left.name()])?;
        let life = Tcptrail::start(&["life", "--netns", pair.left.name()])?;
        let both = Both::new(&pair.left, &listener, to)?;
        both.client.set_nodelay(true)?;
        Ok(Lossy { pair, both, tail, life })
    }

    /// Closes it in order, and compares what was told with what the kernel has counted.
    fn end(self) -> Result<Told> {
        let Lossy { pair, both, mut tail, life } = self;
        let ends = finish(both)?;
        tail.wait_for("the sender's end", |event| {
            event.kind() == "transition"
                && event.text("local") == shown(ends.client)
                && event.text("new") == "TIME_WAIT"
        })?;
        let counted = counters(&pair.left)?;
        let (tail, life) = (tail.stop()?, life.stop()?);
        tail.check_whole()?;
        life.check_whole()?;
        let told = CAUSES.map(|(cause, _)| {
            let of = |event: &&Event| event.0["cause"] == cause && event.0["error"].is_null();
            let all = tail.of_kind("retransmit").filter(of);
            all.filter_map(|event| event.number("segments")).sum::<u64>()
        });
        let kernel = CAUSES.map(|(_, counter)| counted[counter]);
        for ((cause, _), (told, counted)) in CAUSES.iter().zip(told.iter().zip(kernel)) {
            // The kernel counts probes that send new data, too (`tcp_send_loss_probe`): no retransmits.
            let holds = *told == counted || *cause == "tail_loss_probe" && *told < counted;
            ensure!(holds, "{cause} {told}, not {counted}");
        }
        ensure!(told.iter().sum::<u64>() == counted["RetransSegs"], "{told:?}: {counted:?}");
        for event in tail.of_kind("retransmit") {
            let waited = event.number("rto_ns").is_some_and(|ns| ns >= 150_000_000);
            ensure!(waited == (event.text("cause") == "timeout"), "{event:?}");
        }
        let side = life.side(ends.client, ends.server);
        let close = side.only("close")?;
        if counted["RetransSegs"] == 0 {
            ensure!(close.0["retransmit_causes"].is_null(), "{close:?}");
            return Ok((told, 0));
        }
        let of_life = CAUSES.map(|(cause, _)| close.0["retransmit_causes"][cause].as_u64());
        ensure!(of_life == told.map(Some), "{of_life:?}, not {told:?}: {close:?}");
        ensure!(close.0["retransmit_causes"]["unknown"] == 0, "{close:?}");
        let spurious = close.number("spurious_retransmits").context("no figure")?;
        // By segments: one D-SACK may tell of several.
        let twice = counted["TCPDSACKRecvSegs"];
        ensure!(spurious == twice, "{spurious} spurious, {twice} came twice: {close:?}");
        Ok((told, spurious))
    }
}

#[test]
fn a_lost_tail_is_probed_for_and_then_waited_for() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let lossy = Lossy::new()?;
    lossy.pair.right.lose_first(2, DATA)?;
    transfer(&lossy.both.client, &lossy.both.server, 100)?;
    let ([timeout, fast, probe, slow], spurious) = lossy.end()?;
    ensure!((timeout, fast, probe, slow, spurious) == (1, 0, 1, 0, 0), "{timeout} {fast} {probe}");
    Ok(())
}

/// The first of some segments is lost: the ACKs of the others say so.
#[test]
fn a_lost_segment_that_others_follow_is_sent_again_at_once() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let lossy = Lossy::new()?;
    lossy.pair.right.lose_first(1, DATA)?;
    for _ in 0..6 {
        (&lossy.both.client).write_all(&[b'x'; 100])?;
    }
    (&lossy.both.server).read_exact(&mut [0; 600])?;
    let ([timeout, fast, probe, slow], spurious) = lossy.end()?;
    ensure!((timeout, fast, probe, slow, spurious) == (0, 1, 0, 0, 0), "{timeout} {fast} {probe}");
    Ok(())
}

/// All of a window is lost, the probe too: after the timeout the rest follows bit by bit.
#[test]
fn what_a_timeout_declares_lost_is_sent_again_after_it() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let lossy = Lossy::new()?;
    lossy.pair.right.lose_first(1_000, "tcp dport 8089 tcp flags & ack == ack")?;
    (&lossy.both.client).write_all(&[b'x'; 8_000])?;
    // The probe and the first timeout.
    eventually("a timeout", Duration::from_secs(5), || {
        Ok((counters(&lossy.pair.left)?["TCPTimeouts"] != 0).then_some(()))
    })?;
    lossy.pair.right.nft("flush ruleset")?;
    (&lossy.both.server).read_exact(&mut [0; 8_000])?;
    let ([timeout, _, probe, slow], _) = lossy.end()?;
    ensure!(timeout != 0 && probe != 0 && slow > 1, "{timeout} {probe} {slow}");
    Ok(())
}

/// The ACK is lost, not the data: the peer says that it had it already.
#[test]
fn what_the_peer_had_already_is_spurious() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let lossy = Lossy::new()?;
    lossy.pair.left.lose_first(1, BARE_ACK)?;
    transfer(&lossy.both.client, &lossy.both.server, 100)?;
    // Until it was acknowledged at last.
    let end = shown(lossy.both.ends.client);
    eventually("the ACK", Duration::from_secs(5), || {
        let all = ss(&lossy.pair.left)?;
        let socket = all.into_iter().find(|socket| socket.local == end);
        let open = socket.context("ss does not have it")?.figure("unacked").is_some();
        Ok((!open).then_some(()))
    })?;
    let ([timeout, fast, probe, slow], spurious) = lossy.end()?;
    ensure!((timeout, fast, probe, slow, spurious) == (0, 0, 1, 0, 1), "{timeout} {fast} {probe}");
    Ok(())
}

/// One packet in twenty, of two megabytes: whatever the kernel makes of it.
#[test]
fn steady_loss_is_told_as_the_kernel_counts_it() -> Result<()> {
    if !ready(&["nft"]) {
        return Ok(());
    }
    let lossy = Lossy::new()?;
    // Else they are few and long.
    lossy.pair.left.ip(&["link", "set", "eth0", "gso_max_segs", "2"])?;
    lossy.pair.right.nft(
        "table inet loss {
            chain arriving {
                type filter hook input priority 0; policy accept;
                tcp dport 8089 numgen inc mod 20 == 0 drop
            }
        }",
    )?;
    transfer(&lossy.both.client, &lossy.both.server, 2_000_000)?;
    lossy.pair.right.nft("flush ruleset")?;
    let (told, _) = lossy.end()?;
    ensure!(told.iter().sum::<u64>() > 3, "{told:?}");
    Ok(())
}

/// Age of the only socket in a state, as `list` tells it, and as it is.
fn check_age(netns: &Netns, state: &str, born: u64, off_by: u64) -> Result<()> {
    let began = now_ns();
    let run = tests::tcptrail::run(&["list", "--json", "--netns", netns.name()])?;
    run.check_whole()?;
    let (least, most) = (began - born, now_ns() - born);
    let all: Vec<_> = run.of_kind("socket").filter(|event| event.text("state") == state).collect();
    ensure!(all.len() == 1, "{state}: {all:?}");
    let told = all[0].number("in_state_ns").context("no age")?;
    ensure!(
        told <= most + off_by.min(100_000_000) * u64::from(state == "SYN_RECV")
            && told + off_by + slack() >= least,
        "{state} for {told} ns, not {least} to {most}: {:?}",
        all[0]
    );
    ensure!(all[0].truth("exact") == Some(false), "{:?}", all[0]);
    Ok(())
}

/// Waits until `ss` shows that the only socket in a state has sent again at least this often.
fn wait_retried(netns: &Netns, state: &str, times: u32) -> Result<()> {
    // timer:(on,990ms,2)
    let count = |timer: &str| timer.trim_end_matches(')').rsplit_once(',')?.1.parse::<u32>().ok();
    eventually("the retries", Duration::from_secs(10), || {
        let retried = ss(netns)?.iter().any(|socket| {
            let retries = socket.figure("timer").and_then(count);
            socket.state == state && retries.is_some_and(|retries| retries >= times)
        });
        Ok(retried.then_some(()))
    })
}

#[test]
fn a_connect_under_way_is_not_older_than_it_is() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.lose_first(100, SYN)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    std::thread::scope(|scope| {
        let born = now_ns();
        let connecting = scope.spawn(|| {
            // The second SYN goes out again after 3 s: time to look, on a busy machine too.
            let limit = patience(Duration::from_secs(10));
            netns.run(|| Ok(TcpStream::connect_timeout(&to, limit).is_err()))
        });
        wait_retried(&netns, "SYN_SENT", 2)?;
        // A lower bound: never more than it is.
        check_age(&netns, "SYN_SENT", born, 2_000_000_000)?;
        let failed = connecting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(failed, "it was answered");
        Ok(())
    })
}

#[test]
fn a_request_is_as_old_as_it_is() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    for retries in [0, 1] {
        let netns = Netns::new()?;
        let listener = listen(&netns, "127.0.0.1:0")?;
        netns.lose_first(100, BARE_ACK)?;
        let born = now_ns();
        let _stream = connect(&netns, listener.local_addr()?)?;
        wait_retried(&netns, "SYN_RECV", retries)?;
        check_age(&netns, "SYN_RECV", born, 100_000_000)
            .with_context(|| format!("after {retries} retries"))?;
    }
    Ok(())
}
