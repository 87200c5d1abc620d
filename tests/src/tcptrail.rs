//! tcptrail under test: started, listened to, stopped.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::pace::patience;
use crate::witness::has_cookies;

/// Longest that anything of tcptrail's is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The release binary: `TCPTRAIL_BIN`, else where `cargo xtask build` puts it.
#[must_use]
pub fn binary() -> PathBuf {
    env::var_os("TCPTRAIL_BIN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/tcptrail")),
        PathBuf::from,
    )
}

/// The binary with these arguments, nothing on stdin, both outputs to us.
#[must_use]
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// One line of `--json`.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    /// `event`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("event")
    }

    /// A string; empty for null or nothing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// A number; none for null or nothing.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }

    /// A truth value; none for null or nothing.
    #[must_use]
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.0[key].as_bool()
    }

    /// What tells its socket from others in one namespace: see
    /// [`Socket::key`](crate::witness::Socket::key).
    #[must_use]
    pub fn key(&self) -> String {
        if has_cookies() {
            return self.text("conn").to_owned();
        }
        format!("{}>{}", self.text("local"), self.text("remote"))
    }

    /// Whether `conn` is this cookie, as far as tcptrail is given cookies here.
    #[must_use]
    pub fn has_cookie(&self, cookie: u64) -> bool {
        let conn = self.text("conn");
        if has_cookies() { conn == cookie.to_string() } else { !conn.is_empty() }
    }

    /// `CLOSE>SYN_SENT`.
    #[must_use]
    pub fn step(&self) -> String {
        format!("{}>{}", self.text("old"), self.text("new"))
    }

    /// Whether it is this transition.
    #[must_use]
    pub fn is_step(&self, step: &str) -> bool {
        self.kind() == "transition" && self.step() == step
    }

    /// Whether `local` is this address.
    #[must_use]
    pub fn is_at(&self, local: SocketAddr) -> bool {
        self.text("local") == shown(local)
    }
}

/// An address as the JSON contract shows it: v4-mapped as IPv4.
#[must_use]
pub fn shown(addr: SocketAddr) -> String {
    SocketAddr::new(addr.ip().to_canonical(), addr.port()).to_string()
}

/// A running tcptrail; killed when dropped.
pub struct Tcptrail {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Receiver<String>,
    raw: Vec<u8>,
    events: Vec<Event>,
}

/// What a tcptrail that ended left.
#[derive(Debug)]
pub struct Run {
    /// stdout as it was.
    pub raw: Vec<u8>,
    /// Its lines, if it was JSON.
    pub events: Vec<Event>,
    /// stderr.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Tcptrail {
    /// Starts with `--json` and waits for the `start` line: from then on nothing is missed.
    ///
    /// # Errors
    /// When there is none; with what it said instead.
    pub fn start(args: &[&str]) -> Result<Tcptrail> {
        Self::spawn(command(&[args, &["--json"]].concat()))?.attached()
    }

    /// Starts many at the same time, with `--json`, and waits for all of them.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_all(all: &[Vec<&str>]) -> Result<Vec<Tcptrail>> {
        let begun: Vec<_> = all
            .iter()
            .map(|args| Self::spawn(command(&[args.as_slice(), &["--json"]].concat())))
            .collect::<Result<_>>()?;
        begun.into_iter().map(Self::attached).collect()
    }

    fn attached(mut self) -> Result<Tcptrail> {
        if let Err(error) = self.wait_for("start", |event| event.kind() == "start") {
            let run = self.stop()?;
            bail!("{error}; tcptrail said: {}", run.stderr);
        }
        Ok(self)
    }

    /// Ctrl-C for all, and all that they say until they have ended.
    ///
    /// # Errors
    /// When one does not end in time.
    pub fn stop_all(all: Vec<Tcptrail>) -> Result<Vec<Run>> {
        for one in &all {
            // One that ended by itself gets no signal.
            let _ = one.signal(Signal::INT);
        }
        all.into_iter().map(Self::wait).collect()
    }

    /// Starts without `--json` and waits for the header line.
    ///
    /// # Errors
    /// When there is none.
    pub fn start_text(args: &[&str]) -> Result<Tcptrail> {
        let mut tcptrail = Self::spawn(command(args))?;
        tcptrail.wait_line("the header", |_| true)?;
        Ok(tcptrail)
    }

    /// Starts a command made from [`command`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command) -> Result<Tcptrail> {
        let mut child = command.spawn().with_context(|| {
            format!("{command:?}: build it with `cargo xtask build`, or name it in TCPTRAIL_BIN")
        })?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut reader = BufReader::with_capacity(1 << 20, stdout);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|count| count != 0) {
                    if sender.send(std::mem::take(&mut line)).is_err() {
                        break;
                    }
                }
            });
        }
        let (sender, errors) = channel();
        if let Some(mut stderr) = child.stderr.take() {
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            });
        }
        Ok(Tcptrail { child, lines, errors, raw: Vec::new(), events: Vec::new() })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Waits for the first event, from the beginning, that `wanted` takes.
    ///
    /// # Errors
    /// When none comes in time or it ends.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        self.wait_for_within(what, PATIENCE, wanted)
    }

    /// [`Tcptrail::wait_for`] with another patience.
    ///
    /// # Errors
    /// When none comes in time or it ends.
    pub fn wait_for_within(
        &mut self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        if let Some(found) = self.events.iter().find(|event| wanted(event)) {
            return Ok(found.clone());
        }
        self.wait_for_next_within(what, patience, wanted)
    }

    /// Waits for the next event that `wanted` takes.
    ///
    /// # Errors
    /// When none comes in time or it ends.
    pub fn wait_for_next(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        self.wait_for_next_within(what, PATIENCE, wanted)
    }

    fn wait_for_next_within(
        &mut self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let deadline = Instant::now() + crate::pace::patience(patience);
        loop {
            let line = self.next_line(what, deadline)?;
            let Some(event) = self.keep(line) else { continue };
            if wanted(event) {
                return Ok(event.clone());
            }
        }
    }

    /// Waits for the next line that `wanted` takes.
    ///
    /// # Errors
    /// When none comes in time or it ends.
    pub fn wait_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let line = self.next_line(what, deadline)?;
            let text = String::from_utf8_lossy(&line).into_owned();
            self.keep(line);
            if wanted(&text) {
                return Ok(text);
            }
        }
    }

    fn next_line(&mut self, what: &str, deadline: Instant) -> Result<Vec<u8>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!(
                "no {what} within {PATIENCE:?}; so far:\n{}",
                String::from_utf8_lossy(tail(&self.raw))
            ),
            Err(RecvTimeoutError::Disconnected) => bail!(
                "it ended without {what}; so far:\n{}",
                String::from_utf8_lossy(tail(&self.raw))
            ),
        }
    }

    fn keep(&mut self, line: Vec<u8>) -> Option<&Event> {
        self.raw.extend_from_slice(&line);
        let value = serde_json::from_slice(&line).ok()?;
        self.events.push(Event(value));
        self.events.last()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ctrl-C, and all that it says until it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(self) -> Result<Run> {
        // One that ended by itself gets no signal.
        let _ = self.signal(Signal::INT);
        self.wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait(mut self) -> Result<Run> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.keep(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("tcptrail does not end"),
            }
        }
        let stderr =
            self.errors.recv_timeout(patience(PATIENCE)).context("tcptrail keeps stderr open")?;
        let status = self.child.wait()?;
        Ok(Run {
            raw: std::mem::take(&mut self.raw),
            events: std::mem::take(&mut self.events),
            stderr,
            status,
        })
    }
}

impl Drop for Tcptrail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(4000)..]
}

/// Runs it to its end.
///
/// # Errors
/// When it does not end in time.
pub fn run(args: &[&str]) -> Result<Run> {
    Tcptrail::spawn(command(args))?.wait()
}

impl Run {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its last line on stderr, which must be the summary, and the exit code 0.
    ///
    /// # Errors
    /// When it is not so.
    pub fn check_good_end(&self) -> Result<()> {
        ensure!(self.code() == Some(0), "exit {:?}; stderr: {}", self.status, self.stderr);
        let last = self.stderr.lines().last().unwrap_or_default();
        let has = |words: &[&str]| words.iter().all(|word| last.contains(word));
        let good = last.starts_with("tcptrail: ")
            && has(&[" lost", " in "])
            // `list` has no events of its own to count.
            && (has(&[" events", " connections"]) || has(&[" sockets"]));
        ensure!(good, "no summary line: {}", self.stderr);
        Ok(())
    }

    /// [`Run::check_good_end`], and nothing was lost.
    ///
    /// # Errors
    /// When it is not so.
    pub fn check_whole(&self) -> Result<()> {
        self.check_good_end()?;
        ensure!(self.stderr.contains(" 0 lost"), "lost: {}", self.stderr);
        let losses: Vec<_> = self.of_kind("lost").collect();
        ensure!(losses.is_empty(), "lost: {losses:?}");
        Ok(())
    }

    /// All events of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind() == kind)
    }

    /// Everything about the socket that at some time had these ends.
    #[must_use]
    pub fn side(&self, local: SocketAddr, remote: SocketAddr) -> Side<'_> {
        let (local, remote) = (shown(local), shown(remote));
        let conns: Vec<&str> = self
            .events
            .iter()
            .filter(|event| event.text("local") == local && event.text("remote") == remote)
            .map(|event| event.text("conn"))
            .collect();
        let of_it = |event: &&Event| conns.contains(&event.text("conn"));
        Side { local, events: self.events.iter().filter(of_it).collect() }
    }
}

/// One end of a connection as tcptrail told it.
#[derive(Debug)]
pub struct Side<'a> {
    /// Its address.
    pub local: String,
    /// Everything about it, in order.
    pub events: Vec<&'a Event>,
}

impl<'a> Side<'a> {
    /// Its transitions: `CLOSE>SYN_SENT`, ...
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        self.transitions().map(Event::step).collect()
    }

    /// Its transitions.
    pub fn transitions(&self) -> impl Iterator<Item = &'a Event> + '_ {
        self.events.iter().copied().filter(|event| event.kind() == "transition")
    }

    /// The transition that leaves `state`.
    ///
    /// # Errors
    /// When there is none.
    pub fn leaving(&self, state: &str) -> Result<&'a Event> {
        self.transitions()
            .find(|event| event.text("old") == state)
            .with_context(|| format!("{} never left {state}: {:?}", self.local, self.steps()))
    }

    /// The only event of a kind.
    ///
    /// # Errors
    /// When there is none, or more.
    pub fn only(&self, kind: &str) -> Result<&'a Event> {
        let mut all = self.events.iter().copied().filter(|event| event.kind() == kind);
        let first = all.next();
        let more = all.count();
        ensure!(more == 0, "{} has {} lines `{kind}`", self.local, more + 1);
        first.with_context(|| format!("{} has no line `{kind}`: {:?}", self.local, self.events))
    }

    /// Fails unless its transitions are just these.
    ///
    /// # Errors
    /// With both.
    pub fn check_steps(&self, expected: &[&str]) -> Result<()> {
        let steps = self.steps();
        ensure!(steps == expected, "{}: {steps:?}, not {expected:?}", self.local);
        Ok(())
    }
}
