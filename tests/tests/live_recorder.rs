//! The flight recorder of `serve`: an incident replayed as it was live, `kill -9`, and a disk that fills. Witnesses: what
//! `/findings` said live, and the test's own clock.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::disk::{Disk, Stopped};
use tests::netns::Netns;
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Tcptrail, command, run, shown};
use tests::traffic::{Both, churn, listen};
use tests::witness::{eventually, now_ns};

const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;
const LEAKED: u64 = 6;

fn ask(home: &Netns, path: &str) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", &format!("http://127.0.0.1:9435{path}")]);
    let output = home.output(command)?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// In `home`, about `netns`, records into `dir`, a segment every two seconds.
fn serve(home: &Netns, netns: &Netns, dir: &Path) -> Result<Tcptrail> {
    let dir = dir.to_str().context("UTF-8")?;
    let mut command = command(&["serve", "--netns", netns.name(), "--json", "--no-openers"]);
    command.args(["--threshold", "CLOSE_WAIT=1s", "--recorder", dir, "--keep", "96s"]);
    let tcptrail = home.run(|| Tcptrail::spawn(command))?;
    eventually("an answer", PATIENCE, || {
        // Until it listens curl fails.
        Ok(ask(home, "/readyz").ok().filter(|told| told == "ready\n"))
    })?;
    Ok(tcptrail)
}

fn segments(dir: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    let mut names: Vec<_> = names.into_iter().filter(|name| name.ends_with(".tcpt")).collect();
    names.sort();
    Ok(names)
}

/// What is the same live and replayed: not how long ago.
fn figures(finding: &Value) -> Vec<String> {
    let names = [
        "id",
        "severity",
        "rule",
        "code",
        "state",
        "count",
        "in_state",
        "netns",
        "pid",
        "comm",
        "local_port",
        "remote",
        "conns",
        "closed_share",
        "late_closed_share",
        "opened_before",
    ];
    names.iter().map(|name| format!("{name}: {}", finding[name])).collect()
}

fn replay(dir: &Path, words: &[&str]) -> Result<tests::tcptrail::Run> {
    let dir = dir.to_str().context("UTF-8")?;
    run(&[&["replay", dir, "--json"], words].concat())
}

/// Connections of which one end is not closed, when their clients did.
fn leak(netns: &Netns, listener: &std::net::TcpListener) -> Result<Vec<Both>> {
    let to = listener.local_addr()?;
    (0..LEAKED)
        .map(|_| {
            let both = Both::new(netns, listener, to)?;
            both.client.shutdown(std::net::Shutdown::Both)?;
            thread::sleep(Duration::from_millis(700));
            Ok(both)
        })
        .collect()
}

/// The finding about all of them, as `serve` has it now.
fn found(home: &Netns) -> Result<Option<Value>> {
    let findings: Vec<Value> = serde_json::from_str(&ask(home, "/findings")?)?;
    let all = |one: &Value| one["rule"] == "close_wait" && one["count"] == LEAKED;
    Ok(findings.into_iter().find(all))
}

#[test]
fn an_incident_is_replayed_as_it_was_live_and_a_kill_costs_a_second() -> Result<()> {
    if !ready(&["curl"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("recorder");
    let tcptrail = serve(&home, &netns, &dir)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let _leaked = leak(&netns, &listener)?;
    let live = eventually("all of the leak", PATIENCE, || found(&home))?;
    // It does not grow any more, and is told as that a moment later: the last look before the kill may be either.
    let mut lived = vec![figures(&live)];
    // What happens up to the kill, by the test's clock.
    let mut done: BTreeMap<u64, String> = BTreeMap::new();
    let until = now_ns() + 2 * SECOND;
    let mut open = Vec::new();
    while now_ns() < until {
        let both = Both::new(&netns, &listener, listener.local_addr()?)?;
        done.insert(now_ns(), shown(both.ends.client));
        open.push(both);
        lived.extend(found(&home)?.as_ref().map(figures));
        thread::sleep(Duration::from_millis(20));
    }
    let killed = now_ns();
    tcptrail.signal(Signal::KILL)?;
    drop(tcptrail);
    ensure!(segments(&dir)?.len() >= 3, "{:?}", segments(&dir)?);

    let id = live["id"].as_str().context("an id")?;
    let time = live["time"].as_str().context("a time")?;
    for what in [["--around", id], ["--around", "tt101"], ["--to", time]] {
        let told = replay(&dir, &[&what[..], &["stuck", "--once"]].concat())?;
        let same = told.of_kind("stuck").find(|event| event.text("id") == id);
        let same = same.with_context(|| format!("{what:?}: not found: {}", told.stderr))?;
        let as_live = if what[0] == "--to" { &lived[..1] } else { &lived };
        ensure!(as_live.contains(&figures(&same.0)), "{what:?}: {:?} {live}", same.0);
        ensure!(told.code() == Some(3), "{what:?}: {}", told.stderr);
    }
    let told = replay(&dir, &[])?;
    let of_it = |event: &&tests::tcptrail::Event| event.text("new") == "ESTABLISHED";
    let seen: Vec<&str> =
        told.of_kind("transition").filter(of_it).map(|event| event.text("local")).collect();
    let safe = killed - SECOND - slack();
    let missing: Vec<_> = done.range(..safe).filter(|(_, end)| !seen.contains(&&***end)).collect();
    ensure!(missing.is_empty(), "more than a second before the kill: {missing:?}");
    ensure!(done.range(..safe).count() > 10, "the test did nothing then");

    // Each alone, the last too, which was cut: it has every socket that leaked, as long as it is of that time.
    let last = segments(&dir)?.pop().context("a segment")?;
    let alone = replay(&dir.join(last), &["list", "--state", "CLOSE_WAIT"])?;
    let count = alone.of_kind("socket").count();
    ensure!(count == usize::try_from(LEAKED)?, "{count} of {LEAKED}: {}", alone.stderr);
    let nothing = replay(&dir, &["--to", "2001-01-01", "stuck"])?;
    ensure!(
        nothing.code() == Some(1) && nothing.stderr.contains("the recording has"),
        "{}",
        nothing.stderr
    );
    Ok(())
}

/// Segments begin and end, and a finding is noted, while the disk stands still.
#[test]
fn a_disk_that_stands_still_for_a_moment_costs_nothing() -> Result<()> {
    if !Stopped::is_possible() || !ready(&["curl"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let folder = tempfile::tempdir()?;
    let disk = Stopped::mount(folder.path(), 64 << 20)?;
    let dir = folder.path().join("recorder");
    let tcptrail = serve(&home, &netns, &dir)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let _leaked = leak(&netns, &listener)?;
    // Not faster than a debug build takes it. It goes on for a while before, as a load does.
    let (pieces, before, connections) = (100, 20, 14_000);
    for piece in 0..pieces {
        if piece == before {
            disk.stop()?;
        }
        churn(&netns, connections / pieces)?;
        thread::sleep(Duration::from_millis(50));
    }
    disk.go_on()?;
    let run = tcptrail.stop()?;
    ensure!(run.stderr.contains(" 0 lost "), "{}", run.stderr);
    let told = replay(&dir, &["tail"])?;
    let ends = told.of_kind("transition").filter(|event| event.is_step("LAST_ACK>CLOSE")).count();
    ensure!(ends == connections, "{ends} of {connections} ends in the segments: {}", told.stderr);
    Ok(())
}

fn metric(home: &Netns, name: &str) -> Result<Option<u64>> {
    let metrics = ask(home, "/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map(str::parse::<f64>).transpose()?.map(|value| value as u64))
}

#[test]
fn a_full_disk_pauses_the_recorder_and_not_the_tracing() -> Result<()> {
    if !ready(&["curl", "mount", "umount"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let folder = tempfile::tempdir()?;
    let disk = Disk::mount(folder.path(), 2 << 20)?;
    let dir = folder.path().join("recorder");
    let tcptrail = serve(&home, &netns, &dir)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    eventually("a second segment", PATIENCE, || Ok((segments(&dir)?.len() > 1).then_some(())))?;
    disk.fill()?;
    // Until it pauses, it may make room again by removing what is old.
    eventually("a pause", PATIENCE, || {
        disk.fill()?;
        Ok(metric(&home, "tcptrail_recorder_paused")?.filter(|told| *told == 1))
    })?;
    let itself = || -> Result<Option<Value>> {
        let findings: Vec<Value> = serde_json::from_str(&ask(&home, "/findings")?)?;
        Ok(findings.into_iter().find(|one| one["rule"] == "recorder"))
    };
    let finding = eventually("a finding about itself", PATIENCE, itself)?;
    ensure!(finding["code"] == "TT501" && finding["severity"] == "exhaustion", "{finding}");
    let verdict = finding["verdict"].as_str().context("a verdict")?;
    ensure!(verdict.contains("recorded nothing") && verdict.contains("full"), "{verdict}");
    ensure!(ask(&home, "/")?.contains("TT501"), "the page does not say it");
    let meanwhile = Both::new(&netns, &listener, to)?;
    eventually("tracing goes on", PATIENCE, || {
        let metrics = ask(&home, "/metrics")?;
        let opened = |line: &&str| {
            line.starts_with("tcptrail_connections_opened_total{") && line.contains("client")
        };
        Ok(metrics.lines().find(opened).map(drop))
    })?;
    disk.empty()?;
    eventually("it goes on", PATIENCE, || {
        Ok(metric(&home, "tcptrail_recorder_paused")?.filter(|told| *told == 0))
    })?;
    eventually("the finding is gone", PATIENCE, || Ok(itself()?.is_none().then_some(())))?;
    let after = Both::new(&netns, &listener, to)?;
    let told = tcptrail.stop()?;
    let said = ["recording pauses: ", "tracing goes on", "recording goes on in ", " is missing"];
    ensure!(said.iter().all(|part| told.stderr.contains(part)), "{}", told.stderr);
    let list = replay(&dir, &["list"])?;
    let has = |local: std::net::SocketAddr| {
        list.of_kind("socket").any(|event| event.text("local") == shown(local))
    };
    // What was opened meanwhile is among the sockets that the new segment begins with.
    ensure!(has(after.ends.client) && has(meanwhile.ends.client), "{}", list.stderr);
    Ok(())
}
