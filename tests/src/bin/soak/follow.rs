//! tcptrail's lines as they come, without keeping them: tallies, chains of states, the last listing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::witness::Socket;

/// What `tail` told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Transitions by kind.
    pub(crate) tally: BTreeMap<String, u64>,
    /// State of every socket that has not ended, by cookie.
    pub(crate) open: BTreeMap<String, String>,
    /// Transitions that do not follow from the one before.
    pub(crate) broken: Vec<String>,
    /// CLOSE->SYN_SENT.
    pub(crate) connects: u64,
    pub(crate) lost: u64,
}

impl Told {
    fn take(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            self.broken.push(format!("no JSON: {line}"));
            return;
        };
        match event["event"].as_str() {
            Some("transition") => self.transition(&event),
            Some("lost") => self.lost += event["count"].as_u64().unwrap_or(1),
            _ => {}
        }
    }

    fn transition(&mut self, event: &Value) {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (conn, old, new) = (text("conn"), text("old"), text("new"));
        *self.tally.entry(format!("{old}>{new}")).or_default() += 1;
        self.connects += u64::from(old == "CLOSE" && new == "SYN_SENT");
        let before = self.open.get(conn).map(String::as_str);
        // A child is seen for the first time as it leaves its listener's state.
        let follows = match before {
            Some(before) => before == old,
            None => old == "CLOSE" || (old == "LISTEN" && new == "SYN_RECV"),
        };
        if !follows && self.broken.len() < 20 {
            self.broken.push(format!("{before:?} then {event}"));
        }
        if new == "CLOSE" {
            self.open.remove(conn);
        } else {
            self.open.insert(conn.to_owned(), new.to_owned());
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.tally.values().sum()
    }

    /// What is open according to it and not to `ss`, and the other way round.
    pub(crate) fn same_as(&self, sockets: &[Socket]) -> Vec<String> {
        let theirs: BTreeMap<String, &str> = sockets
            .iter()
            .filter(|socket| socket.state != "CLOSE")
            .map(|socket| (socket.cookie.to_string(), socket.state.as_str()))
            .collect();
        let mut all = Vec::new();
        for (conn, state) in &self.open {
            if theirs.get(conn) != Some(&state.as_str()) {
                all.push(format!("tail {conn} {state}, ss {:?}", theirs.get(conn)));
            }
        }
        for (conn, state) in &theirs {
            if !self.open.contains_key(conn) {
                all.push(format!("ss {conn} {state}, tail nothing"));
            }
        }
        all
    }
}

/// `tail --json --record`.
pub(crate) struct Tail {
    child: Child,
    reader: JoinHandle<Told>,
}

fn start(program: &Path, args: &[&str]) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let stdout = child.stdout.take().context("no pipe")?;
    let mut reader = BufReader::new(stdout);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    ensure!(first.contains("\"start\""), "it does not start: {first}");
    Ok((child, reader))
}

fn stop(mut child: Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a pid")?;
    kill_process(pid, Signal::INT)?;
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn tell(reader: impl BufRead) -> Told {
    let mut told = Told::default();
    reader.lines().map_while(Result::ok).for_each(|line| told.take(&line));
    told
}

impl Tail {
    pub(crate) fn start(program: &Path, recording: &Path, net: &str) -> Result<Tail> {
        let recording = recording.to_str().context("UTF-8")?;
        let args = ["tail", "--json", "--addr", net, "--record", recording];
        let (child, reader) = start(program, &args)?;
        Ok(Tail { child, reader: thread::spawn(move || tell(reader)) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stop(self) -> Result<Told> {
        stop(self.child)?;
        self.reader.join().map_err(|_| anyhow::anyhow!("the reader of tail panicked"))
    }
}

/// `stuck --json`: of a load that leaves nothing behind it has nothing to say.
pub(crate) struct Stuck {
    child: Child,
    reader: JoinHandle<Vec<String>>,
}

impl Stuck {
    pub(crate) fn start(program: &Path, net: &str, netns: &str) -> Result<Stuck> {
        let args = ["stuck", "--json", "--addr", net, "--netns", netns];
        let (child, reader) = start(program, &args)?;
        let quiet = |line: &str| {
            let event = serde_json::from_str::<Value>(line).unwrap_or_default();
            matches!(event["event"].as_str(), Some("start" | "end"))
        };
        let said = move || {
            let mut told = Vec::new();
            // To the end: it would end, too, if nobody read what it says.
            for line in reader.lines().map_while(Result::ok).filter(|line| !quiet(line)) {
                println!("stuck says: {line}");
                if told.len() < 20 {
                    told.push(line);
                }
            }
            told
        };
        Ok(Stuck { child, reader: thread::spawn(said) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said.
    pub(crate) fn stop(self) -> Result<Vec<String>> {
        stop(self.child)?;
        self.reader.join().map_err(|_| anyhow::anyhow!("the reader of stuck panicked"))
    }
}

/// The recording again. Walks have put the machine's other sockets into it, too.
pub(crate) fn replay(program: &Path, recording: &Path, net: &str) -> Result<Told> {
    let recording = recording.to_str().context("UTF-8")?;
    let (mut child, reader) = start(program, &["replay", recording, "--json", "--addr", net])?;
    let told = tell(reader);
    ensure!(child.wait()?.success(), "replay failed");
    Ok(told)
}

/// A transition that an event told, so that whoever was there tells it alike, but for the time: each reads the clock for
/// itself.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Step {
    /// CLOCK_MONOTONIC, ns.
    pub(crate) at: u64,
    conn: String,
    old: String,
    new: String,
}

impl Step {
    /// Which socket, from where to where.
    pub(crate) fn what(&self) -> String {
        format!("{} {}>{}", self.conn, self.old, self.new)
    }
}

/// Those of a recording, or of a recorder's directory. What becomes of mini-sockets is known by walks, at other times to
/// each.
pub(crate) fn steps(program: &Path, recording: &Path, net: &str) -> Result<BTreeSet<Step>> {
    let recording = recording.to_str().context("UTF-8")?;
    let (mut child, reader) = start(program, &["replay", recording, "--json", "--addr", net])?;
    let step = |line: String| {
        let event = serde_json::from_str::<Value>(&line).ok()?;
        let text = |key: &str| event[key].as_str().map(str::to_owned);
        let step = Step {
            at: event["mono_ns"].as_u64()?,
            conn: text("conn")?,
            old: text("old")?,
            new: text("new")?,
        };
        let by_event = event["event"] == "transition" && step.old != "TIME_WAIT";
        (by_event && step.old != "FIN_WAIT2").then_some(step)
    };
    let steps = reader.lines().map_while(Result::ok).filter_map(step).collect();
    ensure!(child.wait()?.success(), "replay failed");
    Ok(steps)
}

/// A listing: when, and state by cookie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    at: u64,
    sockets: BTreeMap<u64, String>,
}

#[derive(Default)]
struct Frames {
    /// The last that is whole.
    whole: Option<Frame>,
    coming: Frame,
}

/// `list --watch --json`.
pub(crate) struct List {
    child: Child,
    frames: Arc<Mutex<Frames>>,
}

impl List {
    pub(crate) fn start(program: &Path, netns: &str) -> Result<List> {
        let args = ["list", "--watch=2s", "--json", "--netns", netns];
        let (child, reader) = start(program, &args)?;
        let frames = Arc::new(Mutex::new(Frames::default()));
        let shared = Arc::clone(&frames);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let number = |key: &str| event[key].as_u64();
                let conn = event["conn"].as_str().and_then(|conn| conn.parse().ok());
                let (Some(at), Some(conn)) = (number("mono_ns"), conn) else { continue };
                let state = event["state"].as_str().unwrap_or_default().to_owned();
                let mut frames = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // All lines of a listing have its time.
                if frames.coming.at != at {
                    let new = Frame { at, sockets: BTreeMap::new() };
                    frames.whole = Some(std::mem::replace(&mut frames.coming, new));
                }
                frames.coming.sockets.insert(conn, state);
            }
        });
        Ok(List { child, frames })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first listing after `now`, whole; meanwhile `work` goes on.
    pub(crate) fn frame_begun_after(
        &self,
        now: u64,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<Option<Frame>> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let frame = self.frames.lock().unwrap_or_else(PoisonError::into_inner).whole.clone();
            // Its walk was up to some 300 ms before it was printed.
            if let Some(frame) = frame.filter(|frame| frame.at > now + 1_000_000_000) {
                return Ok(Some(frame));
            }
            work()?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(None)
    }

    pub(crate) fn stop(self) -> Result<()> {
        stop(self.child)
    }
}

/// What a listing between two looks of `ss` has wrong: whatever was the same in both must be so in the
/// listing. What changed in between may be either. What came and went in between is in neither, and is
/// put into `brief`: wrong is what is listed so twice.
pub(crate) fn differences(
    before: &[Socket],
    frame: &Frame,
    after: &[Socket],
    brief: &mut BTreeSet<u64>,
) -> Vec<String> {
    let by_cookie = |sockets: &[Socket]| -> BTreeMap<u64, String> {
        let kept = sockets.iter().filter(|socket| socket.state != "CLOSE");
        kept.map(|socket| (socket.cookie, socket.state.clone())).collect()
    };
    let (before, after) = (by_cookie(before), by_cookie(after));
    let mut all = Vec::new();
    for (cookie, state) in before.iter().filter(|&(cookie, state)| after.get(cookie) == Some(state))
    {
        if frame.sockets.get(cookie) != Some(state) {
            all.push(format!("{cookie} is {state}, listed as {:?}", frame.sockets.get(cookie)));
        }
    }
    let known = std::mem::take(brief);
    for (cookie, state) in &frame.sockets {
        if before.contains_key(cookie) || after.contains_key(cookie) {
            continue;
        }
        brief.insert(*cookie);
        if known.contains(cookie) {
            all.push(format!("{cookie} is listed as {state} again, and is not there"));
        }
    }
    all
}
