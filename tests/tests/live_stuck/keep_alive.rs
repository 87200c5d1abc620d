//! Pools that keep connections for longer than the server does, against pools that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::java::Program;
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::connect;
use tests::witness::eventually;

use crate::stage::{Python, check_silent, check_verdict, finding, listening, silent, start};
use tests::web::Daemon;

const PORT: u16 = 8401;
const THREADS: u64 = 12;
const KEEP_ALIVE: &str = "keepalive_timeout 2s;";
/// What the pool keeps for 5 s was closed 3 s before.
const PAUSE_MS: &str = "5000";

/// nginx with these settings.
pub(crate) fn nginx(netns: &Netns, port: u16, settings: &str) -> Result<(Daemon, TempDir)> {
    let dir = tempfile::tempdir()?;
    // Its workers are another user's.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let conf = dir.path().join("nginx.conf");
    fs::write(
        &conf,
        format!(
            "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
            events {{ worker_connections 512; }}
            http {{
                access_log off; {settings}
                client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
                uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
                server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }}
            }}",
            dir = dir.path().display()
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(conf).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    let daemon = Daemon(netns.spawn(&mut command)?);
    eventually("nginx", Duration::from_secs(10), || {
        Ok(connect(netns, ([127, 0, 0, 1], port).into()).ok())
    })?;
    Ok((daemon, dir))
}

fn pool(netns: &Netns, rounds: &str, what: &str) -> Result<Program> {
    let url = format!("http://127.0.0.1:{PORT}/");
    let args = [url.as_str(), &THREADS.to_string(), rounds, PAUSE_MS, what];
    Program::java(netns, &[], "Pool", &args)
}

/// Apache HttpClient 4.5 with nginx: after a pause it asks on connections that the server closed meanwhile. The
/// application counts its own errors.
#[test]
fn requests_on_connections_the_server_has_closed_are_named() -> Result<()> {
    if !tests::java::ready(&["nginx"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, PORT, KEEP_ALIVE)?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=1s"])?;
    let mut pool = pool(&netns, "2", "trust")?;
    let pid = u64::from(pool.pid());

    // Before the pool has used one again, what its sockets wait for is known.
    let held = finding(&mut stuck, "close_wait", |event| event.number("count") == Some(THREADS))?;
    ensure!(held.number("pid") == Some(pid), "{held:?}");
    let says = "has closed after 2.00s without data";
    check_verdict(
        &held,
        &[&format!("java[{pid}] keeps {THREADS} idle connections that "), says, "no leak"],
    )?;
    ensure!(held.text("severity") == "stuck", "{held:?}");
    ensure!(!held.text("advice").contains("has not called close()"), "{held:?}");

    pool.wait_for(&format!("failed {THREADS}"))?;
    let found = finding(&mut stuck, "stale_reuse", |event| {
        // Names may come a moment later.
        event.number("count") == Some(THREADS) && event.0["opener"].is_string()
    })?;
    check_verdict(
        &found,
        &[
            &format!(
                "java[{pid}] sends requests on connections that 127.0.0.1:{PORT} has closed already"
            ),
            &format!("{THREADS} were reset"),
            " after the FIN",
            &format!("127.0.0.1:{PORT} closes after 2.00s idle"),
            "opened by com.acme.Pool.ask",
        ],
    )?;
    ensure!(found.text("severity") == "stuck", "{found:?}");
    ensure!(found.text("remote") == format!("127.0.0.1:{PORT}"), "{found:?}");
    ensure!(found.text("opener").contains("com.acme.Pool.ask"), "{found:?}");
    let advice = found.text("advice");
    for words in ["sooner than 2.00s", "setValidateAfterInactivity"] {
        ensure!(advice.contains(words), "no {words:?} in {advice:?}");
    }
    stuck.stop()?.check_whole()
}

/// The twins: a pool that tests what was idle before it uses it, and one that drops it sooner than the server.
#[test]
fn pools_that_test_or_drop_idle_connections_are_not() -> Result<()> {
    if !tests::java::ready(&["nginx"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, PORT, KEEP_ALIVE)?;
    let stuck = start(&netns, &["--threshold", "CLOSE_WAIT=4s"])?;
    let mut pools = [pool(&netns, "3", "check")?, pool(&netns, "3", "evict")?];
    for pool in &mut pools {
        for _ in 0..3 {
            pool.wait_for("failed 0")?;
        }
    }
    let run = stuck.stop()?;
    run.check_whole()?;
    check_silent(&run)
}

/// What is told of the FIN: how long no data had gone over the connection.
#[test]
fn a_fin_says_how_long_the_connection_was_idle() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = Python::start(
        &netns,
        "s = listen(8089)
for pause in (1.5, 0):
    c, _ = s.accept()
    c.sendall(c.recv(100))
    time.sleep(pause)
    c.close()
time.sleep(600)",
    )?;
    listening(&netns)?;
    let mut tail = Tcptrail::start(&["tail", "--netns", netns.name()])?;
    let stream = connect(&netns, ([127, 0, 0, 1], 8089).into())?;
    std::io::Write::write_all(&mut &stream, b"?")?;
    let is = |event: &Event, role: &str, new: &str| {
        event.kind() == "transition" && event.text("role") == role && event.text("new") == new
    };
    for (role, new) in [("server", "FIN_WAIT1"), ("client", "CLOSE_WAIT")] {
        let found = tail.wait_for(new, |event| is(event, role, new))?;
        let idle = found.number("idle_ns").with_context(|| format!("{found:?}"))?;
        // Known to a jiffy, 10 ms at most.
        ensure!((1_480_000_000..1_700_000_000).contains(&idle), "{new}: {idle}");
    }
    // The twin: data goes over it up to the FIN.
    let second = connect(&netns, ([127, 0, 0, 1], 8089).into())?;
    std::io::Write::write_all(&mut &second, b"?")?;
    for (role, new) in [("server", "FIN_WAIT1"), ("client", "CLOSE_WAIT")] {
        let found = tail.wait_for_next(new, |event| is(event, role, new))?;
        let idle = found.number("idle_ns").with_context(|| format!("{found:?}"))?;
        ensure!(idle < 200_000_000, "{new}: {idle}");
    }
    tail.stop()?.check_whole()
}

/// Servers that close after each answer, and clients that are sent away while they send, or go away while
/// they are answered: no pool, no keep-alive, nothing to tell.
#[test]
fn connections_that_end_while_data_goes_over_them_are_not_stale() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let server = "
def serve(port, how):
    s = listen(port)
    while True:
        c, _ = s.accept()
        threading.Thread(target=how, args=(c,), daemon=True).start()
def refuse(c):
    c.recv(10); c.sendall(b'413'); c.shutdown(socket.SHUT_WR); time.sleep(.05); c.close()
def once(c):
    c.recv(100); c.sendall(b'200'); c.close()
def stream(c):
    try:
        c.recv(100)
        while True: c.sendall(b'x' * 4000); time.sleep(.01)
    except OSError: c.close()
for port, how in ((8101, refuse), (8102, once), (8103, stream)):
    threading.Thread(target=serve, args=(port, how), daemon=True).start()
time.sleep(600)";
    let _server = Python::start(&netns, server)?;
    listening(&netns)?;
    let stuck = start(&netns, &["--threshold", "IDLE_RESET=1s"])?;
    let mut client = Python::start(
        &netns,
        "
def to(port):
    c = socket.create_connection(('127.0.0.1', port)); c.sendall(b'?'); return c
time.sleep(.5)
for _ in range(6):
    up = to(8101)
    try:
        for _ in range(50): up.sendall(b'x' * 1000); time.sleep(.005)
    except OSError: pass
    up.close()
    c = to(8102)
    while c.recv(100): pass
    c.close()
    c = to(8103); c.recv(100); c.shutdown(socket.SHUT_WR); time.sleep(.05); c.close()
print('done', flush=True)
time.sleep(600)",
    )?;
    client.said(Duration::from_secs(20))?.context("it does not say that it is done")?;
    // As long as a finding would have taken.
    sleep(Duration::from_secs(2));
    silent(stuck)
}
