//! Those who know besides tcptrail: the test's own clock, `ss`, the kernel's counters.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::kernel;
use crate::netns::Netns;
use crate::pace::patience;

/// The kernel's monotonic clock, as `mono_ns` in tcptrail's lines.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Something the test did: when it began and when it was done.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Before it.
    pub from: u64,
    /// After it.
    pub to: u64,
}

impl Moment {
    /// Does it.
    pub fn of(act: impl FnOnce()) -> Moment {
        let from = now_ns();
        act();
        Moment { from, to: now_ns() }
    }

    /// Does what can fail.
    ///
    /// # Errors
    /// When it fails.
    pub fn try_of<R>(act: impl FnOnce() -> Result<R>) -> Result<(Moment, R)> {
        let from = now_ns();
        let done = act()?;
        Ok((Moment { from, to: now_ns() }, done))
    }

    /// Least and greatest time from this moment to a later one.
    #[must_use]
    pub fn until(self, later: Moment) -> (u64, u64) {
        (later.from.saturating_sub(self.to), later.to.saturating_sub(self.from))
    }
}

/// A socket as `ss` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// In netstat's words, as tcptrail's.
    pub state: String,
    /// `addr:port`.
    pub local: String,
    /// `addr:port`.
    pub remote: String,
    /// Its cookie.
    pub cookie: u64,
    /// Processes that hold it: pid and descriptor.
    pub users: Vec<(u32, u32)>,
    /// Everything else, as it stands: `timer:`, `retrans:`, ...
    pub rest: Vec<String>,
}

impl Socket {
    /// What tells it from others in one namespace: its cookie, or its ends where tcptrail is given
    /// no cookies. The same as [`Event::key`](crate::tcptrail::Event::key).
    #[must_use]
    pub fn key(&self) -> String {
        if has_cookies() {
            return self.cookie.to_string();
        }
        let remote = if self.state == "LISTEN" { "" } else { &self.remote };
        format!("{}>{remote}", self.local)
    }

    /// What stands after `name:` in the rest.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&str> {
        self.rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))
    }
}

/// Whether tracing programs are given cookies here (since 5.12): then `conn` is what `ss` shows as
/// `sk:`, else a number of tcptrail's own.
#[must_use]
pub fn has_cookies() -> bool {
    kernel() >= (5, 12)
}

/// All TCP sockets inside `netns` as `ss` shows them.
///
/// # Errors
/// When `ss` fails or says what cannot be understood.
pub fn ss(netns: &Netns) -> Result<Vec<Socket>> {
    let mut command = Command::new("ss");
    command.args(["-tanoepiOH"]);
    let output = netns.output(command)?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(socket).collect()
}

fn socket(line: &str) -> Result<Socket> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().with_context(|| format!("ss: {line}"));
    let state = state(word()?)?;
    word()?;
    word()?;
    // `addr%eth0:port` for what is bound to a device.
    let (local, remote) = (word()?.to_owned(), word()?.to_owned());
    let rest: Vec<String> = words.map(str::to_owned).collect();
    let find = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name));
    let cookie = find("sk:").unwrap_or("0");
    let cookie = u64::from_str_radix(cookie, 16).with_context(|| format!("ss: {line}"))?;
    // users:(("java",pid=1,fd=2),("java",pid=3,fd=4))
    let mut users = Vec::new();
    for user in find("users:").unwrap_or_default().split("pid=").skip(1) {
        let (pid, more) = user.split_once(",fd=").with_context(|| format!("ss: {line}"))?;
        let fd: String = more.chars().take_while(char::is_ascii_digit).collect();
        users.push((pid.parse()?, fd.parse()?));
    }
    Ok(Socket { state: state.to_owned(), local, remote, cookie, users, rest })
}

fn state(ss: &str) -> Result<&'static str> {
    Ok(match ss {
        "UNCONN" => "CLOSE",
        "LISTEN" => "LISTEN",
        "SYN-SENT" => "SYN_SENT",
        "SYN-RECV" => "SYN_RECV",
        "ESTAB" => "ESTABLISHED",
        "FIN-WAIT-1" => "FIN_WAIT1",
        "FIN-WAIT-2" => "FIN_WAIT2",
        "CLOSE-WAIT" => "CLOSE_WAIT",
        "CLOSING" => "CLOSING",
        "LAST-ACK" => "LAST_ACK",
        "TIME-WAIT" => "TIME_WAIT",
        other => bail!("ss has a state {other}"),
    })
}

/// The kernel's TCP counters inside a namespace, by name: `RetransSegs`, `TCPSynRetrans`, ...
///
/// # Errors
/// When they cannot be read.
pub fn counters(netns: &Netns) -> Result<BTreeMap<String, u64>> {
    netns.run(|| {
        let mut all = BTreeMap::new();
        for (file, prefix) in [("snmp", "Ip:"), ("snmp", "Tcp:"), ("netstat", "TcpExt:")] {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
            let names = lines.next().context("names of counters")?;
            let values = lines.next().context("values of counters")?;
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                all.insert(name.to_owned(), value.parse().unwrap_or(0));
            }
        }
        Ok(all)
    })
}

/// Looks again and again until `look` finds something; for what no event tells a test.
///
/// # Errors
/// When it finds nothing in time, or fails.
pub fn eventually<R>(
    what: &str,
    timeout: Duration,
    mut look: impl FnMut() -> Result<Option<R>>,
) -> Result<R> {
    let timeout = patience(timeout);
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How many sockets of a namespace are in a state, as `ss` has it.
///
/// # Errors
/// As [`ss`].
pub fn in_state(netns: &Netns, state: &str) -> Result<usize> {
    Ok(ss(netns)?.iter().filter(|socket| socket.state == state).count())
}

/// Bytes: the most that was resident so far of a process that lives.
///
/// # Errors
/// When it does not.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
