//! What a tcptrail that ended left, and what it told of one socket.

use std::net::SocketAddr;
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};

use crate::tcptrail::event::{Event, shown};

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
