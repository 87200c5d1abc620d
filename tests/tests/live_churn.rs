//! Ten thousand connections: every transition once, every connection's line, nothing lost; and the
//! recording of it says the same.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail, run};
use tests::traffic::churn;
use tests::witness::counters;

const CONNECTIONS: usize = 10_000;
/// `TCP_TIMEWAIT_LEN`.
const TIME_WAIT_NS: u64 = 60_000_000_000;

/// What the kernel reports of each end; FIN_WAIT2->CLOSE of it is shown as what it means.
const CLIENT: [&str; 5] = [
    "CLOSE>SYN_SENT",
    "SYN_SENT>ESTABLISHED",
    "ESTABLISHED>FIN_WAIT1",
    "FIN_WAIT1>FIN_WAIT2",
    "FIN_WAIT2>TIME_WAIT",
];
const SERVER: [&str; 5] = [
    "LISTEN>SYN_RECV",
    "SYN_RECV>ESTABLISHED",
    "ESTABLISHED>CLOSE_WAIT",
    "CLOSE_WAIT>LAST_ACK",
    "LAST_ACK>CLOSE",
];

fn is_last(event: &Event) -> bool {
    event.is_step("LISTEN>CLOSE")
}

#[test]
fn every_transition_once_and_a_line_for_every_connection() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("churn.trail");
    let file = file.to_str().context("a path")?;
    let args = ["--netns", netns.name()];
    let mut tail = Tcptrail::start(&["--record", file, args[0], args[1]])?;
    let life = Tcptrail::start(&["life", args[0], args[1]])?;
    churn(&netns, CONNECTIONS)?;
    // The listener was closed last.
    tail.wait_for("the listener's end", is_last)?;
    let tail = tail.stop()?;
    let life = life.stop()?;
    tail.check_whole()?;
    life.check_whole()?;
    let opened = counters(&netns)?.get("ActiveOpens").copied();
    ensure!(opened == Some(CONNECTIONS as u64), "the kernel counted {opened:?} connects");

    check_transitions(&tail)?;
    check_lines(&life)?;
    check_replay(&tail, &life, file, netns.name())
}

fn check_transitions(tail: &Run) -> Result<()> {
    let mut steps: HashMap<&str, Vec<String>> = HashMap::new();
    let mut listener = 0;
    for event in tail.of_kind("transition") {
        // A machine may be so slow that the first TIME_WAITs end meanwhile.
        let waited = event.number("in_old_ns").unwrap_or(0);
        if event.is_step("TIME_WAIT>CLOSE") && waited >= TIME_WAIT_NS {
            continue;
        }
        ensure!(event.truth("exact") == Some(true) || event.0["in_old_ns"].is_null(), "{event:?}");
        if event.text("role") == "listener" {
            listener += 1;
        } else {
            steps.entry(event.text("conn")).or_default().push(event.step());
        }
    }
    ensure!(listener == 2, "{listener} transitions of the listener");
    let (mut clients, mut servers) = (0, 0);
    for (conn, steps) in &steps {
        if steps.first().is_some_and(|step| step == CLIENT[0]) {
            ensure!(steps[..] == CLIENT, "{conn}: {steps:?}");
            clients += 1;
        } else {
            ensure!(steps[..] == SERVER, "{conn}: {steps:?}");
            servers += 1;
        }
    }
    ensure!(
        clients == CONNECTIONS && servers == CONNECTIONS,
        "{clients} clients, {servers} servers"
    );
    let end = tail.of_kind("end").next().context("no end line")?;
    ensure!(end.number("lost") == Some(0), "{end:?}");
    ensure!(end.number("connections") == Some(2 * CONNECTIONS as u64), "{end:?}");
    Ok(())
}

fn check_lines(life: &Run) -> Result<()> {
    let mut by_role: HashMap<&str, usize> = HashMap::new();
    let mut conns: HashMap<&str, usize> = HashMap::new();
    for event in life.of_kind("close") {
        ensure!(event.text("how") == "fin", "{event:?}");
        ensure!(event.truth("exact") == Some(true), "{event:?}");
        *by_role.entry(event.text("role")).or_default() += 1;
        *conns.entry(event.text("conn")).or_default() += 1;
    }
    ensure!(
        by_role == HashMap::from([("client", CONNECTIONS), ("server", CONNECTIONS)]),
        "lines by role: {by_role:?}"
    );
    ensure!(conns.values().all(|&lines| lines == 1), "a connection has two lines");
    Ok(())
}

/// The recording gives, byte for byte, what live gave, and the same lives.
fn check_replay(tail: &Run, life: &Run, file: &str, netns: &str) -> Result<()> {
    let replayed = run(&["replay", file, "--json", "--netns", netns])?;
    replayed.check_whole()?;
    check_same(&tail.raw, &replayed.raw)?;
    let lives = run(&["replay", file, "life", "--json", "--netns", netns])?;
    lives.check_whole()?;
    let count = lives.of_kind("close").count();
    let live = life.of_kind("close").count();
    ensure!(count == live, "{count} lines replayed, {live} live");
    let text = run(&["replay", file, "--netns", netns])?;
    text.check_whole()?;
    let lines = text.raw.iter().filter(|&&byte| byte == b'\n').count();
    let transitions = tail.of_kind("transition").count();
    ensure!(lines == transitions + 1, "{lines} lines of text, {transitions} transitions");
    Ok(())
}

fn check_same(live: &[u8], replayed: &[u8]) -> Result<()> {
    let lines = |bytes: &'_ [u8]| String::from_utf8_lossy(bytes).into_owned();
    if live == replayed {
        return Ok(());
    }
    let (live, replayed) = (lines(live), lines(replayed));
    let first = live.lines().zip(replayed.lines()).position(|(one, other)| one != other);
    let at = first.unwrap_or(live.lines().count().min(replayed.lines().count()));
    anyhow::bail!(
        "line {at} of {} and {} differs:\n{:?}\n{:?}",
        live.lines().count(),
        replayed.lines().count(),
        live.lines().nth(at),
        replayed.lines().nth(at)
    )
}

#[test]
fn record_alone_writes_what_tail_would() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("alone.trail");
    let file = file.to_str().context("a path")?;
    let mut tail = Tcptrail::start(&["--netns", netns.name()])?;
    let mut command = tests::tcptrail::command(&["record", file, "--netns", netns.name()]);
    // Nothing is said on stdout: that it records is said on stderr.
    command.stderr(std::process::Stdio::piped());
    let mut recording = command.spawn()?;
    let mut said = std::io::BufReader::new(recording.stderr.take().context("a pipe")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line)?;
    ensure!(line.contains("recording"), "{line}");
    churn(&netns, 20)?;
    tail.wait_for("the listener's end", is_last)?;
    let pid = rustix::process::Pid::from_child(&recording);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut said, &mut rest)?;
    let output = recording.wait_with_output()?;
    ensure!(output.status.success() && output.stdout.is_empty(), "{output:?} {rest}");
    let tail = tail.stop()?;
    let replayed = run(&["replay", file, "--json", "--netns", netns.name()])?;
    replayed.check_whole()?;
    let steps = |run: &Run| -> Vec<_> {
        run.of_kind("transition")
            .map(|event| (event.text("conn").to_owned(), event.step()))
            .collect()
    };
    ensure!(steps(&tail) == steps(&replayed), "{:?}\n{:?}", steps(&tail), steps(&replayed));
    ensure!(steps(&tail).len() == 20 * 10 + 2, "{}", steps(&tail).len());
    Ok(())
}
