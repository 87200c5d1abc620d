//! Bad input and bad days: signals, readers that leave or stall, full disks, wrong arguments, no
//! privileges. Each gets its exit code and a sentence, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::netns::Netns;
use tests::pace::patience;
use tests::ready;
use tests::tcptrail::{Run, Tcptrail, binary, command, run};
use tests::traffic::churn;
use tests::witness::eventually;

/// One sentence on stderr that names `words`, and this exit code.
fn check_refused(run: &Run, code: i32, words: &[&str]) -> Result<()> {
    ensure!(run.code() == Some(code), "exit {:?}, not {code}: {}", run.status, run.stderr);
    ensure!(run.raw.is_empty(), "stdout: {}", String::from_utf8_lossy(&run.raw));
    for word in words {
        ensure!(run.stderr.contains(word), "no `{word}` in: {}", run.stderr);
    }
    ensure!(!run.stderr.contains("panicked"), "{}", run.stderr);
    Ok(())
}

#[test]
fn signals_end_it_cleanly() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        for verb in [&["tail"][..], &["life"], &["list", "--watch=100ms"], &[]] {
            let tcptrail = Tcptrail::start(&[verb, &["--netns", netns.name()]].concat())?;
            let began = Instant::now();
            tcptrail.signal(signal)?;
            let run = tcptrail.wait()?;
            run.check_good_end().with_context(|| format!("{signal:?} {verb:?}"))?;
            let took = began.elapsed();
            ensure!(took < Duration::from_secs(2), "{signal:?} {verb:?}: it took {took:?}");
            ensure!(run.of_kind("end").count() == 1, "{signal:?} {verb:?}: no end line");
        }
    }
    Ok(())
}

#[test]
fn duration_ends_it() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let began = Instant::now();
    run(&["--duration", "400ms", "--json"])?.check_good_end()?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_millis(400) && took < patience(patience(Duration::from_secs(5))),
        "it took {took:?}"
    );
    Ok(())
}

/// tcptrail whose stdout the test reads or not, as it likes.
struct Raw {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Raw {
    /// Starts, and reads the first line.
    fn start(args: &[&str]) -> Result<Raw> {
        let mut child = command(args).spawn()?;
        let mut stdout = BufReader::with_capacity(512, child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line.contains("\"start\""), "no start line: {line}");
        Ok(Raw { child, stdout: Some(stdout) })
    }

    fn interrupt(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::INT)?)
    }

    /// Waits for its end: exit code and stderr.
    fn wait(&mut self) -> Result<(Option<i32>, String)> {
        let status =
            eventually("tcptrail's end", Duration::from_secs(15), || Ok(self.child.try_wait()?))?;
        let mut text = String::new();
        self.child.stderr.take().context("a pipe")?.read_to_string(&mut text)?;
        Ok((status.code(), text))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Most have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    for verb in ["tail", "life"] {
        let mut raw = Raw::start(&[verb, "--json", "--netns", netns.name()])?;
        raw.stdout = None;
        churn(&netns, 20)?;
        let (code, stderr) = raw.wait()?;
        ensure!(code == Some(0), "{verb}: exit {code:?}: {stderr}");
        ensure!(stderr.is_empty(), "{verb}: {stderr}");
    }
    Ok(())
}

#[test]
fn a_reader_that_stalls_does_not_keep_it() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut raw = Raw::start(&["--json", "--netns", netns.name()])?;
    churn(&netns, 1000)?;
    let began = Instant::now();
    raw.interrupt()?;
    let (code, stderr) = raw.wait()?;
    let took = began.elapsed();
    ensure!(code == Some(1), "exit {code:?}: {stderr}");
    ensure!(took < Duration::from_secs(3), "it took {took:?}");
    ensure!(stderr.contains("has stopped reading"), "{stderr}");
    Ok(())
}

#[test]
fn a_reader_that_is_late_gets_everything() -> Result<()> {
    const CONNECTIONS: usize = 1000;
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut raw = Raw::start(&["--json", "--netns", netns.name()])?;
    churn(&netns, CONNECTIONS)?;
    raw.interrupt()?;
    // Less than the time after which a reader is given up.
    thread::sleep(Duration::from_millis(500));
    let mut text = String::new();
    raw.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
    let (code, stderr) = raw.wait()?;
    let transitions = text.lines().filter(|line| line.contains("\"event\":\"transition\"")).count();
    let expected = CONNECTIONS * 10 + 2;
    ensure!(
        transitions == expected,
        "{transitions} of {expected} transitions; exit {code:?}; {stderr}"
    );
    ensure!(code == Some(0), "exit {code:?}: {stderr}");
    Ok(())
}

/// A file system that is soon full; unmounted when dropped.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount() -> Result<Small> {
        let dir = tempfile::tempdir()?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96k", "tcptrail-test"])
            .arg(dir.path())
            .status()?;
        ensure!(status.success(), "mount: {status}");
        Ok(Small { dir })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A mount that stays keeps its directory, nothing more.
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_the_rest_replays() -> Result<()> {
    if !ready(&["mount", "umount"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    for view in [&["record"][..], &["tail", "--json", "--record"]] {
        let small = Small::mount()?;
        let path = small.dir.path().join("full.trail");
        let file = path.to_str().context("a path")?;
        let mut tcptrail =
            Tcptrail::spawn(command(&[view, &[file, "--netns", netns.name()]].concat()))?;
        if view.len() > 1 {
            tcptrail.wait_for("start", |event| event.kind() == "start")?;
        } else {
            eventually("the recording", Duration::from_secs(10), || {
                Ok(path.metadata().is_ok_and(|meta| meta.len() != 0).then_some(()))
            })?;
        }
        churn(&netns, 4000)?;
        // `record` has nothing left to do and ends by itself; `tail` goes on.
        let run = if view.len() > 1 {
            tcptrail.wait_for("the listener's end", |event| event.is_step("LISTEN>CLOSE"))?;
            tcptrail.stop()?
        } else {
            tcptrail.wait()?
        };
        ensure!(run.code() == Some(1), "{view:?}: exit {:?}: {}", run.status, run.stderr);
        for word in [file, "No space left"] {
            ensure!(run.stderr.contains(word), "{view:?}: no `{word}` in: {}", run.stderr);
        }
        if view.len() > 1 {
            let mut steps: BTreeMap<String, usize> = BTreeMap::new();
            for event in run.of_kind("transition") {
                *steps.entry(event.step()).or_default() += 1;
            }
            let told: usize = steps.values().sum();
            ensure!(told == 40_002, "{told} transitions shown while the disk was full: {steps:?}");
        }
        let replayed = tests::tcptrail::run(&["replay", file, "--json"])?;
        ensure!(
            matches!(replayed.code(), Some(0 | 1)),
            "{view:?}: {:?}: {}",
            replayed.status,
            replayed.stderr
        );
        ensure!(replayed.of_kind("start").count() == 1, "{view:?}: {}", replayed.stderr);
        ensure!(replayed.of_kind("transition").count() > 50, "{view:?}: {}", replayed.stderr);
        let lines = replayed.raw.iter().filter(|&&byte| byte == b'\n').count();
        ensure!(lines == replayed.events.len(), "{view:?}: lines that are no JSON");
    }
    Ok(())
}

#[test]
fn files_that_cannot_be_written() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious")?;
    let link = dir.path().join("link");
    symlink(&victim, &link)?;
    let hard = dir.path().join("hard");
    fs::write(dir.path().join("first"), "precious")?;
    fs::hard_link(dir.path().join("first"), &hard)?;
    let missing = dir.path().join("no/such/dir");
    let full = PathBuf::from("/dev/full");
    for path in [dir.path(), &missing, &link, &hard, &full] {
        let file = path.to_str().context("a path")?;
        for args in [&["record", file][..], &["--json", "--record", file]] {
            let run = run(&[args, &["--duration", "2s"]].concat())?;
            check_refused(&run, 1, &["tcptrail: ", file]).with_context(|| args.join(" "))?;
        }
    }
    ensure!(fs::read(&victim)? == b"precious" && fs::read(&hard)? == b"precious", "overwritten");
    Ok(())
}

#[test]
fn wrong_usage_is_explained() -> Result<()> {
    // This needs no root.
    for (args, word) in [
        (&["--port", "70000"][..], "70000"),
        (&["--port", "0"], "--port"),
        (&["--lport", "9-5"], "9-5"),
        (&["--rport", "http"], "http"),
        (&["--addr", "10.0.0.0/33"], "/33"),
        (&["--addr", "fe80::/129"], "/129"),
        (&["--addr", "localhost"], "localhost"),
        (&["--state", "FOO"], "FOO"),
        (&["--ring-size", "3"], "--ring-size"),
        (&["--ring-size", "3MiB"], "3MiB"),
        (&["--netns", "no-such-namespace"], "no-such-namespace"),
        (&["--cgroup", "no/such/cgroup"], "no/such/cgroup"),
        (&["--role", "king"], "king"),
        (&["--min-duration", "soon"], "soon"),
        (&["--duration=-1s"], "-1s"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["-4", "-6"], "--ipv6"),
        (&["--pid", "x"], "x"),
        (&["record"], "FILE"),
        (&["record", "a", "--record", "b"], "--record"),
        (&["replay"], "FILE"),
        (&["replay", "f", "stuff"], "stuff"),
        (&["frobnicate"], "frobnicate"),
        (&["--frobnicate"], "--frobnicate"),
    ] {
        check_refused(&run(args)?, 2, &[word]).with_context(|| args.join(" "))?;
    }
    for (args, word) in [
        (&["replay", "/no/such/file"][..], "/no/such/file"),
        (&["replay", "/"], "/"),
        (&["replay", "/dev/null"], "/dev/null"),
        (&["replay", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")], "Cargo.toml"),
    ] {
        check_refused(&run(args)?, 1, &["tcptrail: ", word]).with_context(|| args.join(" "))?;
    }
    for args in [&["--help"][..], &["--version"], &["life", "--help"]] {
        let run = run(args)?;
        ensure!(run.code() == Some(0) && run.stderr.is_empty() && !run.raw.is_empty(), "{run:?}");
    }
    Ok(())
}

#[test]
fn without_privileges_it_says_the_remedy_and_replays() -> Result<()> {
    if !ready(&["setpriv"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let copy = dir.path().join("tcptrail");
    fs::copy(binary(), &copy)?;
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
    let file = dir.path().join("some.trail");
    let file = file.to_str().context("a path")?;
    let tail = Tcptrail::start(&["--record", file, "--netns", netns.name()])?;
    churn(&netns, 20)?;
    let tail = tail.stop()?;
    fs::set_permissions(file, PermissionsExt::from_mode(0o644))?;

    let nobody = |args: &[&str]| -> Result<Run> {
        let mut setpriv = Command::new("setpriv");
        setpriv
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
            .arg(&copy)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Tcptrail::spawn(setpriv)?.wait()
    };
    for args in [&["--json"][..], &["life"], &["list"], &["record", "/tmp/never"]] {
        check_refused(&nobody(args)?, 1, &["root", "CAP_BPF", "sudo"])
            .with_context(|| args.join(" "))?;
    }
    let doctor = nobody(&["doctor"])?;
    ensure!(doctor.code() == Some(1), "doctor: {:?}", doctor.status);
    ensure!(String::from_utf8_lossy(&doctor.raw).contains("CAP_BPF"), "{doctor:?}");
    let inode = netns.inode().to_string();
    let replayed = nobody(&["replay", file, "--json", "--netns", &inode])?;
    replayed.check_whole()?;
    ensure!(replayed.raw == tail.raw, "the replay differs");
    Ok(())
}

#[test]
fn doctor_finds_everything_well() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let text = run(&["doctor"])?;
    ensure!(text.code() == Some(0), "{:?} {}", text.status, String::from_utf8_lossy(&text.raw));
    let json = run(&["doctor", "--json"])?;
    ensure!(json.code() == Some(0), "{:?}", json.status);
    let lines = json.raw.iter().filter(|&&byte| byte == b'\n').count();
    ensure!(lines != 0 && lines == json.events.len(), "lines that are no JSON");
    for check in &json.events {
        ensure!(check.number("schema") == Some(1), "{check:?}");
        let required = check.truth("required").context("required")?;
        ensure!(!required || check.truth("ok") == Some(true), "{check:?}");
    }
    let tracepoint =
        json.events.iter().any(|check| check.text("name") == "tp_btf/inet_sock_set_state");
    ensure!(tracepoint, "nothing about inet_sock_set_state");
    Ok(())
}

/// Numbers of the programs that a process holds, from its descriptors.
fn programs_of(pid: u32) -> Result<BTreeSet<u64>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        all.extend(ids.filter_map(|id| id.trim().parse::<u64>().ok()));
    }
    Ok(all)
}

/// Numbers of the programs in the kernel.
fn programs_loaded() -> Result<BTreeSet<u64>> {
    let output = Command::new("bpftool").args(["prog", "show", "-j"]).output()?;
    let all: Value = serde_json::from_slice(&output.stdout).context("bpftool's JSON")?;
    let all = all.as_array().context("a list")?;
    Ok(all.iter().filter_map(|program| program["id"].as_u64()).collect())
}

#[test]
fn nothing_is_left_in_the_kernel() -> Result<()> {
    if !ready(&["bpftool"]) {
        return Ok(());
    }
    // Other tests' programs come and go meanwhile: these are known by their numbers.
    for signal in [Signal::KILL, Signal::INT] {
        let netns = Netns::new()?;
        let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
        let ours = programs_of(tcptrail.pid())?;
        ensure!(ours.len() >= 3, "{} programs", ours.len());
        ensure!(ours.is_subset(&programs_loaded()?), "bpftool does not know {ours:?}");
        tcptrail.signal(signal)?;
        tcptrail.wait()?;
        eventually("the programs' end", Duration::from_secs(10), || {
            Ok(ours.is_disjoint(&programs_loaded()?).then_some(()))
        })
        .with_context(|| format!("{signal:?}"))?;
    }
    Ok(())
}

#[test]
fn a_recording_cut_anywhere_replays_what_is_whole() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let whole = dir.path().join("whole.trail");
    let tail =
        Tcptrail::start(&["--record", whole.to_str().context("a path")?, "--netns", netns.name()])?;
    churn(&netns, 300)?;
    let tail = tail.stop()?;
    tail.check_whole()?;
    let bytes = fs::read(&whole)?;
    for part in [1, 7, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        check_cut(&dir.path().join("cut.trail"), &bytes[..part], &tail.raw, netns.name())
            .with_context(|| format!("{part} of {} bytes", bytes.len()))?;
    }
    Ok(())
}

fn check_cut(path: &Path, bytes: &[u8], live: &[u8], netns: &str) -> Result<()> {
    File::create(path)?;
    fs::write(path, bytes)?;
    let file = path.to_str().context("a path")?;
    let run = run(&["replay", file, "--json", "--netns", netns])?;
    ensure!(run.code() == Some(1), "exit {:?}: {}", run.status, run.stderr);
    ensure!(run.stderr.contains(file) && !run.stderr.contains("panicked"), "{}", run.stderr);
    ensure!(live.starts_with(&run.raw), "what it shows is not what live showed");
    Ok(())
}
