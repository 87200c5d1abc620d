//! CLOSE_WAIT: a server that never closes, against one that does.

use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::run;
use tests::traffic::connect;
use tests::witness::{has_cookies, ss};

use crate::stage::{Python, check_verdict, cleared, finding, listening, silent, start};

const THRESHOLD: &[&str] = &["--threshold", "CLOSE_WAIT=2s"];

/// A server that keeps what it accepts, or closes it after `lasts`.
fn server(netns: &Netns, lasts: Option<f32>) -> Result<Python> {
    let close = match lasts {
        None => "keep.append(c)".to_owned(),
        Some(seconds) => format!("threading.Timer({seconds}, c.close).start()"),
    };
    let server = Python::start(
        netns,
        &format!(
            "s = listen(8089)\nkeep = []\nwhile True:\n    c, _ = s.accept()\n    while c.recv(100): pass\n    {close}\n"
        ),
    )?;
    listening(netns)?;
    Ok(server)
}

/// Connections whose client closes at once, `every` so often.
fn clients(netns: &Netns, count: usize, every: Duration) -> Result<()> {
    for _ in 0..count {
        drop(connect(netns, ([127, 0, 0, 1], 8089).into())?);
        // The load's pace.
        sleep(every);
    }
    Ok(())
}

#[test]
fn a_server_that_never_closes_leaks() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let server = server(&netns, None)?;
    let pid = server.pid();
    let mut stuck = start(&netns, THRESHOLD)?;
    let who = format!("python3[{pid}] leaks CLOSE_WAIT on :8089: ");
    let once = ["stuck", "--netns", netns.name(), "--once"];
    let once = [&once[..], THRESHOLD].concat();
    let netns = &netns;
    thread::scope(|scope| {
        let load = scope.spawn(move || clients(netns, 24, Duration::from_millis(500)));
        let leak = finding(&mut stuck, "close_wait", |event| event.text("severity") == "leak")?;
        check_verdict(&leak, &[&who, "none closed", "-fd limit reached in about "])?;
        ensure!(leak.number("pid") == Some(u64::from(pid)), "{leak:?}");
        ensure!(leak.number("local_port") == Some(8089), "{leak:?}");
        let growth = leak.0["growth_per_min"].as_f64().unwrap_or(0.0);
        ensure!((growth - 120.0).abs() < 60.0, "{growth} a minute, not 120");
        // Its sockets are those that ss shows.
        let sockets = ss(netns)?;
        let cookies: Vec<u64> =
            sockets.iter().filter(|s| s.state == "CLOSE_WAIT").map(|s| s.cookie).collect();
        let told = leak.0["sockets"].as_array().filter(|_| has_cookies());
        for conn in told.into_iter().flatten() {
            let cookie: u64 = conn["conn"].as_str().unwrap_or_default().parse()?;
            ensure!(cookies.contains(&cookie), "{conn} is not in {cookies:?}");
        }
        // One that comes later knows at once, for a cron job: no warm-up.
        let run = run(&once)?;
        let text = String::from_utf8_lossy(&run.raw).into_owned();
        ensure!(run.code() == Some(3), "exit {:?}: {text}", run.status);
        ensure!(text.contains(&who), "{text}");
        load.join().map_err(|_| anyhow::anyhow!("panic"))?
    })?;
    // No more come: they are still there, and no leak any more.
    sleep(Duration::from_secs(4));
    let run_once = run(&once)?;
    let text = String::from_utf8_lossy(&run_once.raw).into_owned();
    ensure!(run_once.code() == Some(3), "exit {:?}: {text}", run_once.status);
    let holds = format!("python3[{pid}] holds CLOSE_WAIT on :8089: 24 sockets");
    ensure!(text.contains(&holds), "{text}");

    // It ends, and so do they.
    server.end()?;
    cleared(&mut stuck, "close_wait")?;
    let run_once = run(&once)?;
    ensure!(run_once.code() == Some(0), "{}", String::from_utf8_lossy(&run_once.raw));
    stuck.stop()?.check_whole()
}

/// The same, each closed a second after its client: CLOSE_WAIT is there all the time, and nobody is
/// accused.
#[test]
fn a_server_that_closes_late_but_closes_is_not_accused() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = server(&netns, Some(1.0))?;
    let stuck = start(&netns, THRESHOLD)?;
    clients(&netns, 80, Duration::from_millis(100))?;
    silent(stuck)
}

/// A child that was forked while connections were open has them too. Its parent closes them as it
/// should; without the child nobody would hold them.
fn forks(child_closes: bool) -> Result<(Netns, Python)> {
    let netns = Netns::new()?;
    let close = if child_closes { "[c.close() for c in got]" } else { "pass" };
    let script = format!(
        "s = listen(8089)
got = [s.accept()[0] for _ in range(3)]
time.sleep(0.2)
child = os.fork()
if child == 0:
    s.close()
    {close}
    time.sleep(600)
print(child, flush=True)
for c in got:
    while c.recv(100): pass
    c.close()
del got
import atexit, signal
threading.Thread(target=lambda: (sys.stdin.read(), os.kill(child, 9)), daemon=True).start()
time.sleep(600)
"
    );
    let server = Python::start(&netns, &script)?;
    listening(&netns)?;
    Ok((netns, server))
}

#[test]
fn a_forked_child_that_holds_them_is_named() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let (netns, mut server) = forks(false)?;
    let mut stuck = start(&netns, THRESHOLD)?;
    let to = ([127, 0, 0, 1], 8089).into();
    let clients = (0..3).map(|_| connect(&netns, to)).collect::<Result<Vec<_>>>()?;
    let child = server.said(Duration::from_secs(10))?.context("no child")?;
    drop(clients);
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("pid") != Some(u64::from(server.pid()))
    })?;
    let says = format!(
        "python3[{child}] keeps CLOSE_WAIT on :8089 open, inherited from python3[{}]: 3 sockets",
        server.pid()
    );
    check_verdict(&found, &[&says])?;
    ensure!(found.text("advice").contains("SOCK_CLOEXEC"), "{found:?}");
    let holders: Vec<u32> = ss(&netns)?
        .iter()
        .filter(|socket| socket.state == "CLOSE_WAIT")
        .flat_map(|socket| socket.users.iter().map(|&(pid, _)| pid))
        .collect();
    ensure!(holders == [child.parse::<u32>()?; 3], "{holders:?}");
    kill(&child)?;
    cleared(&mut stuck, "close_wait")?;
    stuck.stop()?.check_whole()
}

/// The twin: the child closes what it does not need.
#[test]
fn a_forked_child_that_closes_them_is_not() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let (netns, mut server) = forks(true)?;
    let stuck = start(&netns, THRESHOLD)?;
    let to = ([127, 0, 0, 1], 8089).into();
    let clients = (0..3).map(|_| connect(&netns, to)).collect::<Result<Vec<_>>>()?;
    let child = server.said(Duration::from_secs(10))?.context("no child")?;
    drop(clients);
    // As long as a finding would have taken.
    sleep(Duration::from_secs(6));
    silent(stuck)?;
    kill(&child)
}

fn kill(pid: &str) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(pid.parse()?).context("a pid")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}
