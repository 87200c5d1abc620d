//! Databases that end idle sessions, or restart, and workers that run out of descriptors.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::java::Program;
use tests::netns::Netns;
use tests::ready;
use tests::servers::{Postgres, redis};
use tests::tcptrail::Tcptrail;

use crate::stage::{Python, check_verdict, finding, listening, silent, start};

/// PostgreSQL ends sessions that are idle for 2 s, and says so before. That is neither a leak nor a restart; and what
/// HikariCP then sends on each is its own test.
#[test]
fn a_database_that_ends_idle_sessions_is_no_restart() -> Result<()> {
    if !tests::java::ready(&["setpriv"]) || !Postgres::ready() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _database = Postgres::start_with(&netns, 5432, &["idle_session_timeout=2s"])?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=3s"])?;
    let watched = ["leaks", "--netns", netns.name(), "--older", "1s", "--watch=1s"];
    let mut leaks = Tcptrail::start_text(&watched)?;
    let mut client = Program::java(&netns, &[], "JdbcPool", &["5432", "apart", "8", "12000"])?;
    client.wait_for("ready")?;
    let pid = client.pid();
    // Three are the fewest that show a timeout.
    // Until a walk has told that its last words are unread, they are just held.
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("count") > Some(2) && event.text("verdict").contains(" keeps ")
    })?;
    let many = found.number("count").unwrap_or(0);
    let says =
        format!("java[{pid}] keeps {many} idle connections that 127.0.0.1:5432 has closed after ");
    check_verdict(&found, &[&says])?;
    ensure!(found.text("severity") == "stuck", "{found:?}");
    // Its last words tell an idle timeout from an answer; who reads the queues knows them.
    leaks.wait_line("its advice", |line| line.contains("The server closes idle connections"))?;
    leaks.stop()?.check_whole()?;
    let off = found.number("idle_timeout_ns").map(|ns| ns.abs_diff(2_000_000_000));
    ensure!(off.is_some_and(|off| off < 300_000_000), "{found:?}");
    client.wait_for("failed 0")?;
    let tested = finding(&mut stuck, "stale_reuse", |_| true)?;
    ensure!(tested.text("severity") == "note", "{tested:?}");
    check_verdict(&tested, &["perhaps a pool's test, which loses nothing"])?;
    sleep(Duration::from_secs(2));
    let run = stuck.stop()?;
    let is_worse = |event: &&tests::tcptrail::Event| {
        event.text("verdict").contains("restart")
            || event.text("rule") == "stale_reuse" && event.text("severity") != "note"
    };
    let worse = run.of_kind("stuck").find(is_worse);
    ensure!(worse.is_none(), "{worse:?}");
    run.check_whole()
}

/// Five connections to a port, asked one after the other, this far apart; from a whole second on, as Redis counts.
fn asks(netns: &Netns, port: u16, apart: &str) -> Result<Python> {
    Python::start(
        netns,
        &format!(
            "all = [socket.create_connection(('127.0.0.1', {port})) for _ in range(5)]
time.sleep(1 - time.time() % 1)
for s in all:
    s.send(b'PING\\r\\n')
    s.recv(64)
    time.sleep({apart})
print('asked', flush=True)
time.sleep(600)
"
        ),
    )
}

/// Redis counts whole seconds, and looks at all its clients in one pass: those that were used within a second end
/// together, each idle for a little longer than `timeout`. Its restart ends at one moment what was idle for as long as
/// chance has it.
#[test]
fn an_idle_timeout_in_one_pass_is_not_told_as_a_restart() -> Result<()> {
    if !ready(&["python3", "redis-server"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _closes = redis(&netns, 6391, &["--timeout", "6"])?;
    let mut restarts = redis(&netns, 6392, &[])?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=3s"])?;
    let mut restarted = asks(&netns, 6392, "1")?;
    let _closed = asks(&netns, 6391, "0.15")?;
    let asked = restarted.said(Duration::from_secs(30))?;
    ensure!(asked.as_deref() == Some("asked"), "{asked:?}");
    // Idle for longer than a request takes, most of them.
    sleep(Duration::from_secs(4));
    restarts.end()?;
    let _again = redis(&netns, 6392, &[])?;
    let at = |remote: &'static str| {
        move |event: &tests::tcptrail::Event| {
            event.text("remote") == remote && event.number("count") == Some(5)
        }
    };
    let found = finding(&mut stuck, "close_wait", at("127.0.0.1:6391"))?;
    let verdict = found.text("verdict");
    println!("{verdict}");
    check_verdict(&found, &["127.0.0.1:6391 ended 5 connections of python3[", " at one moment, "])?;
    // From outside both look the same.
    check_verdict(
        &found,
        &["a restart or failover there, or its idle timeout: all had been idle for "],
    )?;
    ensure!(found.text("advice").contains("timeout"), "{found:?}");
    let found = finding(&mut stuck, "close_wait", at("127.0.0.1:6392"))?;
    println!("{}", found.text("verdict"));
    ensure!(found.text("verdict").ends_with(": a restart or failover there"), "{found:?}");
    let run = stuck.stop()?;
    let leak = run.of_kind("stuck").find(|event| event.text("severity") == "leak");
    ensure!(leak.is_none(), "{leak:?}");
    run.check_whole()
}

/// Workers of one service, so many of them, that use up their descriptors.
fn workers(netns: &Netns, count: usize, leak: bool) -> Result<Python> {
    let then = if leak { "keep.append(c)" } else { "c.close()" };
    let service = Python::start(
        netns,
        &format!(
            "s = listen(8088)
parent = os.getpid()
for _ in range({count}):
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90))
        mine = socket.socket()
        mine.bind(('127.0.0.1', 0))
        mine.listen(64)
        keep = []
        for _ in range(78):
            c = socket.create_connection(mine.getsockname())
            mine.accept()[0].close()
            {then}
            time.sleep(0.15)
        while os.getppid() == parent: time.sleep(0.1)
        os._exit(0)
time.sleep(600)
"
        ),
    )?;
    listening(netns)?;
    Ok(service)
}

#[test]
fn workers_that_run_out_of_descriptors_are_one_finding() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, &[])?;
    let _service = workers(&netns, 3, true)?;
    let found = finding(&mut stuck, "fds", |event| {
        event.0["pids"].as_array().is_some_and(|pids| pids.len() == 3)
    })?;
    check_verdict(&found, &["3 workers of python3 (", " file descriptor"])?;
    ensure!(found.0["pid"].is_null(), "{found:?}");
    stuck.stop()?.check_whole()
}

/// The twin: as many connections, and each is closed.
#[test]
fn workers_that_close_what_they_open_are_not() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let stuck = start(&netns, &[])?;
    let _service = workers(&netns, 3, false)?;
    sleep(Duration::from_secs(13));
    silent(stuck)
}
