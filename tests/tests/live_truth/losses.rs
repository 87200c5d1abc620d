//! Each segment of a handshake or of a close lost once: what is sent again, and what `life` says.

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::pace::is_slow;
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::{Both, Ends, accept, close, connect, listen, read_end};
use tests::witness::{Moment, now_ns, ss};

use crate::stage::{CLOSE_TO, End, SECOND, Told, check_between, check_words};

const TOOLS: &[&str] = &["nft", "ss"];
const CLIENT: [&str; 5] = [
    "CLOSE>SYN_SENT",
    "SYN_SENT>ESTABLISHED",
    "ESTABLISHED>FIN_WAIT1",
    "FIN_WAIT1>FIN_WAIT2",
    "FIN_WAIT2>TIME_WAIT",
];
const SERVER: [&str; 5] = [
    "LISTEN>SYN_RECV",
    "SYN_RECV>ESTABLISHED",
    "ESTABLISHED>CLOSE_WAIT",
    "CLOSE_WAIT>LAST_ACK",
    "LAST_ACK>CLOSE",
];

const SYN: &str = "tcp flags & (syn | ack) == syn";
const SYN_ACK: &str = "tcp flags & (syn | ack) == (syn | ack)";
const BARE_ACK: &str = "tcp flags & (syn | ack | fin | psh | rst) == ack";
const FIN: &str = "tcp flags & fin == fin";

/// A client in one namespace, a server in another, and a tracer that sees both.
struct Wire {
    pair: Pair,
    tail: Tcptrail,
    life: Tcptrail,
    port: u16,
    listener: std::net::TcpListener,
}

/// What became of it: when each end closed, and what was told.
struct Done {
    ends: Ends,
    told: Told,
    first: Moment,
    second: Moment,
}

impl Done {
    fn client(&self) -> End {
        (self.ends.client, self.ends.server)
    }

    fn server(&self) -> End {
        (self.ends.server, self.ends.client)
    }

    /// Both ended as if nothing had been lost, and these are all the segments sent again.
    fn check(&self, client: &[(&str, &str)], server: &[(&str, &str)]) -> Result<()> {
        self.told.steps(self.client(), &CLIENT)?;
        self.told.steps(self.server(), &SERVER)?;
        for (end, role, first, ended, again) in [
            (self.client(), "client", "local", "TIME_WAIT", client),
            (self.server(), "server", "remote", "CLOSE", server),
        ] {
            let close = self.told.closed(
                end,
                &[
                    ("how", "fin"),
                    ("role", role),
                    ("first_close", first),
                    ("ended_in", ended),
                    ("errno", "null"),
                ],
            )?;
            // The beginning of a request is known from its timer; and when the peer's FIN came, which
            // was sent twice, only by the end of it.
            let from_timer = again.iter().any(|(kind, _)| *kind == "synack");
            let fin_twice = role == "client" && !server.is_empty() && server[0].0 == "fin";
            ensure!(close.truth("exact") == Some(!from_timer && !fin_twice), "{close:?}");
            let told = self.told.sent_again(end);
            let named: Vec<_> =
                told.iter().map(|(kind, state, _)| (kind.as_str(), state.as_str())).collect();
            ensure!(named == again, "{role}: {named:?}, not {again:?}");
            for (kind, key) in [
                ("syn", "syn_retransmits"),
                ("synack", "synack_retransmits"),
                ("fin", "fin_retransmits"),
            ] {
                let count = again.iter().filter(|(again, _)| *again == kind).count() as u64;
                ensure!(close.number(key) == Some(count), "{key} is not {count}: {close:?}");
            }
        }
        // The application of the other end has kept it as long as the test did.
        self.told.lasted(self.server(), "CLOSE_WAIT", (self.first, self.second), SECOND)
    }

    fn time(&self, end: End, state: &str) -> Result<u64> {
        let side = self.told.side(end);
        side.leaving(state)?.number("in_old_ns").with_context(|| format!("no time in {state}"))
    }
}

impl Wire {
    fn new() -> Result<Wire> {
        static PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
        // Both namespaces are looked at by one tracer; only the port tells whose connections are whose.
        let own = PORT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 20_000 + u16::try_from(std::process::id() % 1_000)? * 10 + own;
        let pair = Pair::new()?;
        let listener = listen(&pair.right, &format!("{}:{port}", Pair::RIGHT))?;
        let args = ["--port", &port.to_string()];
        let tail = Tcptrail::start(&args)?;
        let life = Tcptrail::start(&[&["life"], &args[..]].concat())?;
        Ok(Wire { pair, tail, life, port, listener })
    }

    fn both(&self) -> Result<Both> {
        Both::new(&self.pair.left, &self.listener, self.listener.local_addr()?)
    }

    /// The client closes, the server sees that and closes, and both are finished.
    fn finish(
        self,
        both: Both,
        before_first: impl FnOnce(&Pair) -> Result<()>,
        before_second: impl FnOnce(&Pair) -> Result<()>,
    ) -> Result<Done> {
        let Wire { pair, mut tail, mut life, port, .. } = self;
        let ends = both.ends;
        before_first(&pair)?;
        let first = close(both.client);
        read_end(&both.server)?;
        before_second(&pair)?;
        let second = close(both.server);
        let (client, server) = (ends.client.to_string(), ends.server.to_string());
        for local in [&client, &server] {
            life.wait_for("close", |e| e.kind() == "close" && e.text("local") == *local)
                .with_context(|| {
                    format!("{local}; ss: {:?}, {:?}", ss(&pair.left), ss(&pair.right))
                })?;
        }
        tail.wait_for("TIME_WAIT", |e| e.is_step("FIN_WAIT2>TIME_WAIT"))?;
        tail.wait_for("CLOSE", |e| e.is_step("LAST_ACK>CLOSE"))?;
        let states = [state(&pair.left, &client)?, state(&pair.right, &server)?];
        ensure!(
            states == [Some("TIME_WAIT".to_owned()), None],
            "ss after the close, port {port}: {states:?}"
        );
        let told = Told { tail: tail.stop()?, life: life.stop()? };
        told.tail.check_whole()?;
        told.life.check_whole()?;
        Ok(Done { ends, told, first, second })
    }
}

fn state(netns: &Netns, local: &str) -> Result<Option<String>> {
    let listens = |socket: &tests::witness::Socket| socket.state == "LISTEN";
    Ok(ss(netns)?
        .into_iter()
        .find(|socket| socket.local == local && !listens(socket))
        .map(|socket| socket.state))
}

fn nothing(_: &Pair) -> Result<()> {
    Ok(())
}

/// The client's FIN has been acknowledged. A server in no hurry leaves that to its own FIN, and then
/// FIN_WAIT2 is over with an event of the kernel, in microseconds.
fn fin_acknowledged(pair: &Pair) -> Result<()> {
    tests::witness::eventually("FIN_WAIT2", std::time::Duration::from_secs(5), || {
        let left = ss(&pair.left)?;
        Ok(left.iter().any(|socket| socket.state == "FIN_WAIT2").then_some(()))
    })
}

#[test]
fn the_first_segment_of_a_handshake() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    wire.pair.right.lose_first(1, SYN)?;
    let (took, both) = Moment::try_of(|| wire.both())?;
    let done = wire.finish(both, nothing, nothing)?;
    done.check(&[("syn", "SYN_SENT")], &[])?;
    let took = took.to - took.from;
    check_between("SYN_SENT", done.time(done.client(), "SYN_SENT")?, (SECOND, took), CLOSE_TO)?;
    // The server saw only the second.
    let quick = done.time(done.server(), "SYN_RECV")?;
    ensure!(quick < SECOND / 5, "the server's handshake took {quick} ns");
    Ok(())
}

#[test]
fn the_second_segment_of_a_handshake() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    wire.pair.left.lose_first(1, SYN_ACK)?;
    let (took, both) = Moment::try_of(|| wire.both())?;
    let took = took.to - took.from;
    let done = wire.finish(both, nothing, nothing)?;
    // Client and server have the same timer; whose comes first is chance.
    let client = done.told.sent_again(done.client());
    let server = done.told.sent_again(done.server());
    ensure!(client.len() <= 1 && (1..=2).contains(&server.len()), "{client:?}, {server:?}");
    let client = vec![("syn", "SYN_SENT"); client.len()];
    let server = vec![("synack", "SYN_RECV"); server.len()];
    done.check(&client, &server)?;
    for (end, state) in [(done.client(), "SYN_SENT"), (done.server(), "SYN_RECV")] {
        check_between(state, done.time(end, state)?, (SECOND, took), CLOSE_TO)?;
        let close = done.told.close(end)?;
        let handshake = close.number("handshake_ns").context("no handshake_ns")?;
        check_between("handshake", handshake, (SECOND, took), CLOSE_TO)?;
    }
    Ok(())
}

#[test]
fn the_third_segment_of_a_handshake() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    wire.pair.right.lose_first(1, BARE_ACK)?;
    let began = now_ns();
    let client = connect(&wire.pair.left, wire.listener.local_addr()?)?;
    let connected = now_ns() - began;
    // One believes ESTABLISHED, the other has a request.
    let ends = Ends { client: client.local_addr()?, server: client.peer_addr()? };
    let states = [
        state(&wire.pair.left, &ends.client.to_string())?,
        state(&wire.pair.right, &ends.server.to_string())?,
    ];
    // A slow machine has sent it again before anybody looks.
    ensure!(
        is_slow() || states == [Some("ESTABLISHED".to_owned()), Some("SYN_RECV".to_owned())],
        "{states:?}"
    );
    let server = accept(&wire.listener)?;
    let took = now_ns() - began;
    let done = wire.finish(Both { client, server, ends }, nothing, nothing)?;
    done.check(&[], &[("synack", "SYN_RECV")])?;
    check_between("SYN_SENT", done.time(done.client(), "SYN_SENT")?, (0, connected), CLOSE_TO)?;
    check_between("SYN_RECV", done.time(done.server(), "SYN_RECV")?, (SECOND, took), CLOSE_TO)
}

#[test]
fn the_first_fin_of_a_close() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    let both = wire.both()?;
    let done = wire.finish(both, |pair| pair.right.lose_first(1, FIN), nothing)?;
    done.check(&[("fin", "FIN_WAIT1")], &[])?;
    let waited = done.time(done.client(), "FIN_WAIT1")?;
    check_between("FIN_WAIT1", waited, (SECOND / 5, SECOND / 2), CLOSE_TO)
}

#[test]
fn the_ack_of_the_first_fin() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    let both = wire.both()?;
    // The second FIN, which acknowledges too, must wait for the first to come again.
    let done = wire.finish(
        both,
        |pair| pair.left.lose_first(1, BARE_ACK),
        |pair| {
            let left = ss(&pair.left)?;
            // A slow machine has sent it again before anybody looks.
            ensure!(
                is_slow() || left.iter().any(|socket| socket.state == "FIN_WAIT1"),
                "nothing lost: {left:?}"
            );
            fin_acknowledged(pair)
        },
    )?;
    done.check(&[("fin", "FIN_WAIT1")], &[])?;
    let waited = done.time(done.client(), "FIN_WAIT1")?;
    check_between("FIN_WAIT1", waited, (SECOND / 5, SECOND / 2), CLOSE_TO)
}

#[test]
fn the_second_fin_of_a_close() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    let both = wire.both()?;
    let done = wire.finish(both, nothing, |pair| {
        fin_acknowledged(pair)?;
        pair.left.lose_first(1, FIN)
    })?;
    done.check(&[], &[("fin", "LAST_ACK")])?;
    let waited = done.time(done.server(), "LAST_ACK")?;
    check_between("LAST_ACK", waited, (SECOND / 5, SECOND / 2), CLOSE_TO)?;
    // The client waited for the second to come again.
    let told = done.time(done.client(), "FIN_WAIT2")?;
    let (least, most) = done.first.until(done.second);
    check_between("FIN_WAIT2", told, (least + waited, most + waited), CLOSE_TO)
}

#[test]
fn the_last_ack_of_a_close() -> Result<()> {
    if !ready(TOOLS) {
        return Ok(());
    }
    let wire = Wire::new()?;
    let both = wire.both()?;
    let done = wire.finish(both, nothing, |pair| {
        fin_acknowledged(pair)?;
        pair.right.lose_first(1, BARE_ACK)
    })?;
    done.check(&[], &[("fin", "LAST_ACK")])?;
    let waited = done.time(done.server(), "LAST_ACK")?;
    check_between("LAST_ACK", waited, (SECOND / 5, SECOND / 2), CLOSE_TO)?;
    // The client has been in TIME_WAIT since the first of the two FINs; but its timer began anew with
    // the second, and nothing tells which of them was the first to arrive.
    let told = done.time(done.client(), "FIN_WAIT2")?;
    let (least, most) = done.first.until(done.second);
    check_between("FIN_WAIT2", told, (least, most + waited), CLOSE_TO)?;
    let side = done.told.side(done.client());
    check_words(side.leaving("FIN_WAIT2")?, &[("exact", "false")])?;
    check_words(&done.told.close(done.client())?, &[("retransmits", "0")])
}
