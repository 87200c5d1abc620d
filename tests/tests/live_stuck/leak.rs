//! Leak or not, with real software: pools at their bound, a database that restarts, connections that are
//! half-closed and busy; and beside each a leak of the same kind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::java::Program;
use tests::netns::Netns;
use tests::ready;
use tests::servers::{Postgres, nginx};
use tests::tcptrail::{Event, Run, run};
use tests::traffic::connect;
use tests::witness::{eventually, ss};

use crate::stage::{Python, check_verdict, finding, listening, silent, start};

/// What a run said of a process by a rule.
fn said<'r>(run: &'r Run, rule: &str, pid: u32) -> Vec<&'r Event> {
    let of = |event: &&Event| event.number("pid") == Some(u64::from(pid));
    run.of_kind("stuck").filter(|event| event.text("rule") == rule).filter(of).collect()
}

fn never_a_leak(run: &Run) -> Result<()> {
    let accused = run.of_kind("stuck").find(|event| event.text("severity") == "leak");
    ensure!(accused.is_none(), "an innocent is accused: {accused:?}");
    Ok(())
}

/// nginx closes after a second of idleness; 20 threads of a JVM ask once, then nobody for a while; three
/// rounds. Each round uses and replaces the 20.
#[test]
fn a_pool_that_is_idle_for_longer_than_its_server_likes_is_no_leak() -> Result<()> {
    if !tests::java::ready(&["nginx"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, 8401, "1s")?;
    let stuck = start(&netns, &["--threshold", "CLOSE_WAIT=3s"])?;
    let args = ["8401", "rounds", "20", "3", "8000"];
    let mut client = Program::java(&netns, &[], "PooledClient", &args)?;
    client.wait_for("ready")?;
    // Where the pool ended at a limit the number would be right by chance.
    eventually("20 sockets in CLOSE_WAIT", Duration::from_secs(20), || {
        let half_closed = ss(&netns)?.iter().filter(|s| s.state == "CLOSE_WAIT").count();
        Ok((half_closed == 20).then_some(()))
    })?;
    client.wait_for("done")?;
    let run = stuck.stop()?;
    run.check_whole()?;
    never_a_leak(&run)?;
    let found = said(&run, "close_wait", client.pid());
    let held = found.first().context("20 sockets in CLOSE_WAIT and nothing is said")?;
    ensure!(held.number("count") == Some(20), "{held:?}");
    ensure!(held.0["growth_per_min"].is_null(), "{held:?}");
    ensure!(
        !held.text("advice").starts_with("The peer has closed; close() is missing"),
        "{held:?}"
    );
    Ok(())
}

/// The twin: the same client and server, two responses a second are forgotten.
#[test]
fn a_client_that_forgets_its_responses_leaks() -> Result<()> {
    if !tests::java::ready(&["nginx"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, 8401, "1s")?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=3s"])?;
    let mut client = Program::java(&netns, &[], "PooledClient", &["8401", "leak", "100", "500"])?;
    client.wait_for("ready")?;
    let began = Instant::now();
    let leak = finding(&mut stuck, "close_wait", |event| event.text("severity") == "leak")?;
    // The threshold, the second until nginx closes, and a few seconds more.
    println!("called a leak after {:?}", began.elapsed());
    let who = format!("java[{}] leaks CLOSE_WAIT to 127.0.0.1:8401: ", client.pid());
    check_verdict(&leak, &[&who, ", none closed"])?;
    let named = finding(&mut stuck, "close_wait", |event| !event.0["opener"].is_null())?;
    ensure!(named.text("opener") == "com.acme.PooledClient.forget", "{named:?}");
    let growth = named.0["growth_per_min"].as_f64().unwrap_or(0.0);
    ensure!((growth - 120.0).abs() < 40.0, "{growth} a minute, not 120");
    stuck.stop()?.check_whole()
}

/// Sockets of before the start, sockets of since, and an opener that is known late: one finding, from its
/// beginning to its end.
#[test]
fn one_leak_is_one_finding() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = Python::start(
        &netns,
        "s = listen(8402)\nwhile True:\n    c, _ = s.accept()\n    c.recv(1)\n    c.close()\n",
    )?;
    listening(&netns)?;
    let leaking = Program::java(&netns, &["-Xint"], "Crawler", &["8402", "200", "200"])?;
    eventually("ten sockets of before", Duration::from_secs(30), || {
        let half_closed = ss(&netns)?.iter().filter(|s| s.state == "CLOSE_WAIT").count();
        Ok((half_closed >= 10).then_some(()))
    })?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=2s"])?;
    let named = finding(&mut stuck, "close_wait", |event| {
        event.0["openers"][0]["count"].as_u64() > Some(10) && event.text("severity") == "leak"
    })?;
    ensure!(named.text("opener") == "com.acme.Crawler.fetch", "{named:?}");
    let before = named.number("opened_before").context("opened_before")?;
    ensure!(before >= 10, "{named:?}");
    let says = format!("{before} opened before tcptrail started");
    check_verdict(&named, &["; opened by com.acme.Crawler.fetch (", " of them; ", &says])?;
    let run = stuck.stop()?;
    run.check_whole()?;
    let all = said(&run, "close_wait", leaking.pid());
    let appeared = all.iter().filter(|event| event.text("change") == "appear").count();
    let over = all.iter().filter(|event| event.text("change") == "clear").count();
    ensure!((appeared, over) == (1, 0), "{all:?}");
    Ok(())
}

/// Clients that have said all they will say, and read what a server streams to them.
fn half_closed(netns: &Netns, streams: bool) -> Result<(Python, Vec<TcpStream>)> {
    let stream = if streams {
        "while True:\n        c.sendall(b'x' * 1000)\n        time.sleep(0.2)"
    } else {
        "time.sleep(600)"
    };
    let script = format!(
        "s = listen(8701)
def serve(c):
    while c.recv(100): pass
    {stream}
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"
    );
    let server = Python::start(netns, &script)?;
    listening(netns)?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let to = SocketAddr::from(([127, 0, 0, 1], 8701));
        let mut client = connect(netns, to)?;
        client.write_all(b"give me all\n")?;
        client.shutdown(Shutdown::Write)?;
        let mut reader = client.try_clone()?;
        thread::spawn(move || while reader.read(&mut [0; 4096]).is_ok_and(|count| count != 0) {});
        clients.push(client);
    }
    Ok((server, clients))
}

const HALF_CLOSED: &[&str] = &["--threshold", "CLOSE_WAIT=3s", "--threshold", "FIN_WAIT2=3s"];

#[test]
fn half_closed_and_busy_is_not_stuck() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    // Some were there before.
    let (_server, _clients) = half_closed(&netns, true)?;
    let stuck = start(&netns, HALF_CLOSED)?;
    // As long as a finding would have taken, three times.
    sleep(Duration::from_secs(12));
    let states: Vec<String> = ss(&netns)?.into_iter().map(|socket| socket.state).collect();
    for state in ["CLOSE_WAIT", "FIN_WAIT2"] {
        ensure!(states.iter().filter(|s| *s == state).count() == 4, "{states:?}");
    }
    let args = [&["stuck", "--once", "--netns", netns.name()], HALF_CLOSED].concat();
    let once = run(&args)?;
    ensure!(once.code() == Some(0), "{}", String::from_utf8_lossy(&once.raw));
    silent(stuck)
}

/// The twin: the server says nothing.
#[test]
fn half_closed_and_silent_is_stuck() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, HALF_CLOSED)?;
    let (server, _clients) = half_closed(&netns, false)?;
    let held = finding(&mut stuck, "close_wait", |event| event.number("count") == Some(4))?;
    check_verdict(&held, &[&format!("python3[{}] holds CLOSE_WAIT on :8701: 4", server.pid())])?;
    ensure!(held.text("severity") == "stuck", "{held:?}");
    finding(&mut stuck, "fin_wait2", |event| event.number("count") == Some(4))?;
    stuck.stop()?.check_whole()
}

/// PostgreSQL stops and starts; HikariCP's ten idle connections are asked by nobody.
#[test]
fn a_restart_of_the_database_is_no_leak() -> Result<()> {
    if !tests::java::ready(&["setpriv"]) || !Postgres::ready() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut database = Postgres::start(&netns, 5499)?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=3s"])?;
    let mut client = Program::java(&netns, &[], "JdbcPool", &["5499", "idle", "10"])?;
    client.wait_for("ready")?;
    // Idle for longer than a request takes.
    sleep(Duration::from_secs(7));
    database.stop()?;
    database.start_again(&netns)?;
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("count") == Some(10) && event.text("verdict").contains("unread")
    })?;
    let says =
        format!("127.0.0.1:5499 ended 10 connections of java[{}] at one moment, ", client.pid());
    check_verdict(
        &found,
        &[&says, " of its last words are unread", ": a restart or failover there"],
    )?;
    ensure!(found.text("advice").starts_with("This is no leak"), "{found:?}");
    let run = stuck.stop()?;
    never_a_leak(&run)?;
    run.check_whole()
}
