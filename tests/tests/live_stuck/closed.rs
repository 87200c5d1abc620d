//! Sockets in CLOSE that were not given back, and descriptors that are no TCP connections.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Tcptrail, binary};
use tests::witness::{eventually, ss};

use crate::stage::{Python, check_verdict, finding, listening, silent, start};

/// A server that resets what it accepts, and a client in the same process that keeps (or closes) its ends.
fn resets(netns: &Netns, count: usize, pause: f32, closes: bool) -> Result<Python> {
    let then = if closes { "c.close()" } else { "keep.append(c)" };
    let script = format!(
        "import struct
s = listen(9000)
keep = []
print('ready', flush=True)
sys.stdin.readline() if False else None
for i in range({count}):
    c = socket.socket()
    c.connect(('127.0.0.1', 9000))
    a, _ = s.accept()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    a.close()
    {then}
    time.sleep({pause})
print('done', flush=True)
time.sleep(600)
"
    );
    Python::start(netns, &script)
}

#[test]
fn sockets_that_were_reset_and_kept_are_a_leak() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, &["--threshold", "CLOSED=2s"])?;
    let process = resets(&netns, 60, 0.25, false)?;
    let found = finding(&mut stuck, "closed", |event| event.text("severity") == "leak")?;
    let who = format!("python3[{}] has not closed ", process.pid());
    check_verdict(
        &found,
        &[&who, " sockets without a connection (reset by 127.0.0.1:9000), the oldest for "],
    )?;
    ensure!(found.text("remote") == "127.0.0.1:9000", "{found:?}");
    ensure!(found.text("advice").contains("close() is missing after the error"), "{found:?}");
    // The witness: descriptors of sockets that no walk over sockets shows.
    let told = found.number("count").context("no count")?;
    let listed = std::fs::read_dir(format!("/proc/{}/fd", process.pid()))?.count() as u64;
    ensure!(told < listed, "{told} told, {listed} descriptors in /proc");
    let shown =
        ss(&netns)?.iter().filter(|it| !it.users.is_empty() && it.state != "LISTEN").count();
    ensure!((shown as u64) < told, "ss shows {shown}");
    let run = stuck.stop()?;
    run.check_whole()?;
    // Nor did its first seconds look like a restart of the peer.
    let note = run.of_kind("stuck").find(|event| event.text("severity") == "note");
    ensure!(note.is_none(), "{note:?}");
    Ok(())
}

/// The twin: as many resets, and each socket is closed after the exception.
#[test]
fn sockets_that_were_reset_and_closed_are_not_told() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let stuck = start(&netns, &["--threshold", "CLOSED=2s"])?;
    let mut process = resets(&netns, 60, 0.2, true)?;
    while process.said(Duration::from_secs(60))?.as_deref() != Some("done") {}
    silent(stuck)
}

/// What a restart of the peer leaves in a pool is a note, and no reason for an exit code.
#[test]
fn a_pool_whose_peer_restarted_is_no_leak() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, &["--threshold", "CLOSED=2s"])?;
    let _process = resets(&netns, 10, 0.0, false)?;
    let found = finding(&mut stuck, "closed", |event| event.number("count") == Some(10))?;
    ensure!(found.text("severity") == "note", "{found:?}");
    check_verdict(
        &found,
        &["has not closed 10 sockets without a connection", "; all ended within a moment"],
    )?;
    let run = stuck.stop()?;
    run.check_whole()?;
    let worse = run.of_kind("stuck").find(|event| event.text("severity") != "note");
    ensure!(worse.is_none(), "{worse:?}");
    Ok(())
}

/// Half refused, half never connected: each is said, and the forecast does not call them no TCP sockets.
#[test]
fn refused_and_unused_sockets_are_named_and_counted() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = start(&netns, &["--threshold", "CLOSED=2s"])?;
    let process = Python::start(
        &netns,
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
keep = [listen(8089)]
while True:
    try:
        c = socket.socket()
        keep.append(c)
        if len(keep) % 2: c.connect(('127.0.0.1', 9))
    except OSError as error:
        if error.errno == 24: print('EMFILE', flush=True); time.sleep(600)
    time.sleep(0.15)
",
    )?;
    let found = finding(&mut stuck, "closed", |event| event.number("count") > Some(20))?;
    check_verdict(&found, &["refused by 127.0.0.1:9", "never connected"])?;
    let over = finding(&mut stuck, "fds", |event| {
        event.text("verdict").contains("no file descriptor left")
    })?;
    let who = format!("python3[{}] has no file descriptor left: ", process.pid());
    check_verdict(&over, &[&who, " of 100 in use, ", " closed and not given back)"])?;
    ensure!(!over.text("advice").contains("not TCP sockets"), "{over:?}");
    stuck.stop()?.check_whole()
}

/// `leaks` names them too, with the state they are in.
#[test]
fn leaks_counts_what_was_reset_and_kept() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let leaks = Tcptrail::start(&[
        "leaks",
        "--netns",
        netns.name(),
        "--older",
        "1s",
        "--duration",
        "12s",
        "--no-attach",
    ])?;
    let process = resets(&netns, 8, 0.1, false)?;
    let run = leaks.wait()?;
    let found = run
        .of_kind("leak")
        .find(|event| event.0["states"]["CLOSE"].as_u64().is_some())
        .with_context(|| format!("nothing in CLOSE: {:?}", run.events))?;
    ensure!(found.number("pid") == Some(process.pid().into()), "{found:?}");
    ensure!(found.0["states"]["CLOSE"] == 8, "{found:?}");
    ensure!(found.text("remote") == "127.0.0.1:9000", "{found:?}");
    ensure!(found.text("side") == "connect", "{found:?}");
    Ok(())
}

/// A process at its limit because of files: which, and where, and what grows.
#[test]
fn files_that_use_up_the_descriptors_are_named() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let below = dir.path().join("archive");
    std::fs::create_dir(&below)?;
    let mut stuck = start(&netns, &[])?;
    let process = Python::start(
        &netns,
        &format!(
            "resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
s = listen(8089)
keep = [os.pipe() for _ in range(4)]
n = 0
while True:
    try:
        keep.append(open('{}/f%d' % n, 'w'))
    except OSError:
        time.sleep(600)
    n += 1
    time.sleep(0.2)
",
            below.display()
        ),
    )?;
    listening(&netns)?;
    let over = finding(&mut stuck, "fds", |event| {
        let verdict = event.text("verdict");
        verdict.contains("no file descriptor left") && verdict.contains("archive")
    })?;
    let who = format!("python3[{}] has no file descriptor left: ", process.pid());
    // The pipes of stdin and stdout are two more ends.
    check_verdict(
        &over,
        &[
            &who,
            " of 120 in use, ",
            "; the rest ",
            " files (most of them in .../",
            "/archive), ",
            " pipe ends",
        ],
    )?;
    ensure!(over.text("advice").contains("Most are not TCP sockets"), "{over:?}");
    stuck.stop()?.check_whole()
}

/// The twin of the unused ones: a port reserved by bind, one socket kept for later.
#[test]
fn a_reserved_port_is_not_told() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let stuck = start(&netns, &["--threshold", "CLOSED=1s"])?;
    let mut process = Python::start(
        &netns,
        "keep = [socket.socket() for _ in range(4)]
for port, s in enumerate(keep[:3]): s.bind(('127.0.0.1', 7000 + port))
print('there', flush=True)
time.sleep(600)
",
    )?;
    ensure!(process.said(Duration::from_secs(20))?.as_deref() == Some("there"));
    // As long as a finding would have taken: a walk over descriptors each 10 s.
    std::thread::sleep(Duration::from_secs(14));
    silent(stuck)
}

/// Sockets of a namespace that only a process of another one has: without a name, without a process.
#[test]
fn a_namespace_without_a_process_is_found() -> Result<()> {
    if !ready(&["python3", "unshare"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    // It makes its socket in a namespace of its own, and goes back.
    let mut process = Python::start(
        &netns,
        "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
home = os.open('/proc/self/ns/net', os.O_RDONLY)
assert libc.unshare(0x40000000) == 0, ctypes.get_errno()
s = listen(8765)
print(os.stat('/proc/thread-self/ns/net').st_ino, flush=True)
assert libc.setns(home, 0x40000000) == 0, ctypes.get_errno()
os.close(home)
print('back', flush=True)
time.sleep(600)
",
    )?;
    let inode = process.said(Duration::from_secs(20))?.context("an inode")?;
    let inode: u64 = inode.parse()?;
    ensure!(process.said(Duration::from_secs(20))?.as_deref() == Some("back"));
    let pid = process.pid().to_string();
    let found = eventually("its listener", Duration::from_secs(20), || {
        let run = tests::tcptrail::run(&["list", "--pid", &pid, "--json"])?;
        Ok(run.of_kind("socket").find(|event| event.text("state") == "LISTEN").cloned())
    })?;
    ensure!(found.number("netns") == Some(inode), "{found:?}, not in {inode}");
    ensure!(found.text("local") == "0.0.0.0:8765", "{found:?}");
    ensure!(binary().exists());
    Ok(())
}

/// The twin: it has closed what it made there, and there is no such namespace any more.
#[test]
fn a_namespace_that_nobody_has_a_socket_of_is_not_shown() -> Result<()> {
    if !ready(&["python3", "unshare"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut process = Python::start(
        &netns,
        "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
home = os.open('/proc/self/ns/net', os.O_RDONLY)
assert libc.unshare(0x40000000) == 0, ctypes.get_errno()
s = listen(8766)
assert libc.setns(home, 0x40000000) == 0, ctypes.get_errno()
os.close(home)
s.close()
here = listen(8767)
print('back', flush=True)
time.sleep(600)
",
    )?;
    ensure!(process.said(Duration::from_secs(20))?.as_deref() == Some("back"));
    let pid = process.pid().to_string();
    let run = tests::tcptrail::run(&["list", "--pid", &pid, "--json"])?;
    let shown: Vec<&str> = run.of_kind("socket").map(|event| event.text("local")).collect();
    ensure!(shown == ["0.0.0.0:8767"], "{shown:?}");
    Ok(())
}

/// A process whose threads have the name of a JVM's collector, and which has ten connections: it closes them, or ends.
fn collector(netns: &Netns, closes: bool) -> Result<Python> {
    let end = if closes { "for c in held: c.close()\ntime.sleep(600)" } else { "os._exit(0)" };
    let script = format!(
        "s = listen(9000)
held = [socket.create_connection(('127.0.0.1', 9000)) for _ in range(10)]
for thread in os.listdir('/proc/self/task'): open(f'/proc/self/task/{{thread}}/comm', 'w').write('Common-Cleaner')
time.sleep(0.5)
{end}
"
    );
    Python::start(netns, &script)
}

/// The last thread of a process to end closes what is open. That is no collection, though a JVM's may be the last.
#[test]
fn what_a_process_leaves_open_at_its_end_was_not_collected() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let stuck = start(&netns, &[])?;
    let _process = collector(&netns, false)?;
    listening(&netns)?;
    eventually("the process's end", Duration::from_secs(20), || {
        Ok(ss(&netns)?.iter().all(|socket| socket.state != "LISTEN").then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(2));
    silent(stuck)?;
    // The twin: that thread closes them.
    let netns = Netns::new()?;
    let mut stuck = start(&netns, &[])?;
    let _process = collector(&netns, true)?;
    let found = finding(&mut stuck, "collected", |event| event.number("count") == Some(10))?;
    check_verdict(&found, &["forgets sockets to 127.0.0.1:9000: the garbage collector closed 10"])?;
    stuck.stop()?.check_whole()
}
