//! Sockets that more than one process has to do with: handed over, made by an activator, of workers with a listener
//! each, in a container. The one that holds them is named, and nobody else.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::connect;
use tests::witness::{eventually, ss};

use crate::stage::{Python, check_verdict, finding, listening, start};

const THRESHOLD: &[&str] = &["--threshold", "CLOSE_WAIT=2s"];

/// Clients that come and go.
fn come_and_go(netns: &Netns, count: usize) -> Result<()> {
    let to = ([127, 0, 0, 1], 8089).into();
    let clients = (0..count).map(|_| connect(netns, to)).collect::<Result<Vec<TcpStream>>>()?;
    drop(clients);
    Ok(())
}

/// Who holds what is in CLOSE_WAIT, says `ss`.
fn holders(netns: &Netns, sockets: usize) -> Result<Vec<u32>> {
    eventually("a holder of each socket", Duration::from_secs(15), || {
        let all = ss(netns)?;
        let held: Vec<_> =
            all.iter().filter(|s| s.state == "CLOSE_WAIT" && !s.users.is_empty()).collect();
        let mut pids: Vec<u32> =
            held.iter().flat_map(|s| s.users.iter().map(|&(pid, _)| pid)).collect();
        pids.sort_unstable();
        pids.dedup();
        Ok((held.len() == sockets).then_some(pids))
    })
}

/// A dispatcher accepts, hands each connection to a worker by SCM_RIGHTS, and closes its own descriptor: the worker is
/// to be named.
#[test]
fn sockets_that_were_handed_over_are_who_has_them() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut dispatcher = Python::start(
        &netns,
        "import signal
here, there = socket.socketpair(socket.AF_UNIX)
dispatcher = os.getpid()
if os.fork() == 0:
    here.close()
    keep = []
    while os.getppid() == dispatcher:
        there.settimeout(0.2)
        try:
            keep += socket.recv_fds(there, 1, 1)[1]
        except TimeoutError:
            pass
    os._exit(0)
there.close()
s = listen(8089)
print('ready', flush=True)
while True:
    c, _ = s.accept()
    socket.send_fds(here, [b'x'], [c.fileno()])
    c.close()
",
    )?;
    ensure!(dispatcher.said(Duration::from_secs(20))?.as_deref() == Some("ready"));
    let mut stuck = start(&netns, THRESHOLD)?;
    come_and_go(&netns, 4)?;
    let held = holders(&netns, 4)?;
    let [worker] = held[..] else { anyhow::bail!("{held:?} hold them") };
    ensure!(worker != dispatcher.pid(), "they were not handed over");
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("count") == Some(4) && event.number("pid") == Some(u64::from(worker))
    })?;
    check_verdict(&found, &[&format!("python3[{worker}] holds CLOSE_WAIT on :8089: 4 sockets")])?;
    ensure!(!found.text("verdict").contains("inherited"), "{found:?}");
    drop(dispatcher);
    stuck.stop()?.check_whole()
}

/// systemd makes the listener, and starts the service when the first client has connected already: the service accepts
/// it, and has inherited nothing but the listener.
#[test]
fn a_service_that_was_started_by_its_first_client_is_named() -> Result<()> {
    if !ready(&["ss", "python3", "systemd-socket-activate"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, THRESHOLD)?;
    let service = Python::start_by(
        &netns,
        &["systemd-socket-activate", "-l", "127.0.0.1:8089"],
        "s = socket.socket(fileno=3)
keep = []
while True:
    c, _ = s.accept()
    keep.append(c)
",
    )?;
    listening(&netns)?;
    come_and_go(&netns, 3)?;
    let held = holders(&netns, 3)?;
    let [pid] = held[..] else { anyhow::bail!("{held:?} hold them") };
    // The name is the service's as soon as it was looked at in /proc.
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("count") == Some(3) && event.text("comm") == "python3"
    })?;
    check_verdict(&found, &[&format!("python3[{pid}] holds CLOSE_WAIT on :8089: 3 sockets")])?;
    let run = stuck.stop()?;
    let inherited = run.of_kind("stuck").find(|event| event.text("verdict").contains("inherited"));
    ensure!(inherited.is_none(), "{inherited:?}");
    drop(service);
    run.check_whole()
}

/// Four workers with a listener each on one port (SO_REUSEPORT) leak: one cause, one finding.
#[test]
fn workers_with_a_listener_each_are_one_finding() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    const CLIENTS: usize = 40;
    let netns = Netns::new()?;
    let mut service = Python::start(
        &netns,
        "parent = os.getpid()
for _ in range(4):
    if os.fork() == 0:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(('127.0.0.1', 8089))
        s.listen(64)
        s.settimeout(0.2)
        os.write(1, b'ready\\n')
        keep = []
        while os.getppid() == parent:
            try: keep.append(s.accept()[0])
            except TimeoutError: pass
        os._exit(0)
time.sleep(600)
",
    )?;
    for _ in 0..4 {
        ensure!(service.said(Duration::from_secs(20))?.as_deref() == Some("ready"));
    }
    let mut stuck = start(&netns, THRESHOLD)?;
    come_and_go(&netns, CLIENTS)?;
    let pids = holders(&netns, CLIENTS)?;
    ensure!(pids.len() == 4, "{pids:?}");
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("count") == Some(CLIENTS as u64) && event.0["pids"] == serde_json::json!(pids)
    })?;
    let says = format!(
        "4 workers of python3 ([{}], [{}], [{}], ...) hold CLOSE_WAIT on :8089: 40 sockets",
        pids[0], pids[1], pids[2]
    );
    check_verdict(&found, &[&says])?;
    drop(service);
    stuck.stop()?.check_whole()
}

/// Namespaces of its own for users, processes, mounts and the network, as a container has: the process is named by its
/// id outside.
#[test]
fn a_leak_in_a_container_is_named_from_outside() -> Result<()> {
    if !ready(&["python3", "unshare"]) {
        return Ok(());
    }
    let outside = Netns::new()?;
    let mut inside = Python::start_by(
        &outside,
        &[
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--net",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ],
        "import subprocess
subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
s = listen(8089)
keep = []
print(os.getpid(), flush=True)
while len(keep) < 60:
    c = socket.create_connection(('127.0.0.1', 8089))
    keep.append(s.accept()[0])
    c.close()
    time.sleep(0.25)
time.sleep(600)
",
    )?;
    let own = inside.said(Duration::from_secs(20))?.context("its id")?;
    ensure!(own == "1", "it is {own} to itself");
    let children = format!("/proc/{0}/task/{0}/children", inside.pid());
    let children = fs::read_to_string(children)?;
    let pid: u32 = children.split_whitespace().next().context("no child")?.parse()?;
    let netns = fs::metadata(format!("/proc/{pid}/ns/net"))?.ino().to_string();
    let mut stuck = Tcptrail::start(&[&["stuck", "--netns", &netns], THRESHOLD].concat())?;
    let found = finding(&mut stuck, "close_wait", |event| event.text("severity") == "leak")?;
    check_verdict(&found, &[&format!("python3[{pid}] leaks CLOSE_WAIT on :8089: ")])?;
    ensure!(found.text("advice").contains(&format!("in /proc/{pid}/fd")), "{found:?}");
    stuck.stop()?.check_whole()
}
