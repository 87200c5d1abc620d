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
    ensure!(!held.text("advice").contains("has not called close()"), "{held:?}");
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

/// A server on port 8402 that closes each connection after a byte.
fn answers_and_closes(netns: &Netns) -> Result<Python> {
    let server = Python::start(
        netns,
        "s = listen(8402)\nwhile True:\n    c, _ = s.accept()\n    c.recv(1)\n    c.close()\n",
    )?;
    listening(netns)?;
    Ok(server)
}

/// Waits until ss shows so many sockets in CLOSE_WAIT.
fn half_closed_are(netns: &Netns, count: usize) -> Result<()> {
    eventually("sockets in CLOSE_WAIT", Duration::from_secs(30), || {
        let half_closed = ss(netns)?.iter().filter(|s| s.state == "CLOSE_WAIT").count();
        Ok((half_closed >= count).then_some(()))
    })
}

/// Sockets of before the start, sockets of since, and an opener that is known late: one finding, from its
/// beginning to its end.
#[test]
fn one_leak_is_one_finding() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = answers_and_closes(&netns)?;
    let leaking = Program::java(&netns, &["-Xint"], "Crawler", &["8402", "200", "200"])?;
    half_closed_are(&netns, 10)?;
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

/// The twin: sockets of before that stay, beside connections of since that are closed in time. They are not said to
/// grow, and nobody is accused of a leak.
#[test]
fn old_sockets_beside_a_healthy_service_do_not_grow() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = answers_and_closes(&netns)?;
    let client = Python::start(
        &netns,
        "def ask():
    c = socket.create_connection(('127.0.0.1', 8402))
    c.sendall(b'?')
    return c
held = [ask() for _ in range(12)]
recent = []
while True:
    recent.append(ask())
    if len(recent) > 10: recent.pop(0).close()
    time.sleep(0.1)
",
    )?;
    // The twelve, and those in use.
    half_closed_are(&netns, 20)?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=2s"])?;
    let held = finding(&mut stuck, "close_wait", |event| event.number("count") == Some(12))?;
    // For longer than the leak took to be called one.
    sleep(Duration::from_secs(10));
    let run = stuck.stop()?;
    run.check_whole()?;
    never_a_leak(&run)?;
    for event in said(&run, "close_wait", client.pid()) {
        ensure!(event.0["growth_per_min"].is_null(), "{event:?}");
        ensure!(event.number("count").is_some_and(|count| count <= 23), "{event:?}");
    }
    check_verdict(&held, &[&format!("python3[{}] holds CLOSE_WAIT to ", client.pid())])
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

const IDLE: &[&str] = &["--threshold", "ESTABLISHED_IDLE=8s"];

/// A process that opens connections to a server that keeps them: `forget`s them, or has a pool of ten of which
/// it uses one after the other.
fn opener(netns: &Netns, what: &str) -> Result<(Python, Python)> {
    let server = Python::start(
        netns,
        "s = listen(8500)
keep = []
def serve(c):
    while c.recv(100): c.sendall(b'x')
while True:
    c, _ = s.accept()
    keep.append(c)
    threading.Thread(target=serve, args=(c,), daemon=True).start()
",
    )?;
    listening(netns)?;
    let script = format!(
        "keep = []
def ask(c):
    c.sendall(b'?')
    c.recv(1)
def fresh():
    c = socket.create_connection(('127.0.0.1', 8500))
    ask(c)
    keep.append(c)
if '{what}' == 'forget':
    while len(keep) < 300:
        fresh()
        time.sleep(0.2)
elif '{what}' == 'pool':
    for _ in range(10): fresh()
elif '{what}' == 'chat':
    for n in range(100):
        fresh()
        for c in keep[n % 7::7]: ask(c)
        time.sleep(0.25)
time.sleep(600)
"
    );
    Ok((server, Python::start(netns, &script)?))
}

/// The leak that no FIN tells of: both ends keep their connections.
#[test]
fn connections_that_are_opened_and_forgotten_leak() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, IDLE)?;
    let (_server, client) = opener(&netns, "forget")?;
    let began = Instant::now();
    let leak = finding(&mut stuck, "established_idle", |event| event.text("severity") == "leak")?;
    println!("called a leak after {:?}", began.elapsed());
    let who = format!("python3[{}] leaks ESTABLISHED to 127.0.0.1:8500: ", client.pid());
    check_verdict(&leak, &[&who, ", none used again or closed"])?;
    let growth = leak.0["growth_per_min"].as_f64().unwrap_or(0.0);
    ensure!((growth - 300.0).abs() < 100.0, "{growth} a minute, not 300");
    ensure!(leak.0["pids"] == serde_json::json!([client.pid()]), "{leak:?}");
    let open = ss(&netns)?.iter().filter(|s| s.state == "ESTABLISHED").count() as u64;
    ensure!(
        leak.number("count").is_some_and(|count| count < open / 2),
        "{open} are open: {leak:?}"
    );
    let run = stuck.stop()?;
    run.check_whole()?;
    // The server is no culprit, and the leak is told once.
    let others = run.of_kind("stuck").filter(|event| {
        event.text("rule") == "established_idle"
            && event.number("pid") != Some(u64::from(client.pid()))
    });
    ensure!(others.count() == 0, "the server is accused");
    Ok(())
}

/// The twins: a pool of ten that nobody uses, and many connections of which more come all the time, and each is
/// used again now and then.
#[test]
fn pools_and_chats_have_idle_connections() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let stuck = start(&netns, IDLE)?;
    let (_server, _pool) = opener(&netns, "pool")?;
    let chat = Netns::new()?;
    let stuck_chat = start(&chat, IDLE)?;
    let (_chat_server, _users) = opener(&chat, "chat")?;
    // Longer than the leak took.
    sleep(Duration::from_secs(20));
    silent(stuck)?;
    silent(stuck_chat)
}

/// Three pre-forked workers of one listener hold CLOSE_WAIT: one finding. Two: two.
fn workers(count: usize) -> Result<()> {
    let netns = Netns::new()?;
    let _server = Python::start(
        &netns,
        &format!(
            "s = listen(8600)
parent = os.getpid()
for _ in range({count}):
    if os.fork() == 0:
        keep = []
        while len(keep) < 2:
            c, _ = s.accept()
            keep.append(c)
        while os.getppid() == parent: time.sleep(0.1)
        os._exit(0)
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
time.sleep(600)
"
        ),
    )?;
    listening(&netns)?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=2s"])?;
    let to = SocketAddr::from(([127, 0, 0, 1], 8600));
    let clients =
        (0..2 * count).map(|_| connect(&netns, to)).collect::<Result<Vec<TcpStream>>>()?;
    drop(clients);
    let holders = eventually("a holder of each socket", Duration::from_secs(10), || {
        let sockets = ss(&netns)?;
        let half_closed = sockets.iter().filter(|s| s.state == "CLOSE_WAIT");
        let mut pids: Vec<u32> =
            half_closed.flat_map(|s| s.users.iter().map(|&(pid, _)| pid)).collect();
        pids.sort_unstable();
        pids.dedup();
        Ok((pids.len() == count).then_some(pids))
    });
    let result = holders.and_then(|pids| {
        if count < 3 {
            for pid in &pids {
                finding(&mut stuck, "close_wait", |e| e.number("pid") == Some(u64::from(*pid)))?;
            }
            return Ok(());
        }
        let found = finding(&mut stuck, "close_wait", |event| {
            event.0["pids"] == serde_json::json!(pids) && event.number("count") == Some(6)
        })?;
        let says = format!(
            "3 workers of python3 ([{}], [{}], [{}]) hold CLOSE_WAIT on :8600: 6 sockets",
            pids[0], pids[1], pids[2]
        );
        check_verdict(&found, &[&says])
    });
    drop(stuck.stop()?);
    result
}

#[test]
fn workers_that_say_the_same_are_one_finding() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    workers(3)?;
    workers(2)
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
        &[&says, " of its last data are unread", ": a restart or failover there"],
    )?;
    ensure!(found.text("advice").starts_with("This is no leak"), "{found:?}");
    let run = stuck.stop()?;
    never_a_leak(&run)?;
    run.check_whole()
}
