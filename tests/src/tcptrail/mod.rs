//! tcptrail under test: started, listened to, stopped.

mod event;
mod run;

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::pace::patience;

pub use event::{Event, shown};
pub use run::{Run, Side};

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

/// A running tcptrail; killed when dropped.
pub struct Tcptrail {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Receiver<String>,
    raw: Vec<u8>,
    events: Vec<Event>,
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
