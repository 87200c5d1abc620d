//! `list --watch` as it goes: frames, and whether they are what `ss` shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Netns;
use crate::pace::patience;
use crate::tcptrail::{Event, PATIENCE, Run, Tcptrail, shown};
use crate::witness::{Socket, now_ns, ss};

/// A running `list --watch --json`. Something must always be there to be listed (a listener), or
/// there are no frames.
pub struct Watch {
    tcptrail: Tcptrail,
    last: u64,
}

/// The table at one moment.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When.
    pub at: u64,
    /// Every `socket` line.
    pub sockets: Vec<Event>,
}

impl Watch {
    /// Starts it with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(every: &str, args: &[&str]) -> Result<Watch> {
        let every = format!("--watch={every}");
        let tcptrail = Tcptrail::start(&[&["list", &every], args].concat())?;
        Ok(Watch { tcptrail, last: 0 })
    }

    /// The process.
    #[must_use]
    pub fn tcptrail(&self) -> &Tcptrail {
        &self.tcptrail
    }

    /// The next frame, whole: the one after it has begun.
    ///
    /// # Errors
    /// When none comes.
    pub fn next_frame(&mut self) -> Result<Frame> {
        let later = |than: u64| {
            move |event: &Event| event.kind() == "socket" && event.number("mono_ns") > Some(than)
        };
        let at = self.tcptrail.wait_for("frame", later(self.last))?.number("mono_ns");
        let at = at.context("no mono_ns")?;
        self.tcptrail.wait_for("next frame", later(at))?;
        self.last = at;
        let of_it =
            |event: &&Event| event.kind() == "socket" && event.number("mono_ns") == Some(at);
        Ok(Frame { at, sockets: self.tcptrail.events().iter().filter(of_it).cloned().collect() })
    }

    /// The first frame taken from now on that `wanted` finds something in.
    ///
    /// # Errors
    /// When none does in time; with the last.
    pub fn until<R>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Frame) -> Result<Option<R>>,
    ) -> Result<R> {
        let now = now_ns();
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let frame = self.next_frame()?;
            if frame.at < now {
                continue;
            }
            if let Some(found) = wanted(&frame)? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!("never in the list: {what}; last {frame:?}");
            }
        }
    }

    /// Waits for the socket with these ends in this state.
    ///
    /// # Errors
    /// When it never comes.
    pub fn until_state(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        state: &str,
    ) -> Result<Shown> {
        self.until(&format!("{local} {state}"), |frame| {
            Ok(frame
                .find(local, remote)
                .filter(|socket| socket.text("state") == state)
                .map(|socket| Shown { at: frame.at, socket: socket.clone() }))
        })
    }

    /// Waits for the socket with these ends in this state, and nobody's any more: that the application
    /// has let go is seen by the next walk, not by the event.
    ///
    /// # Errors
    /// When it never comes.
    pub fn until_orphan(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        state: &str,
    ) -> Result<Shown> {
        self.until(&format!("{local} {state} orphan"), |frame| {
            Ok(frame
                .find(local, remote)
                .filter(|socket| socket.text("state") == state)
                .filter(|socket| socket.truth("orphan") == Some(true))
                .filter(|socket| holders(socket).is_empty())
                .map(|socket| Shown { at: frame.at, socket: socket.clone() }))
        })
    }

    /// Waits for a frame without a socket with these ends; says when it was taken.
    ///
    /// # Errors
    /// When it stays.
    pub fn until_gone(&mut self, (local, remote): (SocketAddr, SocketAddr)) -> Result<u64> {
        self.until(&format!("end of {local}"), |frame| {
            Ok(frame.find(local, remote).is_none().then_some(frame.at))
        })
    }

    /// Waits until the list is what `ss` shows, with the same holders.
    ///
    /// # Errors
    /// When it is not in time; with the difference.
    pub fn until_same_as_ss(&mut self, netns: &Netns) -> Result<Frame> {
        let mut difference = None;
        let deadline = Instant::now() + patience(Duration::from_secs(8));
        loop {
            let before = ss(netns)?;
            let frame = self.until("anything", |frame| Ok(Some(frame.clone())))?;
            let after = ss(netns)?;
            // In between something may have changed, when both may be right.
            if keyed(&before)? == keyed(&after)? {
                match frame.check_same(&after) {
                    Ok(()) => return Ok(frame),
                    Err(error) => difference = Some(error),
                }
            }
            if Instant::now() > deadline {
                let why = difference.map_or_else(|| "ss itself changes".into(), |e| e.to_string());
                bail!("not what ss shows: {why}");
            }
        }
    }

    /// Ctrl-C, and nothing was lost.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop_whole(self) -> Result<()> {
        let run = self.stop()?;
        ensure!(run.stderr.contains(" 0 lost"), "lost: {}", run.stderr);
        let losses: Vec<_> = run.of_kind("lost").collect();
        ensure!(losses.is_empty(), "lost: {losses:?}");
        Ok(())
    }

    /// Ctrl-C.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(self) -> Result<Run> {
        let run = self.tcptrail.stop()?;
        ensure!(run.code() == Some(0), "exit {:?}; stderr: {}", run.status, run.stderr);
        Ok(run)
    }
}

/// A socket in a frame.
#[derive(Clone, Debug)]
pub struct Shown {
    /// When the frame was taken.
    pub at: u64,
    /// Its line.
    pub socket: Event,
}

impl Shown {
    /// The moment its state began, if it was as long ago as it says.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn since(&self) -> Result<u64> {
        let age = self.socket.number("in_state_ns");
        Ok(self.at - age.with_context(|| format!("no in_state_ns: {:?}", self.socket))?)
    }

    /// Pids and descriptors of its holders, sorted.
    #[must_use]
    pub fn holders(&self) -> Vec<(u64, u64)> {
        holders(&self.socket)
    }
}

impl Frame {
    /// The socket with these ends.
    #[must_use]
    pub fn find(&self, local: SocketAddr, remote: SocketAddr) -> Option<&Event> {
        let (local, remote) = (shown(local), shown(remote));
        self.sockets
            .iter()
            .find(|socket| socket.text("local") == local && socket.text("remote") == remote)
    }

    /// The socket with this cookie.
    #[must_use]
    pub fn by_cookie(&self, cookie: u64) -> Option<&Event> {
        self.sockets.iter().find(|socket| socket.has_cookie(cookie))
    }

    /// Fails unless cookies, states, addresses and holders are those that `ss` shows.
    ///
    /// # Errors
    /// With the first difference.
    pub fn check_same(&self, sockets: &[Socket]) -> Result<()> {
        let theirs = keyed(sockets)?;
        let mut ours = BTreeMap::new();
        for socket in &self.sockets {
            let cookie = socket.key();
            let state = socket.text("state").to_owned();
            let listens = state == "LISTEN";
            let remote = if listens { String::new() } else { socket.text("remote").to_owned() };
            let value = (state, socket.text("local").to_owned(), remote, holders(socket));
            ensure!(ours.insert(cookie.clone(), value).is_none(), "{cookie} is listed twice");
        }
        for (cookie, socket) in &theirs {
            let ours = ours.get(cookie);
            ensure!(ours == Some(socket), "ss: {cookie} {socket:?}, list: {ours:?}");
        }
        let more: Vec<_> =
            ours.iter().filter(|(cookie, _)| !theirs.contains_key(*cookie)).collect();
        ensure!(more.is_empty(), "ss does not show {more:?}");
        Ok(())
    }
}

/// State, local, remote, holders.
type Known = (String, String, String, Vec<(u64, u64)>);

fn keyed(sockets: &[Socket]) -> Result<BTreeMap<String, Known>> {
    let mut all = BTreeMap::new();
    for socket in sockets.iter().filter(|socket| socket.state != "CLOSE") {
        let mut users: Vec<_> =
            socket.users.iter().map(|&(pid, fd)| (u64::from(pid), u64::from(fd))).collect();
        users.sort_unstable();
        let listens = socket.state == "LISTEN";
        let remote = if listens { String::new() } else { socket.remote.clone() };
        let value = (socket.state.clone(), socket.local.clone(), remote, users);
        ensure!(all.insert(socket.key(), value).is_none(), "ss: {} twice", socket.key());
    }
    Ok(all)
}

fn holders(socket: &Event) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = socket.0["holders"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|holder| Some((holder["pid"].as_u64()?, holder["fd"].as_u64()?)))
        .collect();
    all.sort_unstable();
    all
}
