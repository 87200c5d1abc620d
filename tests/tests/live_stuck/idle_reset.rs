//! Idle connections that are reset: by a firewall that has forgotten them, by a proxy whose timeout ends them;
//! against those that are kept alive, or end otherwise.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::traffic::connect;
use tests::witness::eventually;

use crate::keep_alive::nginx;
use crate::stage::{Python, check_verdict, finding, listening, silent, start};
use tests::web::Daemon;

const THRESHOLD: &[&str] = &["--threshold", "IDLE_RESET=1s"];

/// A server that answers everything.
fn echo(netns: &Netns, port: u16) -> Result<Python> {
    let server = Python::start(
        netns,
        &format!(
            "s = listen({port})
def serve(c):
    try:
        while (data := c.recv(100)): c.sendall(data)
    except OSError: pass
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()"
        ),
    )?;
    listening(netns)?;
    Ok(server)
}

/// A firewall on the server that forgets established connections after two seconds, and answers what it does
/// not know with a RST.
fn forgets(netns: &Netns) -> Result<()> {
    netns.nft(
        "table ip firewall {
            ct timeout short { protocol tcp; l3proto ip; policy = { established : 2 }; }
            chain first {
                type filter hook prerouting priority 0; policy accept;
                tcp dport 5432 ct timeout set \"short\"
            }
            chain in {
                type filter hook input priority 0; policy accept;
                tcp dport 5432 ct state new tcp flags & (syn | ack) != syn reject with tcp reset
                tcp dport 5432 ct state invalid reject with tcp reset
            }
        }",
    )?;
    // What it has forgotten it does not pick up again.
    netns.sysctl("netfilter/nf_conntrack_tcp_loose", "0")
}

/// Six connections, opened one after the other, each used again after `idle` seconds and some. Says how many
/// of them were reset.
fn clients(netns: &Netns, idle: f32, option: &str) -> Result<Python> {
    Python::start(
        netns,
        &format!(
            "
import random
reset = []
def one(number):
    c = socket.create_connection(('{to}', 5432))
    {option}
    c.sendall(b'SELECT 1 FROM a_table WHERE id = 42'); c.recv(100)
    time.sleep({idle} + number * .3)
    try:
        c.sendall(b'SELECT 2 FROM another_table WHERE id = 43'); c.recv(100)
    except ConnectionResetError: reset.append(number)
    # Both know that it ends: nobody keeps half of it.
    c.close()
threads = []
for number in range(6):
    threads.append(threading.Thread(target=one, args=(number,)))
    threads[-1].start()
    time.sleep(1)
for thread in threads: thread.join()
print(len(reset), flush=True)
time.sleep(600)",
            to = Pair::RIGHT
        ),
    )
}

#[test]
fn a_firewall_that_forgets_idle_connections_is_named() -> Result<()> {
    if !ready(&["nft", "python3"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    forgets(&pair.right)?;
    let _server = echo(&pair.right, 5432)?;
    let mut stuck = start(&pair.left, THRESHOLD)?;
    let mut clients = clients(&pair.left, 3.5, "pass")?;
    let found = finding(&mut stuck, "idle_reset", |event| event.number("count") == Some(6))?;
    let reset = clients.said(Duration::from_secs(20))?.context("it says nothing")?;
    ensure!(reset == "6", "{reset} were reset");
    check_verdict(
        &found,
        &[
            &format!(
                "python3[{}] loses idle connections to {}:5432: 6 were reset",
                clients.pid(),
                Pair::RIGHT
            ),
            ", each after 3.5",
            " or more without data, when they were used again",
        ],
    )?;
    ensure!(found.text("severity") == "stuck", "{found:?}");
    for words in ["SO_KEEPALIVE is off", "TCP_KEEPIDLE below 3.5"] {
        ensure!(found.text("advice").contains(words), "{found:?}");
    }
    stuck.stop()?.check_whole()
}

/// The twin: TCP asks each second, and the firewall does not forget.
#[test]
fn connections_that_are_kept_alive_are_not_lost() -> Result<()> {
    if !ready(&["nft", "python3"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    forgets(&pair.right)?;
    let _server = echo(&pair.right, 5432)?;
    let stuck = start(&pair.left, THRESHOLD)?;
    let keepalive = "c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1); \
                     [c.setsockopt(socket.IPPROTO_TCP, o, 1) for o in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]";
    let mut clients = clients(&pair.left, 3.5, keepalive)?;
    let reset = clients.said(Duration::from_secs(30))?.context("it says nothing")?;
    ensure!(reset == "0", "{reset} were reset");
    silent(stuck)
}

/// nginx that ends connections whose request is not complete within two seconds: with a RST when `resets`, else
/// with a FIN.
fn impatient(netns: &Netns, resets: bool) -> Result<(Daemon, tempfile::TempDir)> {
    let how = if resets { "reset_timedout_connection on;" } else { "" };
    nginx(netns, PORT, &format!("client_header_timeout 2s; {how}"))
}

const PORT: u16 = 5000;

/// Five connections over which a part of a request is sent, and nothing more until they are ended.
fn idle_clients(netns: &Netns) -> Result<Python> {
    Python::start(
        netns,
        &format!(
            "
def one():
    c = socket.create_connection(('127.0.0.1', {PORT}))
    c.sendall(b'GET / HT')
    try: c.recv(100)
    except OSError: pass
    c.close()
threads = []
for _ in range(5):
    threads.append(threading.Thread(target=one)); threads[-1].start(); time.sleep(.7)
for thread in threads: thread.join()
print('done', flush=True)
time.sleep(600)"
        ),
    )
}

#[test]
fn a_server_that_resets_idle_connections_is_named_with_its_timeout() -> Result<()> {
    if !ready(&["nginx", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = impatient(&netns, true)?;
    let mut stuck = start(&netns, THRESHOLD)?;
    let clients = idle_clients(&netns)?;
    let found = finding(&mut stuck, "idle_reset", |event| event.number("count") == Some(5))?;
    check_verdict(
        &found,
        &[
            &format!(
                "python3[{}] loses idle connections to 127.0.0.1:{PORT}: 5 were reset",
                clients.pid()
            ),
            ", each after 2.0",
            "s without data",
        ],
    )?;
    stuck.stop()?.check_whole()
}

/// The twins: the same timeout with a FIN, and a server that dies while its answer is awaited.
#[test]
fn connections_that_end_otherwise_are_not_idle_resets() -> Result<()> {
    if !ready(&["nginx", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = impatient(&netns, false)?;
    let _gives_up = Python::start(
        &netns,
        "import struct
s = listen(5002)
def serve(c):
    c.recv(100); c.sendall(b'one'); c.recv(100); time.sleep(1.5)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()",
    )?;
    eventually("the server", Duration::from_secs(10), || {
        Ok(connect(&netns, ([127, 0, 0, 1], 5002).into()).ok())
    })?;
    let stuck = start(&netns, THRESHOLD)?;
    let mut waiting = Python::start(
        &netns,
        "
def one():
    c = socket.create_connection(('127.0.0.1', 5002))
    c.sendall(b'a question'); c.recv(100); time.sleep(.05); c.sendall(b'another question')
    try: c.recv(100)
    except ConnectionResetError: reset.append(1)
    c.close()
reset, threads = [], []
for _ in range(5):
    threads.append(threading.Thread(target=one)); threads[-1].start(); time.sleep(.7)
for thread in threads: thread.join()
print(len(reset), flush=True)
time.sleep(600)",
    )?;
    let mut clients = idle_clients(&netns)?;
    let done = clients.said(Duration::from_secs(20))?.context("it says nothing")?;
    ensure!(done == "done", "{done}");
    let reset = waiting.said(Duration::from_secs(20))?.context("it says nothing")?;
    ensure!(reset == "5", "{reset} were reset");
    silent(stuck)
}

/// Idle connections to another host, without keepalive and with it.
#[test]
fn idle_connections_without_keepalive_are_noted() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let _server = echo(&pair.right, 5432)?;
    let client = |count: u32, keepalive: u32| {
        let client = Python::start(
            &pair.left,
            &format!(
                "
kept = []
for _ in range({count}):
    c = socket.create_connection(('{to}', 5432))
    c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, {keepalive})
    c.sendall(b'hello'); c.recv(100); kept.append(c)
print('idle', flush=True)
time.sleep(600)",
                to = Pair::RIGHT
            ),
        );
        let mut client = client?;
        client.said(Duration::from_secs(10))?.context("it says nothing")?;
        anyhow::Ok(client)
    };
    let without = client(4, 0)?;
    let with = client(3, 1)?;
    // What the walk at the start must find idle.
    std::thread::sleep(Duration::from_secs(3));
    let mut stuck = start(&pair.left, &["--threshold", "IDLE=2s"])?;
    let found = finding(&mut stuck, "idle", |event| event.number("count") == Some(4))?;
    let says = format!(
        "python3[{}] has 4 idle connections to {}:5432 without keepalive",
        without.pid(),
        Pair::RIGHT
    );
    check_verdict(&found, &[&says])?;
    ensure!(found.text("severity") == "note", "{found:?}");
    let run = stuck.stop()?;
    let others: Vec<_> = run
        .of_kind("stuck")
        .filter(|event| event.number("pid") == Some(u64::from(with.pid())))
        .map(|event| event.text("verdict"))
        .collect();
    ensure!(others.is_empty(), "it keeps them alive: {others:?}");
    run.check_whole()
}
