//! What is measured: nothing, the floor program, tcptrail's commands, other tracers.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use ::tests::netns::Netns;

use crate::Tools;

/// Longest that a tracer may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the first sign of life: the walks of the start come to their end.
const SETTLE: Duration = Duration::from_millis(300);

/// The flight recorder's directory.
const RECORDER: &str = "recorder";

/// One column of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub(crate) enum Subject {
    /// No tracer.
    None,
    /// The least a tracer can do: one 96-byte record, no wake-up, drained.
    Floor,
    /// `tcptrail life`.
    Life,
    /// `tcptrail life --no-drops`.
    LifeNoDrops,
    /// `tcptrail tail`.
    Tail,
    /// `tcptrail tail --json`.
    TailJson,
    /// `tcptrail record`.
    Record,
    /// `tcptrail serve --no-openers`.
    Serve,
    /// `tcptrail serve --no-openers --recorder`.
    ServeRecorder,
    /// `tcptrail serve --recorder`, with all that is on unless it is switched off.
    ServeDefault,
    /// libbpf-tools' tcpstates.
    Tcpstates,
    /// libbpf-tools' tcplife.
    Tcplife,
    /// A bpftrace one-liner that prints each transition.
    Bpftrace,
}

/// What `bpftrace` is given: what `tail` shows, as far as one line of it goes.
const BPFTRACE: &str = "tracepoint:sock:inet_sock_set_state { \
    printf(\"%llu %d %d %d %d %d %s\\n\", nsecs, args->oldstate, args->newstate, args->sport, args->dport, pid, comm); } \
    BEGIN { printf(\"ready\\n\"); }";

impl Subject {
    /// tcptrail's own commands.
    pub(crate) const OWN: [Subject; 4] =
        [Subject::Life, Subject::Tail, Subject::TailJson, Subject::Record];
    /// The others'.
    pub(crate) const PEERS: [Subject; 3] =
        [Subject::Tcpstates, Subject::Tcplife, Subject::Bpftrace];

    /// As in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::None => "no tracer",
            Subject::Floor => "floor",
            Subject::Life => "life",
            Subject::LifeNoDrops => "life --no-drops",
            Subject::Tail => "tail",
            Subject::TailJson => "tail --json",
            Subject::Record => "record",
            Subject::Serve => "serve",
            Subject::ServeRecorder => "serve --recorder --no-openers",
            Subject::ServeDefault => "serve --recorder",
            Subject::Tcpstates => "tcpstates",
            Subject::Tcplife => "tcplife",
            Subject::Bpftrace => "bpftrace",
        }
    }

    /// The program of a peer.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Subject::Tcpstates => Some("tcpstates"),
            Subject::Tcplife => Some("tcplife"),
            Subject::Bpftrace => Some("bpftrace"),
            _ => None,
        }
    }

    fn command(self, tools: &Tools, dir: &Path) -> Option<Command> {
        let tcptrail = |args: &[&str]| {
            let mut command = Command::new(&tools.tcptrail);
            command.args(args);
            command
        };
        Some(match self {
            Subject::None => return None,
            Subject::Floor => {
                let mut command = Command::new(tools.beside("floor")?);
                command.arg(&tools.floor);
                command
            }
            Subject::Life => tcptrail(&["life"]),
            Subject::LifeNoDrops => tcptrail(&["life", "--no-drops"]),
            Subject::Tail => tcptrail(&["tail"]),
            Subject::TailJson => tcptrail(&["tail", "--json"]),
            Subject::Record => {
                let mut command = tcptrail(&["record"]);
                command.arg(dir.join("recording"));
                command
            }
            Subject::Serve | Subject::ServeRecorder | Subject::ServeDefault => {
                let mut command = tcptrail(&["serve", "--listen"]);
                command.arg(format!("unix:{}", dir.join("socket").display()));
                if self != Subject::ServeDefault {
                    command.arg("--no-openers");
                }
                if self != Subject::Serve {
                    command.arg("--recorder").arg(dir.join(RECORDER));
                }
                command
            }
            Subject::Tcpstates => with_tracefs(&["tcpstates"]),
            Subject::Tcplife => with_tracefs(&["tcplife"]),
            Subject::Bpftrace => with_tracefs(&["bpftrace", "-e", BPFTRACE]),
        })
    }
}

/// In a mount namespace of its own, with a tracefs: not every machine has one mounted.
fn with_tracefs(command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c"]).arg(
        "mount -t tracefs tracefs /sys/kernel/tracing && \
         if [ -d /sys/kernel/debug ]; then mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null; fi; \
         exec stdbuf -oL \"$@\"",
    );
    unshare.arg("sh").args(command);
    unshare
}

/// A tracer at work, its output in files; killed when dropped.
pub(crate) struct Tracer {
    subject: Subject,
    child: Child,
    dir: PathBuf,
    /// From its start to its first sign of life.
    pub(crate) started_in: Duration,
}

/// What a tracer that ended left.
pub(crate) struct Left {
    /// Events it has shown, or a peer's lines; none where it does not tell.
    pub(crate) seen: Option<u64>,
    /// Events it says it has lost; none where it does not tell.
    pub(crate) lost: Option<u64>,
    /// From Ctrl-C to its end.
    pub(crate) ended_in: Duration,
    /// Bytes of what it has recorded.
    pub(crate) recorded: u64,
}

impl Tracer {
    /// Starts it and waits until it traces; none for [`Subject::None`]. Its files go into `dir`.
    pub(crate) fn start(subject: Subject, tools: &Tools, dir: &Path) -> Result<Option<Tracer>> {
        let Some(command) = subject.command(tools, dir) else { return Ok(None) };
        Self::spawn(subject, command, dir).map(Some)
    }

    /// `tail` of one network namespace.
    pub(crate) fn start_in(netns: &Netns, tools: &Tools, dir: &Path) -> Result<Tracer> {
        let mut command = Command::new(&tools.tcptrail);
        command.args(["tail", "--netns", netns.name()]);
        Self::spawn(Subject::Tail, command, dir)
    }

    /// Starts a command as such a tracer.
    pub(crate) fn spawn(subject: Subject, mut command: Command, dir: &Path) -> Result<Tracer> {
        // A new file each: what is on the disk still must not be in the way.
        for name in ["out", "err", "recording", "socket"] {
            let _ = fs::remove_file(dir.join(name));
        }
        let _ = fs::remove_dir_all(dir.join(RECORDER));
        command
            .stdin(Stdio::piped())
            .stdout(File::create(dir.join("out"))?)
            .stderr(File::create(dir.join("err"))?)
            // Ctrl-C is for us first.
            .process_group(0);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", subject.name()))?;
        let mut tracer = Tracer { subject, child, dir: dir.to_owned(), started_in: Duration::ZERO };
        tracer.wait_until_ready(began)?;
        tracer.started_in = began.elapsed();
        sleep(SETTLE);
        Ok(tracer)
    }

    /// The header line, or `record`'s word, comes when the programs are attached.
    fn wait_until_ready(&mut self, began: Instant) -> Result<()> {
        let (file, sign) = match self.subject {
            Subject::Record => ("err", "recording;"),
            Subject::Serve | Subject::ServeRecorder | Subject::ServeDefault => {
                ("err", "serving on")
            }
            Subject::Bpftrace | Subject::Floor => ("out", "ready"),
            _ => ("out", "\n"),
        };
        loop {
            if fs::read_to_string(self.dir.join(file)).is_ok_and(|text| text.contains(sign)) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let said = fs::read_to_string(self.dir.join("err")).unwrap_or_default();
                bail!("{} does not start: {}", self.subject.name(), said.trim());
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ctrl-C, and what it says until it has ended.
    pub(crate) fn stop(mut self) -> Result<Left> {
        let began = Instant::now();
        if self.subject == Subject::Floor {
            drop(self.child.stdin.take());
        } else {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.context("no pid")?, Signal::INT)?;
        }
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "{} does not end", self.subject.name());
            sleep(Duration::from_millis(1));
        }
        let ended_in = began.elapsed();
        let errors = fs::read_to_string(self.dir.join("err"))?;
        let lines = count_lines(&self.dir.join("out"))?;
        let (seen, lost) = match self.subject {
            Subject::Floor => (last_number(&self.dir.join("out")), None),
            // Each event is a line, beside the head and, of JSON, the end.
            Subject::Tail | Subject::TailJson => {
                let (told, lost) = summary(&errors);
                let frame = if self.subject == Subject::Tail { 1 } else { 2 };
                (told.map(|told| told.min(lines.saturating_sub(frame))), lost)
            }
            Subject::Life
            | Subject::LifeNoDrops
            | Subject::Record
            | Subject::Serve
            | Subject::ServeRecorder
            | Subject::ServeDefault => summary(&errors),
            // Without their header lines.
            Subject::Bpftrace => (Some(lines.saturating_sub(2)), bpftrace_lost(&errors)),
            _ => (Some(lines.saturating_sub(1)), None),
        };
        let recorded = recorded(&self.dir);
        for name in ["out", "recording"] {
            let _ = fs::remove_file(self.dir.join(name));
        }
        let _ = fs::remove_dir_all(self.dir.join(RECORDER));
        Ok(Left { seen, lost, ended_in, recorded })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of a recording, or of a flight recorder's segments.
fn recorded(dir: &Path) -> u64 {
    let segments = fs::read_dir(dir.join(RECORDER)).into_iter().flatten().flatten();
    let files = segments.map(|entry| entry.path()).chain([dir.join("recording")]);
    files.filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum()
}

/// `tcptrail: 100058 events, 20000 connections, 0 lost in 4.09s`.
fn summary(stderr: &str) -> (Option<u64>, Option<u64>) {
    let Some(line) = stderr.lines().rfind(|line| line.contains(" events, ")) else {
        return (None, None);
    };
    let before = |word: &str| {
        let (front, _) = line.split_once(word)?;
        front.rsplit(' ').next()?.parse().ok()
    };
    (before(" events,"), before(" lost"))
}

/// `Lost 123 events`, each time it noticed.
fn bpftrace_lost(stderr: &str) -> Option<u64> {
    let counts = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("Lost ")?.split(' ').next()?.parse::<u64>().ok());
    Some(counts.sum())
}

fn last_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.lines().last()?.parse().ok()
}

fn count_lines(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(lines);
        }
        lines += buffer[..count].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_understood() {
        let check = |text: &str, expect| assert_eq!(summary(text), expect);
        check("tcptrail: 12 events, 3 connections, 0 lost in 4.09s", (Some(12), Some(0)));
        check(
            "x\ntcptrail: 12 events, 3 connections, 7 lost (ring 7) in 4.09s\n",
            (Some(12), Some(7)),
        );
        check("tcptrail: cannot", (None, None));
    }
}
