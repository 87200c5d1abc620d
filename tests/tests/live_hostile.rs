//! A local user who means harm: names that would steer a terminal, and more sockets and namespaces
//! than anybody should have.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::netns::Netns;
use tests::pace::{is_slow, patience};
use tests::ready;
use tests::tcptrail::{Tcptrail, command, run};
use tests::traffic::listen;

/// Names itself, connects, and waits for a line before it closes.
const CLIENT: &str = r#"
import socket, sys
open("/proc/self/comm", "wb").write(bytes.fromhex(sys.argv[1]))
if len(sys.argv) > 3:
    open(sys.argv[3] + "/cgroup.procs", "w").write("0")
s = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
print("connected", flush=True)
sys.stdin.readline()
s.close()
"#;

/// Opens and closes sockets in namespaces of its own: some that no path leads to but a socket in them,
/// some that a process each is in.
const HOSTILE: &str = r#"
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
by_socket, by_process, each = map(int, sys.argv[1:4])
def unshare():
    if libc.unshare(0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as s:
        up = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")
        fcntl.ioctl(s, 0x8914, up)
def burst():
    l = socket.socket()
    l.bind(("127.0.0.1", 0))
    l.listen(16)
    for n in range(each):
        c = socket.create_connection(l.getsockname())
        a, _ = l.accept()
        # Every other leaves its TIME_WAIT at the other end.
        (c if n % 2 else a).close()
        (a if n % 2 else c).close()
    return l
kept, children = [], []
for n in range(by_process):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        unshare()
        burst().close()
        os.write(w, b"x")
        sys.stdin.readline()
        os._exit(0)
    os.read(r, 1)
    os.close(r); os.close(w)
    children.append(pid)
for n in range(by_socket):
    unshare()
    burst().close()
    kept.append(socket.socket())
print("done", flush=True)
sys.stdin.readline()
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"#;

/// A python program, ended when dropped.
struct Python(Child);

impl Python {
    fn start(netns: &Netns, program: &str, args: &[&str]) -> Result<Python> {
        let mut command = Command::new("python3");
        command.args(["-c", program]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Python(netns.spawn(&mut command)?))
    }

    /// Waits until it has said something.
    fn said(&mut self) -> Result<()> {
        let out = self.0.stdout.as_mut().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended without a word");
        Ok(())
    }

    fn go_on(&mut self) -> Result<()> {
        self.0.stdin.as_mut().context("a pipe")?.write_all(b"\n")?;
        Ok(())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.go_on();
        for _ in 0..200 {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing but what a terminal shows, and line ends.
fn check_harmless(what: &str, out: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(out).with_context(|| format!("{what}: no UTF-8"))?;
    let steers = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
    };
    if let Some(at) = text.find(steers) {
        let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
        anyhow::bail!("{what}: {:?}", text[from..].lines().next());
    }
    Ok(())
}

/// A cgroup of version 2, removed when dropped.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Below one another: names are limited, depth is not.
    fn new(names: &[Vec<u8>]) -> Option<Cgroup> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .map(PathBuf::from)
            .into_iter()
            .find(|root| root.join("cgroup.controllers").exists())?;
        let mut made = Cgroup(Vec::new());
        let mut path = root;
        for name in names {
            path.push(std::ffi::OsStr::from_bytes(name));
            fs::create_dir(&path).ok()?;
            made.0.push(path.clone());
        }
        Some(made)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            for _ in 0..100 {
                // Its process may not be quite gone.
                if fs::remove_dir(path).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn names_of_strangers_do_no_harm() -> Result<()> {
    // As many as a process may have, and as they come.
    const NAMES: [&[u8]; 5] = [
        b"\x1b[2J\x1b]0;x\x07",
        b"a\nb\r\tc\x08\x7f",
        b"\xff\xfe\xc3(\x9b31m",
        "a\u{202e}b\u{2066}c".as_bytes(),
        b"\"},{\\u0000",
    ];
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let id = std::process::id();
    let long = [format!("tt-{id}-\u{1b}[31m").into_bytes(), b"\xff\"\\\xe2\x80\xae".to_vec()]
        .into_iter()
        .chain((0..12).map(|_| vec![b'x'; 250]))
        .collect::<Vec<_>>();
    let cgroup = Cgroup::new(&long);
    if cgroup.is_none() {
        println!("skipped: the part with cgroups, which cannot be made here");
    }
    let cgroup = cgroup.as_ref().and_then(|cgroup| cgroup.0.last()?.to_str().map(str::to_owned));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("names.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let mut tail = Tcptrail::start(&["--netns", netns.name(), "--record", file])?;
    let text = Tcptrail::start_text(&["tail", "--netns", netns.name()])?;
    let life = Tcptrail::start_text(&["life", "--netns", netns.name()])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let mut clients = Vec::new();
    for name in NAMES {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut args = vec![hex.as_str(), port.as_str()];
        args.extend(cgroup.as_deref());
        let mut client = Python::start(&netns, CLIENT, &args)?;
        client.said()?;
        clients.push(client);
    }
    for args in [&["list"][..], &["list", "--json"]] {
        let list = run(&[args, &["--netns", netns.name()]].concat())?;
        list.check_whole()?;
        check_harmless(&args.join(" "), &list.raw)?;
        check_harmless("stderr", list.stderr.as_bytes())?;
        if args.len() > 1 {
            for name in NAMES {
                // 15 bytes are kept.
                let expected = String::from_utf8_lossy(&name[..name.len().min(15)]).into_owned();
                let found = list.events.iter().any(|event| event.text("comm") == expected);
                ensure!(found, "{expected:?} is not listed");
            }
        }
    }
    clients.clear();
    for _ in NAMES {
        tail.wait_for_next("an end", |event| event.is_step("SYN_SENT>ESTABLISHED"))?;
    }
    drop(listener);
    tail.wait_for("the end", |event| event.is_step("LISTEN>CLOSE"))?;
    let tail = tail.stop()?;
    tail.check_whole()?;
    let text = text.stop()?;
    let life = life.stop()?;
    for (what, run) in [("tail --json", &tail), ("tail", &text), ("life", &life)] {
        check_harmless(what, &run.raw)?;
        check_harmless("stderr", run.stderr.as_bytes())?;
    }
    // Every event is one line, each of them JSON.
    let lines = tail.raw.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    for line in lines {
        let _: Value = serde_json::from_slice(line)?;
    }
    ensure!(text.raw.contains(&b'\\'), "the names are not in the text");
    // The recording has them as they are, and shows them as harmlessly.
    for args in [&[][..], &["--json"], &["life"], &["list"]] {
        let replayed = run(&[&["replay", file], args].concat())?;
        check_harmless(&format!("replay {args:?}"), &replayed.raw)?;
        if args == ["--json"] {
            ensure!(replayed.raw == tail.raw, "the replay differs");
        }
    }
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("no VmRSS")?.split_whitespace().next().context("no figure")?;
    Ok(words.parse()?)
}

/// What one run of tcptrail told while the hostile user was at work.
#[derive(Debug)]
struct Told {
    transitions: u64,
    lost: u64,
    grown_kib: u64,
}

/// Lets a hostile user loose under the eyes of `tail` with these options.
fn under_attack(options: &[&str], by_socket: u32, by_process: u32, each: u32) -> Result<Told> {
    let netns = Netns::new()?;
    // Nothing of the tests beside: 127.0.0.1 is theirs too, but the ports of a burst are not known, so
    // only what is lost and the memory are compared with all there was.
    let mut command = command(&[&["tail", "--json"], options].concat());
    command.stderr(Stdio::null());
    let mut child = command.spawn()?;
    let pid = child.id();
    let transitions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&transitions);
    let out = child.stdout.take().context("a pipe")?;
    let (ready, started) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || -> Result<u64> {
        let mut lost = 0;
        let mut reader = BufReader::with_capacity(1 << 20, out);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? != 0 {
            // Cheaper than JSON, for as many as come here.
            let has = |word: &[u8]| line.windows(word.len()).any(|part| part == word);
            if has(b"\"event\":\"transition\"") {
                counted.fetch_add(1, Ordering::Relaxed);
            } else if has(b"\"event\":\"lost\"") {
                let event: Value = serde_json::from_slice(&line)?;
                lost += event["count"].as_u64().unwrap_or(0);
            } else if has(b"\"event\":\"start\"") {
                let _ = ready.send(());
            }
            line.clear();
        }
        Ok(lost)
    });
    let kill = |child: &mut Child| {
        let _ = child.kill();
        let _ = child.wait();
    };
    if started.recv_timeout(patience(Duration::from_secs(20))).is_err() {
        kill(&mut child);
        anyhow::bail!("it does not start");
    }
    let before = resident_kib(pid)?;
    let args = [by_socket, by_process, each].map(|number| number.to_string());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut hostile = Python::start(&netns, HOSTILE, &args)?;
    let watched = AtomicU64::new(before);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                watched.fetch_max(resident_kib(pid).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let said = hostile.said();
        // Walks over it all, and whatever is left in the ring.
        thread::sleep(Duration::from_secs(3));
        done.store(true, Ordering::Relaxed);
        said
    })?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let asked = Instant::now();
    let status = child.wait()?;
    ensure!(
        asked.elapsed() < patience(Duration::from_secs(5)),
        "it took {:?} to end",
        asked.elapsed()
    );
    ensure!(status.success(), "{status}");
    let lost = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(Told {
        transitions: transitions.load(Ordering::Relaxed),
        lost,
        grown_kib: watched.into_inner() - before,
    })
}

/// Ten transitions of each connection, and the listener's two.
fn transitions(namespaces: u32, each: u32) -> u64 {
    u64::from(namespaces) * (u64::from(each) * 10 + 2)
}

#[test]
fn thousands_of_namespaces_are_seen_within_bounds() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let (by_socket, by_process, each) = if is_slow() { (40, 10, 4) } else { (1_800, 200, 20) };
    let told = under_attack(&[], by_socket, by_process, each)?;
    let made = transitions(by_socket + by_process, each);
    println!("{told:?}, {made} made");
    ensure!(told.transitions + told.lost >= made, "{told:?} of {made}");
    // 40,000 mini-sockets stay in the table for a minute.
    ensure!(told.grown_kib < 64 << 10, "{told:?}");
    Ok(())
}

/// With little memory allowed it takes little, and says what it has not seen.
#[test]
fn a_flood_beyond_the_limits_is_counted() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let (by_socket, by_process, each) = if is_slow() { (12, 4, 30) } else { (150, 20, 100) };
    let most = if is_slow() { "20" } else { "1000" };
    let options = ["--max-connections", most, "--ring-size", "64KiB"];
    let told = under_attack(&options, by_socket, by_process, each)?;
    let made = transitions(by_socket + by_process, each);
    println!("{told:?}, {made} made");
    ensure!(told.lost > 0, "nothing lost with room for a sixth: {told:?}");
    ensure!(told.transitions + told.lost >= made, "{told:?} of {made}");
    ensure!(told.grown_kib < 16 << 10, "{told:?}");
    Ok(())
}

/// What is read of a pipe that nobody empties does not pile up.
#[test]
fn a_flood_to_a_reader_that_sleeps_takes_no_memory() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut child = command(&["tail", "--json"]).stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().context("a pipe")?;
    // It has begun when there is a byte; then nobody reads.
    out.read_exact(&mut [0; 1])?;
    let before = resident_kib(child.id())?;
    let each = if is_slow() { "10" } else { "200" };
    let mut hostile = Python::start(&netns, HOSTILE, &["50", "5", each])?;
    hostile.said()?;
    let after = resident_kib(child.id());
    let _ = child.kill();
    let _ = child.wait();
    let grown = after?.saturating_sub(before);
    println!("{grown} KiB more after 55 namespaces' transitions that nobody read");
    // The ring of 4 MiB, in which they wait, is counted too where its pages were touched.
    ensure!(grown < 40 << 10, "{grown} KiB");
    Ok(())
}
