//! Asks a JVM for its perf map, its threads and its classes, the way the JDK's own tools ask: by the attach
//! protocol.
//!
//! The JVM answers on a UNIX socket `/tmp/.java_pidN`, N being its id in its own pid namespace and `/tmp`
//! its own. It opens that socket when it finds a file `.attach_pidN` at a SIGQUIT. All this is done with
//! the rights of the JVM's user and no more, by a thread that lives for it only: whoever owns the target's
//! file system can lead us nowhere that user may not go by itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, open, openat, statat, unlinkat};
use rustix::process::{Gid, Pid, PidfdFlags, Signal, Uid, geteuid, pidfd_open, pidfd_send_signal};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::answer::Question;
use crate::native::process::{Identity, Process};

/// How long a JVM may take to open its socket: it does at its next safepoint poll of signals.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const MOST_ANSWER: u64 = 64 << 10;
/// Most of a thread dump or class histogram that is read.
const MOST_DUMP: u64 = 32 << 20;
/// Most of a perf map that is read.
const MOST_MAP: u64 = 256 << 20;

/// The operation that answers a question and its arguments (`attachListener.cpp`; all JDKs since 8 have both).
/// Without `-all` the JVM would collect all garbage before it counts classes.
const fn words(question: Question) -> [&'static str; 4] {
    match question {
        Question::Threads => ["threaddump", "", "", ""],
        Question::Classes => ["inspectheap", "-all", "", ""],
    }
}

/// Asks the JVM to write its perf map, reads it, and takes it away again if it was not there before.
///
/// # Errors
/// A sentence why there is none.
pub(crate) fn perf_map(process: &Process) -> Result<Vec<u8>, String> {
    as_its_user(process, Target::perf_map)
}

/// Asks the JVM a question; the answer is its text.
///
/// # Errors
/// A sentence why there is none.
pub(crate) fn told(process: &Process, question: Question) -> Result<Vec<u8>, String> {
    as_its_user(process, move |target| {
        let answer = target.ask(&words(question), MOST_DUMP)?;
        let (code, text) = answer.split_once('\n').unwrap_or((&answer, ""));
        if code.trim() != "0" {
            return Err(format!("it refuses: {}", text.lines().next().unwrap_or("").trim()));
        }
        Ok(text.as_bytes().to_vec())
    })
}

/// Does `work` on a thread with the rights of the process's user.
fn as_its_user(
    process: &Process,
    work: impl FnOnce(&Target) -> Result<Vec<u8>, String> + Send + 'static,
) -> Result<Vec<u8>, String> {
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    // From here on the process is this one, whoever gets its id later.
    let handle = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| failed("it cannot be followed", error.into()))?;
    if Identity::of(process.pid).ok() != Some(process.identity) {
        return Err("it has ended, or executes something else".into());
    }
    // Opened while we may still look into any process; used with its user's rights only.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tmp =
        open(format!("/proc/{}/root/tmp", process.pid), flags | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| failed("its /tmp cannot be opened", error.into()))?;
    let cwd = open(format!("/proc/{}/cwd", process.pid), flags, Mode::empty()).ok();
    let target = Target { process: process.clone(), handle, tmp, cwd };
    thread::Builder::new()
        .name("tcptrail-attach".to_owned())
        .spawn(move || {
            become_user(&target.process)?;
            work(&target)
        })
        .map_err(|error| failed("its thread cannot be started", error))?
        .join()
        .unwrap_or_else(|_| Err("the thread that asks it ended".into()))
}

/// Gives this thread, and only this one, the rights of the process's user.
fn become_user(process: &Process) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    if geteuid() == uid && !uid.is_root() {
        return Ok(());
    }
    let change = || -> rustix::io::Result<()> {
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    change().map_err(|error| {
        format!("the rights of its user ({}) cannot be taken: {error}", process.uid)
    })
}

struct Target {
    process: Process,
    handle: OwnedFd,
    tmp: OwnedFd,
    cwd: Option<OwnedFd>,
}

impl Target {
    fn perf_map(&self) -> Result<Vec<u8>, String> {
        let name = format!("perf-{}.map", self.process.inner_pid);
        let was_there = statat(&self.tmp, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let answer = self.ask(&["jcmd", "Compiler.perfmap", "", ""], MOST_ANSWER)?;
        let (code, text) = answer.split_once('\n').unwrap_or((&answer, ""));
        if code.trim() != "0" {
            let why = text.lines().next().unwrap_or("").trim();
            return Err(if why.contains("Unknown diagnostic command") {
                "it has no command Compiler.perfmap (JDK 17 and later have)".into()
            } else {
                format!("it refuses: {why}")
            });
        }
        let map = self.read_map(&name);
        if !was_there {
            let _ = unlinkat(&self.tmp, &name, AtFlags::empty());
        }
        map
    }

    fn ask(&self, words: &[&str; 4], most: u64) -> Result<String, String> {
        let mut stream = self.connect()?;
        ask(&mut stream, words, most).map_err(|error| format!("it does not answer: {error}"))
    }

    /// The file must be the user's own and a file, wherever its name leads to.
    fn read_map(&self, name: &str) -> Result<Vec<u8>, String> {
        let read = || -> io::Result<Vec<u8>> {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(&self.tmp, name, flags, Mode::empty())?;
            let meta = fstat(&file)?;
            if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile
                || meta.st_uid != self.process.uid
            {
                return Err(io::Error::other("it is not a file of the process's user"));
            }
            let mut bytes = Vec::new();
            File::from(file).take(MOST_MAP).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| format!("its {name} cannot be read: {error}"))
    }

    fn connect(&self) -> Result<UnixStream, String> {
        if let Some(stream) = self.try_connect()? {
            return Ok(stream);
        }
        if !self.process.catches_quit {
            // It would end.
            return Err("it ignores SIGQUIT, so a JVM cannot be asked".into());
        }
        let name = format!(".attach_pid{}", self.process.inner_pid);
        let (place, _file) = self.trigger(&name)?;
        let asked = self.wait_for_socket();
        let _ = unlinkat(place, &name, AtFlags::empty());
        asked
    }

    /// The file by which the JVM knows that SIGQUIT means us; where it looks.
    fn trigger(&self, name: &str) -> Result<(&OwnedFd, OwnedFd), String> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut last = None;
        for place in [Some(&self.tmp), self.cwd.as_ref()].into_iter().flatten() {
            let mut made = openat(place, name, flags, mode);
            if made.as_ref().err() == Some(&rustix::io::Errno::EXIST) {
                // Left behind by a tool that was killed; with these rights only what is the user's
                // goes.
                let _ = unlinkat(place, name, AtFlags::empty());
                made = openat(place, name, flags, mode);
            }
            match made {
                Ok(file) => return Ok((place, file)),
                Err(error) => last = Some(error),
            }
        }
        Err(format!(
            "{name} cannot be made in its /tmp: {}",
            last.map_or_else(String::new, |e| e.to_string())
        ))
    }

    fn wait_for_socket(&self) -> Result<UnixStream, String> {
        pidfd_send_signal(&self.handle, Signal::QUIT)
            .map_err(|error| format!("it cannot be asked: {error}"))?;
        let began = Instant::now();
        let mut pause = Duration::from_millis(5);
        while began.elapsed() < PATIENCE {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
            if let Some(stream) = self.try_connect()? {
                return Ok(stream);
            }
        }
        Err(format!("it has not answered within {} s", PATIENCE.as_secs()))
    }

    /// `None` while there is no socket.
    fn try_connect(&self) -> Result<Option<UnixStream>, String> {
        let name = format!(".java_pid{}", self.process.inner_pid);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = match openat(&self.tmp, &name, flags, Mode::empty()) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(format!("its {name} cannot be opened: {error}")),
        };
        let meta = fstat(&socket).map_err(|error| error.to_string())?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::Socket
            || meta.st_uid != self.process.uid
        {
            return Err(format!("{name} in its /tmp is not a socket of its user"));
        }
        // Through the descriptor, so that it is what was checked.
        let path = format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd());
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Some(stream)),
            // Left behind by a JVM of the same id.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(format!("its {name} cannot be connected to: {error}")),
        }
    }
}

/// Version 1: the version, the command and three arguments, each with a zero behind it.
fn ask(stream: &mut UnixStream, words: &[&str; 4], most: u64) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut request = b"1\0".to_vec();
    for word in words {
        request.extend_from_slice(word.as_bytes());
        request.push(0);
    }
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.take(most).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
