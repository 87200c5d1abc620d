//! What the scenarios have in common: tcptrail, its findings, and processes whose sockets they are.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::netns::Netns;
use tests::tcptrail::{Event, Run, Tcptrail};
use tests::witness::{eventually, ss};

/// A finding must come within this time; the thresholds of the scenarios are a few seconds.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// `stuck --json` inside a namespace.
pub(crate) fn start(netns: &Netns, args: &[&str]) -> Result<Tcptrail> {
    Tcptrail::start(&[&["stuck", "--netns", netns.name()], args].concat())
}

/// Whether it is a finding of this rule.
pub(crate) fn is_of(event: &Event, rule: &str, change: &str) -> bool {
    event.kind() == "stuck" && event.text("rule") == rule && event.text("change") == change
}

/// Waits for the first finding of a rule that `wanted` takes.
pub(crate) fn finding(
    tcptrail: &mut Tcptrail,
    rule: &str,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Event> {
    tcptrail.wait_for_within(rule, SOON, |event| {
        event.kind() == "stuck"
            && event.text("rule") == rule
            && event.text("change") != "clear"
            && wanted(event)
    })
}

/// Waits until a rule's finding is over.
pub(crate) fn cleared(tcptrail: &mut Tcptrail, rule: &str) -> Result<Event> {
    tcptrail.wait_for_within("clear", SOON, |event| is_of(event, rule, "clear"))
}

/// The end; nothing was lost, and nothing was found by any rule.
pub(crate) fn silent(tcptrail: Tcptrail) -> Result<()> {
    let run = tcptrail.stop()?;
    run.check_whole()?;
    check_silent(&run)
}

pub(crate) fn check_silent(run: &Run) -> Result<()> {
    let found: Vec<&str> = run.of_kind("stuck").map(|event| event.text("verdict")).collect();
    ensure!(found.is_empty(), "it should say nothing: {found:?}");
    Ok(())
}

/// The verdict has these words.
pub(crate) fn check_verdict(event: &Event, words: &[&str]) -> Result<()> {
    let verdict = event.text("verdict");
    for word in words {
        ensure!(verdict.contains(word), "no {word:?} in {verdict:?}");
    }
    ensure!(!event.text("advice").is_empty(), "no advice: {event:?}");
    Ok(())
}

/// Waits until somebody listens inside the namespace.
pub(crate) fn listening(netns: &Netns) -> Result<()> {
    eventually("the listener", Duration::from_secs(10), || {
        Ok(ss(netns)?.iter().any(|socket| socket.state == "LISTEN").then_some(()))
    })
}

/// A Python process inside a namespace: somebody whose sockets they are. It ends with its stdin, so
/// that nothing is left of a test that fails.
pub(crate) struct Python {
    child: Child,
    lines: Receiver<String>,
}

impl Python {
    /// Runs a script; `lib` and what it imports stand before it.
    pub(crate) fn start(netns: &Netns, script: &str) -> Result<Python> {
        Self::start_by(netns, &[], script)
    }

    /// The same, run by another program: `unshare --pid --fork`.
    pub(crate) fn start_by(netns: &Netns, by: &[&str], script: &str) -> Result<Python> {
        const LIB: &str = "
import os, resource, socket, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
def listen(port, backlog=64, addr='0.0.0.0'):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(backlog)
    return s
";
        let words = [by, &["python3"]].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .args(["-c", &format!("{LIB}\n{script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = netns.spawn(&mut command)?;
        let stdout = child.stdout.take().context("a pipe")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Python { child, lines })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says, if it says one in this time.
    pub(crate) fn said(&mut self, within: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("it has ended"),
        }
    }

    /// Ends it, and waits for that.
    pub(crate) fn end(mut self) -> Result<()> {
        let mut stdin = self.child.stdin.take().context("a pipe")?;
        stdin.flush()?;
        drop(stdin);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
